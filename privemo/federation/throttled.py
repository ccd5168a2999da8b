"""A log of refusals that nobody fills: so many lines a minute, and how many more there would have been.

Uvicorn writes lines of its own of what is refused, with all of a request's path. They are left out (`Quiet`):
the door and Flower's check have told why, and who.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

__all__ = ["MOST", "SECONDS", "Quiet", "Throttled"]

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


class Quiet(logging.Filter):
    """Leaves out what uvicorn says of refused requests, and of what is no request.

    Its access lines have five facts, the last a status; of what cannot be read as HTTP it warns.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a line is written."""
        if record.name == "uvicorn.access" and isinstance(record.args, tuple):
            status = record.args[-1] if record.args else 0
            return not (isinstance(status, int) and 400 <= status < 500)
        return record.levelno != logging.WARNING
