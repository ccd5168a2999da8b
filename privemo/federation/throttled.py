"""A log that nobody can fill: so many lines a minute, and how many more there would have been."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

__all__ = ["MOST", "SECONDS", "Throttled"]

MOST, SECONDS = 60, 60.0
"""Lines in so many seconds. A store that is refused asks once in some seconds, so that ten of them fit."""


class Throttled:
    """Passes on the first lines of each minute, from any thread, and counts the others.

    Args:
        tell: told what is passed on.
        most: lines in a minute.
        seconds: a minute.
    """

    def __init__(
        self, tell: Callable[[str], None], most: int = MOST, seconds: float = SECONDS
    ) -> None:
        self._tell, self._most, self._seconds = tell, most, seconds
        self._lock = threading.Lock()
        self._began, self._lines = float("-inf"), 0

    def __call__(self, line: str) -> None:
        """Tell, or count."""
        with self._lock:
            now, left_out = time.monotonic(), 0
            if now - self._began >= self._seconds:
                left_out = max(0, self._lines - self._most)
                self._began, self._lines = now, 0
            self._lines += 1
            within = self._lines <= self._most
        if left_out:
            self._tell(f"{left_out} more were refused before, and not written down.")
        if within:
            self._tell(line)
