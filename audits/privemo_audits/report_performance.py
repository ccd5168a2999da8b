"""The part of a report that says how well the model does: for everybody, each group, and between these."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from .frozen import Frozen, Interval, Status


class EmotionScore(Frozen):
    """One emotion, one against the rest: n true faces, and each score with a 95% interval."""

    n: int
    predicted: int
    precision: float | None
    precision_ci: Interval | None
    recall: float | None
    recall_ci: Interval | None
    f1: float | None
    ci: Interval | None = Field(description="The 95% interval of f1.")


class Confusion(Frozen):
    """Faces by true emotion (rows) and by what the model said (columns)."""

    labels: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]


class CalibrationBin(Frozen):
    """Faces whose confidence lies between `low` and `high`: how sure the model was, and how often right.

    Bins that nobody is in are left out. Small ones are `insufficient` and `suppressed` as groups are.
    """

    low: float
    high: float
    status: Status
    n: int | None = None
    persons: int | None = None
    confidence: float | None = None
    accuracy: float | None = None
    ci: Interval | None = Field(default=None, description="The 95% interval of the accuracy.")


class Calibration(Frozen):
    """Whether the model is as sure as it is right.

    `confidence` is the mean probability of what was named, to be held against the accuracy; `error` the
    expected calibration error over ten bins (Guo et al. 2017). `bins` are five, so that more of them hold
    people enough to be shown.
    """

    confidence: float
    error: float
    bins: tuple[CalibrationBin, ...] = ()


class Abstention(Frozen):
    """Faces for which the model chose to name no emotion.

    The scores count what it would have said.
    """

    n: int
    share: float
    ci: Interval
    accuracy_of_answers: float | None


class Performance(Frozen):
    """How well the model tells the emotions apart on held-out faces.

    `calibration` needs probabilities in the predictions, `abstention` a column `abstained`. `chance` is what
    always answering the commonest emotion would reach, and never less than 1 / number of emotions.
    """

    n: int
    persons: int
    accuracy: float
    accuracy_ci: Interval
    accuracy_ci_method: Literal["clopper_pearson", "person_bootstrap", "clopper_pearson_persons"]
    balanced_accuracy: float
    balanced_accuracy_ci: Interval
    f1: dict[str, float | None]
    per_emotion: dict[str, EmotionScore]
    confusion: Confusion
    calibration: Calibration | None
    abstention: Abstention | None
    chance: float
    chance_largest_class: float
    chance_uniform: float
    above_chance: bool


class GroupEmotion(Frozen):
    """One emotion within one group; a hidden or too small cell carries no number."""

    status: Status
    n: int | None = None
    precision: float | None = None
    precision_ci: Interval | None = None
    recall: float | None = None
    recall_ci: Interval | None = None
    f1: float | None = None
    ci: Interval | None = Field(default=None, description="The 95% interval of f1.")
    selection_rate: float | None = Field(
        default=None, description="Share of the group's faces that were said to show it."
    )


class GroupCell(Frozen):
    """One group of one sensitive feature, or of two together (`feature` names both).

    Of two together there is accuracy alone; means over the emotions are not stated where one of these is
    hidden. `insufficient` (fewer people than `min_persons`) keeps n but
    states no score; `suppressed` states nothing at all: the cell could single someone out, or would give
    away one that could.
    """

    feature: str
    crossed: bool = Field(default=False, description="Of two features together.")
    group: str
    status: Status
    n: int | None = None
    persons: int | None = None
    accuracy: float | None = None
    ci: Interval | None = None
    f1: float | None = Field(default=None, description="Mean F1 over the emotions present.")
    f1_ci: Interval | None = None
    balanced_accuracy: float | None = None
    balanced_accuracy_ci: Interval | None = None
    confidence: float | None = None
    calibration_error: float | None = None
    abstained: float | None = None
    reliability: tuple[CalibrationBin, ...] = Field(
        default=(), description="As `performance.calibration.bins`; not of two features together."
    )
    per_emotion: dict[str, GroupEmotion] = Field(default_factory=dict)


class Representation(Frozen):
    """One group's share of the people measured, beside its share among those whom the model is for.

    `ci` holds for all groups of the feature together (Bonferroni). Suppressed where the cell could single
    someone out; `ratio` is share over reference, and null where the reference does not name the group.
    """

    feature: str
    group: str
    status: Status
    persons: int | None = None
    share: float | None = None
    ci: Interval | None = None
    reference: float | None
    ratio: float | None = None


class Gap(Frozen):
    """The largest difference in accuracy between two groups of one feature.

    The interval is adjusted for having looked at `pairs` pairs (Bonferroni). `p` is of a permutation test,
    and `p_adjusted` takes into account that every gap of the report was tested (Holm); `real` says that it
    is at most `group_rules.alpha`.
    """

    feature: str
    crossed: bool = Field(default=False, description="Of two features together.")
    control: str | None = Field(default=None, description="Feature that is held fixed.")
    level: str | None = Field(default=None, description="Where the controlling feature stands.")
    groups_compared: int
    pairs: int
    highest: str | None
    lowest: str | None
    accuracy_gap: float | None
    ci: Interval | None
    p: float | None = None
    p_adjusted: float | None = None
    real: bool
