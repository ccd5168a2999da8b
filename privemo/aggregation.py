"""From the stores' updates to the one that the server steps with.

| | holds against |
|---|---|
| `mean` | nobody: one store moves it as far as the bound of an update allows |
| `trimmed_mean` | `malicious` stores: so many highest and lowest values of a parameter are left out |
| `median` | fewer than half of the stores |
| `krum` | `malicious` stores: the mean of the others, those that lie closest to each other |

Stores whose answer was left out, because no honest store signs such a thing, are some of the `malicious`.

Updates lie on disk (`privemo.spool`). In memory stands one of them, or a block of all stores' values of some
parameters, or for Krum how far each two of them are apart: no more with a thousand stores than with ten.

The mean weighs by public sizes, equal ones in every run of today; what leaves stores out has no use for
sizes. Local noise is part of every update, and what hides in noise is found by none of them:
docs/how-to/federation.md has figures.
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
from privemo.spool import Spool

__all__ = ["Aggregator", "Mean", "Robust", "aggregator"]


class Aggregator(Protocol):
    """Takes the updates of one round, one after the other, in an order that does not depend on chance."""

    def take(self, name: str, row: int) -> None:
        """Take in the update of a store, by its row in the spool."""

    def result(self, exposed: int = 0) -> w.Weights:
        """What the server steps with, float32.

        Args:
            exposed: stores that signed what no honest store sends, and were left out for it.

        Raises:
            RunError: of so few stores nothing can be said.
        """


class Mean:
    """sum(size * update) / sum(size), added up one after the other.

    Args:
        spool: of the round's updates.
        sizes: public size of each store.
    """

    def __init__(self, spool: Spool, sizes: Mapping[str, float]) -> None:
        self._spool, self._sizes = spool, sizes
        self._total: w.Weights = {}
        self._weight = 0.0

    def take(self, name: str, row: int) -> None:
        """See `Aggregator`."""
        size = self._sizes[name]
        self._weight += size
        for key, array in self._spool.read(row).items():
            part = np.float32(size) * array
            self._total[key] = self._total[key] + part if key in self._total else part

    def result(self, exposed: int = 0) -> w.Weights:
        """See `Aggregator`; a mean holds against nobody, whoever was found."""
        share = np.float32(1.0 / self._weight)
        return {key: share * array for key, array in self._total.items()}


class Robust:
    """What some poisoned stores cannot drag away, by Flower's own functions.

    Args:
        spool: of the round's updates.
        kind: `trimmed_mean`, `median` or `krum`.
        malicious: how many stores may be poisoned.
    """

    def __init__(self, spool: Spool, kind: str, malicious: int) -> None:
        self._spool, self._kind, self._malicious = spool, kind, malicious
        self._rows: list[int] = []

    def take(self, name: str, row: int) -> None:
        """See `Aggregator`."""
        self._rows.append(row)

    def result(self, exposed: int = 0) -> w.Weights:
        """See `Aggregator`."""
        stores, bad = len(self._rows), self._told_apart(exposed)
        if self._kind == "krum":
            return self._krum(bad, stores - bad)
        flat = np.concatenate(
            [self._middle(block, bad) for block in self._spool.blocks(self._rows)]
        )
        return self._spool.shaped(flat)

    def _told_apart(self, exposed: int) -> int:
        """How many of those who answered may be poisoned and do no harm.

        Who was exposed is one of the `malicious`, so fewer are left among those who answered. That is made
        use of only where too few answered to bear all of them: if exposed stores stopped the round, a lie
        that is found out would do more harm than one that is not.
        """
        stores = len(self._rows)
        most = max((stores - (3 if self._kind == "krum" else 1)) // 2, 0)
        left = max(self._malicious - exposed, 0)
        if most < left:
            raise RunError(
                f"{stores} stores answered, of whom {left} may be poisoned: {self._kind} cannot tell which."
            )
        return min(most, self._malicious)

    def _middle(self, values: NDArray[np.float32], bad: int) -> NDArray[np.float32]:
        if self._kind == "median":
            return np.median(values, axis=0).astype(np.float32)
        # The share that Flower cuts off is rounded down; half a store more, and it is this very number.
        share = (bad + 0.5) / len(values)
        return np.asarray(trim_mean(values, min(share, np.nextafter(0.5, 0))), np.float32)

    def _krum(self, bad: int, kept: int) -> w.Weights:
        contents = [
            RecordDict({"update": ArrayRecord({"apart": Array(row)})}) for row in self._apart()
        ]
        chosen = {id(c) for c in select_multikrum(contents, bad, kept)}
        mean = Mean(self._spool, dict.fromkeys(map(str, range(len(contents))), 1.0))
        for number, content in enumerate(contents):
            if id(content) in chosen:
                mean.take(str(number), self._rows[number])
        return mean.result()

    def _apart(self) -> NDArray[np.float64]:
        """Points (stores, stores) that lie as far from each other as the updates do.

        Krum asks for distances alone, and Flower's takes whole updates into memory for them: with products
        G = X X^T of the updates X, summed up by blocks, V sqrt(L) of G = V L V^T has the same distances.
        """
        products = np.zeros((len(self._rows),) * 2)
        for block in self._spool.blocks(self._rows):
            values = block.astype(np.float64)
            products += values @ values.T
        lengths, vectors = np.linalg.eigh(products)
        return np.asarray(vectors * np.sqrt(np.maximum(lengths, 0.0)))


def aggregator(settings: RunSettings, sizes: Mapping[str, float], spool: Spool) -> Aggregator:
    """A fresh one for a round of a run."""
    if settings.aggregation == "mean":
        return Mean(spool, sizes)
    return Robust(spool, settings.aggregation, settings.malicious_stores)
