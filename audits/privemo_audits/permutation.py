"""Whether a gap between groups is more than chance: a permutation test, and what many tests cost.

If the model worked alike for all, whose answers were right would not hang on the group. So people are dealt
out to the groups anew, many times, and the gap seen is held against the gaps that this makes (Good,
Permutation, Parametric and Bootstrap Tests of Hypotheses, 2005, chapter 3). People are dealt whole, with all
of their pictures. Dealing people out is drawing a table of counts with fixed margins, which costs as much for
a million people as for ten (Patefield 1981, Applied Statistics 30).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .intervals import SEED, Sample

__all__ = ["DEALS", "gap_p_value", "holm"]

DEALS = 2000

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def gap_p_value(samples: Sequence[Sample], *, deals: int = DEALS, seed: int = SEED) -> float:
    """Chance of a gap in accuracy as large as between these groups, if there was none.

    A gap counts by its standard error (the largest studentised difference over all pairs), so that small
    groups, whose accuracy wanders more, do not drown a gap between large ones.

    Args:
        samples: of each group, two at least; nobody is in two of them.
        deals: how often people are dealt out anew.
        seed: of the dealing.

    Returns:
        The p-value, (1 + deals with a gap as large) / (1 + deals): never 0, and valid for any number of deals
        (Phipson & Smyth 2010, Statistical Applications in Genetics and Molecular Biology 9).
    """
    from scipy.stats import random_table

    kinds, table = _people_by_kind(samples)
    if len(kinds) == 1:  # everybody answered alike: no deal differs from another
        return 1.0
    people = table.sum(axis=0)
    drawn = random_table(table.sum(axis=1), people).rvs(
        deals, random_state=np.random.default_rng(seed)
    )
    seen = _largest(table[None], kinds, people)[0]
    # Ties are equal but for rounding.
    as_large = int((_largest(drawn, kinds, people) >= seen * (1 - 1e-12)).sum())
    return (1 + as_large) / (1 + deals)


def _people_by_kind(samples: Sequence[Sample]) -> tuple[Ints, Ints]:
    """Kinds of people, (U, 2) as faces and right answers, and (U, G) people of each kind and group."""
    parts = []
    for group, sample in enumerate(samples):
        right = sample.patterns[:, :: sample.classes + 1].sum(axis=1)
        faces = sample.patterns.sum(axis=1)
        columns = (faces, right, sample.people, np.full(len(faces), group))
        parts.append(np.stack(columns, axis=1))
    every = np.concatenate(parts)
    kinds, kind = np.unique(every[:, :2], axis=0, return_inverse=True)
    table = np.zeros((len(kinds), len(samples)), dtype=np.int64)
    np.add.at(table, (kind, every[:, 3]), every[:, 2])
    return kinds, table


def _largest(tables: Ints, kinds: Ints, people: Ints) -> Floats:
    """(B,) the largest studentised difference between two groups of each of (B, U, G) tables."""
    faces = np.einsum("bug,u->bg", tables, kinds[:, 0], optimize=True)
    right = np.einsum("bug,u->bg", tables, kinds[:, 1], optimize=True)
    rate = right / np.maximum(faces, 1)
    largest = np.zeros(len(tables))
    for i in range(len(people)):
        scale = np.sqrt(1 / people[i] + 1 / people[i + 1 :])
        if len(scale):
            apart = np.abs(rate[:, i + 1 :] - rate[:, i : i + 1]) / scale
            largest = np.maximum(largest, apart.max(axis=1))
    return np.asarray(largest, dtype=np.float64)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values for having tested them all: of those at or below alpha, none is chance, but for alpha.

    Source:
        Holm (1979), Scandinavian Journal of Statistics 6.
    """
    order = np.argsort(p_values, kind="stable")
    adjusted, worst = np.empty(len(p_values)), 0.0
    for rank, place in enumerate(order):
        worst = max(worst, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = worst
    return [float(p) for p in adjusted]
