"""Adding up noised counts, and auditing the sum with what the noise may have done.

Accuracy by group, with intervals for chance and noise together; of everyone the recall of each emotion as
well.
No score that is not a share of two independent sums is stated, such as F1, and no permutation test: both take
real counts.

| what | how |
|---|---|
| a negative count | is added as it is; a share is kept within 0 and 1, its interval is not made narrower |
| a group's size | as noised; judged only where 99% of the noise leaves no doubt of 10 people or more |
| a group that seems to have fewer than 5 people | hidden as in any audit, with what would give it away |
| noised counts and exact ones | are not joined: one audit would state one kind of interval for both |
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from .cellcounts import CellCounts, Noise
from .cellplan import CellPlan
from .counts import GroupCounts
from .errors import ReportError
from .frozen import Document, Frozen, Interval, Status
from .groups import MIN_PERSONS, hide
from .intervals import ALPHA
from .joined import JoinedAudit, join_counts
from .noisy import Noisy, difference_of

__all__ = ["NoisedAudit", "NoisedGap", "NoisedGroup", "NoisedShare", "join_any"]

DOUBT = 0.01
"""Chance with which noise alone may make up a group that is judged."""

Names = tuple[str, ...]
Ints = NDArray[np.int64]


class NoisedShare(Frozen):
    """A share of people, some of whom are noise.

    `people` may be negative; `noise` is its standard deviation by noise alone.
    """

    people: int
    noise: float
    share: float | None
    ci: Interval


class NoisedGroup(Frozen):
    """One group of one feature, or of two together; see `GroupCell` for the states."""

    feature: str
    crossed: bool
    group: str
    status: Status
    accuracy: NoisedShare | None = None


class NoisedGap(Frozen):
    """The largest difference in accuracy between two groups.

    Its interval is for all pairs of all features of the audit together (Bonferroni); `real` says that it
    leaves out zero.
    """

    feature: str
    crossed: bool
    groups_compared: int
    highest: str | None
    lowest: str | None
    accuracy_gap: float | None
    ci: Interval | None
    real: bool


class NoisedAudit(Document):
    """Accuracy over all stores from noised counts."""

    schema_: Literal["privemo.noised-audit/1"] = Field("privemo.noised-audit/1", alias="schema")
    run_id: str
    stores: Names
    noise: dict[str, Noise] = Field(description="By the stores of each file that was joined.")
    variance: float = Field(description="Of the noise in each count of the sum, in people squared.")
    accuracy: NoisedShare
    recall: dict[str, NoisedShare]
    groups: tuple[NoisedGroup, ...]
    gaps: tuple[NoisedGap, ...]


def join_any(parts: Sequence[GroupCounts | CellCounts]) -> JoinedAudit | NoisedAudit:
    """Join what stores sent: all exact, or all noised.

    Raises:
        ReportError: there is none, they do not go together, or some are noised and others are not.
    """
    cells = [p for p in parts if isinstance(p, CellCounts)]
    noised = [p for p in cells if p.noise is not None]
    if not noised:
        _once(parts)
        exact = [p.exact() if isinstance(p, CellCounts) else p for p in parts]
        return join_counts(exact)
    if len(noised) < len(parts):
        exact_one = next(p for p in parts if p not in noised)
        raise ReportError(
            f"{_names(noised[0])[0]} sent noised counts, and {_names(exact_one)[0]} exact ones",
            "Join files of one kind: ask every store for noised counts, or every one for exact ones.",
        )
    return _join_noised(noised)


def _join_noised(parts: Sequence[CellCounts]) -> NoisedAudit:
    _check(parts)
    first = parts[0]
    plan = first.plan
    variance = math.fsum(p.noise.variance for p in parts if p.noise is not None)
    sums = {t: np.sum([p.counts(t) for p in parts], axis=0) for t in plan.tables}
    everyone = sums[()][0]
    groups: list[NoisedGroup] = []
    judged: list[tuple[str, bool, dict[str, Noisy]]] = []
    hidden = _hidden(plan, sums)
    for table in plan.tables[1:]:
        found = _groups(plan, table, sums[table], hidden[table], variance)
        groups += [group for group, _ in found]
        shown = {g.group: x for g, x in found if g.status == "ok"}
        judged.append((" and ".join(table), len(table) > 1, shown))
    pairs = sum(len(shown) * (len(shown) - 1) // 2 for _, _, shown in judged)
    return NoisedAudit(
        run_id=first.run_id,
        stores=tuple(sorted(s for p in parts for s in p.stores)),
        noise={" + ".join(p.stores): p.noise for p in parts if p.noise is not None},
        variance=variance,
        accuracy=_told(_accuracy(everyone, variance)),
        recall={
            name: _told(_recall(everyone, i, variance)) for i, name in enumerate(first.label_names)
        },
        groups=tuple(groups),
        gaps=tuple(_gap(*one, pairs) for one in judged),
    )


def _accuracy(table: Ints, variance: float) -> Noisy:
    wide = len(table)
    right = int(np.trace(table))
    return Noisy(right, int(table.sum()) - right, wide * variance, (wide * wide - wide) * variance)


def _recall(table: Ints, i: int, variance: float) -> Noisy:
    right = int(table[i, i])
    return Noisy(right, int(table[i].sum()) - right, variance, (len(table) - 1) * variance)


def _told(x: Noisy) -> NoisedShare:
    return NoisedShare(people=x.people, noise=x.spread, share=x.share, ci=x.interval())


def _hidden(plan: CellPlan, sums: dict[Names, Ints]) -> dict[Names, NDArray[np.bool_]]:
    """By table (cells,) what is not shown, by the same rules as of exact counts."""
    found: dict[Names, NDArray[np.bool_]] = {}
    for table in plan.tables[1:]:
        # Named groups are in the file whoever is there: one of nobody is hidden like one of a few.
        people = np.maximum(sums[table].sum(axis=(1, 2)), 1)
        if len(table) == 1:
            found[table] = hide(people[:, None])[:, 0]
            continue
        one, two = (found[(feature,)] for feature in table)
        shape = (len(one), len(two))
        found[table] = hide(people.reshape(shape), one[:, None] | two[None, :]).ravel()
    return found


def _groups(
    plan: CellPlan, table: Names, sums: Ints, hidden: NDArray[np.bool_], variance: float
) -> list[tuple[NoisedGroup, Noisy]]:
    out = []
    for names, counts, away in zip(plan.cells(table), sums, hidden.tolist(), strict=True):
        x = _accuracy(counts, variance)
        status: Status = "suppressed" if away else "ok"
        if not away and x.at_least(DOUBT) < MIN_PERSONS:
            status = "insufficient"
        group = NoisedGroup(
            feature=" and ".join(table),
            crossed=len(table) > 1,
            group=", ".join(names),
            status=status,
            accuracy=_told(x) if status == "ok" else None,
        )
        out.append((group, x))
    return out


def _gap(feature: str, crossed: bool, shown: dict[str, Noisy], pairs: int) -> NoisedGap:
    known = {group: x.share for group, x in shown.items() if x.share is not None}
    here = {"feature": feature, "crossed": crossed, "groups_compared": len(known)}
    if len(known) < 2:
        nothing = dict.fromkeys(("highest", "lowest", "accuracy_gap", "ci"))
        return NoisedGap(**here, **nothing, real=False)
    high = max(known, key=lambda g: known[g])
    low = min(known, key=lambda g: known[g])
    ci = difference_of(shown[high], shown[low], ALPHA / pairs)
    return NoisedGap(
        **here,
        highest=high,
        lowest=low,
        accuracy_gap=known[high] - known[low],
        ci=ci,
        real=ci[0] > 0,
    )


def _names(part: GroupCounts | CellCounts) -> Names:
    return part.stores if isinstance(part, CellCounts) else (part.store,)


def _once(parts: Sequence[GroupCounts | CellCounts]) -> None:
    names = [name for part in parts for name in _names(part)]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ReportError(
            f"store {twice[0]!r} comes twice",
            "Each person counts once: name each store's file once.",
        )


def _check(parts: Sequence[CellCounts]) -> None:
    _once(parts)
    first = parts[0]
    for part in parts[1:]:
        for what in ("run_id", "label_names", "sensitive", "groups"):
            if getattr(part, what) != getattr(first, what):
                raise ReportError(
                    f"{part.stores[0]} counted {what} {getattr(part, what)!r}, and {first.stores[0]} "
                    f"{getattr(first, what)!r}",
                    "Join counts of one run, over the same cells.",
                )
