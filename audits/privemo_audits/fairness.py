"""How well the model works for everyone together; `privemo_audits.cells` has the groups.

AI Act 13(3)(b) and 15(3): accuracy with n and an interval.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from . import intervals as iv
from .calibration import Sureness, measure_calibration
from .predictions import validate
from .report_performance import Abstention, Calibration, Confusion, Performance
from .scores import emotion_score, mean_interval, people_of, right_of, sample_of

if TYPE_CHECKING:
    import pandas as pd

EMOTIONS = ("happy", "sad", "neutral", "surprise")


def evaluate_predictions(
    frame: pd.DataFrame, *, label_names: Sequence[str] = EMOTIONS
) -> dict[str, Any]:
    """Measure a table of predictions; the `performance` block of the report as plain JSON values.

    Args:
        frame: one row per face with `label` and `prediction` (indices or names of `label_names`)
            and, if known, `person`; without it every face counts as another person's.
        label_names: the emotions, in index order.

    Returns:
        `accuracy`, `accuracy_ci` [low, high], `f1` {emotion: value or None}, `n`, and the rest of
        `Performance`.

    Raises:
        PredictionsError: a column is missing, a value is none of the emotions, no rows, one class.
        MissingExtraError: the `audit` extra is not installed.
    """
    checked = validate(frame, label_names, "the predictions")
    return measure_performance(checked, label_names).model_dump(mode="json")


def measure_performance(frame: pd.DataFrame, label_names: Sequence[str]) -> Performance:
    """Measure a validated table of predictions, all people together."""
    people = people_of(frame)
    sample = sample_of(frame, people, len(label_names))
    table, drawn = sample.confusion, sample.draw()
    n, right = sample.n_faces, int(np.trace(table))
    ci, method = iv.proportion_interval(right, n, sample, iv.accuracies(drawn))
    exact = np.asarray(table, dtype=float)[None]
    balanced = float(iv.balanced_accuracies(exact)[0])
    emotions = {name: emotion_score(i, sample, table, drawn) for i, name in enumerate(label_names)}
    largest = float(table.sum(axis=1).max() / n)
    chance = max(largest, 1 / len(label_names))
    return Performance(
        n=n,
        persons=sample.n_people,
        accuracy=right / n,
        accuracy_ci=ci,
        accuracy_ci_method=method,
        balanced_accuracy=balanced,
        balanced_accuracy_ci=mean_interval(
            iv.balanced_accuracies(drawn), [e.recall_ci for e in emotions.values()], sample
        ),
        f1={name: e.f1 for name, e in emotions.items()},
        per_emotion=emotions,
        confusion=Confusion(
            labels=tuple(label_names), counts=tuple(tuple(int(c) for c in row) for row in table)
        ),
        calibration=_calibration(frame, people, label_names),
        abstention=_abstention(frame, sample),
        chance=chance,
        chance_largest_class=largest,
        chance_uniform=1 / len(label_names),
        above_chance=ci[0] > chance,
    )


def _calibration(
    frame: pd.DataFrame, people: iv.Ints, label_names: Sequence[str]
) -> Calibration | None:
    sureness = Sureness.of(frame, people, label_names)
    if sureness is None:
        return None
    found = measure_calibration(sureness.confidence, right_of(frame))
    return found.model_copy(update={"bins": sureness.diagram(sureness.hidden)})


def _abstention(frame: pd.DataFrame, sample: iv.Sample) -> Abstention | None:
    if "abstained" not in frame.columns:
        return None
    silent = frame["abstained"].to_numpy(dtype=bool)
    answered = right_of(frame)[~silent]
    n, effect = int(silent.sum()), sample.n_faces / sample.n_people
    return Abstention(
        n=n,
        share=n / len(frame),
        # Pictures of one person may all be hard: counted as one, which is never too narrow.
        ci=iv.clopper_pearson(n / effect, len(frame) / effect),
        accuracy_of_answers=float(answered.mean()) if len(answered) else None,
    )
