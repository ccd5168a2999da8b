"""Stopping a process in the middle of its writes, at a point that a test chooses."""

from __future__ import annotations

import errno
import itertools
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

__all__ = ["CALLS", "Killed", "full", "heed_ctrl_c", "interrupt", "killed_at", "killed_before"]

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


class Killed(BaseException):
    """What no `except Exception` catches, as no process catches a kill."""


@dataclass
class Killing:
    """Whether it came to that point."""

    done: bool = False


@contextmanager
def killed_at(step: int) -> Iterator[Killing]:
    """Break off what is done inside at the ``step``-th point of its writes, and put `os` back."""
    real = {name: getattr(os, name) for name in CALLS}
    killing = Killing()

    def die() -> None:
        killing.done = True
        raise Killed

    interrupt(step, die)
    try:
        yield killing
    except Killed:
        pass
    finally:
        for name, function in real.items():
            setattr(os, name, function)


@contextmanager
def killed_before(file: str) -> Iterator[Killing]:
    """Break off what is done inside when it is about to write a file whose path ends so."""
    real, killing = os.open, Killing()

    def hooked(path: Any, flags: int, *arguments: Any, **named: Any) -> int:
        if flags & os.O_CREAT and str(path).endswith(file):
            killing.done = True
            raise Killed
        return real(path, flags, *arguments, **named)

    os.open = hooked
    try:
        yield killing
    except Killed:
        pass
    finally:
        os.open = real


def full(name: str, wanted: Callable[[tuple[Any, ...]], bool]) -> Callable[..., Any]:
    """A call of `os` that meets a full disk where its arguments are wanted."""
    real = getattr(os, name)

    def failing(*arguments: Any, **named: Any) -> Any:
        if wanted(arguments):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(*arguments, **named)

    return failing


def heed_ctrl_c() -> None:
    """For `preexec_fn`: whoever runs tests in the background may have all their children ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
