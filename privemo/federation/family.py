"""The processes that serve one folder: they end with whoever started them, and are found again where not.

Each is given a lifeline (`privemo.federation.lifeline`). Who serves a folder also holds a lock beside its
record of them, and the system lets go of a lock when its holder dies. A process of the record that is there
while nobody holds the lock was left over: the next one to serve ends it, and so does `stop`. A number may
have gone to a stranger meanwhile, so each is recorded with the time of its start, and nobody is signalled
whose start is another.
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from privemo.errors import RunError
from privemo.files import read_json, write_json

__all__ = ["Family", "Member", "started", "stop_family"]

_SCHEMA = "privemo.serving/1"
_RECORD, _LOCK = "serving.json", "serving.lock"
_END_S, _LAST_S = 20.0, 5.0


# -- processes -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Member:
    """A process, known for certain.

    Attributes:
        pid: its number.
        started: when it started, as `started` writes it.
    """

    pid: int
    started: str

    @classmethod
    def of(cls, pid: int) -> Member:
        """The process that has this number now."""
        return cls(pid, started(pid) or "")

    @property
    def alive(self) -> bool:
        """Whether this very process is there."""
        return bool(self.started) and started(self.pid) == self.started

    def send(self, number: int) -> None:
        """Signal it, and with it its group where it leads one; nobody else, and not when it is gone."""
        if not self.alive:
            return
        with suppress(ProcessLookupError):
            if os.getpgid(self.pid) == self.pid:
                os.killpg(self.pid, number)
            else:
                os.kill(self.pid, number)

    def end(self) -> None:
        """End it and its group.

        Raises:
            RunError: it does not end.
        """
        for number, patience in ((signal.SIGTERM, _END_S), (signal.SIGKILL, _LAST_S)):
            self.send(number)
            if _soon(lambda: not self.alive, patience):
                return
        raise RunError(f"Process {self.pid} does not end: end it by hand.")


def started(pid: int) -> str | None:
    """When a process started, in words that no other process of this number has; None where it is gone.

    Linux counts clock ticks since it booted (field 22 of `/proc/PID/stat`, proc(5)), which setting the clock
    does not change; the boot is named too. Other systems are asked by `ps`.
    """
    boot = Path("/proc/sys/kernel/random/boot_id")
    if not boot.exists():
        return _by_ps(pid)
    try:
        # The second field is the command's name, in brackets, and may hold brackets and blanks itself.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (OSError, UnicodeDecodeError):
        return None
    state, ticks = fields[0], fields[19]
    return None if state in "ZX" else f"{boot.read_text().strip()}/{ticks}"


def _by_ps(pid: int) -> str | None:
    done = subprocess.run(  # noqa: S603 - our own arguments
        ["/bin/ps", "-o", "stat=,lstart=", "-p", str(pid)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "LC_ALL": "C"},
    )
    state, _, when = done.stdout.strip().partition(" ")
    return when.strip() if state and not state.startswith("Z") else None


# -- who starts them -----------------------------------------------------------------------------


@dataclass
class Family:
    """This process as the one that serves a folder, while it is entered; and those that it starts.

    Args:
        state: folder of Flower's state, where record and lock are.
        what: is served, for messages.
        say: told of what was left over and ended.
    """

    state: Path
    what: str
    say: Callable[[str], None]
    _children: list[Member] = field(default_factory=list)
    _ends: tuple[int, int] | None = None
    _held: Any = None

    def __enter__(self) -> Self:
        """Be the only one, and end what one that was killed has left.

        Raises:
            RunError: another process serves this folder, or what was left over does not end.
        """
        self._held = _holding(self.state)
        if not self._held.__enter__():
            parent, _ = _recorded(self.state)
            raise RunError(_busy(self.what, parent))
        try:
            for one in _end_left_over(self.state):
                self.say(f"{self.what}: a killed process had left process {one.pid}; it was ended.")
            self._ends = os.pipe()
            self._write()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Let go of all."""
        if self._ends is not None:
            (self.state / _RECORD).unlink(missing_ok=True)
            for end in self._ends:
                os.close(end)
        self._held.__exit__(kind, error, trace)

    @property
    def lifeline(self) -> int:
        """File descriptor that a child is to be given (`privemo.federation.lifeline`)."""
        if self._ends is None:
            raise RunError("A family that is not entered has no lifeline.")
        return self._ends[0]

    def add(self, pid: int) -> None:
        """Record a child, which leads a group of its own."""
        self._children.append(Member.of(pid))
        self._write()

    def _write(self) -> None:
        members = [Member.of(os.getpid()), *self._children]
        rows = [{"pid": one.pid, "started": one.started} for one in members]
        write_json(
            self.state / _RECORD, {"schema": _SCHEMA, "parent": rows[0], "children": rows[1:]}
        )


def stop_family(state: Path, what: str) -> bool:
    """End whoever serves a folder, and all that was started for it; also where the one who did was killed.

    Returns:
        Whether there was anybody to end.

    Raises:
        RunError: it is served from where this process cannot end it, or it does not end.
    """
    if not state.is_dir():
        return False
    ended = False
    with _holding(state) as free:
        parent, _ = _recorded(state)
        if not free:
            if parent is None or not parent.alive:
                raise RunError(
                    f"{what} is being served by a process that is not to be seen from here, on another "
                    "machine or in another container: stop it there."
                )
            os.kill(parent.pid, signal.SIGTERM)  # it ends its own
            if not _soon(lambda: not parent.alive, 2 * _END_S + _LAST_S):
                raise RunError(
                    f"Process {parent.pid}, which serves {what}, does not end: look there."
                )
            ended = True
    with _holding(state) as free:
        return (bool(_end_left_over(state)) if free else False) or ended


def _busy(what: str, parent: Member | None) -> str:
    if parent is None or not parent.alive:
        return f"{what} is being served already, by a process that is not to be seen from here."
    return f"{what} is being served already, by process {parent.pid}: end that one first."


@contextmanager
def _holding(state: Path) -> Iterator[bool]:
    """Hold the lock of those who serve a folder; whether it was free."""
    try:
        handle = (state / _LOCK).open("a")
    except OSError as error:
        raise RunError(f"{state} cannot be written ({error.strerror}).") from error
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def _recorded(state: Path) -> tuple[Member | None, list[Member]]:
    """Who serves a folder, or did, and what that one started; a record that is none names nobody."""
    try:
        content = read_json(state / _RECORD, schema=_SCHEMA)
        rows = [content["parent"], *content["children"]]
        parent, *children = [Member(int(row["pid"]), str(row["started"])) for row in rows]
    except (RunError, KeyError, TypeError, ValueError):
        return None, []
    return parent, children


def _end_left_over(state: Path) -> list[Member]:
    """End what the record names and is still there; for whoever holds the lock."""
    left = [one for one in _recorded(state)[1] if one.alive]
    for one in left:
        one.end()
    (state / _RECORD).unlink(missing_ok=True)
    return left


def _soon(met: Callable[[], bool], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not met():
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True
