"""How often one address may ask: a bucket of tokens for each, in bounded memory."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Rate", "RateLimit"]

_MOST_ADDRESSES = 4096


@dataclass(frozen=True, slots=True)
class Rate:
    """So many at once, and then one every so many seconds."""

    burst: int
    seconds_each: float


class RateLimit:
    """Counts by address. Safe for threads; the addresses seen longest ago are forgotten first."""

    def __init__(self, rate: Rate, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._clock = clock
        self._lock = threading.Lock()
        self._spent: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, address: str) -> float:
        """Take one token; return 0, or the seconds to wait where there was none."""
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
