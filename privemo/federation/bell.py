"""A bell that a store's node rings for what carries out its tasks, so that nobody asks all the time.

Flower's SuperExec asks its node every second whether there is a task, and a round of distributed noise has
five messages; asked twenty times a second instead, three stores kept a sixth of a core busy by that alone.
Here it asks when a message has come. And a bell that is not heard costs no more than that second: it goes on
asking as Flower's own does.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from privemo.federation.lifeline import handed

__all__ = ["BELL", "Listener", "ring_for_messages"]

BELL = "PRIVEMO_BELL"
"""Variable of a process's environment: number of the file descriptor that is its end of the pipe."""


def ring_for_messages(place: Any) -> None:
    """Let a node ring whenever it has taken a message; without a bell it stays as it is.

    Args:
        place: the module of Flower's that is the main loop of a node.
    """
    rope = _own_end()
    if rope is None:
        return
    take: Callable[..., int | None] = place._pull_and_store_message

    def taken(**given: Any) -> int | None:
        run = take(**given)
        if run is not None:
            with suppress(OSError):  # full, so it rings; or nobody is there who could hear it
                os.write(rope, b"\0")
        return run

    place._pull_and_store_message = taken


class Listener:
    """Stands for the module `time` where Flower's SuperExec sleeps between two questions to its node."""

    def __init__(self) -> None:
        self._ear = _own_end()

    def __getattr__(self, name: str) -> Any:
        """All else is that of `time`."""
        return getattr(time, name)

    def sleep(self, seconds: float) -> None:
        """Wait for the bell, and at most so long."""
        if self._ear is None:
            time.sleep(seconds)
        elif select.select([self._ear], [], [], seconds)[0] and not os.read(self._ear, 1 << 16):
            self._ear = (
                None  # the node is gone, and so will this process be: it asks as Flower's does
            )


def _own_end() -> int | None:
    """This process's end of the pipe, which never keeps it waiting; a fork has it, and does not read."""
    number = handed(BELL)
    if number is not None:
        os.set_blocking(number, False)
    return number
