"""A process that ends with the one that started it, however that one ends, by `kill -9` too.

Its lifeline is the read end of a pipe of which its parent alone holds the other end. A parent that is gone
has let go of it, and then the process ends itself and all of its group. That takes pipes and process groups,
which every POSIX system has; Linux's own way (PR_SET_PDEATHSIG) knows the parent's thread, and no group.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable

__all__ = ["LIFELINE", "end_group_if_cut", "end_with_parent", "handed", "hold_on", "to_the_end"]

LIFELINE = "PRIVEMO_LIFELINE"
"""Variable of a process's environment: number of the file descriptor that is its lifeline."""

_END_S = 20.0
_cut = threading.Event()


def to_the_end(daemon: Callable[[], None]) -> None:
    """Run a daemon; it and its group end once its parent is gone, where it was given a lifeline.

    When it gives up, so does this process, whatever its threads wait for: such threads of Flower's would
    keep a node alive that has given up, and nobody would start it again.
    """
    hold_on()
    try:
        daemon()
    except SystemExit as done:
        sys.stdout.flush()
        sys.stderr.flush()
        end_group_if_cut()
        os._exit(done.code if isinstance(done.code, int) else int(done.code is not None))
    finally:
        end_group_if_cut()


def hold_on() -> None:
    """End this process and its group once its parent is gone; for one that was given a lifeline."""
    number = handed(LIFELINE)
    if number is not None:
        threading.Thread(target=_watch, args=(number,), daemon=True, name="lifeline").start()


def handed(variable: str) -> int | None:
    """A file descriptor that this process was given by a variable of its environment; None for none.

    No program that it starts gets either of them.
    """
    number = os.environ.pop(variable, None)
    if number is None:
        return None
    os.set_inheritable(int(number), False)
    return int(number)


def end_with_parent(seconds: float = _END_S) -> None:
    """End this process once its parent is gone: for one that Flower starts, in a session of its own.

    Flower asks such a process to end by a signal that it raises in a thread, and a main thread that waits for
    a lock never hears of it. A server's app that waited for the rest of a store's answer went on without end,
    and held the lock of its run (flwr 1.41).

    Args:
        seconds: that it has to end by itself.
    """
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(seconds)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True, name="parent").start()


def end_group_if_cut() -> None:
    """As the last thing that a process does: nothing of its group goes on without its parent."""
    if _cut.is_set():
        _signal_own(signal.SIGKILL)


def _watch(number: int) -> None:
    os.read(number, 1)  # nobody writes: it returns when the other end is gone
    _cut.set()
    _signal_own(signal.SIGTERM)
    time.sleep(_END_S)
    _signal_own(signal.SIGKILL)


def _signal_own(number: int) -> None:
    """Signal all of this process's group where it leads one, else itself."""
    if os.getpgrp() == os.getpid():
        os.killpg(0, number)
    else:
        os.kill(os.getpid(), number)
