"""Whether noise was new in every step: how alike the two most alike steps are, against what chance makes.

Sketches of independent Gaussian noise are independent Gaussian vectors of `dimensions` numbers, so the
square of their cosine has a beta distribution, and of `pairs` pairs the most alike is judged as the most
alike of so many (Bonferroni). Noise that came back shows whole, in part, scaled or with its sign turned;
noise that is too small does not show here, but in the answers about single steps.
"""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator
from scipy.stats import beta

from .report_privacy import NoiseReuse
from .runschema import Part

__all__ = ["NoiseInfo", "judge_reuse"]

Step = Annotated[tuple[int, int], Field(description="Number of the rehearsal, and of its step.")]


class NoiseInfo(Part):
    """`noise` of an attack: of so many pairs of steps, the two that are most alike."""

    steps: int = Field(ge=0, le=10**9)
    dimensions: int = Field(ge=0, le=10**9)
    pairs: int = Field(ge=0, le=10**18)
    alike: float | None = Field(ge=-1, le=1)
    first: Step | None
    second: Step | None

    @model_validator(mode="after")
    def _all_pairs(self) -> Self:
        if self.pairs != self.steps * (self.steps - 1) // 2:
            raise ValueError("not every two steps were compared")
        if (self.alike is None) != (self.steps < 2) or (
            self.alike is not None and not self.dimensions
        ):
            raise ValueError("of two steps or more, how alike the most alike are is due")
        return self


def judge_reuse(info: NoiseInfo, alpha: float) -> NoiseReuse:
    """Whether two steps are more alike than new noise makes them, but for a chance of alpha."""
    by_chance = 1.0
    if info.alike is not None and info.dimensions > 1:
        by_chance = float(beta.sf(info.alike**2, 0.5, (info.dimensions - 1) / 2))
    p = min(1.0, info.pairs * by_chance)
    return NoiseReuse(**info.model_dump(exclude={"dimensions"}), p=p, reused=p <= alpha)
