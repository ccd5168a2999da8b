"""Counts over cells that were agreed on: noised by a store, or added up by stores without showing their own.

Beside the counts a file says how they were noised, so that whoever joins them can state what the noise alone
may have done. Noised counts may be negative. They stay so: cut off at zero, every sum of them would be too
high.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError, model_validator

from .accounting import Release, epsilon_rdp
from .cellplan import CellPlan
from .counts import Cell, GroupCounts, Table
from .errors import PolicyError, ReportError
from .frozen import Document, Frozen

__all__ = ["SCHEMA", "CellCounts", "CellTable", "Noise", "read_any"]

SCHEMA: Literal["privemo.cell-counts/1"] = "privemo.cell-counts/1"

MOST = 10**9

Signed = Annotated[int, Field(ge=-MOST, le=MOST)]
Names = tuple[str, ...]


class Noise(Frozen):
    """How counts were noised: `shares` draws of discrete Gaussian noise on `resolution` times each count.

    `clip` says how much one person moves the counts: each adds one to one cell of `tables` tables, with one
    of their faces, so by sqrt(tables) in L2 and no more. `noise_stores` shares are what the epsilon rests on;
    there may be more. The counts were rounded to whole people at the end.
    """

    mechanism: Literal["discrete_gaussian", "discrete_gaussian_sum"]
    unit: Literal["person"] = "person"
    clip: Literal["one face of each person, one count in each table"] = (
        "one face of each person, one count in each table"
    )
    tables: int = Field(ge=1, le=10**4)
    resolution: int = Field(ge=1, le=2**20)
    scale: int = Field(ge=1, le=2**20)
    noise_stores: int = Field(1, ge=1, le=10**4)
    shares: int = Field(1, ge=1, le=10**4)
    epsilon: float = Field(gt=0, le=1e6)
    delta: float = Field(gt=0, lt=1)

    @property
    def noise_multiplier(self) -> float:
        """Scale of the noise that is there for certain, over the most that one person moves the counts."""
        return math.sqrt(self.noise_stores / self.tables) * self.scale / self.resolution

    @property
    def variance(self) -> float:
        """Of each count, in people squared: of the noise, and of rounding at the end."""
        rounding = 1 / 12 if self.resolution > 1 else 0.0
        return self.shares * (self.scale / self.resolution) ** 2 + rounding

    @model_validator(mode="after")
    def _worth_its_epsilon(self) -> Noise:
        one = self.mechanism == "discrete_gaussian"
        if one != (self.noise_stores == self.shares == 1) or self.shares < self.noise_stores:
            raise ValueError(
                "noise of one store has one share, and a sum as many as it needs or more"
            )
        cost = epsilon_rdp([Release(self.noise_multiplier, 1.0, 1, discrete=True)], self.delta)
        if cost > self.epsilon * (1 + 1e-3):
            raise ValueError(
                f"noise of multiplier {self.noise_multiplier:.4g} costs epsilon {cost:.4g}, and the file "
                f"says {self.epsilon:.4g}"
            )
        return self


class CellTable(Frozen):
    """Counts by no feature, by one or by two together: of each cell one list, by emotion shown and named."""

    features: Names
    counts: tuple[tuple[Signed, ...], ...]


class CellCounts(Document):
    """What one store sends, or what several add up to."""

    schema_: Literal["privemo.cell-counts/1"] = Field(SCHEMA, alias="schema")
    run_id: str
    stores: Names = Field(min_length=1)
    label_names: Names = Field(min_length=2)
    groups: dict[str, Names]
    sensitive: Names
    tables: tuple[CellTable, ...]
    noise: Noise | None

    @classmethod
    def of(
        cls,
        plan: CellPlan,
        vector: NDArray[np.int64],
        *,
        run_id: str,
        stores: Sequence[str],
        noise: Noise | None,
    ) -> CellCounts:
        """The counts that a vector stands for."""
        split = plan.split(vector)
        tables = (
            CellTable(
                features=t, counts=tuple(map(tuple, split[t].reshape(len(split[t]), -1).tolist()))
            )
            for t in plan.tables
        )
        return cls(
            run_id=run_id,
            stores=tuple(sorted(stores)),
            label_names=plan.label_names,
            groups=dict(plan.groups),
            sensitive=plan.features,
            tables=tuple(tables),
            noise=noise,
        )

    @property
    def plan(self) -> CellPlan:
        """The cells."""
        return CellPlan(self.label_names, tuple((f, self.groups[f]) for f in self.sensitive))

    def counts(self, features: Names) -> NDArray[np.int64]:
        """(cells, emotions, emotions) of one table."""
        wide = len(self.label_names)
        table = next(t for t in self.tables if t.features == features)
        return np.array(table.counts, np.int64).reshape(-1, wide, wide)

    @model_validator(mode="after")
    def _whole(self) -> CellCounts:
        if set(self.groups) != set(self.sensitive) or len(set(self.sensitive)) < len(
            self.sensitive
        ):
            raise ValueError("groups of each sensitive column are due, once")
        if list(self.stores) != sorted(set(self.stores)):
            raise ValueError("stores are named once each, in order")
        try:
            plan = self.plan
        except PolicyError as error:
            raise ValueError(str(error)) from None
        if tuple(t.features for t in self.tables) != plan.tables:
            raise ValueError(f"tables by {plan.tables} are due, in this order")
        wide = len(self.label_names) ** 2
        for table in self.tables:
            cells = len(plan.cells(table.features))
            if [len(c) for c in table.counts] != [wide] * cells:
                where = " and ".join(table.features) or "everyone"
                raise ValueError(f"{where}: {cells} cells of {wide} counts are due")
        _check_totals(self)
        if self.noise is not None and self.noise.tables != len(self.tables):
            raise ValueError(f"one person moves {len(self.tables)} tables, not {self.noise.tables}")
        return self

    def exact(self) -> GroupCounts:
        """Without noise: the counts as a store's own file has them, cells of nobody left out.

        Raises:
            ReportError: they are noised, some pair of features is missing, or nobody was counted.
        """
        plan, what = self.plan, " + ".join(self.stores)
        if self.noise is not None:
            raise ReportError(f"the counts of {what} are noised", "Join them with noised ones.")
        tables = []
        for features in plan.tables:
            found = zip(plan.cells(features), self.counts(features), strict=True)
            cells = [
                Cell(groups=names, confusion=tuple(map(tuple, table.tolist())))
                for names, table in found
                if table.any()
            ]
            tables.append(
                Table(features=features, cells=tuple(sorted(cells, key=lambda c: c.groups)))
            )
        try:
            return GroupCounts(
                run_id=self.run_id,
                store=what,
                label_names=self.label_names,
                sensitive=self.sensitive,
                persons=int(self.counts(()).sum()),
                tables=tuple(tables),
            )
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            raise ReportError(
                f"the counts of {what}: {first['msg']}", "Name fewer groups."
            ) from None


def _check_totals(found: CellCounts) -> None:
    """Every table counts the same people: what differs by more than noise can was not counted.

    Without noise nothing may differ and nothing be negative. Of noise ten deviations are let pass, which no
    honest file ever needs.

    Raises:
        ValueError: somebody lied about a count, or a sum ran over.
    """
    variance = 0.0 if found.noise is None else found.noise.variance
    totals = {
        t.features: (np.array(t.counts, np.int64).sum(), sum(map(len, t.counts)))
        for t in found.tables
    }
    everyone, cells = totals[()]
    for table in found.tables:
        where = " and ".join(table.features) or "everyone"
        least = min(min(cell) for cell in table.counts)
        if least < -10 * math.sqrt(variance):
            raise ValueError(f"{where}: a count of {least} is further below 0 than noise makes it")
        total, numbers = totals[table.features]
        if abs(int(total) - int(everyone)) > 10 * math.sqrt(variance * (numbers + cells)):
            raise ValueError(
                f"{where}: its counts add up to {total}, and those of everyone to {everyone}"
            )


def read_any(path: Path | str) -> GroupCounts | CellCounts:
    """Read counts of either kind: exact ones of a store, or noised or summed ones.

    Raises:
        ReportError: they cannot be read, or contradict each other.
    """
    from .counts import read_counts

    try:
        content = json.loads(Path(path).read_bytes())
    except (OSError, ValueError):
        return read_counts(path)  # which says what is wrong
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        return read_counts(path)
    try:
        return CellCounts.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"])) or "the whole"
        raise ReportError(
            f"{path}: {place}: {first['msg']}", "Ask the store for it again: privemo audit counts."
        ) from None
