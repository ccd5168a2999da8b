"""The SuperLink of a federation's server: served, asked, given its apps to run, stopped."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from privemo.errors import RunError
from privemo.federation.family import Family, stop_family
from privemo.federation.keys import revoked
from privemo.federation.nodes import database
from privemo.federation.processes import (
    Say,
    end,
    environment,
    failure,
    follow,
    is_open,
    last_error,
    start,
    tool,
    wait_for_port,
)
from privemo.federation.server import CONNECTION
from privemo.files import read_json, write_bytes
from privemo.runs import Run

__all__ = ["is_served", "online_nodes", "run_apps", "serve", "stop"]

_PID_FILE = "server.pid"


def serve(folder: Path, say: Say) -> None:
    """Run the SuperLink of a federation until it is stopped.

    Args:
        folder: of the server.
        say: told what happens, a sentence at a time.

    Raises:
        RunError: the folder is no server's or is being served already, the port is taken, or Flower's process
            ended by itself.
    """
    port, names = _port(folder), Run(folder).stores
    state = folder / "flower"
    state.mkdir(exist_ok=True)
    with Family(state, str(folder), say) as family:
        (folder / _PID_FILE).unlink(missing_ok=True)  # of one that was killed
        if is_open(port):
            raise RunError(f"Port {port} is taken by a program that does not serve {folder}.")
        _write_connection(folder, port)
        with (state / "superlink.log").open("ab") as log:
            child = start(_command(folder, port), state, log, family)
        try:
            _wait_until_open(child, port, state / "superlink.log")
            out = revoked(folder)  # `Keys` refuses them, whatever Flower knows of them
            names = [name for name in names if name not in out]
            say(f"Serving {len(names)} stores on port {port}: {', '.join(names)}.")
            (folder / _PID_FILE).write_text(f"{os.getpid()}\n")  # who waits for it may go on
            follow([child], "The SuperLink", state / "superlink.log")
        finally:
            end(child)
            (folder / _PID_FILE).unlink(missing_ok=True)


def is_served(folder: Path) -> bool:
    """Whether somebody serves a federation on this machine."""
    return is_open(_port(folder))


def run_apps(folder: Path) -> str:
    """Run the server's app on a served federation and wait for its end.

    Returns:
        What Flower says went wrong, as the end of a sentence; empty where nothing did.
    """
    config = f'run-dir="{folder.resolve()}"'
    done = _flwr(folder, "run", str(folder / "app"), CONNECTION, "--run-config", config, "--stream")
    return last_error(done.stdout + done.stderr)


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


def _write_connection(folder: Path, port: int) -> None:
    """Tell Flower's tools how to reach the server; its folder may have been moved, or mounted elsewhere."""
    # Flower takes no path relative to its file. A JSON string is a TOML one.
    authority = json.dumps(str((folder / "tls" / "authority.pem").resolve()), ensure_ascii=False)
    config = (
        f'[superlink]\ndefault = "{CONNECTION}"\n\n[superlink.{CONNECTION}]\n'
        f'address = "127.0.0.1:{port}"\nroot-certificates = {authority}\n'
    )
    write_bytes(folder / "flower" / "config.toml", config.encode())


def _command(folder: Path, port: int) -> list[str]:
    tls = folder / "tls"
    return [
        *_behind_the_door(folder),
        *("--ssl-ca-certfile", str(tls / "authority.pem")),
        *("--ssl-certfile", str(tls / "server.pem")),
        *("--ssl-keyfile", str(tls / "server.key")),
        *("--database", database(folder)),
        *("--host", _listen_on(folder)),
        *("--port", str(port)),
        "--enable-supernode-auth",
        "--disable-runtime-dependency-installation",
    ]


def _behind_the_door(folder: Path) -> list[str]:
    tool("flower-superlink")  # is it there at all?
    return [sys.executable, "-m", "privemo.federation.doorkeeper", str(folder / "nodes")]


def _wait_until_open(child: subprocess.Popen[bytes], port: int, log: Path) -> None:
    wait_for_port(child, port)
    if child.poll() is not None or not is_open(port):
        raise failure("The SuperLink did not start", log)


def _flwr(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 - our own arguments
        [*tool("flwr"), *arguments],
        env=environment(folder / "flower"),
        capture_output=True,
        text=True,
        check=False,
    )


def _server(folder: Path) -> dict[str, Any]:
    path, of = folder / "server.json", "a server's folder, as `privemo federation init` makes it"
    return read_json(path, schema="privemo.server/1", of=of)


def _port(folder: Path) -> int:
    return int(_server(folder)["port"])


def _listen_on(folder: Path) -> str:
    """Loopback where all stores are on this machine, else every interface."""
    hosts = set(_server(folder)["hosts"])
    return "127.0.0.1" if hosts <= {"127.0.0.1", "localhost"} else "0.0.0.0"  # noqa: S104 - asked for
