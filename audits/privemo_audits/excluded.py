"""How well the model reads people whom the rules exclude, on people who do not exist (EU AI Act 9(9)).

`excluded.json` is written by `privemo excluded`: the same drawn people at every age, and what the model said
of them. Here are no models and no pictures, only ages, labels and answers. Each picture shows another person,
so an accuracy has the exact interval of Clopper & Pearson; and since the people of all ages are the same, a
gap is told from those of whom the model is right at one age and not at the other (McNemar 1947).
"""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, model_validator
from scipy.stats import binomtest

from .errors import RunFilesError
from .intervals import ALPHA, Interval, clopper_pearson
from .permutation import holm
from .report_excluded import DrawnAge, DrawnAges, DrawnEmotion
from .runfiles import Run, read_model
from .runschema import Hex, Part

__all__ = ["EXCLUDED_FILE", "ExcludedInfo", "compare_ages", "measure_drawn", "told_of_ages"]

EXCLUDED_FILE = "excluded.json"

ADMITTED = "admitted"

_ANEW = "Draw them anew with `privemo excluded`, or take the file away."

_RULES: dict[str, Literal["refused", "refused_if_estimated_younger", "refused_by_error"]] = {
    "under_13": "refused",
    "13_to_17": "refused",
    "adults_under_challenge_age": "refused_if_estimated_younger",
    "adults_near_challenge_age": "refused_by_error",
}

Index = Annotated[int, Field(ge=0, le=1000)]


class Strict(Part):
    """Unlike the files of a run, this one has a single writer: a key that is not known is a mistake."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)


class AgeAnswers(Strict):
    """`excluded.json: ages`, of one band."""

    band: str
    from_: float = Field(alias="from", ge=0, le=150)
    below: float = Field(ge=0, le=150)
    age: tuple[float, ...]
    prediction: tuple[Index, ...]

    @model_validator(mode="after")
    def _of_these_ages(self) -> Self:
        if self.band != ADMITTED and self.band not in _RULES:
            raise ValueError(f"no band is called {self.band!r}")
        if not all(self.from_ <= age < self.below for age in self.age):
            raise ValueError(f"somebody in {self.band!r} is of another age")
        return self


class ExcludedInfo(Strict):
    """`excluded.json`. `people_exist` can only be false: of people who do, ages like these are never read."""

    schema_: Literal["privemo.excluded/1"] = Field(alias="schema")
    run_id: str
    made: datetime
    people_exist: Literal[False]
    model_sha256: Hex
    challenge_age: float = Field(ge=18, le=120)
    seed: int = Field(ge=0)
    people: int = Field(ge=1, le=10**6)
    label_names: tuple[str, ...] = Field(min_length=2)
    label: tuple[Index, ...]
    ages: tuple[AgeAnswers, ...] = Field(min_length=2)
    versions: dict[str, str]

    @model_validator(mode="after")
    def _everybody_at_every_age(self) -> Self:
        for band in self.ages:
            if not len(self.label) == len(band.age) == len(band.prediction) == self.people:
                raise ValueError(
                    f"{band.band!r} does not have each of the {self.people} people once"
                )
            if max((*self.label, *band.prediction)) >= len(self.label_names):
                raise ValueError(f"{band.band!r} has an emotion without a name")
        names = [band.band for band in self.ages]
        if len(set(names)) < len(names) or ADMITTED not in names:
            raise ValueError("each band is due once, and the admitted ages among them")
        return self


def measure_drawn(run: Run) -> DrawnAges | None:
    """What the model does at every age; None where nobody asked.

    Raises:
        RunFilesError: `excluded.json` is torn, malformed, or of another run or model.
    """
    if not (run.directory / EXCLUDED_FILE).is_file():
        return None
    info = read_model(run, EXCLUDED_FILE, ExcludedInfo)
    for what, its, due in (
        ("run", info.run_id, run.info.run_id),
        ("model", info.model_sha256, run.files.get("model.safetensors", "none")),
        ("challenge age", info.challenge_age, run.info.challenge_age),
        ("emotions", info.label_names, run.info.label_names),
    ):
        if its != due:
            raise RunFilesError(f"{EXCLUDED_FILE} is of {what} {its}, the run of {due}", _ANEW)
    return compare_ages(info)


def compare_ages(info: ExcludedInfo) -> DrawnAges:
    """Accuracy at every age, and how it differs from that of the admitted ages."""
    base = next(band for band in info.ages if band.band == ADMITTED)
    others = [band for band in info.ages if band.band != ADMITTED]
    compared = [_paired(info, base, band, ALPHA / len(others)) for band in others]
    adjusted = holm([float(each["p"]) for each in compared])  # type: ignore[arg-type]  # a float by that name
    gaps = [
        {**each, "p_adjusted": p, "real": p <= ALPHA}
        for each, p in zip(compared, adjusted, strict=True)
    ]
    return DrawnAges(
        made=info.made,
        people=info.people,
        seed=info.seed,
        challenge_age=info.challenge_age,
        ages=(
            *(_age(info, band, **gap) for band, gap in zip(others, gaps, strict=True)),
            _age(info, base),
        ),
    )


def _age(info: ExcludedInfo, band: AgeAnswers, **gap: object) -> DrawnAge:
    right = sum(_right(info, band))
    return DrawnAge.model_validate(
        {
            "band": band.band,
            "rule": _RULES.get(band.band, ADMITTED),
            "from_age": band.from_,
            "below_age": band.below,
            "n": info.people,
            "right": right,
            "accuracy": right / info.people,
            "ci": clopper_pearson(right, info.people),
            "per_emotion": {
                name: _emotion(info, band, index) for index, name in enumerate(info.label_names)
            },
            **gap,
        }
    )


def _right(info: ExcludedInfo, band: AgeAnswers) -> list[bool]:
    return [said == true for said, true in zip(band.prediction, info.label, strict=True)]


def _emotion(info: ExcludedInfo, band: AgeAnswers, index: int) -> DrawnEmotion:
    said = Counter(
        said for said, true in zip(band.prediction, info.label, strict=True) if true == index
    )
    n, right = said.total(), said[index]
    return DrawnEmotion(
        n=n,
        right=right,
        recall=right / n if n else None,
        ci=clopper_pearson(right, n) if n else None,
        taken_for={
            name: said[other]
            for other, name in enumerate(info.label_names)
            if other != index and said[other]
        },
    )


def _paired(
    info: ExcludedInfo, base: AgeAnswers, band: AgeAnswers, alpha: float
) -> dict[str, float | int | Interval]:
    pairs = Counter(zip(_right(info, base), _right(info, band), strict=True))
    lost, won = pairs[True, False], pairs[False, True]
    n = info.people
    # Both shares at once, each with half of what may go wrong: never too narrow.
    (few_lost, many_lost), (few_won, many_won) = (
        clopper_pearson(count, n, alpha / 2) for count in (lost, won)
    )
    return {
        "gap": (lost - won) / n,
        "gap_ci": (few_lost - many_won, many_lost - few_won),
        "lost": lost,
        "won": won,
        "p": float(binomtest(lost, lost + won).pvalue) if lost + won else 1.0,
    }


# -- in words --------------------------------------------------------------------------------------


def told_of_ages(drawn: DrawnAges | None) -> tuple[list[str], list[str]]:
    """Sentences for the summary, and for what the report does not show."""
    if drawn is None:
        return [], [_NOT_ASKED]
    minors = [age for age in drawn.ages if age.rule == "refused"]
    worst = min(minors, key=lambda age: age.accuracy)
    low, high = worst.ci
    behind = any(age.real and (age.gap or 0.0) > 0 for age in minors)
    said = (
        "Nobody under 18 was read to find out how well it reads them. Of people who do not exist, drawn at "
        f"ages {age_words(worst)}, it named {worst.accuracy:.0%} rightly (between {low:.0%} and {high:.0%}), "
        f"and of the same people at admitted ages {drawn.ages[-1].accuracy:.0%}"
    )
    stay = (
        ": it reads drawn minors worse. They stay excluded."
        if behind
        else ". That is no reason to read anyone: minors stay excluded."
    )
    return [said + stay], [_OF_DRAWN]


_NOT_ASKED = (
    "How well the model reads people of the ages that the rules exclude was not asked "
    "(`privemo excluded`)."
)

_OF_DRAWN = (
    "Accuracy at excluded ages is of drawn faces, and the model may have learned from others like them. A "
    "drawn child is no child: gaps may be larger or smaller among real ones, and how children really show "
    "what they feel is not drawn."
)


def age_words(age: DrawnAge) -> str:
    """`under 13`, `13 to 17`, or `25 and over`."""
    if age.band == "under_13":
        return f"under {age.below_age:g}"
    if age.band == ADMITTED:
        return f"{age.from_age:g} and over"
    last = age.below_age - 1 if age.below_age == int(age.below_age) else age.below_age
    return f"{age.from_age:g} to {last:g}"
