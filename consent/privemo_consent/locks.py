"""Waiting for a lock that another process may hold, and not for ever."""

from __future__ import annotations

import fcntl
import time
from pathlib import Path

from .errors import RegistryBusyError

__all__ = ["take"]

_A_WHILE = 0.002
"""Seconds between two tries: locks are held for milliseconds."""


def take(handle: int, what: Path, seconds: float) -> None:
    """Lock an open file for this one alone; closing it lets go.

    Raises:
        RegistryBusyError: another process held it for so many seconds.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise RegistryBusyError(
                    f"{what} is held by another process: try again once that has ended"
                ) from None
            time.sleep(_A_WHILE)
        else:
            return
