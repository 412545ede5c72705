"""Sticky assignment: a person's place on the unit interval depends on the salt and the id alone."""

import hashlib
from collections.abc import Mapping
from functools import lru_cache

BUCKETS = 1000  # of a layer


def place(user_id: str, salt: str) -> float:
    """The person's place in [0, 1): uniform over people, independent between salts."""
    digest = hashlib.blake2b(user_id.encode(), key=_key(salt), digest_size=8)
    return (int.from_bytes(digest.digest()) >> 11) / 2**53


@lru_cache(maxsize=1024)
def _key(salt: str) -> bytes:
    return hashlib.sha256(salt.encode()).digest()


def in_challenger(user_id: str, salt: str, share: float) -> bool:
    """Whether the person belongs to the challenger's share; a growing share sends nobody back."""
    return place(user_id, salt) < share


def bucket(user_id: str, layer: str) -> int:
    """The person's bucket of a layer, 0 to ``BUCKETS`` - 1.

    Experiments of one layer hold buckets of their own, so that nobody is in two of them. Layers are
    independent of each other (Tang et al., "Overlapping Experiment Infrastructure", KDD 2010, section 4).
    """
    return int(place(user_id, f"layer/{layer}") * BUCKETS)


def arm(user_id: str, salt: str, shares: Mapping[str, float]) -> str:
    """The person's arm, drawn by the experiment's own salt: growing its range of buckets moves nobody.

    Args:
        user_id: who.
        salt: the experiment's.
        shares: share of each arm, in order; they add up to 1.
    """
    here, total = place(user_id, salt), 0.0
    for name, share in shares.items():
        total += share
        if here < total:
            return name
    return name  # the shares add up to 1 but for rounding
