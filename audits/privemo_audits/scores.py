"""Scores of a set of faces with their intervals: what the whole table and each group are measured by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from . import intervals as iv
from .errors import MissingExtraError
from .report_performance import EmotionScore

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "emotion_score",
    "mean_interval",
    "metric_frame",
    "people_of",
    "right_of",
    "sample_of",
]

Ints = NDArray[np.int64]


def sample_of(frame: pd.DataFrame, people: Ints, classes: int) -> iv.Sample:
    """The confusion counts of a table by person."""
    label, said = (frame[name].to_numpy(dtype=np.int64) for name in ("label", "prediction"))
    return iv.Sample.of(label, said, people, classes)


def right_of(frame: pd.DataFrame) -> NDArray[np.bool_]:
    """(N,) whether the emotion named is the true one."""
    return np.asarray(frame["label"].to_numpy() == frame["prediction"].to_numpy())


def people_of(frame: pd.DataFrame) -> Ints:
    """(N,) who is on each face; every face another person where that is not known."""
    if "person" not in frame.columns:
        return np.arange(len(frame), dtype=np.int64)
    import pandas as pd

    return np.asarray(pd.factorize(frame["person"])[0], dtype=np.int64)


def emotion_score(i: int, sample: iv.Sample, table: iv.Ints, drawn: iv.Floats) -> EmotionScore:
    """Emotion `i` against the rest.

    Args:
        i: index of the emotion.
        sample: whose faces.
        table: (K, K) its confusion counts.
        drawn: (B, K, K) the same in bootstrap draws.
    """
    hit, n, said = int(table[i, i]), int(table[i].sum()), int(table[:, i].sum())
    union = n + said - hit
    recall_ci, _ = iv.proportion_interval(hit, n, sample, iv.recalls(drawn)[:, i])
    precision_ci, _ = iv.proportion_interval(hit, said, sample, iv.precisions(drawn)[:, i])
    return EmotionScore(
        n=n,
        predicted=said,
        precision=hit / said if said else None,
        precision_ci=precision_ci if said else None,
        recall=hit / n if n else None,
        recall_ci=recall_ci if n else None,
        f1=2 * hit / (n + said) if union else None,
        ci=iv.f1_interval(hit, union, sample, iv.f1_scores(drawn)[:, i]) if union else None,
    )


def mean_interval(
    drawn: iv.Floats, parts: Sequence[iv.Interval | None], sample: iv.Sample
) -> iv.Interval:
    """Interval of a mean over classes, by bootstrap draws of a sample.

    Where no draw differs (no errors at all), the mean of the classes' exact intervals stands in.
    """
    known = [p for p in parts if p is not None]
    boot = iv.percentile_interval(drawn, sample.units)
    if boot is not None and boot[1] > boot[0]:
        return boot
    return (float(np.mean([p[0] for p in known])), float(np.mean([p[1] for p in known])))


def metric_frame() -> Any:
    """Fairlearn's MetricFrame.

    Raises:
        MissingExtraError: Fairlearn is not installed.
    """
    try:
        from fairlearn.metrics import MetricFrame
    except ImportError as error:
        raise MissingExtraError.of(error.name) from error
    return MetricFrame
