"""Was noise new in every step? Asked of every two steps, of all rehearsals together.

Take what somebody who knows everybody is left with of two steps. If the noise was the same, or shared a
part, they are alike; if it was new, two such vectors are as good as at right angles. Millions of numbers
for each of many steps are too many to keep and to compare, so each step is kept as a sketch: parameters are
dealt into buckets and added up there with signs of chance (Charikar, Chen & Farach-Colton 2002, the count
sketch). Likeness survives that; and of independent Gaussian noise the sketches are independent Gaussians
too, so how alike two of them may be by chance is known exactly.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["BUCKETS", "Sketches"]

BUCKETS = 4096
"""With so many, noise of which a tenth came back shows among a thousand steps."""

_AT_ONCE = 512


@dataclass
class Sketches:
    """What was left over of each step, in short.

    Args:
        rng: deals parameters into buckets; the same way for all steps.
    """

    rng: np.random.Generator
    kept: list[NDArray[np.float32]] = field(default_factory=list)
    steps: list[tuple[int, int]] = field(default_factory=list)
    _bucket: NDArray[np.int64] | None = None
    _sign: NDArray[np.float32] | None = None
    _weight: NDArray[np.float64] | None = None

    def add(self, rehearsal: int, step: int, left_over: NDArray[np.float32]) -> None:
        """Keep one step.

        Args:
            rehearsal: its number.
            step: its number in the rehearsal.
            left_over: (parameters,), the same of all steps.
        """
        if self._bucket is None or self._sign is None or self._weight is None:
            size = len(left_over)
            self._bucket = self.rng.integers(0, BUCKETS, size)
            self._sign = np.where(self.rng.random(size) < 0.5, np.float32(-1), np.float32(1))
            sizes = np.bincount(self._bucket, minlength=BUCKETS)
            # Over its root a bucket's sum has the noise's own variance, however many fell into it.
            self._weight = np.where(sizes > 0, 1 / np.sqrt(np.maximum(sizes, 1)), 0)
        sums = np.bincount(self._bucket, self._sign * left_over, minlength=BUCKETS) * self._weight
        length = float(np.linalg.norm(sums))
        self.kept.append((sums / (length or 1.0)).astype(np.float32))
        self.steps.append((rehearsal, step))

    @property
    def dimensions(self) -> int:
        """Buckets that anything fell into."""
        return 0 if self._weight is None else int((self._weight > 0).sum())

    def most_alike(self) -> dict[str, Any]:
        """The two steps that are most alike, and how many pairs were looked at.

        Returns:
            `steps`, `dimensions`, `pairs`, `alike` (cosine of the two sketches: 1 is the same, -1 its
            opposite, 0 nothing in common), `first` and `second`, each the number of its rehearsal and of
            its step there; these three are null of fewer than two steps.
        """
        count = len(self.kept)
        found: dict[str, Any] = {
            "steps": count,
            "dimensions": self.dimensions,
            "pairs": count * (count - 1) // 2,
            **dict.fromkeys(("alike", "first", "second")),
        }
        if count < 2:
            return found
        every = np.stack(self.kept)
        best = (0.0, 0, 1)
        for at in range(0, count, _AT_ONCE):
            alike = every[at : at + _AT_ONCE] @ every.T
            rows = np.arange(at, at + len(alike))[:, None]
            alike[np.arange(count)[None, :] <= rows] = 0  # each pair once, and no step with itself
            place = int(np.abs(alike).argmax())
            row, column = divmod(place, count)
            if abs(alike[row, column]) > abs(best[0]):
                best = (float(alike[row, column]), at + row, column)
        alike_most, first, second = best
        return {
            **found,
            "alike": round(min(1.0, max(-1.0, alike_most)), 6),
            "first": list(self.steps[first]),
            "second": list(self.steps[second]),
        }
