"""Whether the model is as sure as it is right.

The confidence is the probability of the emotion that was named. The expected calibration error is the mean
distance between confidence and accuracy over bins of equal width, weighed by faces (Guo et al. 2017, arXiv
1706.04599). It is never below 0, and above it for few faces even where the model is perfectly calibrated; so
the mean confidence stands beside the accuracy as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .report import Calibration, CalibrationBin

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["BINS", "confidence_of", "measure_calibration"]

BINS = 10

Floats = NDArray[np.float64]


def confidence_of(frame: pd.DataFrame, label_names: Sequence[str]) -> Floats | None:
    """(N,) probability of the emotion that was named; None where the table has no probabilities."""
    columns = [f"p_{name}" for name in label_names]
    if any(column not in frame.columns for column in columns):
        return None
    said = frame["prediction"].to_numpy(dtype=np.int64)
    table = frame[columns].to_numpy(dtype=np.float64)
    return np.asarray(table[np.arange(len(frame)), said], dtype=np.float64)


def measure_calibration(confidence: Floats, right: NDArray[np.bool_]) -> Calibration:
    """Confidence against accuracy.

    Args:
        confidence: (N,) between 0 and 1, of at least one face.
        right: (N,) whether the emotion named was the true one.
    """
    place = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    n = np.bincount(place, minlength=BINS)
    sure = np.bincount(place, weights=confidence, minlength=BINS)
    hit = np.bincount(place, weights=right, minlength=BINS)
    filled = np.flatnonzero(n)
    return Calibration(
        confidence=float(confidence.mean()),
        error=float(np.abs(hit - sure).sum() / len(confidence)),
        bins=tuple(
            CalibrationBin(
                low=b / BINS,
                high=(b + 1) / BINS,
                n=int(n[b]),
                confidence=float(sure[b] / n[b]),
                accuracy=float(hit[b] / n[b]),
            )
            for b in filled.tolist()
        ),
    )
