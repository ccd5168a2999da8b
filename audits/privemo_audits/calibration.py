"""Whether the model is as sure as it is right.

The confidence is the probability of the emotion that was named. The expected calibration error is the mean
distance between confidence and accuracy over bins of equal width, weighed by faces (Guo et al. 2017, arXiv
1706.04599). It is never below 0, and above it for few faces even where the model is perfectly calibrated; so
the mean confidence stands beside the accuracy as well.

The reliability diagram has wider bins than the error, so that more of them hold people enough to be shown: a
bin is hidden or too small by the same rules as a group is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from . import intervals as iv
from .groups import MIN_PERSONS, hide, people_in
from .report_performance import Calibration, CalibrationBin

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["BINS", "DRAWN", "Sureness", "confidence_of", "measure_calibration"]

BINS = 10
DRAWN = 5
"""Bins of the diagram."""

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


def confidence_of(frame: pd.DataFrame, label_names: Sequence[str]) -> Floats | None:
    """(N,) probability of the emotion that was named; None where the table has no probabilities."""
    columns = [f"p_{name}" for name in label_names]
    if any(column not in frame.columns for column in columns):
        return None
    said = frame["prediction"].to_numpy(dtype=np.int64)
    table = frame[columns].to_numpy(dtype=np.float64)
    return np.asarray(table[np.arange(len(frame)), said], dtype=np.float64)


def measure_calibration(confidence: Floats, right: Mask) -> Calibration:
    """Confidence against accuracy; without the bins of a diagram.

    Args:
        confidence: (N,) between 0 and 1, of at least one face.
        right: (N,) whether the emotion named was the true one.
    """
    place = _bin_of(confidence, BINS)
    sure = np.bincount(place, weights=confidence, minlength=BINS)
    hit = np.bincount(place, weights=right, minlength=BINS)
    return Calibration(
        confidence=float(confidence.mean()),
        error=float(np.abs(hit - sure).sum() / len(confidence)),
    )


def _bin_of(confidence: Floats, bins: int) -> iv.Ints:
    return np.minimum((confidence * bins).astype(np.int64), bins - 1)


@dataclass(frozen=True)
class Sureness:
    """What reliability diagrams are made of; a row for each of N faces.

    Attributes:
        confidence, label, said, people: (N,).
        place: (N,) bin of the confidence.
        hidden: (B,) bins that are not shown for everyone together, nor for any group.
        classes: K, the emotions.
    """

    confidence: Floats
    label: iv.Ints
    said: iv.Ints
    people: iv.Ints
    place: iv.Ints
    hidden: Mask
    classes: int

    @classmethod
    def of(
        cls, frame: pd.DataFrame, people: iv.Ints, label_names: Sequence[str]
    ) -> Sureness | None:
        """Of a table of predictions; None where it has no probabilities."""
        confidence = confidence_of(frame, label_names)
        if confidence is None:
            return None
        place = _bin_of(confidence, DRAWN)
        label, said = (frame[name].to_numpy(dtype=np.int64) for name in ("label", "prediction"))
        hidden = hide(people_in(place, people, DRAWN)[None, :])[0]
        return cls(confidence, label, said, people, place, hidden, len(label_names))

    def hidden_in(self, group: iv.Ints, groups: Mask) -> Mask:
        """(G, B) bins that are hidden in each group: those of everyone are published beside them.

        Args:
            group: (N,) which group each face is of.
            groups: (G,) groups that are hidden themselves.
        """
        table = people_in(group * DRAWN + self.place, self.people, len(groups) * DRAWN)
        table = table.reshape(-1, DRAWN)
        return hide(table, groups[:, None] | (self.hidden[None, :] & (table > 0)))

    def diagram(self, hidden: Mask, rows: Mask | None = None) -> tuple[CalibrationBin, ...]:
        """The bins that anybody is in.

        Args:
            hidden: (B,) those that are not shown.
            rows: (N,) faces of a group; all by default.
        """
        rows = np.ones(len(self.place), dtype=np.bool_) if rows is None else rows
        filled = np.unique(self.place[rows]).tolist()
        return tuple(self._bin(b, bool(hidden[b]), rows & (self.place == b)) for b in filled)

    def _bin(self, b: int, hidden: bool, rows: Mask) -> CalibrationBin:
        low, high = b / DRAWN, (b + 1) / DRAWN
        if hidden:
            return CalibrationBin(low=low, high=high, status="suppressed")
        sample = iv.Sample.of(self.label[rows], self.said[rows], self.people[rows], self.classes)
        n, persons = sample.n_faces, sample.n_people
        if persons < MIN_PERSONS:
            return CalibrationBin(low=low, high=high, status="insufficient", n=n, persons=persons)
        return CalibrationBin(
            low=low,
            high=high,
            status="ok",
            n=n,
            persons=persons,
            confidence=float(self.confidence[rows].mean()),
            accuracy=sample.accuracy,
            ci=sample.accuracy_interval(iv.ALPHA),
        )
