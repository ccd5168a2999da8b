"""The part of a report that says how the model does on drawn people of the ages that the rules exclude."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from .frozen import Frozen, Interval


class DrawnEmotion(Frozen):
    """One emotion at one age: so many were drawn showing it, and what was named instead.

    The interval of `recall` is Clopper & Pearson's, at 95% for itself.
    """

    n: int
    right: int
    recall: float | None
    ci: Interval | None
    taken_for: dict[str, int] = Field(description="Wrong answers by what was named.")


class DrawnAge(Frozen):
    """People who do not exist, drawn at ages from `from_age` to below `below_age`.

    `gap` is the accuracy of the admitted ages less that of these, of the same people; its interval holds for
    all bands together (Bonferroni). `lost` of the people are named rightly at an admitted age and wrongly at
    this, `won` the other way round. `p` is of McNemar's exact test, and `p_adjusted` says that every band was
    tested (Holm). The admitted ages have no gap.
    """

    band: str
    rule: Literal["refused", "refused_if_estimated_younger", "refused_by_error", "admitted"]
    from_age: float
    below_age: float
    n: int
    right: int
    accuracy: float
    ci: Interval
    gap: float | None = None
    gap_ci: Interval | None = None
    lost: int | None = None
    won: int | None = None
    p: float | None = None
    p_adjusted: float | None = None
    real: bool = False
    per_emotion: dict[str, DrawnEmotion]


class DrawnAges(Frozen):
    """The same drawn people at ages that the rules exclude, and at ages that they admit.

    None of them exists, so no gate was asked. Nothing follows for the rules: whoever is excluded stays so.
    """

    made: datetime
    people: int
    seed: int
    people_exist: Literal[False] = False
    challenge_age: float
    ages: tuple[DrawnAge, ...]
