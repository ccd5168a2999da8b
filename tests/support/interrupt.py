"""Stopping a process in the middle of its writes, at a point that a test chooses."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Callable
from typing import Any

__all__ = ["CALLS", "heed_ctrl_c", "interrupt"]

#: The calls of `os` that change a disk.
CALLS = ("open", "write", "pwrite", "fsync", "rename", "unlink", "mkdir", "rmdir", "ftruncate")


def interrupt(step: int, end: Callable[[], None]) -> Callable[[], None]:
    """Call ``end`` at the ``step``-th point of this process's writes from now on.

    Every call of `os` that changes a disk is such a point, and so is the middle of each write. The
    function returned marks further points, such as the statements of a database.
    """
    points = itertools.count()

    def reached() -> None:
        if next(points) == step:
            end()

    def hook(name: str) -> None:
        real: Callable[..., Any] = getattr(os, name)

        def hooked(*arguments: Any, **named: Any) -> Any:
            if name == "open" and not arguments[1] & (os.O_CREAT | os.O_WRONLY):
                return real(*arguments, **named)
            reached()
            if name in ("write", "pwrite") and len(arguments[1]) > 1:
                half = len(arguments[1]) // 2
                done: int = real(arguments[0], arguments[1][:half], *arguments[2:])
                reached()  # torn: half of it is in the file
                rest = [arguments[2] + done] if name == "pwrite" else []
                return done + real(arguments[0], arguments[1][done:], *rest)
            return real(*arguments, **named)

        setattr(os, name, hooked)

    for name in CALLS:
        hook(name)
    return reached


def heed_ctrl_c() -> None:
    """For `preexec_fn`: whoever runs tests in the background may have all their children ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
