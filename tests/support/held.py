"""A store's app, held still at a moment that a test chooses, by what it waits for anyway.

No switch in the library and no hook in its processes: the files that a store appends to have locks, which
another process of the same machine may hold. An app that waits for one is where it is for as long as the
test likes, and there it is killed.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.support.deployed import Federation, family, until

__all__ = ["app_at", "held"]


@contextmanager
def held(path: Path) -> Iterator[int]:
    """Hold the lock of a file; whoever wants to append to it waits. Closing the descriptor lets go early."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        with suppress(OSError):
            os.close(descriptor)


def app_at(federation: Federation, store: str, path: Path) -> int:
    """Wait until a store's app waits for the lock of a file; returns its process id."""
    found: list[int] = []

    def waits() -> bool:
        found[:] = [pid for pid in family(federation.processes[store]) if path in _open_files(pid)]
        return bool(found)

    until(f"{store} is at {path.name}", waits, 400)
    (pid,) = found
    return pid


def _open_files(pid: int) -> set[Path]:
    files: set[Path] = set()
    with suppress(OSError):  # it may end while we look
        for link in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                files.add(link.readlink())
    return files
