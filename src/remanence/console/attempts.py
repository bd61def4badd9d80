"""How often one address may try to sign in.

A secret is 256 random bits, so nobody finds one by trying; but each try costs the server a slow hash. An address has
`TRIES` at once, and one more every `PAUSE_S`. A try is taken before it is looked at and given back when it was right,
so that many at the same time count as many. Of an IPv6 address the first 64 bits count: what one household gets.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from ipaddress import IPv6Address, ip_address

from remanence.errors import RateLimited

__all__ = ["PAUSE_S", "TRIES", "Attempts"]

TRIES = 10
PAUSE_S = 15
ADDRESSES_MAX = 10_000
_MICROS = 1_000_000
_TINY = 1e-6
_V6_NETWORK_BITS = 64


class Attempts:
    """The tries of every address, in this process."""

    def __init__(self) -> None:
        self._used: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def take(self, address: str, now: int) -> None:
        """Count a try at a moment (microseconds). Raises RateLimited when there is none left."""
        place = _place(address)
        used, at = self._used.get(place, (0.0, now))
        used = max(0.0, used - max(0, now - at) / _MICROS / PAUSE_S)
        if used > TRIES - 1:
            wait_s = math.ceil((used - (TRIES - 1)) * PAUSE_S - _TINY)
            raise RateLimited(
                f"There were too many attempts to sign in from this address. Try again in {wait_s} s.",
                retry_after_s=wait_s,
            ).because("sign_ins_many", count=wait_s)
        self._keep(place, used + 1, now)

    def give_back(self, address: str, now: int) -> None:
        """The try was right: it does not count."""
        place = _place(address)
        used, at = self._used.get(place, (0.0, now))
        self._keep(place, max(0.0, used - 1), at)

    def _keep(self, place: str, used: float, at: int) -> None:
        self._used[place] = used, at
        self._used.move_to_end(place)
        if len(self._used) > ADDRESSES_MAX:
            self._used.popitem(last=False)


def _place(address: str) -> str:
    try:
        found = ip_address(address)
    except ValueError:
        return address
    return f"v6:{int(found) >> _V6_NETWORK_BITS:x}" if isinstance(found, IPv6Address) else address
