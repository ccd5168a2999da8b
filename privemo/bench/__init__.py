"""Benchmarks: one frame for all of them.

Each benchmark is a module of this package with `figures()`, which yields figures as it measures them:
`figure` (name), `value`, `unit`, `goal` (text, or None where there is none) and `met` (true, false, or
None). Ratios are taken within one run on one machine; a figure without its command is not a figure.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import Any, TypedDict

from privemo.errors import SettingsError

__all__ = ["BENCHMARKS", "Figure", "run_benchmark"]


class Figure(TypedDict):
    """One measured figure."""

    figure: str
    value: float
    unit: str
    goal: str | None
    met: bool | None


BENCHMARKS: dict[str, str] = {
    "synth": "drawing people who do not exist",
    "consent": "the consent registry on SQLite and PostgreSQL, up to a million people",
    "step": "a private training step against a plain one",
    "audit": "intervals for groups against Fairlearn's own bootstrap",
    "edge": "reading faces on one core of a store's computer",
    "recommend": "re-ranking by an expression in a store that does not exist",
    "federation": "a run of several stores against a plain loop of the same training",
    "deployed": "a round of deployed stores against the same in one process",
}


def run_benchmark(name: str, **options: Any) -> Iterator[dict[str, Any]]:
    """The figures of a benchmark, as they are measured; `options` are those of its `figures`.

    Raises:
        SettingsError: there is no such benchmark.
    """
    if name not in BENCHMARKS:
        raise SettingsError(
            f"There is no benchmark {name!r}; choose one of {', '.join(BENCHMARKS)}."
        )
    yield from import_module(f"privemo.bench.{name}").figures(**options)
