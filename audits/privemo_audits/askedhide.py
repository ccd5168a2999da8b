"""Which counts of whom a store asked must not be shown: by group, and by reason within a group."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from .groups import SUPPRESS_BELOW

__all__ = ["hidden_groups", "told_reasons"]

Table = NDArray[np.int64]
Mask = NDArray[np.bool_]


def hidden_groups(table: Table) -> Mask:
    """Say which groups must not be shown.

    Args:
        table: (G, 2) people admitted and refused. Both totals are taken to be published, and that there is
            somebody in each group unless its row is empty.

    Returns:
        (G,) True = hide.
    """
    asked = table.sum(axis=1)
    small = (table > 0) & (table < SUPPRESS_BELOW)
    hidden = np.asarray(small.any(axis=1), dtype=np.bool_)
    while hidden.any() and not _safe(table, asked, hidden):
        shown = np.flatnonzero(~hidden & (asked > 0))
        if not shown.size:
            break
        hidden[shown[np.argmin(asked[shown])]] = True
    return hidden


def _safe(table: Table, asked: Table, hidden: Mask) -> bool:
    """Whether what is hidden, taken together, is about nobody or about enough, and of no group alone."""
    groups = int((asked[hidden] > 0).sum())
    together = table[hidden].sum(axis=0)
    # Somebody is in each hidden group: any of them could hold all but one of each other.
    room = int(together.sum()) - (groups - 1)
    return (
        groups >= 2
        and room >= SUPPRESS_BELOW
        and bool(((together == 0) | (together >= SUPPRESS_BELOW)).all())
    )


def told_reasons(people: Sequence[Counter[str]], hidden: Mask) -> frozenset[str]:
    """Reasons that may be told group by group; all others are joined.

    The hidden groups together count as one, for totals by reason are published.
    """
    rows = [each for each, away in zip(people, hidden, strict=True) if not away]
    rows.append(sum((p for p, away in zip(people, hidden, strict=True) if away), Counter[str]()))
    total = sum(people, Counter[str]())

    def small(counts: Iterable[int]) -> bool:
        return any(0 < n < SUPPRESS_BELOW for n in counts)

    told = {r for r in total if r and not small(row[r] for row in rows)}
    while told and small(sum(n for r, n in row.items() if r and r not in told) for row in rows):
        told.remove(min(told, key=lambda r: (total[r], r)))
    return frozenset(told)
