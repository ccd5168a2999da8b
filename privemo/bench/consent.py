"""The consent registry on SQLite and PostgreSQL, at 1e4, 1e5 and 1e6 people.

Every figure stands beside the disk's own flush, measured in the same run: durable writes cannot be faster
than that. Growth is the ratio of medians between the largest registry and the smallest, against the ratio
of the logarithms of their sizes.
"""

from __future__ import annotations

import itertools
import math
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from privemo.bench import Figure
from privemo_consent import (
    AgeBand,
    ConsentGate,
    ConsentRegistry,
    Context,
    Grant,
    Notice,
    Party,
    Purpose,
    SealedFaces,
)
from privemo_consent.notices.simulated import simulated_notice

__all__ = ["SIZES", "figures"]

SIZES = (10_000, 100_000, 1_000_000)
_BATCH = 100_000
_SHOP = Context(setting="retail", jurisdiction="IE")
_PARTY = Party(
    id="urn:privemo:bench", name="A Chain", address="1 Main Street", contact="bench@example.org"
)
_NAMES = itertools.count()
Milliseconds = NDArray[np.float64]


def figures(
    *,
    sizes: Sequence[int] = SIZES,
    backends: Sequence[str] = ("sqlite", "postgresql"),
    samples: int = 1000,
) -> Iterator[Figure]:
    """Measure; where no PostgreSQL is installed, SQLite alone.

    Args:
        sizes: numbers of people, rising.
        backends: which.
        samples: operations of each kind that are timed one by one; a fifth of it for durable ones.
    """
    folder = Path(tempfile.mkdtemp(prefix="privemo-bench-"))
    try:
        flush = _flush_times(folder, samples)
        yield _figure("disk_flush_ms_p99", _p(flush, 99), "ms")
        for backend in backends:
            yield from _backend(backend, folder, sizes, samples, _p(flush, 99))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _backend(
    backend: str, folder: Path, sizes: Sequence[int], samples: int, flush: float
) -> Iterator[Figure]:
    medians: dict[str, list[float]] = {}
    with _places(backend, folder) as places:
        if places is None:
            return
        for people in sizes:
            bench = _Bench(f"{backend}_{people}", places(), folder, people, samples)
            yield from bench.figures(flush, goals=people == SIZES[-1])
            for name, value in bench.medians.items():
                medians.setdefault(name, []).append(value)
            bench.remove()
    if len(sizes) < 2:
        return
    for name, values in medians.items():
        most = math.log(sizes[-1]) / math.log(sizes[0])
        growth = values[-1] / values[0]
        yield _figure(
            f"{backend}_{name}_growth",
            growth,
            f"x from {sizes[0]:,} to {sizes[-1]:,} people; medians in ms "
            + ", ".join(f"{value:.3g}" for value in values),
            f"<= {most:.2f} (log n)",
            growth <= most,
        )


class _Bench:
    """One registry of one size on one backend."""

    def __init__(self, name: str, where: Any, folder: Path, people: int, samples: int) -> None:
        self._name = name
        self._keys = folder / f"{name}-{next(_NAMES)}.keys"
        self._people = people
        self._samples = samples
        self.medians: dict[str, float] = {}
        self._registry = ConsentRegistry.create(
            where, mode="simulation", controller=_PARTY, keys=self._keys
        )
        self._notice: Notice = simulated_notice(_PARTY, jurisdiction="IE")
        self._registry.notice(self._notice)

    def figures(self, flush: float, *, goals: bool) -> Iterator[Figure]:
        """Yield every figure; ``goals`` says whether the issue sets goals for this size."""
        rate = self._import()
        yield self._figure("import_per_second", rate, "grants/s", ">= 10,000", rate >= 10_000)
        yield from self._bulk(goals)
        yield from self._single(flush, goals)
        seconds = _seconds(self._registry.verify)
        events = self._registry.log_seq
        goal = ("< 60", seconds < 60) if goals else (None, None)
        yield self._figure("verify_s", seconds, f"s for {events:,} events", *goal)
        self.medians["verify_per_event"] = seconds / events * 1e3

    def remove(self) -> None:
        """Close; the folder is removed at the end."""
        self._registry.close()

    def _import(self) -> float:
        total = 0.0
        for start in range(0, self._people, _BATCH):
            rows = [
                _grant(self._id(i), self._notice.hash)
                for i in range(start, min(start + _BATCH, self._people))
            ]
            total += _seconds(partial(self._registry.grant_many, rows))
        return self._people / total

    def _bulk(self, goals: bool) -> Iterator[Figure]:
        names = np.array([self._id(i) for i in range(self._people)])
        np.random.default_rng(0).shuffle(names)
        goal = (">= 1,000,000", 1_000_000) if goals else (None, 0)
        snapshot = self._registry.snapshot(Purpose.TRAINING)
        for what in ("first_time", "again"):
            at = self._registry.now()
            seconds = _seconds(partial(snapshot.decide_many, names, _SHOP, at=at))
            rate = self._people / seconds
            met = rate >= goal[1] if goals else None
            yield self._figure(f"bulk_decision_{what}", rate, "faces/s", goal[0], met)
        sealed = SealedFaces(names, names, len, estimated_age=np.full(len(names), 40.0))
        gate = ConsentGate(self._registry)
        seconds = _seconds(partial(gate.admit, sealed, Purpose.TRAINING, _SHOP))
        yield self._figure("gate_admits", self._people / seconds, "faces/s, ages estimated")

    def _single(self, flush: float, goals: bool) -> Iterator[Figure]:
        registry, many = self._registry, self._samples
        size = registry.log_seq
        draw = np.random.default_rng(1).integers(0, self._people, many).tolist()
        yield from self._timed(
            "decision",
            [partial(registry.decide, self._id(i), Purpose.TRAINING, _SHOP) for i in draw],
            1.0 if goals else None,
        )
        yield from self._timed(
            "proof",
            [partial(registry.inclusion_proof, i, size) for i in draw],
            5.0 if goals else None,
        )
        yield from self._timed(
            "grant",
            [
                partial(
                    registry.grant,
                    f"late-{i}",
                    [Purpose.TRAINING],
                    age_band=AgeBand.FROM_25,
                    jurisdiction="IE",
                    notice=self._notice.hash,
                )
                for i in range(max(many // 5, 20))
            ],
            25.0,
            beyond=flush,
        )

    def _timed(
        self,
        name: str,
        acts: Sequence[Callable[[], object]],
        goal: float | None,
        *,
        beyond: float = 0.0,
    ) -> Iterator[Figure]:
        times = np.array([_seconds(act) for act in acts]) * 1e3
        self.medians[name] = _p(times, 50)
        value = _p(times, 99) - beyond
        unit = f"ms; median {_p(times, 50):.3g}" + (", beyond the flush" if beyond else "")
        met = None if goal is None else value < goal
        goal_text = None if goal is None else f"< {goal:g}"
        yield self._figure(f"{name}_ms_p99", value, unit, goal_text, met)

    def _figure(
        self, what: str, value: float, unit: str, goal: str | None = None, met: bool | None = None
    ) -> Figure:
        return _figure(f"{self._name}_{what}", value, unit, goal, met)

    @staticmethod
    def _id(number: int) -> str:
        return f"person-{number:07d}"


def _grant(person: str, notice: str) -> Grant:
    return Grant(
        person=person,
        purposes=(Purpose.TRAINING,),
        age_band=AgeBand.FROM_25,
        jurisdiction="IE",
        notice=notice,
        valid_for=timedelta(days=365),
    )


def _figure(
    name: str, value: float, unit: str, goal: str | None = None, met: bool | None = None
) -> Figure:
    return Figure(figure=name, value=float(value), unit=unit, goal=goal, met=met)


def _seconds(act: Callable[[], object]) -> float:
    start = time.perf_counter()
    act()
    return time.perf_counter() - start


def _p(times: Milliseconds, percent: float) -> float:
    return float(np.percentile(times, percent))


def _flush_times(folder: Path, samples: int) -> Milliseconds:
    """Time the disk's flush of a page that was appended, as a commit does it."""
    with (folder / "flush").open("wb") as file:

        def flush() -> None:
            file.write(bytes(4096))
            file.flush()
            os.fsync(file.fileno())

        return np.array([_seconds(flush) for _ in range(max(samples // 5, 20))]) * 1e3


@contextmanager
def _places(backend: str, folder: Path) -> Iterator[Callable[[], Any] | None]:
    """Yield a function that gives a place nobody used before; None where there is no server."""
    if backend == "sqlite":
        yield lambda: folder / f"registry-{next(_NAMES)}.sqlite"
        return
    from privemo.bench.postgres import find_binaries, running_postgres

    if find_binaries() is None:
        yield None
        return
    with running_postgres() as server:
        yield server.fresh
