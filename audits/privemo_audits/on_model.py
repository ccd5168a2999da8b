"""An attack on the very model of a run, made where its people do not exist: who was found.

One number for each person: the higher, the likelier they took part. Everybody's numbers give the chance of
telling the two sides apart (AUC), and how many who took part are found where few of the others, or none, are
taken for such. Epsilon is bounded by guesses about people of whom a fair coin decided (Steinke, Nasr &
Jagielski 2023), as in a rehearsal. A model is one trial: that few are found in it says little of another.
"""

from __future__ import annotations

from typing import Annotated, Self

import numpy as np
from pydantic import Field, model_validator
from scipy.stats import rankdata

from .guesses import GUESSED, epsilon_of_guesses, guessed
from .intervals import Floats, clopper_pearson
from .report_privacy import FoundAt, ModelAttack
from .runschema import Part

__all__ = ["FALSE_ALARMS", "ModelInfo", "judge_model"]

FALSE_ALARMS = (0.01, 0.001)
"""Shares of the others that may be taken for people who took part (Carlini et al. 2022, arXiv 2112.03570)."""


class ModelInfo(Part):
    """`model` of an attack: scores of drawn people, of whom it is known whether they took part."""

    scores: tuple[float, ...] = Field(min_length=10)
    took_part: tuple[bool, ...]
    about: tuple[Annotated[int, Field(ge=0)], ...] = Field(min_length=10)
    faces: int = Field(ge=1)
    reference: str

    @model_validator(mode="after")
    def _people_once(self) -> Self:
        if len(self.scores) != len(self.took_part):
            raise ValueError("as many scores as people are due")
        if len(set(self.took_part)) == 1:
            raise ValueError("some took part and some did not; here it was all or none")
        if len(set(self.about)) < len(self.about) or max(self.about) >= len(self.scores):
            raise ValueError("guesses are made about people who are there, and once about each")
        return self


def judge_model(info: ModelInfo, delta: float, alpha: float) -> ModelAttack:
    """What the scores say, but for a chance of alpha."""
    scores, part = np.array(info.scores), np.array(info.took_part)
    inside, outside = scores[part], scores[~part]
    about = np.array(info.about)
    tries = [guessed(scores[about], part[about], share) for share in GUESSED]
    bound = [
        epsilon_of_guesses(len(about), guesses, right, delta, alpha / len(tries))
        for guesses, right in tries
    ]
    best = int(np.argmax(bound)) if max(bound) else len(GUESSED) - 1
    ranks = rankdata(np.concatenate([inside, outside]))[: len(inside)]
    over = float(ranks.sum() - len(inside) * (len(inside) + 1) / 2)
    return ModelAttack(
        took_part=len(inside),
        others=len(outside),
        reference=info.reference,
        auc=over / len(inside) / len(outside),
        found_at=tuple(_found_at(inside, outside, share) for share in FALSE_ALARMS),
        persons=len(about),
        guesses=tries[best][0],
        right=tries[best][1],
        epsilon_at_least=bound[best],
    )


def _found_at(inside: Floats, outside: Floats, share: float) -> FoundAt:
    """Of those who took part, how many lie above all of the others but so many."""
    allowed = int(share * len(outside))
    threshold = np.sort(outside)[::-1][allowed]
    found, alarms = int((inside > threshold).sum()), int((outside > threshold).sum())
    return FoundAt(
        share=share,
        measurable=share * len(outside) >= 1,
        found=found / len(inside),
        found_ci=clopper_pearson(found, len(inside)),
        false_alarms=alarms,
        false_alarms_ci=clopper_pearson(alarms, len(outside)),
    )
