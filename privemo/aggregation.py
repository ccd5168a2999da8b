"""From the stores' updates to the one that the server steps with.

| | holds against | keeps in memory |
|---|---|---|
| `mean` | nobody: one store moves it as far as the bound of an update allows | one update |
| `trimmed_mean` | `malicious` stores: so many highest and lowest values of a parameter are left out | all |
| `median` | fewer than half of the stores | all |
| `krum` | `malicious` stores: the mean of the others, those that lie closest to each other | all |

The mean weighs by public sizes; what leaves stores out has no use for sizes. Local noise is part of every
update, and what hides in noise is found by none of them: docs/how-to/federation.md has figures.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from privemo import weights as w
from privemo.config import RunSettings
from privemo.errors import RunError
from privemo.flower import Array, ArrayRecord, RecordDict, select_multikrum, trim_mean

__all__ = ["Aggregator", "Mean", "Robust", "aggregator"]


class Aggregator(Protocol):
    """Takes the updates of one round, one after the other, in an order that does not depend on chance."""

    def take(self, name: str, update: w.Weights) -> None:
        """Take in the update of a store."""

    def result(self) -> w.Weights:
        """What the server steps with, float32.

        Raises:
            RunError: of so few stores nothing can be said.
        """


class Mean:
    """sum(size * update) / sum(size), added up as updates come.

    Args:
        sizes: public size of each store.
    """

    def __init__(self, sizes: Mapping[str, float]) -> None:
        self._sizes = sizes
        self._total: w.Weights = {}
        self._weight = 0.0

    def take(self, name: str, update: w.Weights) -> None:
        """See `Aggregator`."""
        size = self._sizes[name]
        self._weight += size
        for key, array in update.items():
            part = np.float32(size) * array
            self._total[key] = self._total[key] + part if key in self._total else part

    def result(self) -> w.Weights:
        """See `Aggregator`."""
        share = np.float32(1.0 / self._weight)
        return {key: share * array for key, array in self._total.items()}


class Robust:
    """What some poisoned stores cannot drag away, by Flower's own functions.

    Args:
        kind: `trimmed_mean`, `median` or `krum`.
        malicious: how many stores may be poisoned.
    """

    def __init__(self, kind: str, malicious: int) -> None:
        self._kind, self._malicious = kind, malicious
        self._updates: list[w.Weights] = []

    def take(self, name: str, update: w.Weights) -> None:
        """See `Aggregator`."""
        self._updates.append(update)

    def result(self) -> w.Weights:
        """See `Aggregator`."""
        stores, bad = len(self._updates), self._malicious
        if stores < 2 * bad + (3 if self._kind == "krum" else 1):
            raise RunError(
                f"{stores} stores answered, of whom {bad} may be poisoned: {self._kind} cannot tell which."
            )
        if self._kind == "krum":
            return self._krum(stores - bad)
        return {key: self._middle(key) for key in self._updates[0]}

    def _middle(self, key: str) -> NDArray[np.float32]:
        values = np.stack([update[key] for update in self._updates])
        if self._kind == "median":
            return np.median(values, axis=0).astype(np.float32)
        # The share that Flower cuts off is rounded down; half a store more, and it is this very number.
        share = (self._malicious + 0.5) / len(self._updates)
        return np.asarray(trim_mean(values, min(share, np.nextafter(0.5, 0))), np.float32)

    def _krum(self, kept: int) -> w.Weights:
        contents = [
            RecordDict({"update": ArrayRecord({key: Array(a) for key, a in update.items()})})
            for update in self._updates
        ]
        chosen = {id(c) for c in select_multikrum(contents, self._malicious, kept)}
        mean = Mean(dict.fromkeys(map(str, range(len(contents))), 1.0))
        for number, content in enumerate(contents):
            if id(content) in chosen:
                mean.take(str(number), self._updates[number])
        return mean.result()


def aggregator(settings: RunSettings, sizes: Mapping[str, float]) -> Aggregator:
    """A fresh one for a round of a run."""
    if settings.aggregation == "mean":
        return Mean(sizes)
    return Robust(settings.aggregation, settings.malicious_stores)
