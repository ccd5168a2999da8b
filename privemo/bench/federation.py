"""What a federation costs on top of its training: the same rounds as a plain loop, as a run, and on Ray.

The plain loop is the arithmetic alone: each store's private steps on faces in memory, their mean, the
server's step. A run has besides registries, vaults, a gate that is asked before every batch, ledgers on the
disk, signatures and manifests. In one process both have to end in the same model, bit by bit. Ray gives each
store one thread, which adds up in another order; and the seeded noise of a round hangs on the model before,
so that one rounding apart is another run. On one thread each, all three end in one model
(`test_ray_gives_the_same_model_as_one_process`).

Two of the three are one process, and are compared by the seconds it computed, all threads together: other
work on the machine is not counted against either. They take turns, a store of the loop and a store of the
run: how fast a virtual machine computes was seen to drift by a fifth within minutes, which is more than what
is asked. Ray's workers are processes of their own, and so are those of a run whose stores train side by side:
there the clock counts, and the machine should be idle. Such workers share the threads that the plain loop has
for each step. Where that leaves a step fewer of them, sums are rounded otherwise, and how far the two models
end apart is a figure; else they are the same bit by bit.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from privemo import simulation
from privemo import weights as w
from privemo.admission import admitted
from privemo.bench.alone import ready_and_peak
from privemo.bench.rehearsal import Rehearsal, Trained
from privemo.bench.variants import network_of, start_of
from privemo.config import PrivacySettings, RunSettings
from privemo.errors import RunError, SettingsError
from privemo.faces import FaceTable, load_faces
from privemo.facts import new_run_id
from privemo.machine import tuned
from privemo.orders import PrivateRecipe
from privemo.runs import Run
from privemo.workers import threads_each
from privemo_consent import Purpose

__all__ = ["difference", "figure", "figures", "noise_table"]

ROUNDS, STEPS, PEOPLE = 10, 6, 100
"""Rounds, private steps of a store in a round, and people of a store: the recipe of local noise."""

RATIO_GOAL, START_GOAL = 1.10, 5.0


def figures(
    *,
    stores: tuple[int, ...] = (10,),
    rounds: int = ROUNDS,
    people: int = PEOPLE,
    model: str = "emotion-cnn",
    one_process: bool = True,
    workers: int = 1,
    ray: bool = True,
) -> Iterator[dict[str, Any]]:
    """Seconds of the plain loop, and the others as multiples of it, for each number of stores.

    Args:
        stores: how many there are.
        rounds: of the federation.
        people: of each store.
        model: name of the architecture.
        one_process: measure a run of one store after the other.
        workers: measure a run of so many stores at once too, its start included; 1 measures none.
        ray: measure Flower's simulation engine too, its start included: with this very app, and with Flower's
            quickstart pattern (`privemo.bench.quickstart`).

    Raises:
        RunError: the run and the plain loop ended in different models.
        SettingsError: no such number of workers, or there is nothing to measure.
    """
    simulation.check_workers(workers, "inprocess")
    if not (one_process or workers > 1 or ray):
        raise SettingsError("No run is left to measure: take one process, workers or Ray.")
    for count in stores:
        with tempfile.TemporaryDirectory() as folder:
            settings = RunSettings.of(
                stores=count,
                rounds=rounds,
                steps_per_round=STEPS,
                privacy=PrivacySettings.of(sample_rate=0.25),
                declared_people=people // 2,
                consents="everyone",
                init="scratch",
                model=model,
                seed=0,
            )
            data = Path(folder) / "noise.npz"
            yield from _of(
                noise_table(data, count * people), Path(folder), settings, one_process, workers, ray
            )
            yield from _alone(data, Path(folder) / "alone", settings)


def _of(
    table: FaceTable,
    folder: Path,
    settings: RunSettings,
    one_process: bool,
    workers: int,
    ray: bool,
) -> Iterator[dict[str, Any]]:
    stores = settings.stores
    with _plain(table, settings) as plain:
        plain.turn()
        run, start = _prepared(table, folder / "run", settings)
        mine, first = _run(run, plain=plain) if one_process else (_Seconds(), 0.0)
        plain.end()
    yield figure(f"plain_{stores}_s", plain.took.computed, "s of all threads")
    yield figure(f"prepare_{stores}_s", start.clock, "s")
    if one_process:
        if difference(plain.model, run.finish()):
            raise RunError("A run in one process ended in another model than the plain loop.")
        ratio = (start + mine).computed / plain.took.computed
        yield figure(f"inprocess_{stores}", ratio, "x plain", RATIO_GOAL)
        yield figure(f"inprocess_{stores}_first_round_s", first, "s")
    if workers > 1:
        if one_process:
            run, start = _prepared(table, folder / "workers", settings)
        yield from _side_by_side(run, start, plain, workers)
    if ray:
        if one_process or workers > 1:
            run, start = _prepared(table, folder / "ray", settings)
        theirs, first = _run(run, "ray")
        ratio = (start + theirs).clock / plain.took.clock
        yield figure(f"ray_{stores}", ratio, "x plain, by the clock")
        yield figure(f"ray_{stores}_first_round_s", first, "s")
        seconds, first = _quickstart(table, settings, folder / "quickstart")
        ratio = seconds / plain.took.clock
        yield figure(f"quickstart_{stores}", ratio, "x plain, by the clock")
        yield figure(f"quickstart_{stores}_first_round_s", first, "s")


def _alone(data: Path, folder: Path, s: RunSettings) -> Iterator[dict[str, Any]]:
    """What a user waits for, and what the machine has to have."""
    ready, memory = ready_and_peak(data, folder, s)
    goal = START_GOAL if s.stores == 10 else None
    yield figure(f"ready_{s.stores}_s", ready, "s, imports included", goal)
    yield figure(f"peak_{s.stores}_mib", memory, "MiB beyond imports")


def _side_by_side(
    run: Run, start: _Seconds, plain: _Plain, workers: int
) -> Iterator[dict[str, Any]]:
    """Several stores at once, by the clock over the plain loop's, and how far the models are apart."""
    name = f"inprocess_{len(run.stores)}_workers_{workers}"
    mine, first = _run(run, "inprocess", workers)
    yield figure(name, (start + mine).clock / plain.took.clock, "x plain, by the clock", RATIO_GOAL)
    yield figure(f"{name}_first_round_s", first, "s")
    apart = difference(plain.model, run.finish())
    with tuned(run.settings.threads):
        alike = threads_each(workers, run.settings.threads) == torch.get_num_threads()
    if alike and apart:
        raise RunError("A run of several workers ended in another model than the plain loop.")
    threads = "the same" if alike else "fewer"
    yield figure(f"{name}_apart", apart, f"most of a weight, with {threads} threads a step")


def noise_table(path: Path, people: int) -> FaceTable:
    """Pictures of chance: how long a step takes does not depend on what is in them."""
    rng = np.random.default_rng(0)
    np.savez(
        path,
        images=rng.integers(0, 256, (people, 48, 48), dtype=np.uint8),
        label=rng.integers(0, 4, people).astype(np.int8),
        label_names=np.array(["happy", "sad", "neutral", "surprise"]),
        identity=np.array([f"p{i:06d}" for i in range(people)]),
    )
    return load_faces(path)


def _rehearsal(
    table: FaceTable, s: RunSettings
) -> tuple[Rehearsal, w.Weights, list[tuple[NDArray[np.int64], Purpose]]]:
    """A run in memory, the weights that it starts from, and the rows of each store, for a gate."""
    start, _ = start_of(s, "as shipped", table.channels)
    rehearsal = Rehearsal(
        s,
        start,
        network_of(s.model, "as shipped", table.channels),
        people=s.public_people(len(np.unique(table.person))),
        run_id=new_run_id(table, s),
    )
    seed = s.seed or 0
    train, _ = table.split(s.test_fraction, seed=seed)
    asked = [(rows, Purpose.TRAINING) for rows in table.partition(train, s.stores, seed=seed)]
    return rehearsal, start, asked


@dataclass(frozen=True)
class _Seconds:
    """Those that this process computed, all threads together, and those on the clock."""

    computed: float = 0.0
    clock: float = 0.0

    @classmethod
    def now(cls) -> _Seconds:
        """Since some moment, for differences."""
        return cls(time.process_time(), time.perf_counter())

    def __add__(self, other: _Seconds) -> _Seconds:
        return _Seconds(self.computed + other.computed, self.clock + other.clock)

    def __sub__(self, other: _Seconds) -> _Seconds:
        return _Seconds(self.computed - other.computed, self.clock - other.clock)


class _Plain:
    """The plain loop, a store at a time: what it took so far, and its model after the last whole round."""

    def __init__(self, turns: Iterator[Trained | None], threads: int | None) -> None:
        self._turns, self._threads = turns, threads
        self.model: w.Weights = {}
        self.took = _Seconds()

    def turn(self) -> bool:
        """Go a store further, or end a round; false when there was nothing left."""
        began = _Seconds.now()
        with tuned(self._threads):
            try:
                trained = next(self._turns)
            except StopIteration:
                return False
        self.took += _Seconds.now() - began
        if trained:
            self.model = trained.model
        return True

    def end(self) -> None:
        """All turns that are left."""
        while self.turn():
            pass


@contextmanager
def _plain(table: FaceTable, s: RunSettings) -> Iterator[_Plain]:
    """The plain loop over the faces that the gate lets through."""
    rehearsal, _, asked = _rehearsal(table, s)

    def everyone(_: int, drawn: NDArray[np.str_]) -> NDArray[np.bool_]:
        return np.ones(len(drawn), np.bool_)

    with admitted(table, asked, challenge_age=s.challenge_age) as let_in:
        yield _Plain(rehearsal.turns(let_in.parts, everyone), s.threads)


def _quickstart(table: FaceTable, s: RunSettings, folder: Path) -> tuple[float, float]:
    """Seconds on the clock of Flower's own pattern on Ray, and until its first round was whole."""
    from privemo.bench.quickstart import serve

    rehearsal, start, asked = _rehearsal(table, s)
    recipe = rehearsal.order_for(1).recipe
    assert isinstance(recipe, PrivateRecipe)  # noqa: S101 - the settings are private
    folder.mkdir()
    with admitted(table, asked, challenge_age=s.challenge_age) as let_in:
        return serve(folder, let_in.parts, recipe, model=s.model, start=start, rounds=s.rounds)


def _prepared(table: FaceTable, folder: Path, s: RunSettings) -> tuple[Run, _Seconds]:
    """A run, and what laying out its stores took: a part of what it costs."""
    began = _Seconds.now()
    run = simulation.prepare(table, folder, s)
    return run, _Seconds.now() - began


def _run(
    run: Run,
    engine: simulation.Engine = "inprocess",
    workers: int = 1,
    plain: _Plain | None = None,
) -> tuple[_Seconds, float]:
    """What a prepared run took, and seconds on the clock until its first round was whole.

    After each of its stores `plain` goes a turn further, on the same threads, and is not counted.
    """
    began, others, first = _Seconds.now(), _Seconds(), list[float]()

    def listen(event: dict[str, Any]) -> None:
        nonlocal others
        if event["event"] == "round":
            first.append((_Seconds.now() - began - others).clock)
        if plain and event["event"] in {"store", "round"}:
            before = _Seconds.now()
            plain.turn()
            others += _Seconds.now() - before

    simulation.run(run, engine=engine, listener=listen, workers=workers)
    return _Seconds.now() - began - others, first[0]


def difference(one: w.Weights, other: w.Weights) -> float:
    """The largest of any weight."""
    return max(float(np.abs(one[name] - other[name]).max()) for name in one)


def figure(name: str, value: float, unit: str, goal: float | None = None) -> dict[str, Any]:
    """A figure as benchmarks give it (`privemo.bench`); met where it is no more than the goal."""
    return {
        "figure": name,
        "value": float(f"{value:.4g}"),
        "unit": unit,
        "goal": None if goal is None else f"<= {goal:g}",
        "met": None if goal is None else value <= goal,
    }
