"""What starts the server's apps, followed: a SuperLink without it would take every run, and begin none.

Flower's SuperLink starts a SuperExec and never looks at it again (flwr 1.41). Killed, for want of memory say,
it leaves a server that lets stores in and answers `status`, and a `federation run` that waits without end and
without a word. Here the SuperLink ends with it, and whoever follows the SuperLink is told and starts it anew.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from typing import Any

__all__ = ["end_with_executor"]

_ENDING_S = 3.0
"""So long a SuperLink takes that is ending by itself, to have forgotten its SuperExec, seconds."""


def end_with_executor(place: Any, log: Callable[[str], None]) -> None:
    """Let a SuperLink end once its SuperExec has.

    Args:
        place: the module of Flower's that has the SuperLink's `SuperLinkLifespan`.
        log: told why it ends.
    """
    lifespan = place.SuperLinkLifespan
    start: Callable[[Any], None] = lifespan._start_superexec_if_needed

    def started(self: Any) -> None:
        start(self)
        process: subprocess.Popen[bytes] | None = self.superexec_process
        if process is not None:
            threading.Thread(target=_follow, args=(self, process, log), daemon=True).start()

    lifespan._start_superexec_if_needed = started


def _follow(lifespan: Any, process: subprocess.Popen[bytes], log: Callable[[str], None]) -> None:
    code = process.wait()
    time.sleep(_ENDING_S)
    if lifespan.superexec_process is process:
        log(f"Error: what starts this server's apps ended ({code}), and so does the server.")
        os.kill(os.getpid(), signal.SIGTERM)
