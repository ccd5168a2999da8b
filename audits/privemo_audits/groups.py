"""Who counts as one group, which groups are too small to judge, and which must not be shown.

A cell of fewer than 5 people could single someone out, so it is suppressed; and because totals are
published, a lone suppressed cell could be had back by subtraction, so further cells are hidden
until, for all that the published totals tell, any hidden cell could hold 5 people or more
(complementary suppression; Hundepool et al., Statistical Disclosure Control, 2012, chapter 4).
"""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .errors import PredictionsError

if TYPE_CHECKING:
    import pandas as pd

MIN_PERSONS = 10
SUPPRESS_BELOW = 5
BIN_ABOVE = 10
MOST_GROUPS = 100
NOT_RECORDED = "not recorded"
AGE_EDGES = (18, 25, 35, 45, 55, 65)

Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]


def group_rows(column: pd.Series[str], name: str) -> tuple[Ints, list[str]]:
    """Say which group each row belongs to, and list the groups in reading order.

    Numeric columns of more than 10 distinct values are binned: ages (a name with `age` in it) by
    18-24, 25-34, ... 65 and over, anything else by quartiles. Empty values are a group of their
    own: leaving them out would leave people out.

    Args:
        column: (N,) strings as read from the predictions; empty = not recorded.
        name: the column's name.

    Returns:
        (N,) places in the list of groups, and the groups' names in order; none is empty.
    """
    import pandas as pd

    code, found = pd.factorize(column.fillna("").astype(str))  # few values, however many rows
    text = pd.Series(found, dtype=str).str.strip()
    known = text != ""
    numbers = pd.to_numeric(text.where(known), errors="coerce").astype(float)
    numeric = bool(known.any()) and bool(np.isfinite(numbers[known]).all())
    if not numeric or text[known].nunique() <= BIN_ABOVE:
        names = text.where(known, NOT_RECORDED).tolist()
        order = sorted(set(names), key=reading_order)
    else:
        values = np.asarray(numbers.to_numpy(), dtype=np.float64)
        names, order = ages(values) if is_age(name) else _quartiles(values, values[code])
        present = set(names)
        order = [group for group in order if group in present]
    place = {group: i for i, group in enumerate(order)}
    return np.array([place[n] for n in names], dtype=np.int64)[code], order


def groups_alike(column: pd.Series[str], name: str) -> NDArray[np.str_]:
    """The group of each row, by rules that are the same in every store.

    Args:
        column: (N,) strings; empty = not recorded.
        name: the column's name; ages are cut at the same ends everywhere, however few there are.

    Returns:
        (N,) names of groups.

    Raises:
        PredictionsError: it holds so many numbers or groups that every store would cut it in its own way.
    """
    import pandas as pd

    given = column.fillna("").astype(str).str.strip()
    values = np.asarray(pd.to_numeric(given, errors="coerce").to_numpy(), dtype=np.float64)
    numeric = bool((given != "").any()) and bool(np.isfinite(values[given != ""]).all())
    if numeric and is_age(name):  # however few there are: elsewhere there may be many
        return np.array(ages(values)[0], dtype=np.str_)
    row, order = group_rows(column, name)
    if len(order) > MOST_GROUPS or (numeric and len(set(values[given != ""])) > BIN_ABOVE):
        raise PredictionsError(
            f"column {name!r} has more than {BIN_ABOVE} different numbers or {MOST_GROUPS} groups",
            "Every store would cut it in its own way: cut it into named groups before the run.",
        )
    return np.array(order, dtype=np.str_)[row]


def hide(table: Ints, also: Mask | None = None) -> Mask:
    """Say which cells of a table of people must be hidden.

    Args:
        table: (R, C) people per cell. All row totals, column totals and the grand total are taken
            to be published, so hidden cells must not follow from them.
        also: (R, C) cells that are hidden already.

    Returns:
        (R, C) True = hide. Empty cells are hidden only with their whole line.
    """
    hidden = (table > 0) & (table < SUPPRESS_BELOW)
    if also is not None:
        hidden |= also
    changed = True
    while changed:
        changed = False
        for line, mask in _lines(table, hidden):
            if mask.any() and not _covered(line, mask):
                changed |= _hide_smallest(line, mask)
    return hidden


def people_in(row: Ints, people: Ints, groups: int) -> Ints:
    """(G,) people in each group, of (N,) groups and people; somebody in two of them counts in both."""
    everyone = int(people.max(initial=-1)) + 1
    seen = np.zeros((everyone, groups), dtype=np.bool_)
    seen[people, row] = True
    return np.asarray(seen.sum(axis=0), dtype=np.int64)


def _lines(table: Ints, hidden: Mask) -> list[tuple[Ints, Mask]]:
    """Rows and columns whose total is published, as views: writing to a mask writes to `hidden`.

    A table of one column has no row totals beside its cells.
    """
    rows = [(table[r], hidden[r]) for r in range(table.shape[0])] if table.shape[1] > 1 else []
    columns = [(table[:, c], hidden[:, c]) for c in range(table.shape[1])]
    return rows + columns if table.shape[0] > 1 else rows


def _covered(line: Ints, mask: Mask) -> bool:
    """Say whether a hidden cell could hold up to `SUPPRESS_BELOW` people for all a reader knows.

    The reader knows the sum of the hidden cells and that there is somebody in each, so any of them
    lies between 1 and the sum less one for each other cell: five hidden ones of together 5 are 1 each.
    """
    hidden = line[mask]
    cells = int((hidden > 0).sum())
    return cells >= 2 and int(hidden.sum()) - (cells - 1) >= SUPPRESS_BELOW


def _hide_smallest(line: Ints, mask: Mask) -> bool:
    """Hide the smallest cell still shown; False when none is left to hide."""
    shown = np.flatnonzero(~mask & (line > 0))
    if shown.size == 0:
        return False
    mask[shown[np.argmin(line[shown])]] = True
    return True


def is_age(name: str) -> bool:
    """Whether a column of this name holds ages."""
    return "age" in name.lower().replace("-", "_").split("_")


def ages(values: NDArray[np.float64]) -> tuple[list[str], list[str]]:
    """The age group of each value, NaN not recorded; and all groups in reading order."""
    edges = AGE_EDGES
    order = [f"under {edges[0]}"]
    order += [f"{low}-{high - 1}" for low, high in itertools.pairwise(edges)]
    order += [f"{edges[-1]} and over", NOT_RECORDED]
    place = np.digitize(values, edges)
    return [NOT_RECORDED if v != v else order[p] for v, p in zip(values, place, strict=True)], order


def _quartiles(
    values: NDArray[np.float64], rows: NDArray[np.float64]
) -> tuple[list[str], list[str]]:
    """Groups of distinct values by the quartiles of all rows."""
    known = rows[~np.isnan(rows)]
    edges = np.unique(np.quantile(known, [0.25, 0.5, 0.75]))
    low, high = known.min(), known.max()
    ends = [low, *edges, high]
    order = [f"{a:.4g} to {b:.4g}" for a, b in itertools.pairwise(ends)]
    order.append(NOT_RECORDED)
    place = np.digitize(values, edges, right=True)
    return [NOT_RECORDED if v != v else order[p] for v, p in zip(values, place, strict=True)], order


def reading_order(name: str) -> tuple[int, float, str]:
    """Numbers by value, then names; what was not recorded last."""
    if name == NOT_RECORDED:
        return (2, 0.0, name)
    if name.startswith("under"):
        return (0, -1.0, name)
    number = re.match(r"\d+(\.\d+)?", name)
    return (0, float(number[0]), name) if number else (1, 0.0, name)
