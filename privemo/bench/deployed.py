"""What a deployed round costs besides its computation: server and stores as processes over TLS, on loopback.

The same stores run the same rounds twice, from two copies of their folders: deployed, and in one process. A
round takes what its manifest says, from `started` to `finished`, and the difference of the two medians is the
figure. Both go by the clock: leave the machine alone. Server and stores share its cores, as machines of their
own would not, so that more stores here say little of a federation of more stores.
"""

from __future__ import annotations

import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from privemo import simulation
from privemo.bench.federation import noise_table
from privemo.client_app import app as client_app
from privemo.config import PrivacySettings, RunSettings
from privemo.errors import RunError
from privemo.federation.identity import enroll
from privemo.federation.invitation import Invitation, join
from privemo.federation.server import init_federation
from privemo.federation.superlink import online_nodes
from privemo.grid import InProcessGrid
from privemo.runs import Run
from privemo.server_app import app as server_app

__all__ = ["figures"]

STORES, PEOPLE, ROUNDS = 3, 30, 3
GOAL_S = 5.0

_PATIENCE_S = 600.0


def figures(
    *, stores: int = STORES, people: int = PEOPLE, rounds: int = ROUNDS
) -> Iterator[dict[str, Any]]:
    """Seconds of a round, deployed and in one process, for noise of each store's own and for shared noise.

    Args:
        stores: how many there are.
        people: of each store.
        rounds: of each run; a figure is of the round in the middle.

    Raises:
        RunError: a process ended by itself, or a round failed; the message has what was said last.
    """
    for noise in ("local", "distributed"):
        shared: dict[str, Any] = {"noise": noise, "may_drop": 0.4 if noise != "local" else 0.0}
        settings = RunSettings.of(
            stores=stores,
            rounds=rounds,
            steps_per_round=1,
            privacy=PrivacySettings.of(sample_rate=0.5, **shared),
            declared_people=people // 3,
            consents="everyone",
            init="scratch",
            model="gray-cnn",
            seed=0,
        )
        with tempfile.TemporaryDirectory() as folder:
            chain, twin = _laid_out(Path(folder), settings, people)
            _deployed(chain)
            _in_one_process(twin)
            there, here = _round_s(chain.parent), _round_s(twin)
        name = f"{noise}_{stores}"
        yield _figure(f"{name}_deployed_round_s", there)
        yield _figure(f"{name}_inprocess_round_s", here)
        yield _figure(f"{name}_besides_s", there - here, GOAL_S)


def _laid_out(folder: Path, settings: RunSettings, people: int) -> tuple[Path, Path]:
    """The server's folder, whose stores agreed to its invitations, and a copy of all of it."""
    table = noise_table(folder / "noise.npz", settings.stores * people)
    made = simulation.prepare(table, folder / "made", settings)
    here = folder / "deployed"
    shutil.move(made.folder / "stores", here / "stores")
    cards = [enroll(here / "stores" / name, name) for name in made.stores]
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = int(one.getsockname()[1])
    chain = here / "chain"
    init_federation(chain, cards, settings, hosts=["127.0.0.1"], port=port)
    for name in made.stores:
        join(here / "stores" / name, Invitation.read(chain / "invitations" / f"{name}.json"))
    shutil.copytree(here, folder / "twin")
    return chain, folder / "twin"


def _deployed(chain: Path) -> None:
    """Run all rounds by the commands that operators type."""
    stores = chain.parent / "stores"
    with _process("start", chain) as server:
        _until((chain / "server.pid").exists, server)
        with _all(("join", stores / name) for name in Run(chain).stores) as nodes:
            _until(lambda: _all_online(chain, len(nodes)), server, *nodes)
            with _process("run", chain) as run:
                if run.wait(_PATIENCE_S):
                    raise RunError(f"The run failed: {_said('run', chain)}")


def _in_one_process(folder: Path) -> None:
    run = Run(folder / "chain")
    configs: list[dict[str, str | int]] = [
        {"store-dir": str(folder / "stores" / name)} for name in run.stores
    ]
    InProcessGrid(client_app, configs).serve(server_app, run_dir=str(run.folder))


def _round_s(folder: Path) -> float:
    """Seconds of the round in the middle."""

    def at(text: str) -> float:
        return datetime.fromisoformat(text).timestamp()

    return statistics.median(
        at(manifest["finished"]) - at(manifest["started"])
        for manifest in Run(folder / "chain").manifests()
    )


@contextmanager
def _process(command: str, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`privemo federation ...`, ended in the end; what it says goes to a file beside its folder."""
    with _log_of(command, folder).open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "privemo", "federation", command, str(folder)],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(_PATIENCE_S)


@contextmanager
def _all(commands: Iterator[tuple[str, Path]]) -> Iterator[list[subprocess.Popen[bytes]]]:
    with ExitStack() as stack:
        yield [stack.enter_context(_process(*command)) for command in commands]


def _log_of(command: str, folder: Path) -> Path:
    return folder.parent / f"{folder.name}-{command}.log"


def _said(command: str, folder: Path) -> str:
    return _log_of(command, folder).read_text()[-2000:]


def _all_online(chain: Path, count: int) -> bool:
    with suppress(RunError):  # the server is not up yet
        here = [node for node in online_nodes(chain) if node.get("status") == "online"]
        return len(here) == count
    return False


def _until(met: Callable[[], bool], *processes: subprocess.Popen[bytes]) -> None:
    late = time.monotonic() + _PATIENCE_S
    while not met():
        if any(process.poll() is not None for process in processes) or time.monotonic() > late:
            raise RunError("A process of the federation ended by itself, or did not begin in time.")
        time.sleep(0.2)


def _figure(name: str, value: float, goal: float | None = None) -> dict[str, Any]:
    return {
        "figure": name,
        "value": round(value, 2),
        "unit": "s",
        "goal": None if goal is None else f"<= {goal:g}",
        "met": None if goal is None else value <= goal,
    }
