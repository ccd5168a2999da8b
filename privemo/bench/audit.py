"""Intervals for groups: ours against the bootstrap of Fairlearn's MetricFrame, on one and the same table.

MetricFrame resamples rows and measures the resampled table afresh, so what it takes grows with rows times
resamples. Ours resamples counts of people by what they show, which are few. The table has one face of each
person. MetricFrame is asked for the accuracy alone; ours gives, with an interval each, accuracy, balanced
accuracy, mean F1, and precision, recall and F1 of every emotion, and it tests the largest gap.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from privemo.bench import Figure
from privemo.labels import EMOTIONS

__all__ = ["figures"]

ROWS, GROUPS, RESAMPLES = 1_000_000, 24, 1000
_FEW = 3
"""Resamples that MetricFrame is timed with; the rest is in proportion, or hours would pass."""


def figures(
    *, rows: int = ROWS, groups: int = GROUPS, resamples: int = RESAMPLES, timed: int = _FEW
) -> Iterator[Figure]:
    """Measure both.

    Args:
        rows: faces, each of a person of its own.
        groups: of one sensitive feature.
        resamples: of each.
        timed: how many of them MetricFrame really draws; what these take beyond a MetricFrame without any is
            taken in proportion.
    """
    from privemo_audits.cells import measure_groups

    frame = _table(rows, groups)
    measure_groups(frame.head(1000), ["group"], EMOTIONS)  # imports are nobody's
    ours = _seconds(partial(measure_groups, frame, ["group"], EMOTIONS))
    alone = _seconds(partial(_metric_frame, frame, 0))
    drawn = (_seconds(partial(_metric_frame, frame, timed)) - alone) / timed
    theirs = alone + resamples * drawn
    yield _figure("ours_s", ours, "s", "<= 5", ours <= 5)
    yield _figure("metric_frame_s", theirs, "s")
    ratio = theirs / ours
    yield _figure("metric_frame_over_ours", ratio, "times", ">= 100", ratio >= 100)


def _figure(
    name: str, value: float, unit: str, goal: str | None = None, met: bool | None = None
) -> Figure:
    return {"figure": name, "value": round(value, 2), "unit": unit, "goal": goal, "met": met}


def _seconds(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _table(rows: int, groups: int) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    label = rng.integers(0, len(EMOTIONS), rows)
    right = rng.random(rows) < 0.75
    other = (label + rng.integers(1, len(EMOTIONS), rows)) % len(EMOTIONS)
    return pd.DataFrame(
        {
            "store": "store-01",
            "person": np.arange(rows).astype(str),
            "label": label,
            "prediction": np.where(right, label, other),
            "group": np.char.add("group ", rng.integers(0, groups, rows).astype(str)),
        }
    )


def _accuracy(true: Any, said: Any) -> float:
    return float(np.mean(np.asarray(true) == np.asarray(said)))


def _metric_frame(frame: pd.DataFrame, resamples: int) -> None:
    from fairlearn.metrics import MetricFrame

    how = {"n_boot": resamples, "ci_quantiles": [0.025, 0.975]} if resamples else {}
    MetricFrame(
        metrics=_accuracy,
        y_true=frame["label"],
        y_pred=frame["prediction"],
        sensitive_features=frame["group"],
        random_state=0,
        **how,
    )
