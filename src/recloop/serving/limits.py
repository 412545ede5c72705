"""How often one client may ask: a token bucket each (Turner 1986), for as many clients as memory is given."""

import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable

MOST = 10_000  # clients that are remembered


class Buckets:
    """A bucket per key: ``rate`` requests per second, and as many at once after a second of rest.

    Of more than ``most`` keys the one that asked longest ago is forgotten, and starts with a full bucket.
    """

    def __init__(self, rate: float, most: int = MOST, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._size, self._most, self._clock = rate, max(1.0, rate), most, clock
        self._kept: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def wait(self, key: str) -> float:
        """Take one; 0, or where the bucket is empty the seconds until it has one again."""
        now = self._clock()
        level, at = self._kept.pop(key, (self._size, now))
        level = min(self._size, level + (now - at) * self._rate)
        allowed = level >= 1
        self._kept[key] = (level - 1 if allowed else level, now)
        if len(self._kept) > self._most:
            self._kept.popitem(last=False)
        return 0.0 if allowed else (1 - level) / self._rate


def client_key(address: str) -> str:
    """The client that an address belongs to: itself, or the /64 of an IPv6 address, as one household has."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is None:
        return str(ipaddress.IPv6Network((int(found), 64), strict=False))
    return address
