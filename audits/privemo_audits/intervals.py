"""Intervals that tell the truth about small and dependent samples: pure functions on counts.

Clopper and Pearson 1934 for a proportion; a bootstrap for what is no proportion (F1, balanced
accuracy), drawn as multinomial counts instead of resampled rows: the two have the same
distribution, and the first costs as much for a million rows as for ten.

Several pictures of one person agree with one another more than pictures of strangers do, so an
interval that counts every picture as new evidence is too narrow. Whenever anyone has more than one
picture, whole people are resampled, and the wider interval is given.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Interval = tuple[float, float]
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Method = Literal["clopper_pearson", "person_bootstrap", "clopper_pearson_persons"]

DRAWS = 2000
SEED = 20_240_917
ALPHA = 0.05


def clopper_pearson(successes: float, n: float, alpha: float = ALPHA) -> Interval:
    """Exact two-sided interval of a proportion.

    Args:
        successes: between 0 and n; need not be whole (an effective number of successes).
        n: trials; 0 gives (0, 1), for nothing is known.
        alpha: the chance, at most, that the interval misses.

    Source:
        Clopper and Pearson (1934), Biometrika 26; through the beta quantiles.
    """
    from scipy.stats import beta

    if n <= 0:
        return (0.0, 1.0)
    low = 0.0 if successes <= 0 else float(beta.ppf(alpha / 2, successes, n - successes + 1))
    high = 1.0 if successes >= n else float(beta.ppf(1 - alpha / 2, successes + 1, n - successes))
    return (low, high)


def wider(first: Interval, second: Interval) -> Interval:
    """Return the wider of two intervals (the first when equal)."""
    return second if second[1] - second[0] > first[1] - first[0] else first


@dataclass(frozen=True)
class Kinds:
    """Units (people, or people in groups) told apart by what they show and no more.

    Attributes:
        units: (M,) the distinct units, ascending.
        patterns: (U, C) int64, the distinct counts of cells that a unit has, in order.
        kind: (M,) which pattern each unit has.
    """

    units: NDArray[np.generic]
    patterns: Ints
    kind: Ints


def kinds_of(cell: Ints, unit: NDArray[np.generic], cells: int) -> Kinds:
    """Count (N,) cells, each below `cells`, by (N,) unit.

    A million rows take about half a second: counts are packed into one number for each unit where they fit.
    """
    units, index = np.unique(unit, return_inverse=True)
    flat = np.bincount(index * cells + cell, minlength=len(units) * cells)
    tables = flat.reshape(-1, cells)
    most = int(flat.max(initial=0))
    width = max(1, most.bit_length())
    if width * cells > 63:
        patterns, kind = np.unique(tables, axis=0, return_inverse=True)
        return Kinds(units, patterns, kind.ravel())
    # The first cell is the highest digit, so that numbers are in the order of the rows they stand for.
    digits = np.int64(1) << (width * np.arange(cells - 1, -1, -1, dtype=np.int64))
    codes, kind = np.unique(tables @ digits, return_inverse=True)
    patterns = (codes[:, None] // digits) & ((1 << width) - 1)
    return Kinds(units, patterns.astype(np.int64), kind)


@dataclass(frozen=True)
class Sample:
    """Confusion counts of a set of people.

    Attributes:
        patterns: (U, K*K) int64, the distinct confusion tables a person has, flattened
            [true, predicted].
        people: (U,) int64, how many people have each.
        classes: K.
    """

    patterns: Ints
    people: Ints
    classes: int

    @classmethod
    def of(cls, label: Ints, prediction: Ints, person: NDArray[np.generic], classes: int) -> Sample:
        """Count (N,) labels and predictions by (N,) person."""
        kinds = kinds_of(label * classes + prediction, person, classes * classes)
        people = np.bincount(kinds.kind, minlength=len(kinds.patterns))
        return cls(kinds.patterns, people.astype(np.int64), classes)

    @property
    def confusion(self) -> Ints:
        """(K, K) faces by true and by predicted class."""
        table = self.people @ self.patterns
        return np.asarray(table, dtype=np.int64).reshape(self.classes, self.classes)

    @property
    def n_people(self) -> int:
        """People."""
        return int(self.people.sum())

    @property
    def n_faces(self) -> int:
        """Faces."""
        return int(self.confusion.sum())

    @property
    def repeated(self) -> bool:
        """Whether anyone has more than one face."""
        return self.n_faces > self.n_people

    @property
    def units(self) -> int:
        """How many a bootstrap of a mean over classes draws from: people, or the fewest faces of a class."""
        faces = self.confusion.sum(axis=1)
        return self.n_people if self.repeated else int(faces[faces > 0].min(initial=self.n_faces))

    def draw(self, draws: int = DRAWS, seed: int = SEED) -> Floats:
        """Bootstrap the confusion table: (draws, K, K), the same for the same sample and seed.

        People are resampled whole when anyone has several faces; otherwise faces are resampled
        within each true class, so that no draw loses a class.
        """
        rng = np.random.default_rng(seed)
        k = self.classes
        if self.repeated:
            weights = rng.multinomial(self.n_people, self.people / self.n_people, size=draws)
            return np.asarray(weights @ self.patterns, dtype=np.float64).reshape(draws, k, k)
        table = self.confusion
        out = np.zeros((draws, k, k))
        for true in range(k):
            n = int(table[true].sum())
            if n:
                out[:, true] = rng.multinomial(n, table[true] / n, size=draws)
        return out

    def design_effect(self) -> float:
        """How many times more faces the same certainty of accuracy would take; never below 1.

        The between-person variance of the accuracy (linearised ratio estimator) over the binomial
        one: Korn and Graubard (1998), Survey Methodology 24.
        """
        faces, people = self.n_faces, self.n_people
        if people < 2 or not self.repeated:
            return 1.0
        right = self.patterns[:, :: self.classes + 1].sum(axis=1)
        size = self.patterns.sum(axis=1)
        rate = float(self.people @ right) / faces
        if rate in (0.0, 1.0):  # no spread to learn from: count people, not pictures
            return faces / people
        residual = right - rate * size
        variance = people / (people - 1) * float(self.people @ residual**2) / faces**2
        return max(1.0, variance / (rate * (1 - rate) / faces))

    @property
    def accuracy(self) -> float:
        """Right answers over faces."""
        return int(np.trace(self.confusion)) / self.n_faces

    def accuracy_interval(self, alpha: float) -> Interval:
        """Clopper-Pearson on the effective sample size: Korn and Graubard (1998)."""
        effect = self.design_effect()
        right, n = int(np.trace(self.confusion)), self.n_faces
        return clopper_pearson(right / effect, n / effect, alpha)


def accuracies(tables: Floats) -> Floats:
    """Accuracy of each of (B, K, K) tables: trace over sum."""
    diagonal = np.einsum("bii->b", tables)
    return _ratio(diagonal, tables.sum(axis=(1, 2)))


def balanced_accuracies(tables: Floats) -> Floats:
    """Mean recall over the classes that occur, of each of (B, K, K) tables."""
    recall = _ratio(np.einsum("bii->bi", tables), tables.sum(axis=2))
    return _mean_of_known(recall)


def recalls(tables: Floats) -> Floats:
    """(B, K) share of the true class that was found; NaN where the class does not occur."""
    return _ratio(np.einsum("bii->bi", tables), tables.sum(axis=2))


def precisions(tables: Floats) -> Floats:
    """(B, K) share of the answers that were right; NaN where the class was never answered."""
    return _ratio(np.einsum("bii->bi", tables), tables.sum(axis=1))


def f1_scores(tables: Floats) -> Floats:
    """(B, K) F1 = 2 TP / (2 TP + FP + FN); NaN where the class neither occurs nor is answered."""
    hit = np.einsum("bii->bi", tables)
    return _ratio(2 * hit, tables.sum(axis=1) + tables.sum(axis=2))


def macro_f1s(tables: Floats) -> Floats:
    """(B,) mean F1 over the classes that occur or are answered."""
    return _mean_of_known(f1_scores(tables))


def percentile_interval(
    values: Floats, units: int | None = None, alpha: float = ALPHA
) -> Interval | None:
    """The middle 1 - alpha of (B,) bootstrap values, undefined draws left out; None if none is.

    Args:
        values: of the draws.
        units: how many people (or faces) were drawn from. A bootstrap of n is too narrow by the root of
            (n - 1) / n and by a normal quantile where one of Student's is due, so a little more than the
            middle is taken.
        alpha: the chance, at most, that the interval misses.

    Source:
        Hesterberg (2015), The American Statistician 69, the expanded percentile interval.
    """
    known = values[~np.isnan(values)]
    if known.size == 0:
        return None
    tail = alpha / 2 if units is None else _expanded(alpha / 2, units)
    low, high = np.quantile(known, [tail, 1 - tail])
    return (float(low), float(high))


def _expanded(tail: float, units: int) -> float:
    """The tail of a bootstrap of so many units that leaves out what `tail` of the truth does."""
    from scipy.stats import norm, t

    if units < 2:
        return 0.0
    return float(norm.cdf(np.sqrt(units / (units - 1)) * t.ppf(tail, units - 1)))


def proportion_interval(
    successes: int, n: int, sample: Sample, drawn: Floats
) -> tuple[Interval, Method]:
    """Interval of a proportion of faces, and how it was found.

    Args:
        successes: faces that succeeded.
        n: faces tried.
        sample: whose faces they are.
        drawn: (B,) the same proportion in bootstrap draws of `sample`.
    """
    exact = clopper_pearson(successes, n)
    if not sample.repeated or n == 0:
        return exact, "clopper_pearson"
    if successes in (0, n):  # every draw is the same: fall back on counting people
        people = min(n, sample.n_people)
        return clopper_pearson(people * successes / n, people), "clopper_pearson_persons"
    boot = percentile_interval(drawn, sample.n_people)
    if boot is None or wider(exact, boot) is exact:
        return exact, "clopper_pearson"
    return boot, "person_bootstrap"


def f1_interval(hit: int, union: int, sample: Sample, drawn: Floats) -> Interval:
    """Interval of an F1 score; the wider of the bootstrap and an exact one.

    A class without errors gives [1, 1] in every bootstrap. F1 = 2 J / (1 + J) is monotone in the
    Jaccard index J = TP / (TP + FP + FN), a proportion, so J's exact interval bounds it honestly.

    Args:
        hit: TP.
        union: TP + FP + FN.
        sample: whose faces.
        drawn: (B,) F1 in bootstrap draws of `sample`.
    """
    n = min(union, sample.n_people) if sample.repeated and hit in (0, union) else union
    low, high = clopper_pearson(n * hit / union, n) if union else (0.0, 1.0)
    exact = (2 * low / (1 + low), 2 * high / (1 + high))
    boot = percentile_interval(drawn, sample.n_people if sample.repeated else None)
    return exact if boot is None else wider(exact, boot)


def difference_interval(high: tuple[float, Interval], low: tuple[float, Interval]) -> Interval:
    """Newcombe's interval of a difference of two independent proportions from their own intervals.

    Source:
        Newcombe (1998), Statistics in Medicine 17, method 10.
    """
    (p, (p_low, p_high)), (q, (q_low, q_high)) = high, low
    gap = p - q
    down = float(np.hypot(p - p_low, q_high - q))
    up = float(np.hypot(p_high - p, q - q_low))
    return (max(-1.0, gap - down), min(1.0, gap + up))


def _ratio(part: Floats, whole: Floats) -> Floats:
    """Divide; NaN where the whole is zero."""
    out = np.full(np.shape(whole), np.nan)
    np.divide(part, whole, out=out, where=whole > 0)
    return out


def _mean_of_known(values: Floats) -> Floats:
    """Mean over the last axis, NaN left out; NaN when nothing is known."""
    known = ~np.isnan(values)
    return _ratio(np.where(known, values, 0.0).sum(axis=-1), known.sum(axis=-1).astype(np.float64))
