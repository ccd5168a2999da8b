"""The SuperNode of a store, and what carries out its tasks: served until they are stopped."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from privemo.errors import RunError
from privemo.federation.family import Family
from privemo.federation.identity import CARD_FILE, NODE_KEY_FILE, StoreCard
from privemo.federation.invitation import AUTHORITY_FILE, JOINED_FILE
from privemo.federation.processes import (
    Say,
    end,
    failure,
    follow,
    start,
    tail,
    tool,
    wait_for_port,
)
from privemo.federation.refusals import out_of_reach, why_refused
from privemo.files import read_json, write_bytes
from privemo.storeconfig import agreed_to_nothing
from privemo.unlocking import to_hand_over

__all__ = ["serve_store"]

_PORTS_TRIED = 3
# How Flower's node begins the line that says under which number it was let in, and how it ends when it was
# in, and is answered 401.
_LET_IN, _TURNED_AWAY = "SuperNode ID", "terminated gracefully"
_STILL_THERE = "[code: 2004]"  # so a server refuses a node that it takes for one that is there
_IN_USE = "address already in use"
_MISSED_S, _AGAIN_S = 90.0, 5.0  # after two heartbeats of Flower's, a minute, it is there no more


def serve_store(folder: Path, say: Say) -> None:
    """Run the SuperNode of a store, and what carries out its tasks, until it is stopped.

    Args:
        folder: of the store, which has joined.
        say: told what happens.

    Raises:
        RunError: the store has joined nothing or takes part already, or Flower's process ended by itself.
        SettingsError: the registry's keys need a passphrase, and nobody gave one.
        privemo_consent.KeyFileError: it is another one.
    """
    path = folder / "flower" / "supernode.log"
    ports, ends = _PORTS_TRIED, time.monotonic() + _MISSED_S
    while True:
        begun = path.stat().st_size if path.exists() else 0
        try:
            return _serve_store(folder, say)
        except RunError:
            said = tail(path, begun)
            if _IN_USE in said and ports > 1:
                # Another process may take a free port between our look and the node's.
                ports -= 1
            elif _STILL_THERE in said and time.monotonic() < ends:
                say("The server has not missed this store's node of before yet: trying again.")
                time.sleep(_AGAIN_S)
            else:
                raise


def _serve_store(folder: Path, say: Say) -> None:
    card = StoreCard.read(folder / CARD_FILE)
    path = folder / JOINED_FILE
    if not path.exists():
        raise RunError(agreed_to_nothing(folder))
    joined = read_json(path, schema="privemo.joined/1")
    word = to_hand_over(folder / "consent.sqlite")
    state = folder / "flower"
    state.mkdir(exist_ok=True)
    with Family(state, card.name, say) as family:
        _take_part(folder, card.name, joined["address"], word, family, say)


def _take_part(
    folder: Path, name: str, address: str, word: bytes | None, family: Family, say: Say
) -> None:
    state = folder / "flower"
    port, secret = _free_port(), state / "tasks.secret"
    write_bytes(secret, secrets.token_hex(32).encode())  # readable by its owner alone
    only_ours = ("--superexec-auth-secret-file", str(secret))
    node = [
        *(*_daemon("supernode"), "--isolation", "process", *only_ours),
        *("--root-certificates", str(folder / AUTHORITY_FILE)),
        *("--superlink", address),
        *("--auth-supernode-private-key", str(folder / NODE_KEY_FILE)),
        *("--node-config", f'store-dir="{folder.resolve()}"'),
        *("--port", str(port)),
    ]
    tasks = [
        *(*_daemon("superexec"), *only_ours, "--insecure", "--parent-pid", str(os.getpid())),
        *("--runtime-api-address", f"127.0.0.1:{port}"),
    ]
    path = state / "supernode.log"
    begun = path.stat().st_size if path.exists() else 0
    children: list[subprocess.Popen[bytes]] = []

    def why() -> str:
        return why_refused(address, folder / AUTHORITY_FILE, was_in=_was_kept(tail(path, begun)))

    try:
        with path.open("ab") as log, _bell() as (ear, rope):
            children.append(start(node, state, log, family, bell=rope))
            _wait_until_ours(children[0], port, path, why)
            children.append(start(tasks, state, log, family, secret=word, bell=ear))
        say(_joining(name, address))
        follow(children, "The SuperNode", path, why)
    finally:
        for child in children:
            end(child)
        secret.unlink(missing_ok=True)


@contextmanager
def _bell() -> Iterator[tuple[int, int]]:
    """The two ends of a pipe, until both processes have theirs (`privemo.federation.bell`)."""
    ends = os.pipe()
    try:
        yield ends
    finally:
        for one in ends:
            os.close(one)


def _joining(name: str, address: str) -> str:
    """What to say of a store that is up: whether its server is, nobody else would tell."""
    missing = out_of_reach(address)
    if missing:
        return f"{name} does not reach {address} yet ({missing}): it takes part once it does, and tries on."
    return f"{name} takes part in the federation at {address}."


def _daemon(kind: str) -> list[str]:
    tool(f"flower-{kind}")  # is it there at all?
    return [sys.executable, "-m", "privemo.federation.daemons", kind]


def _wait_until_ours(
    child: subprocess.Popen[bytes], port: int, log: Path, why: Callable[[], str]
) -> None:
    """Wait until the node's own port is open, and nobody else's: who hands out tasks is trusted with them."""
    wait_for_port(child, port)
    if child.poll() is not None or _listener(port) not in (os.getuid(), None):
        # A node that a server turned away at once, or that turned the server away, never had a port.
        found = why() if child.poll() is not None and _IN_USE not in tail(log) else ""
        raise failure("The SuperNode did not start", log, found)


def _listener(port: int) -> int | None:
    """User id of whoever listens on a port of loopback; None where the system does not say."""
    path = Path("/proc/net/tcp")
    if not path.exists():
        return None
    listening = "0A"
    for line in path.read_text().splitlines()[1:]:
        part = line.split()
        if part[3] == listening and int(part[1].rpartition(":")[2], 16) == port:
            return int(part[7])
    return None


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _was_kept(log: str) -> bool:
    """Whether a node that ended had been let in, and had not been turned away since."""
    return _LET_IN in log and _TURNED_AWAY not in log
