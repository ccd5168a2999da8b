"""Flower's own processes, one at a time: started, followed, ended, and what their logs say.

Each runs in the foreground of whoever started it, so that systemd or a container can keep it, and ends with
that one, however it ends (`privemo.federation.family`). Nothing phones home, and nothing is installed at run
time.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from privemo.errors import RunError
from privemo.federation.bell import BELL
from privemo.federation.family import Family
from privemo.federation.lifeline import LIFELINE
from privemo.machine import quiet_environment
from privemo.unlocking import PIPE, VARIABLES

__all__ = [
    "Say",
    "end",
    "environment",
    "failure",
    "follow",
    "is_open",
    "last_error",
    "start",
    "tail",
    "tool",
    "wait_for_port",
]

_START_S, _END_S = 90.0, 20.0

Say = Callable[[str], None]
"""Told what happens, a sentence at a time."""


def tool(name: str) -> list[str]:
    """The command line of one of Flower's tools.

    Raises:
        RunError: it is not installed where Python is.
    """
    path = Path(sys.executable).with_name(name)
    if not path.exists():
        raise RunError(f"{name} is not installed beside {sys.executable}: install privemo[train].")
    return [str(path)]


def environment(home: Path) -> dict[str, str]:
    """Variables of a process of Flower's, whose own folder is `home`."""
    quiet_environment()
    folder = str(Path(sys.executable).parent)
    path = os.pathsep.join([folder, os.environ.get("PATH", "")])
    # The passphrase of a registry is for what carries out the tasks of a store, not for what talks to others.
    # And who is believed about where a request comes from could open the door (`doorkeeper`).
    unwanted = {*VARIABLES, "FORWARDED_ALLOW_IPS"}
    return {
        **{name: value for name, value in os.environ.items() if name not in unwanted},
        "FLWR_HOME": str(home.resolve()),
        # Seconds, Flower's own: what a server's app waits at most, and a store's where its bell broke.
        "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "1",
        "PATH": path,
    }


def start(
    command: Sequence[str],
    home: Path,
    log: Any,
    family: Family,
    *,
    secret: bytes | None = None,
    bell: int | None = None,
) -> subprocess.Popen[bytes]:
    """Start a process that ends with this one.

    Args:
        command: its command line.
        home: Flower's folder for it.
        log: an open file, for what it says.
        family: that it ends with.
        secret: that it is given by a pipe of its own (`privemo.unlocking`).
        bell: file descriptor of its end of a bell (`privemo.federation.bell`).
    """
    variables = {**environment(home), LIFELINE: str(family.lifeline)}
    handed = [family.lifeline]
    if bell is not None:
        variables[BELL] = str(bell)
        handed.append(bell)
    ends: tuple[int, ...] = ()
    if secret is not None:
        ends = os.pipe()
        os.write(ends[1], secret)  # far less than a pipe holds
        variables[PIPE] = str(ends[0])
    try:
        child = subprocess.Popen(  # noqa: S603 - our own arguments
            list(command),
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            pass_fds=(*handed, *ends[:1]),
            start_new_session=True,  # with all that it starts, so that all of it can be ended
        )
    finally:
        for one in ends:
            os.close(one)
    family.add(child.pid)
    return child


def end(child: subprocess.Popen[bytes]) -> None:
    """End a process and all that it started."""
    for how, patience in ((signal.SIGTERM, _END_S), (signal.SIGKILL, _END_S)):
        with suppress(ProcessLookupError):
            os.killpg(child.pid, how)
        with suppress(subprocess.TimeoutExpired):
            child.wait(patience)
            break
    with suppress(ProcessLookupError):  # what outlived its parent
        os.killpg(child.pid, signal.SIGKILL)


def follow(
    children: Sequence[subprocess.Popen[bytes]],
    what: str,
    log: Path,
    why: Callable[[], str] = str,
) -> None:
    """Wait until one of some processes ends; SIGTERM and Ctrl-C end the waiting.

    Args:
        children: the processes.
        what: they are together, for the message.
        log: that they write.
        why: asked when one has ended, for a sentence that says more than the log does.

    Raises:
        RunError: one ended by itself.
    """

    def stop_waiting(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop_waiting)
    try:
        while all(child.poll() is None for child in children):
            time.sleep(0.2)
    except KeyboardInterrupt:
        return
    finally:
        signal.signal(signal.SIGTERM, before)
    raise failure(f"{what} ended by itself", log, why())


def failure(what: str, log: Path, why: str = "") -> RunError:
    """What went wrong with a process, and why: what is known of it, or what its log says last."""
    told = f". {why} {log}" if why else f"{last_error(tail(log))}; {log}"
    return RunError(f"{what}{told} has the rest.")


def wait_for_port(child: subprocess.Popen[bytes], port: int) -> None:
    """Wait until a port of this machine is open, or the process that is to open it has ended or is late."""
    late = time.monotonic() + _START_S
    while not is_open(port) and child.poll() is None and time.monotonic() < late:
        time.sleep(0.2)


def is_open(port: int) -> bool:
    """Whether anybody listens on a port of this machine."""
    with socket.socket() as one:
        one.settimeout(0.5)
        return one.connect_ex(("127.0.0.1", port)) == 0


def tail(log: Path, since: int = 0) -> str:
    """The end of a log, of what came after its first `since` bytes; nothing of one that is not there."""
    return log.read_bytes()[since:][-20_000:].decode(errors="replace") if log.exists() else ""


def last_error(text: str) -> str:
    """What Flower says went wrong, as the end of a sentence; its command line draws a box around it."""
    lines = [line.strip(" │╭╮╰╯─\t") for line in text.splitlines()]
    if "Error" in lines:
        said = lines[len(lines) - lines[::-1].index("Error") :]
    else:
        # uvicorn logs whatever happens under that name.
        said = [n for n in lines if "error" in n.lower().replace("[uvicorn.error]", "")][-1:]
    told = " ".join(line for line in said if line)[:300]
    return f" ({told.rstrip('.')})" if told else ""
