"""Parts of a report that are there only where somebody asked: where the model looks, and other reports."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from .frozen import Frozen, Interval


class Attention(Frozen):
    """Mean share of what one region adds to the model's answer, and its 95% interval over people."""

    mean: float
    ci: Interval


class Looked(Frozen):
    """Where the model looks in `n` faces, by region; the means add up to 1."""

    n: int
    share: dict[str, Attention]


class Looks(Frozen):
    """Where the model looks, measured on people who do not exist (`privemo explain`).

    `area` is each region's share of the picture: a model that looks everywhere alike has such shares of
    attention. Where `of_this_model` is false, somebody looked into another model than the run's, and nothing
    of it is stated.
    """

    method: str
    made: datetime
    people: int
    model_sha256: str
    of_this_model: bool
    regions: tuple[str, ...]
    area: dict[str, float] = Field(default_factory=dict)
    by_emotion: dict[str, Looked] = Field(default_factory=dict)
    by_group: dict[str, dict[str, Looked]] = Field(default_factory=dict)


class Beside(Frozen):
    """Another run's signed report, of which the accuracy and the privacy are drawn beside this run's.

    `sha256` is of its `report.json`. `epsilon` is null where that run has no bound. `comparable` is false
    where `differs` says why not.
    """

    run_id: str
    created: datetime
    verdict: Literal["passed", "failed"]
    sha256: str
    signed_by: tuple[str, ...]
    model: str
    private: bool
    epsilon: float | None
    delta: float | None
    n: int
    persons: int
    accuracy: float
    accuracy_ci: Interval
    comparable: bool
    differs: tuple[str, ...]
