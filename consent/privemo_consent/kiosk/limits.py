"""How often one address may ask, in bounded memory; how many may be connected, and for how long."""

from __future__ import annotations

import ipaddress
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection
from dataclasses import dataclass

from ..errors import MalformedError

__all__ = ["Patience", "Rate", "RateLimit", "counted_as", "plain"]

_MOST_ADDRESSES = 4096


@dataclass(frozen=True, slots=True)
class Rate:
    """So many at once, and then one every so many seconds."""

    burst: int
    seconds_each: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How many connections are held, and how long for each thing that a browser has to do.

    Attributes:
        head_s: until the head of a request is whole, from the connection or from its first byte.
        body_s: until its body is.
        take_s: until an answer is taken; a telephone far from the mast needs a while for its pictures.
        most: connections in all.
        reserved: how many of them are for the kiosk's own screens.
        each: connections of one address; a browser opens about six.

    Raises:
        MalformedError: a number that would let nobody in, or wait for ever.

    """

    head_s: float = 10.0
    body_s: float = 30.0
    take_s: float = 120.0
    most: int = 1000
    reserved: int = 100
    each: int = 100

    def __post_init__(self) -> None:
        if not all(math.isfinite(s) and s > 0 for s in (self.head_s, self.body_s, self.take_s)):
            raise MalformedError("patience: every wait is a number of seconds above 0")
        if self.each < 1 or not 0 <= self.reserved < self.most:
            raise MalformedError(
                f"patience: got {self.most} connections, {self.reserved} reserved, {self.each} for "
                "each address; at least one has to be left for everybody"
            )


class RateLimit:
    """Counts by address. Safe for threads; the addresses seen longest ago are forgotten first.

    Args:
        rate: how often each may ask.
        clock: seconds that only grow.
        apart: addresses that are counted by themselves; see `counted_as`.

    """

    def __init__(
        self,
        rate: Rate,
        clock: Callable[[], float] = time.monotonic,
        *,
        apart: Collection[str] = (),
    ) -> None:
        self._rate = rate
        self._clock = clock
        self._apart = frozenset(map(plain, apart))
        self._lock = threading.Lock()
        self._spent: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, address: str) -> float:
        """Take one token; return 0, or the seconds to wait where there was none."""
        address = counted_as(address, self._apart)
        with self._lock:
            now = self._clock()
            spent, at = self._spent.pop(address, (0.0, now))
            spent = max(0.0, spent - (now - at) / self._rate.seconds_each)
            wait = 0.0
            if spent + 1 > self._rate.burst:
                wait = (spent + 1 - self._rate.burst) * self._rate.seconds_each
            else:
                spent += 1
            self._spent[address] = (spent, now)
            while len(self._spent) > _MOST_ADDRESSES:
                self._spent.popitem(last=False)
        return wait


def plain(address: str) -> str:
    """Return an address as it is compared: one of IPv4 comes in two forms to a socket of IPv6."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    mapped = getattr(found, "ipv4_mapped", None)
    return str(found if mapped is None else mapped)


def counted_as(address: str, apart: Collection[str] = ()) -> str:
    """Return under what an address is counted.

    Args:
        address: of whoever connects.
        apart: addresses, as `plain` has them, that never share a count: the kiosk's own screens, which stand
            in one network with the telephones of its shoppers.

    ==========================  ==================================================================
    one of ``apart``            itself
    IPv4                        itself
    IPv4 in a socket of IPv6    the IPv4 address
    IPv6                        its network of 64 bits: whoever has one address there has them all
    anything else               itself
    ==========================  ==================================================================

    """
    if (here := plain(address)) in apart:
        return here
    try:
        found = ipaddress.ip_address(here.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv4Address) or found.is_loopback:
        return str(found)
    return str(ipaddress.IPv6Network((int(found) >> 64 << 64, 64)))
