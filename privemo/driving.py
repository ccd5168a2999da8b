"""One process drives a run: two would overwrite each other's rounds, and the stores would sign two ends.

Whoever drives holds `.lock` in the run's folder, and writes into it who it is. The operating system takes the
lock back when that process ends, however it ends. So an app that Flower goes on with, though nobody waits for
it any more, still has the run; and one that was killed has it no longer.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from privemo.errors import RunError
from privemo.files import is_held, only_here
from privemo.runs import Run

__all__ = ["check_free", "driving", "handing_on"]

_LONGEST = 200
_handed_on: set[Path] = set()
"""Folders of runs whose lock this process holds already, for the next one here that drives them."""


@contextmanager
def driving(run: Run) -> Iterator[None]:
    """Be the only one who drives a run; nobody waits for it.

    Raises:
        RunError: somebody else does: who, and what to do.
    """
    try:
        _handed_on.remove(run.folder.resolve())  # once: a second app is a second driver
    except KeyError:
        pass
    else:
        yield
        return
    lock = _lock(run)
    with only_here(lock, _told(run)):
        lock.write_text(f"process {os.getpid()} since {datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}\n")
        yield


@contextmanager
def handing_on(run: Run) -> Iterator[None]:
    """Let the next one in this process who drives a run go on under the lock that is held here."""
    folder = run.folder.resolve()
    _handed_on.add(folder)
    try:
        yield
    finally:
        _handed_on.discard(folder)


def check_free(run: Run) -> None:
    """Let a run pass that nobody drives; it may be driven a moment later.

    Raises:
        RunError: as of `driving`.
    """
    if is_held(_lock(run)):
        raise RunError(_told(run))


def _lock(run: Run) -> Path:
    return run.folder / ".lock"


def _told(run: Run) -> str:
    """Who has a run, as it said of itself, and what to do."""
    try:
        who = _lock(run).read_text(errors="replace")[:_LONGEST].strip()
    except OSError:
        who = ""
    served = run.facts.get("engine") == "federation"
    ended = f" (`privemo federation stop {run.folder}`)" if served else ""
    again = f"`privemo federation run {run.folder}`" if served else f"`{run.resume_command}`"
    return (
        f"{run.folder} is being run by another process{f' ({who})' if who else ''}. Follow it with "
        f"`privemo watch {run.folder}`; wait for it to end, or end it{ended}. Then {again} goes on "
        "with what is missing."
    )
