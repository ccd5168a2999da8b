"""One number that makes a model as sure as it is right: what logits are divided by.

Guo et al. 2017, arXiv 1706.04599. It never changes which emotion is named. A model trained with differential
privacy is often much surer than it is right, and then a threshold for saying nothing is worth little.

What fits is told by one number: how sure a model is on average, less how often it is right. Divided by the
right temperature that is nothing. It is a sum over people of which each moves little, so few people's word is
heard above the chance that keeps each of them private: about a third of those that the Brier score or a
likelihood takes (ADR 0021).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from privemo_audits.calibration import measure_calibration

__all__ = [
    "MOST",
    "TEMPERATURES",
    "UNIT",
    "calibration_error",
    "fit_on_nobody",
    "losses_of",
    "surer_than_right",
    "tempered",
]

TEMPERATURES = tuple(round(2 ** (step / 8), 4) for step in range(-8, 25))
"""What is chosen from: 0.5 to 8, each 9% above the one before; at 1 nothing changes."""

UNIT = 1 << 16
"""Sums are of whole numbers of so many parts."""

MOST = 2 * UNIT
"""Most that one person moves the difference of two temperatures' losses: each by `UNIT`, up or down."""

_LEAST = 1e-12  # a probability of nothing has no logarithm

Probabilities = NDArray[np.floating]


def tempered(probabilities: Probabilities, temperature: float) -> NDArray[np.float64]:
    """What (n, 4) probabilities become where logits are divided by a temperature."""
    logits = np.log(np.maximum(probabilities.astype(np.float64), _LEAST)) / temperature
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(odds / odds.sum(axis=1, keepdims=True))


def surer_than_right(
    probabilities: Probabilities, label: NDArray[np.integer], person: NDArray[np.str_]
) -> NDArray[np.int64]:
    """How much surer a model is of each person than it is right: (people, temperatures), -`UNIT` to `UNIT`.

    Whatever stands in the table, one person's word goes no further.

    Args:
        probabilities: (n, 4) of the model as it is.
        label: (n,) true emotions.
        person: (n,) whose pictures; several of one person count together, as their mean.
    """
    if not len(label):
        return np.zeros((0, len(TEMPERATURES)), dtype=np.int64)
    right = probabilities.argmax(axis=1) == label
    sure = np.stack([tempered(probabilities, t).max(axis=1) for t in TEMPERATURES], axis=1)
    _, who = np.unique(person, return_inverse=True)
    total = np.zeros((int(who.max()) + 1, len(TEMPERATURES)))
    np.add.at(total, who, sure - right[:, None])
    parts = np.rint(UNIT * total / np.bincount(who)[:, None])
    # What is no number says nothing.
    return np.asarray(np.clip(np.nan_to_num(parts, nan=0.0), -UNIT, UNIT), dtype=np.int64)


def losses_of(surer: NDArray[np.int64]) -> NDArray[np.int64]:
    """(temperatures,) how far a model is from being as sure as it is right, of (people, temperatures)."""
    return np.asarray(np.abs(surer.sum(axis=0)), dtype=np.int64)


def fit_on_nobody(
    probabilities: Probabilities, label: NDArray[np.integer], person: NDArray[np.str_]
) -> float:
    """The best temperature from 1 up, on people who do not exist.

    Models find drawn faces easier than photographs: fitted on them, a temperature below 1 makes a model surer
    of faces on which it is already too sure. So nobody who does not exist makes a model surer.
    """
    losses = losses_of(surer_than_right(probabilities, label, person))
    allowed = [k for k, temperature in enumerate(TEMPERATURES) if temperature >= 1]
    return TEMPERATURES[min(allowed, key=lambda k: int(losses[k]))]


def calibration_error(probabilities: Probabilities, label: NDArray[np.integer]) -> float:
    """Expected calibration error, as the audit measures it."""
    sure = probabilities.max(axis=1).astype(np.float64)
    return measure_calibration(sure, probabilities.argmax(axis=1) == label).error
