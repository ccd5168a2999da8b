"""What a deployed round costs besides its computation: server and stores as processes over TLS, on loopback.

The same stores run the same rounds twice, from two copies of their folders: deployed, and in one process. A
round takes what its manifest says, from `started` to `finished`, and the difference of the two medians is the
figure. Both go by the clock: leave the machine alone. Server and stores share its cores, as machines of their
own would not, so that more stores here say little of a federation of more stores.
"""

from __future__ import annotations

import logging
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from privemo import simulation
from privemo.bench.federation import difference, figure, noise_table
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

__all__ = ["figures", "laid_out"]

STORES, PEOPLE, ROUNDS = 3, 30, 3
GOAL_S = 5.0

_PATIENCE_S, _END_S = 180.0, 60.0


def figures(
    *,
    stores: int = STORES,
    people: int = PEOPLE,
    rounds: int = ROUNDS,
    model: str = "gray-cnn",
) -> Iterator[dict[str, Any]]:
    """Seconds of a round, deployed and in one process, for noise of each store's own and for shared noise.

    And how far the two models end apart: not at all, where steps have the same threads.

    Args:
        stores: how many there are.
        people: of each store.
        rounds: of each run; a figure is of the round in the middle.
        model: name of the architecture.

    Raises:
        RunError: a process ended by itself, with what it said last, or a store was not in each round.
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
            model=model,
            seed=0,
        )
        with tempfile.TemporaryDirectory() as folder:
            chain, twin = laid_out(Path(folder), settings, people)
            with _ended_by_signals():
                _deployed(chain)
            _in_one_process(twin)
            there, here = _round_s(chain.parent), _round_s(twin)
            apart = difference(Run(chain).finished(), Run(twin / "chain").finished())
        name = f"{noise}_{stores}"
        yield figure(f"{name}_deployed_round_s", there, "s")
        yield figure(f"{name}_inprocess_round_s", here, "s")
        yield figure(f"{name}_besides_s", there - here, "s", GOAL_S)
        yield figure(f"{name}_apart", apart, "most of a weight")


def laid_out(folder: Path, settings: RunSettings, people: int) -> tuple[Path, Path]:
    """The server's folder, whose stores agreed to its invitations, and a copy of all of it.

    Args:
        folder: where both are made.
        settings: of the run.
        people: of each store.
    """
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
    stores = [chain.parent / "stores" / name for name in Run(chain).stores]
    with ExitStack() as stack:
        server = stack.enter_context(_Process("start", chain))
        server.goes_on_until((chain / "server.pid").exists)
        nodes = [stack.enter_context(_Process("join", store)) for store in stores]
        server.goes_on_until(lambda: _online(chain) == len(nodes), *nodes)
        stack.enter_context(_Process("run", chain)).ends_well()


def _in_one_process(folder: Path) -> None:
    logging.getLogger("flwr").setLevel(logging.WARNING)  # figures alone are of interest
    run = Run(folder / "chain")
    configs: list[dict[str, str | int]] = [
        {"store-dir": str(folder / "stores" / name)} for name in run.stores
    ]
    InProcessGrid(client_app, configs).serve(server_app, run_dir=str(run.folder))


def _round_s(folder: Path) -> float:
    """Seconds of the round in the middle; all stores were in each.

    Raises:
        RunError: one was not.
    """
    run = Run(folder / "chain")
    took = []
    for manifest in run.manifests():
        there = {n for n, store in manifest["stores"].items() if store["status"] == "trained"}
        if missing := sorted(set(run.stores) - there):
            raise RunError(
                f"Round {manifest['round']} went without {', '.join(missing)}: no figure."
            )
        began, ended = (datetime.fromisoformat(manifest[at]) for at in ("started", "finished"))
        took.append((ended - began).total_seconds())
    if len(took) != run.settings.rounds:
        raise RunError(f"{len(took)} of {run.settings.rounds} rounds are whole: no figure.")
    return statistics.median(took)


class _Process:
    """`privemo federation COMMAND FOLDER`, ended in the end; what it says goes to a file.

    It leads a session of its own, so that Ctrl-C reaches it once, by this process.
    """

    def __init__(self, command: str, folder: Path) -> None:
        self._what = f"privemo federation {command} {folder.name}"
        self._log = folder.parent / f"{folder.name}-{command}.log"
        self._command = [sys.executable, "-m", "privemo", "federation", command, str(folder)]

    def __enter__(self) -> Self:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()  # what it started ends with it, by its lifeline
            self._process.wait()

    def goes_on_until(self, met: Callable[[], bool], *others: _Process) -> None:
        """Wait until something is so; this process and others go on meanwhile."""
        late = time.monotonic() + _PATIENCE_S
        while not met():
            for one in (self, *others):
                if one._process.poll() is not None:
                    raise one._failure()
            if time.monotonic() > late:
                raise self._failure()
            time.sleep(0.2)

    def ends_well(self) -> None:
        """Wait for its end."""
        try:
            if self._process.wait(_PATIENCE_S) == 0:
                return
        except subprocess.TimeoutExpired:
            pass
        raise self._failure()

    def _failure(self) -> RunError:
        code = self._process.poll()
        how = f"did not get on in {_PATIENCE_S:.0f} s" if code is None else f"ended with {code}"
        return RunError(f"{self._what} {how}. It said: {self._log.read_text()[-1000:].strip()}")


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """SIGTERM and a closed terminal end what was started too, as Ctrl-C does; in the main thread alone."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    before = {one: signal.signal(one, stop) for one in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


def _online(chain: Path) -> int:
    """How many stores the server sees; none before it is up."""
    with suppress(RunError):
        return sum(node.get("status") == "online" for node in online_nodes(chain))
    return 0
