"""One number that makes a model as sure as it is right: what logits are divided by.

Guo et al. 2017, arXiv 1706.04599. It never changes which emotion is named. A model trained with differential
privacy is often much surer than it is right, and then a threshold for saying nothing is worth little.

What fits is told by the Brier score, the squared distance of probabilities from the truth. Like the
likelihood it is smallest where probabilities are true (Brier 1950); unlike it, it is bounded by itself. The
bound that one person's word needs takes nothing off it, where a likelihood that is cut off at a bound prefers
temperatures at which much is cut off.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from privemo_audits.calibration import measure_calibration

__all__ = ["MOST", "TEMPERATURES", "calibration_error", "fit_on_nobody", "losses_of", "tempered"]

TEMPERATURES = tuple(round(2 ** (step / 8), 4) for step in range(-8, 25))
"""What is chosen from: 0.5 to 8, each 9% above the one before; at 1 nothing changes."""

UNIT = 1 << 16
"""Losses are whole numbers of so many parts."""

MOST = UNIT * 3 // 2
"""Most that one person's loss differs between two temperatures. Named wrongly, the true emotion has at most
half of all probability at any temperature, and the score lies between 1/2 and 2; named rightly it has the
most, and the score lies between 0 and 3/4. A person's loss is a mean over their pictures."""

_LEAST = 1e-12  # a probability of nothing has no logarithm

Probabilities = NDArray[np.floating]


def tempered(probabilities: Probabilities, temperature: float) -> NDArray[np.float64]:
    """What (n, 4) probabilities become where logits are divided by a temperature."""
    logits = np.log(np.maximum(probabilities.astype(np.float64), _LEAST)) / temperature
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(odds / odds.sum(axis=1, keepdims=True))


def losses_of(
    probabilities: Probabilities, label: NDArray[np.integer], person: NDArray[np.str_]
) -> NDArray[np.int64]:
    """What each person's pictures say of each temperature: (people, temperatures), from 0 to `MOST`.

    Their least loss is taken off, which moves no temperature before another, and keeps what they say within
    `MOST`: whatever stands in the table, one person's word goes no further.

    Args:
        probabilities: (n, 4) of the model as it is.
        label: (n,) true emotions.
        person: (n,) whose pictures; several of one person count together.
    """
    if not len(label):
        return np.zeros((0, len(TEMPERATURES)), dtype=np.int64)
    true = np.eye(probabilities.shape[1])[label]
    scores = [((tempered(probabilities, t) - true) ** 2).sum(axis=1) for t in TEMPERATURES]
    _, who = np.unique(person, return_inverse=True)
    total = np.zeros((int(who.max()) + 1, len(TEMPERATURES)))
    np.add.at(total, who, np.stack(scores, axis=1))
    mean = total / np.bincount(who)[:, None]
    above = np.floor(UNIT * (mean - mean.min(axis=1, keepdims=True)))
    # What is no number says nothing: nor can it say more than anything else.
    return np.asarray(np.clip(np.nan_to_num(above, nan=0.0), 0, MOST), dtype=np.int64)


def fit_on_nobody(
    probabilities: Probabilities, label: NDArray[np.integer], person: NDArray[np.str_]
) -> float:
    """The best temperature from 1 up, on people who do not exist.

    Models find drawn faces easier than photographs: fitted on them, a temperature below 1 makes a model surer
    of faces on which it is already too sure. So nobody who does not exist makes a model surer.
    """
    losses = losses_of(probabilities, label, person).sum(axis=0)
    allowed = [k for k, temperature in enumerate(TEMPERATURES) if temperature >= 1]
    return TEMPERATURES[min(allowed, key=lambda k: int(losses[k]))]


def calibration_error(probabilities: Probabilities, label: NDArray[np.integer]) -> float:
    """Expected calibration error, as the audit measures it."""
    sure = probabilities.max(axis=1).astype(np.float64)
    return measure_calibration(sure, probabilities.argmax(axis=1) == label).error
