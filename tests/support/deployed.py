"""A federation as it is deployed: a server and stores as processes of their own, on loopback."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from privemo.config import PrivacySettings
from privemo.federation.identity import enroll
from privemo.ledger import Ledger
from privemo.runs import Run
from privemo.storeconfig import KEY_FILE
from tests.support.clocks import wrong_clock
from tests.support.small_runs import small_run

__all__ = [
    "ENVIRONMENT",
    "Cable",
    "Federation",
    "child_of",
    "family",
    "paid_for_what_counted",
    "privemo",
    "until",
]

ENVIRONMENT = dict(os.environ)
"""With as many threads as this process has: sums of another number of threads differ in their last bits."""


def privemo(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "privemo", *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=600, env=ENVIRONMENT
    )


def until(what: str, met: Callable[[], bool], seconds: float = 240) -> None:
    end = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < end, what
        time.sleep(0.2)


class Federation:
    """A server's folder and three stores of simulated people, and the processes that serve them.

    Args:
        folder: for all of it.
        options: more of `federation init`.
        shared: whether stores share the noise; else each adds its own.
        changes: of what the stores are simulated by.
    """

    def __init__(
        self, folder: Path, *options: str | Path, shared: bool = True, **changes: Any
    ) -> None:
        self.folder, self.chain = folder, folder / "chain"
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        noise: dict[str, Any] = {"noise": "distributed", "may_drop": 0.4} if shared else {}
        privacy = PrivacySettings(epsilon=8.0, sample_rate=0.5, **noise)
        self.settings: dict[str, Any] = {
            "stores": 3,
            "steps_per_round": 1,
            "model": "gray-cnn",
            "privacy": privacy,
        }
        machines = folder / "machines"
        machines.mkdir()
        made = small_run(machines, **{"people": 90, **self.settings, **changes})
        self.names = made.stores
        self.stores = made.folder / "stores"
        for name in self.names:  # each makes its own keys, as a real one does
            (self.stores / name / KEY_FILE).unlink()
            enroll(self.stores / name, name)
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            port = str(one.getsockname()[1])
        cards = [a for name in self.names for a in ("--card", self.stores / name / "card.json")]
        done = privemo(
            *("federation", "init", self.chain, *cards, "--host", "127.0.0.1", "--port", port),
            *("--declared-people", "10", "--rounds", "2", "--sample-rate", "0.5"),
            *(("--may-drop", "0.4") if shared else ("--noise", "local")),
            *("--model", "gray-cnn", "--init", "scratch", "--seed", "5", *options),
        )
        assert done.returncode == 0, done.stderr
        for name in self.names:
            invitation = self.chain / "invitations" / f"{name}.json"
            joined = ("federation", "join", self.stores / name, "--invitation", invitation)
            done = privemo(*joined, "--no-start")
            assert done.returncode == 0, done.stderr

    def start(
        self,
        name: str,
        *arguments: str | Path,
        disk: int | None = None,
        clock: int | None = None,
        variables: Mapping[str, str] | None = None,
    ) -> subprocess.Popen[bytes]:
        """Start one of the processes; no file of it grows beyond `disk` bytes, its clock is
        `clock` seconds ahead, and its environment has more variables."""
        command = [sys.executable, "-m", "privemo", "federation", *map(str, arguments)]
        more = {**(variables or {})}
        if clock is not None:
            more |= wrong_clock(self.folder, clock)
        if disk is not None:
            command = ["prlimit", f"--fsize={disk}", *command]
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, env={**ENVIRONMENT, **more}
            )
        self.processes[name] = process
        return process

    def serve(self) -> None:
        self.start("server", "start", self.chain)
        until("the server is up", (self.chain / "server.pid").exists)

    def open_stores(self, **disks: int) -> None:
        for name in self.names:
            disk = disks.get(name.replace("-", "_"))
            self.start(name, "join", self.stores / name, disk=disk)
        until("all stores are online", lambda: self.online() == 3)

    def run_past_a_round(self) -> subprocess.Popen[bytes]:
        """All stores take part, and the first round is whole."""
        self.serve()
        self.open_stores()
        running = self.start("run", "run", self.chain)
        until("the first round", (self.chain / "rounds" / "0001.json").exists, 400)
        return running

    def trained(self, name: str) -> list[int]:
        """Rounds that a store has paid for."""
        return [entry.round for entry in Ledger(self.stores / name / "ledger.jsonl").entries]

    def said(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()

    def online(self) -> int:
        done = privemo("federation", "status", self.chain, "--json")
        return int(json.loads(done.stdout)["online"]) if done.returncode == 0 else 0

    def end(self) -> None:
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            process.wait(120)  # it gives its own processes time to end


def child_of(process: subprocess.Popen[bytes]) -> int:
    return int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0])


def family(process: subprocess.Popen[bytes]) -> list[int]:
    """A process and all that it started."""
    found, new = [], [process.pid]
    while new:
        found += new
        new = [
            int(child)
            for pid in new
            for task in Path(f"/proc/{pid}/task").glob("*/children")
            for child in task.read_text().split()
        ]
    return found


def paid_for_what_counted(federation: Federation) -> None:
    """No store's numbers are in a sum that its ledger does not know of."""
    manifests = Run(federation.chain).manifests()
    assert [m["round"] for m in manifests] == [1, 2]
    for name in federation.names:
        counted = [m["round"] for m in manifests if name in m["secure_sum"]["summed"]]
        assert set(counted) <= set(federation.trained(name)), name


class Cable:
    """The line from a store to the server, which can be cut."""

    def __init__(self, port: int) -> None:
        self._to, self._open, self._ends = port, True, list[socket.socket]()
        self.carried = self.broken = 0
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listening.getsockname()[1])
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listening.accept()
                if not self._open:
                    near.close()
                    continue
                far = socket.create_connection(("127.0.0.1", self._to))
                self._ends += [near, far]
                for ends in ((near, far), (far, near)):
                    threading.Thread(target=self._carry, args=ends, daemon=True).start()

    def _carry(self, one: socket.socket, other: socket.socket) -> None:
        with suppress(OSError):
            while data := one.recv(1 << 16):
                other.sendall(data)
                self.carried += len(data)
        for end in (one, other):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def cut(self) -> None:
        self._open = False
        while self._ends:
            end = self._ends.pop()
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
            self.broken += 1

    def mend(self) -> None:
        self._open = True

    def close(self) -> None:
        self.cut()
        self._listening.close()
