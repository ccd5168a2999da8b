"""Scores of people under a run's own model: known answers, and scores that cannot be."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from privemo_audits.on_model import ModelInfo, judge_model


def scores(apart: float, *, inside: int = 300, outside: int = 200, seed: int = 0) -> dict[str, Any]:
    """People who took part score so much higher; guesses are about as many as fair coins make."""
    rng = np.random.default_rng(seed)
    part = np.arange(inside + outside) < inside
    took = int(rng.binomial(outside, 0.5))
    about = [*range(took), *range(inside, inside + outside - took)]
    return {
        "scores": (rng.normal(size=len(part)) + apart * part).tolist(),
        "took_part": part.tolist(),
        "about": about,
        "faces": len(part),
        "reference": "another",
    }


def judged(content: dict[str, Any]) -> Any:
    return judge_model(ModelInfo.model_validate(content), 1e-5, 0.05)


def test_who_stands_out_is_found_and_who_does_not_is_not() -> None:
    none, some = judged(scores(0.0)), judged(scores(6.0))
    assert none.epsilon_at_least == 0
    assert none.auc == pytest.approx(0.5, abs=0.06)
    assert some.epsilon_at_least > 2.5  # of 60 right guesses of 60
    assert some.auc > 0.999
    assert some.right > 0.95 * some.guesses
    one_percent = some.found_at[0]
    assert (one_percent.measurable, one_percent.false_alarms) == (True, 2)
    assert one_percent.found > 0.98
    assert one_percent.found_ci[0] < one_percent.found <= one_percent.found_ci[1]


def test_one_false_alarm_in_a_thousand_cannot_be_seen_in_two_hundred_people() -> None:
    at = judged(scores(1.0)).found_at[1]
    assert (at.share, at.measurable, at.false_alarms) == (0.001, False, 0)
    assert at.false_alarms_ci[1] == pytest.approx(1 - 0.025 ** (1 / 200))


def test_guesses_by_chance_prove_an_epsilon_as_rarely_as_stated() -> None:
    wrong = [judged(scores(0.0, seed=seed)).epsilon_at_least > 0 for seed in range(200)]
    assert np.mean(wrong) <= 0.05


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"took_part": [True] * 499}, "as many scores as people"),
        ({"took_part": [True] * 500}, "all or none"),
        ({"about": [*range(20), 3]}, "once about each"),
        ({"about": [*range(20), 500]}, "people who are there"),
        ({"scores": [float("nan")] * 500}, "finite"),
    ],
)
def test_scores_that_cannot_be_are_named(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        ModelInfo.model_validate({**scores(1.0), **changes})
