"""Adding up what stores counted, and auditing the sum."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from .cells import Grouping, Judged, Table, both, grouping_of
from .counts import GroupCounts
from .errors import ReportError
from .fairness import measure_performance
from .frozen import Document
from .gaps import adjusted, gap_of
from .groups import BIN_ABOVE, MOST_GROUPS
from .report_performance import Gap, GroupCell, Performance

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["JoinedAudit", "join_counts"]

SCHEMA: Literal["privemo.joined-audit/1"] = "privemo.joined-audit/1"


class JoinedAudit(Document):
    """Performance and groups over all stores, each person counted once."""

    schema_: Literal["privemo.joined-audit/1"] = Field(SCHEMA, alias="schema")
    run_id: str
    stores: tuple[str, ...]
    performance: Performance
    groups: tuple[GroupCell, ...]
    gaps: tuple[Gap, ...]


def join_counts(parts: Sequence[GroupCounts]) -> JoinedAudit:
    """Add up the counts of stores and measure them as one table.

    Args:
        parts: of each store one.

    Raises:
        ReportError: there is none, a store comes twice, or they are of different runs.
    """
    _check(parts)
    first, labels = parts[0], parts[0].label_names
    everyone = _faces(parts, ())
    singles: dict[str, Grouping] = {}
    frames: dict[str, pd.DataFrame] = {}
    for feature in first.sensitive:
        frames[feature] = _faces(parts, (feature,))
        singles[feature] = _single(frames[feature], feature)
    found = [(frames[f], singles[f]) for f in first.sensitive]
    for pair in itertools.combinations(first.sensitive, 2):
        if np.prod([len(singles[feature].order) for feature in pair]) > MOST_GROUPS:
            continue  # as in any audit: most would be too small to judge
        frame = _faces(parts, pair)
        one, two = (_again(frame, singles[feature]) for feature in pair)
        found.append((frame, both(one, two, np.arange(len(frame)))))
    found.append((everyone, grouping_of(everyone, "store")))
    cells: list[GroupCell] = []
    gaps: list[Gap] = []
    for frame, grouping in found:
        mine, judged = _measured(frame, grouping, labels)
        cells += mine
        gaps.append(gap_of(grouping.feature, judged, crossed=grouping.crossed))
    return JoinedAudit(
        run_id=first.run_id,
        stores=tuple(sorted(part.store for part in parts)),
        performance=measure_performance(everyone, labels),
        groups=tuple(cells),
        gaps=tuple(adjusted(gaps)),
    )


def _measured(
    frame: pd.DataFrame, grouping: Grouping, labels: Sequence[str]
) -> tuple[list[GroupCell], Judged]:
    return Table(frame, np.arange(len(frame)), labels).cells(grouping)


def _single(frame: pd.DataFrame, feature: str) -> Grouping:
    """Groups as the stores named them.

    Raises:
        ReportError: they are numbers, and too many of them to be groups.
    """
    found = grouping_of(frame, feature)
    if len(found.order) > MOST_GROUPS or not set(found.order) <= set(frame[feature]):
        raise ReportError(
            f"the stores' groups of {feature!r} are more than {BIN_ABOVE} numbers or {MOST_GROUPS} names",
            "Cut the column into named groups, the same in every store, before the run.",
        )
    return found


def _again(frame: pd.DataFrame, single: Grouping) -> Grouping:
    """The groups of one feature as they are by themselves, over the rows of another table."""
    place = {group: at for at, group in enumerate(single.order)}
    row = np.array([place[group] for group in frame[single.feature]], dtype=np.int64)
    return Grouping(single.feature, row, single.order, single.hidden)


def _faces(parts: Iterable[GroupCounts], features: tuple[str, ...]) -> pd.DataFrame:
    """A row for each person counted: groups, label, prediction, and store."""
    import pandas as pd

    rows: list[dict[str, Any]] = []
    times: list[int] = []
    for part in sorted(parts, key=lambda p: p.store):
        table = next(t for t in part.tables if t.features == features)
        for cell in table.cells:
            for (label, said), count in np.ndenumerate(cell.counts):
                if count:
                    groups = dict(zip(features, cell.groups, strict=True))
                    rows.append({**groups, "store": part.store, "label": label, "prediction": said})
                    times.append(int(count))
    frame = pd.DataFrame(rows)
    return frame.loc[frame.index.repeat(times)].reset_index(drop=True)


def _check(parts: Sequence[GroupCounts]) -> None:
    if not parts:
        raise ReportError("there are no counts to join", "Name the file of each store.")
    first = parts[0]
    names = [part.store for part in parts]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ReportError(
            f"store {twice[0]!r} comes twice",
            "Each person counts once: name each store's file once.",
        )
    for part in parts[1:]:
        for what in ("run_id", "label_names", "sensitive"):
            if getattr(part, what) != getattr(first, what):
                raise ReportError(
                    f"{part.store} counted {what} {getattr(part, what)!r}, and {first.store} "
                    f"{getattr(first, what)!r}",
                    "Join counts of one run, grouped alike.",
                )
    one = np.sum([part.tables[0].cells[0].counts for part in parts], axis=0)
    if (one.sum(axis=1) > 0).sum() < 2:
        raise ReportError(
            "everybody shows the same emotion, so telling emotions apart cannot be measured",
            "Join stores whose people show two emotions at least.",
        )
