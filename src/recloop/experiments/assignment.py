"""Sticky assignment: a person's place on the unit interval depends on the salt and the id alone."""

import hashlib


def place(user_id: str, salt: str) -> float:
    """The person's place in [0, 1): uniform over people, independent between salts."""
    digest = hashlib.blake2b(user_id.encode(), key=hashlib.sha256(salt.encode()).digest(), digest_size=8)
    return (int.from_bytes(digest.digest()) >> 11) / 2**53


def in_challenger(user_id: str, salt: str, share: float) -> bool:
    """Whether the person belongs to the challenger's share; a growing share sends nobody back."""
    return place(user_id, salt) < share
