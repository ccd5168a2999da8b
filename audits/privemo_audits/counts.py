"""An audit across stores that moves nobody's demographics: each store sends counts, and these are added up.

A store counts how often its model took each emotion for each, by group, and for two features together. Of a
person with several faces one is drawn, so that nobody counts twice and a count of faces is one of people.
The audit of the added counts is, to the last digit, the audit of those faces in one table: everything there
is measured from counts.

Counts of small groups still tell something of few people. They are for the auditor alone; what is published
of them goes through the same rules as any audit (`privemo_audits.groups`).
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError, model_validator

from .errors import PredictionsError, ReportError
from .frozen import Document, Frozen
from .groups import groups_alike
from .predictions import read_store, validate

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["SCHEMA", "Cell", "GroupCounts", "Table", "count_groups", "read_counts"]

SCHEMA: Literal["privemo.group-counts/1"] = "privemo.group-counts/1"

Count = Annotated[int, Field(ge=0, le=10**7)]


class Cell(Frozen):
    """One group of each feature: how often each true emotion (row) was taken for each (column)."""

    groups: tuple[str, ...]
    confusion: tuple[tuple[Count, ...], ...]

    @property
    def counts(self) -> NDArray[np.int64]:
        """(emotions, emotions)."""
        return np.array(self.confusion, dtype=np.int64)


class Table(Frozen):
    """Counts by no feature, by one, or by two together; groups of nobody are left out."""

    features: tuple[str, ...]
    cells: tuple[Cell, ...]


class GroupCounts(Document):
    """What one store sends."""

    schema_: Literal["privemo.group-counts/1"] = Field(SCHEMA, alias="schema")
    run_id: str
    store: str
    label_names: tuple[str, ...] = Field(min_length=2)
    sensitive: tuple[str, ...]
    persons: int = Field(ge=1, le=10**7)
    tables: tuple[Table, ...]

    @model_validator(mode="after")
    def _adds_up(self) -> GroupCounts:
        named = [table.features for table in self.tables]
        due = [(), *((f,) for f in self.sensitive), *itertools.combinations(self.sensitive, 2)]
        if named != due:
            raise ValueError(f"tables by {due} are due, in this order")
        wide = len(self.label_names)
        for table in self.tables:
            where = " and ".join(table.features) or "everyone"
            names = [cell.groups for cell in table.cells]
            if len(set(names)) < len(names) or any(len(n) != len(table.features) for n in names):
                raise ValueError(f"{where}: each group stands there once")
            if any(cell.counts.shape != (wide, wide) for cell in table.cells):
                raise ValueError(f"{where}: {wide} by {wide} counts are due")
            if sum(int(cell.counts.sum()) for cell in table.cells) != self.persons:
                raise ValueError(f"{where}: the counts do not add up to {self.persons} people")
        return self


def count_groups(
    predictions: Path,
    *,
    run_id: str,
    store: str,
    label_names: Sequence[str],
    sensitive: Sequence[str],
    may_count: Callable[[pd.Series[str]], NDArray[np.bool_]] | None = None,
) -> GroupCounts:
    """Count the held-out faces of one store.

    Args:
        predictions: its `predictions.csv`.
        run_id: of the run that the model is of; it also draws which face of a person counts.
        store: its name.
        label_names: the emotions, in index order.
        sensitive: the columns to group by.
        may_count: whom of some people the store may count now; everybody by default.

    Raises:
        PredictionsError: the file is missing, there is nobody to count, it lacks a column, or has one that
            stores would cut into groups each in its own way.
        RunFilesError: it cannot be read.
    """
    frame = read_store(predictions, store, sensitive, name=predictions.name)
    if frame is not None:
        frame = validate(frame, label_names, predictions.name, alone=False)
        frame = one_face_each(frame, run_id)
        if may_count is not None:
            frame = frame[may_count(frame["person"])].reset_index(drop=True)
    if frame is None or frame.empty:
        raise PredictionsError(
            f"{predictions} holds no faces to count",
            "Nobody agrees to be measured here: send nothing.",
        )
    groups = {name: groups_alike(frame[name], name) for name in sensitive}
    tables = [
        _table(frame, features, groups, len(label_names))
        for features in ((), *((f,) for f in sensitive), *itertools.combinations(sensitive, 2))
    ]
    return GroupCounts(
        run_id=run_id,
        store=store,
        label_names=tuple(label_names),
        sensitive=tuple(sensitive),
        persons=len(frame),
        tables=tuple(tables),
    )


def read_counts(path: Path | str) -> GroupCounts:
    """Read what a store sent.

    Raises:
        ReportError: it cannot be read, or its counts contradict each other.
    """
    remedy = "Ask the store for it again: privemo audit counts."
    try:
        return GroupCounts.model_validate_json(Path(path).read_bytes())
    except OSError as error:
        raise ReportError(f"{path} cannot be read ({error.strerror or error})", remedy) from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"])) or "the whole"
        raise ReportError(f"{path}: {place}: {first['msg']}", remedy) from None


def one_face_each(frame: pd.DataFrame, run_id: str) -> pd.DataFrame:
    """Of each person the face whose hash comes first: nobody chose it, and it is the same every time."""
    keys = [hashlib.sha256(f"{run_id}/{face}".encode()).hexdigest() for face in frame["face"]]
    ordered = frame.assign(_key=keys).sort_values("_key", kind="stable")
    return ordered.drop_duplicates("person").drop(columns="_key").reset_index(drop=True)


def _table(
    frame: pd.DataFrame,
    features: tuple[str, ...],
    groups: dict[str, NDArray[np.str_]],
    wide: int,
) -> Table:
    cell = frame["label"].to_numpy(np.int64) * wide + frame["prediction"].to_numpy(np.int64)
    named = list(zip(*(groups[f].tolist() for f in features), strict=True)) or [()] * len(frame)
    found: dict[tuple[str, ...], list[int]] = {}
    for group, place in zip(named, cell.tolist(), strict=True):
        found.setdefault(group, [0] * (wide * wide))[place] += 1
    return Table(
        features=features,
        cells=tuple(
            Cell(
                groups=group, confusion=tuple(map(tuple, np.reshape(counts, (wide, wide)).tolist()))
            )
            for group, counts in sorted(found.items())
        ),
    )
