"""Flower's own processes, started and followed: the SuperLink of a server, the SuperNode of a store.

Each runs in the foreground of whoever started it, so that systemd or a container can keep it, and ends with
that one, however it ends (`privemo.federation.family`). Nothing phones home, and nothing is installed at run
time.
"""

from __future__ import annotations

import json
import os
import secrets
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
from privemo.federation.doorkeeper import revoked
from privemo.federation.family import Family, stop_family
from privemo.federation.identity import CARD_FILE, NODE_KEY_FILE, StoreCard
from privemo.federation.invitation import AUTHORITY_FILE, JOINED_FILE
from privemo.federation.lifeline import LIFELINE
from privemo.federation.refusals import why_refused
from privemo.federation.server import CONNECTION
from privemo.files import read_json, write_bytes
from privemo.machine import quiet_environment
from privemo.runs import Run
from privemo.unlocking import PIPE, VARIABLES, to_hand_over

__all__ = ["is_served", "online_nodes", "run_apps", "serve", "serve_store", "stop"]

_START_S, _END_S = 90.0, 20.0
_PORTS_TRIED = 3
_PID_FILE = "server.pid"
_LET_IN = (
    "SuperNode ID"  # so Flower's node begins the line that says under which number it was let in
)

_TURNED_AWAY = "terminated gracefully"  # so it ends that was in, and is answered 401

_STILL_THERE = "[code: 2004]"  # so a server refuses a node that it takes for one that is there
_MISSED_S, _AGAIN_S = 90.0, 5.0  # after two heartbeats of Flower's, a minute, it is there no more

Say = Callable[[str], None]


def serve(folder: Path, say: Say) -> None:
    """Run the SuperLink of a federation until it is stopped; its stores are registered first.

    Args:
        folder: of the server.
        say: told what happens, a sentence at a time.

    Raises:
        RunError: the folder is no server's or is being served already, the port is taken, or Flower's process
            ended by itself.
    """
    port, names = _port(folder), Run(folder).stores
    state = folder / "flower"
    with Family(state, str(folder), say) as family:
        (folder / _PID_FILE).unlink(missing_ok=True)  # of one that was killed
        if _open("127.0.0.1", port):
            raise RunError(f"Port {port} is taken by a program that does not serve {folder}.")
        with (state / "superlink.log").open("ab") as log:
            child = _start(_superlink(folder, port), state, log, family)
        try:
            _wait_until_open(child, port, state / "superlink.log")
            (folder / _PID_FILE).write_text(f"{os.getpid()}\n")
            out = revoked(folder)  # `Keys` refuses them, whatever Flower knows of them
            names = [name for name in names if name not in out]
            for name in names:
                _register(folder, name)
            say(f"Serving {len(names)} stores on port {port}: {', '.join(names)}.")
            _follow([child], "The SuperLink", state / "superlink.log")
        finally:
            _end(child)
            (folder / _PID_FILE).unlink(missing_ok=True)


def _superlink(folder: Path, port: int) -> list[str]:
    tls, state = folder / "tls", folder / "flower"
    return [
        *_behind_the_door(folder),
        *("--ssl-ca-certfile", str(tls / "authority.pem")),
        *("--ssl-certfile", str(tls / "server.pem")),
        *("--ssl-keyfile", str(tls / "server.key")),
        *("--database", str(state / "state.db")),
        *("--host", _listen_on(folder)),
        *("--port", str(port)),
        "--enable-supernode-auth",
        "--disable-runtime-dependency-installation",
    ]


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
            said = _tail(path, begun)
            if "address already in use" in said and ports > 1:
                # Another process may take a free port between our look and the node's.
                ports -= 1
            elif _STILL_THERE in said and time.monotonic() < ends:
                say("The server has not missed this store's node of before yet: trying again.")
                time.sleep(_AGAIN_S)
            else:
                raise


def _serve_store(folder: Path, say: Say) -> None:
    card = StoreCard.read(folder / CARD_FILE)
    joined = read_json(folder / JOINED_FILE, schema="privemo.joined/1")
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
    try:
        with path.open("ab") as log:
            children.append(_start(node, state, log, family))
            _wait_until_ours(children[0], port, path)
            children.append(_start(tasks, state, log, family, secret=word))
        say(f"{name} takes part in the federation at {address}.")
        _follow(
            children,
            "The SuperNode",
            path,
            lambda: why_refused(
                address, folder / AUTHORITY_FILE, was_in=_was_kept(_tail(path, begun))
            ),
        )
    finally:
        for child in children:
            _end(child)
        secret.unlink(missing_ok=True)


def is_served(folder: Path) -> bool:
    """Whether somebody serves a federation on this machine."""
    return _open("127.0.0.1", _port(folder))


def run_apps(folder: Path) -> str:
    """Run the server's app on a served federation and wait for its end.

    Returns:
        What Flower says went wrong, as the end of a sentence; empty where nothing did.
    """
    config = f'run-dir="{folder.resolve()}"'
    done = _flwr(folder, "run", str(folder / "app"), CONNECTION, "--run-config", config, "--stream")
    return _last_error(done.stdout + done.stderr)


def online_nodes(folder: Path) -> list[dict[str, Any]]:
    """What the SuperLink says of the nodes of a federation.

    Raises:
        RunError: it is not being served.
    """
    done = _flwr(folder, "supernode", "list", CONNECTION, "--format", "json")
    try:
        found: list[dict[str, Any]] = json.loads(done.stdout)["nodes"]
    except (ValueError, KeyError) as error:
        raise RunError(
            f"{folder} is not being served, so nobody can say which stores are there: start it with "
            f"`privemo federation start {folder}`. Its rounds: `privemo watch {folder} --once`."
        ) from error
    return found


def stop(folder: Path) -> None:
    """Stop the server of a federation, also what a killed one left over; what was whole is kept.

    Raises:
        RunError: it is not being served, or from elsewhere, or it does not end.
    """
    if not stop_family(folder / "flower", str(folder)):
        raise RunError(f"{folder} is not being served: there is nothing to stop.")
    (folder / _PID_FILE).unlink(missing_ok=True)


# -- underneath ----------------------------------------------------------------------------------


def _environment(home: Path) -> dict[str, str]:
    quiet_environment()
    folder = str(Path(sys.executable).parent)
    path = os.pathsep.join([folder, os.environ.get("PATH", "")])
    return {
        # The registry's passphrase is for what carries out a store's tasks, and not for what talks to others.
        **{name: value for name, value in os.environ.items() if name not in VARIABLES},
        "FLWR_HOME": str(home.resolve()),
        "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.05",  # seconds; it asks a neighbour on loopback
        "PATH": path,
    }


def _tool(name: str) -> list[str]:
    path = Path(sys.executable).with_name(name)
    if not path.exists():
        raise RunError(f"{name} is not installed beside {sys.executable}: install privemo[train].")
    return [str(path)]


def _behind_the_door(folder: Path) -> list[str]:
    _tool("flower-superlink")  # is it there at all?
    return [sys.executable, "-m", "privemo.federation.doorkeeper", str(folder / "nodes")]


def _daemon(kind: str) -> list[str]:
    _tool(f"flower-{kind}")  # is it there at all?
    return [sys.executable, "-m", "privemo.federation.daemons", kind]


def _start(
    command: Sequence[str], home: Path, log: Any, family: Family, *, secret: bytes | None = None
) -> subprocess.Popen[bytes]:
    """Start a process that ends with this one; a secret has a pipe of its own (`privemo.unlocking`)."""
    environment = {**_environment(home), LIFELINE: str(family.lifeline)}
    ends: tuple[int, ...] = ()
    if secret is not None:
        ends = os.pipe()
        os.write(ends[1], secret)  # far less than a pipe holds
        environment[PIPE] = str(ends[0])
    try:
        child = subprocess.Popen(  # noqa: S603 - our own arguments
            list(command),
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            pass_fds=(family.lifeline, *ends[:1]),
            start_new_session=True,  # with all that it starts, so that all of it can be ended
        )
    finally:
        for end in ends:
            os.close(end)
    family.add(child.pid)
    return child


def _end(child: subprocess.Popen[bytes]) -> None:
    """End a process and all that it started."""
    for how, patience in ((signal.SIGTERM, _END_S), (signal.SIGKILL, _END_S)):
        with suppress(ProcessLookupError):
            os.killpg(child.pid, how)
        with suppress(subprocess.TimeoutExpired):
            child.wait(patience)
            break
    with suppress(ProcessLookupError):  # what outlived its parent
        os.killpg(child.pid, signal.SIGKILL)


def _follow(
    children: Sequence[subprocess.Popen[bytes]],
    what: str,
    log: Path,
    why: Callable[[], str] = str,
) -> None:
    """Wait until one of some processes ends; SIGTERM and Ctrl-C end the waiting."""

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
    found = why()
    told = f". {found} {log}" if found else f"{_last_error(_tail(log))}; {log}"
    raise RunError(f"{what} ended by itself{told} has the rest.")


def _wait_until_open(child: subprocess.Popen[bytes], port: int, log: Path) -> None:
    _until(lambda: _open("127.0.0.1", port) or child.poll() is not None, _START_S)
    if child.poll() is not None or not _open("127.0.0.1", port):
        raise RunError(f"The SuperLink did not start{_last_error(_tail(log))}; {log} has the rest.")


def _wait_until_ours(child: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """Wait until the node's own port is open, and nobody else's: who hands out tasks is trusted with them."""
    _until(lambda: _open("127.0.0.1", port) or child.poll() is not None, _START_S)
    if child.poll() is not None or _listener(port) not in (os.getuid(), None):
        raise RunError(f"The SuperNode did not start{_last_error(_tail(log))}; {log} has the rest.")


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


def _until(met: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not met() and time.monotonic() < end:
        time.sleep(0.2)


def _register(folder: Path, name: str) -> None:
    """Let a store's node in; one that was let in before stays."""
    key = folder / "nodes" / f"{name}.pub"
    done = _flwr(folder, "supernode", "register", str(key), CONNECTION, "--name", name)
    said = done.stdout + done.stderr
    if done.returncode and "already in use" not in said:
        raise RunError(f"{name} could not be registered{_last_error(said)}.")


def _flwr(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 - our own arguments
        [*_tool("flwr"), *arguments],
        env=_environment(folder / "flower"),
        capture_output=True,
        text=True,
        check=False,
    )


def _port(folder: Path) -> int:
    return int(read_json(folder / "server.json", schema="privemo.server/1")["port"])


def _listen_on(folder: Path) -> str:
    """Loopback where all stores are on this machine, else every interface."""
    hosts = set(read_json(folder / "server.json", schema="privemo.server/1")["hosts"])
    return "127.0.0.1" if hosts <= {"127.0.0.1", "localhost"} else "0.0.0.0"  # noqa: S104 - asked for


def _open(host: str, port: int) -> bool:
    with socket.socket() as one:
        one.settimeout(0.5)
        return one.connect_ex((host, port)) == 0


def _was_kept(log: str) -> bool:
    """Whether a node that ended had been let in, and had not been turned away since."""
    return _LET_IN in log and _TURNED_AWAY not in log


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _tail(log: Path, since: int = 0) -> str:
    return log.read_bytes()[since:][-20_000:].decode(errors="replace") if log.exists() else ""


def _last_error(text: str) -> str:
    """What Flower says went wrong, as the end of a sentence; its command line draws a box around it."""
    lines = [line.strip(" │╭╮╰╯─\t") for line in text.splitlines()]
    if "Error" in lines:
        said = lines[len(lines) - lines[::-1].index("Error") :]
    else:
        said = [line for line in lines if "error" in line.lower()][-1:]
    told = " ".join(line for line in said if line)[:300]
    return f" ({told.rstrip('.')})" if told else ""
