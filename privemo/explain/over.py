"""Means over people with their doubt: several pictures of one person are one observation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from privemo.explain.parts import PARTS
from privemo_audits.intervals import ALPHA, Sample, clopper_pearson

__all__ = [
    "Mean",
    "change",
    "mean_over_people",
    "means_by_part",
    "per_person",
    "rate",
    "told",
    "written",
]

Floats = NDArray[np.float64]


class Mean(NamedTuple):
    """A mean over `n` people and its 95% interval."""

    mean: float
    low: float
    high: float
    n: int


def per_person(values: NDArray[np.floating], person: NDArray[np.str_]) -> Floats:
    """Mean of each person's rows: (n, ...) values of n pictures become (people, ...)."""
    _, who = np.unique(person, return_inverse=True)
    total = np.zeros((int(who.max()) + 1, *values.shape[1:]))
    np.add.at(total, who, values)
    count = np.bincount(who).reshape(-1, *[1] * (values.ndim - 1))
    return np.asarray(total / count)


def mean_over_people(
    values: NDArray[np.floating],
    person: NDArray[np.str_],
    *,
    bounds: tuple[float, float] = (-np.inf, np.inf),
) -> Mean:
    """Mean of (n,) values and its t interval over people, kept inside `bounds`; one person gives `bounds`."""
    from scipy.stats import t

    each = per_person(values, person)
    n, mean = len(each), float(each.mean())
    if n < 2:
        return Mean(mean, *bounds, n)
    reach = float(t.ppf(1 - ALPHA / 2, n - 1) * each.std(ddof=1) / np.sqrt(n))
    return Mean(mean, max(bounds[0], mean - reach), min(bounds[1], mean + reach), n)


def change(before: NDArray[np.bool_], after: NDArray[np.bool_], person: NDArray[np.str_]) -> Mean:
    """How much accuracy is lost from `before` to `after`, (n,) right answers to the same pictures.

    Where nobody's answer changed there is no spread to learn from: then as many people as would have been
    seen to change with 97.5% certainty bound it (Clopper & Pearson).
    """
    lost = before.astype(np.float64) - after.astype(np.float64)
    found = mean_over_people(lost, person, bounds=(-1.0, 1.0))
    if found.low < found.high:
        return found
    unseen = clopper_pearson(0, found.n)[1]
    return Mean(found.mean, max(-1.0, found.mean - unseen), min(1.0, found.mean + unseen), found.n)


def rate(right: NDArray[np.bool_], person: NDArray[np.str_]) -> Mean:
    """Share of (n,) pictures that are right, as the audit reckons it: on their effective number."""
    sample = Sample.of(np.zeros(len(right), np.int64), (~right).astype(np.int64), person, 2)
    return Mean(sample.accuracy, *sample.accuracy_interval(ALPHA), sample.n_people)


def means_by_part(
    shares: NDArray[np.floating], person: NDArray[np.str_], names: tuple[str, ...] = PARTS
) -> dict[str, Mean]:
    """Mean share of each part: (n, parts) shares of n pictures, which sum to 1."""
    return {
        name: mean_over_people(shares[:, k], person, bounds=(0.0, 1.0))
        for k, name in enumerate(names)
    }


def told(means: Mapping[str, Mean]) -> dict[str, dict[str, float]]:
    """Means as they are written to a file."""
    return {name: {"mean": m.mean, "low": m.low, "high": m.high} for name, m in means.items()}


def written(one: Mean) -> dict[str, float]:
    """A mean with its number of people, as it is written to a file."""
    return {"mean": one.mean, "low": one.low, "high": one.high, "n": one.n}
