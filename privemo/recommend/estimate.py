"""What a recognizer said of a face, in the little that a recommendation needs of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from privemo.errors import DataError
from privemo.labels import EMOTIONS

__all__ = ["EmotionEstimate"]

ROUNDED = 1e-3
"""Probabilities of a small network in float16 or int8 need not add up to 1 to the last digit."""


class Read(Protocol):
    """A recognizer's reading, in what is looked at here."""

    @property
    def outcome(self) -> str:
        """What came of a frame; "read" where there is an expression."""

    @property
    def probabilities(self) -> Mapping[str, float] | None:
        """Of all expressions by name."""

    @property
    def reason(self) -> str | None:
        """Of the gate, where it was asked."""


@dataclass(frozen=True, slots=True)
class EmotionEstimate:
    """Probabilities of the four expressions; or that nobody could say; or that nobody was to be read.

    Make one with `of`, `read`, `abstained` or `refused`.

    Attributes:
        probabilities: in the order of `EMOTIONS`, together 1; None where there is no reading.
        refusal: why nobody was read (a suspected minor, no consent); None where a reading was made or
            tried.
    """

    probabilities: tuple[float, ...] | None
    refusal: str | None = None

    def __post_init__(self) -> None:
        if self.probabilities is None:
            return
        if self.refusal is not None:
            raise DataError("an estimate that was refused has no probabilities")
        values = self.probabilities
        if not isinstance(values, tuple) or len(values) != len(EMOTIONS):
            raise DataError(f"got {values!r}, want {len(EMOTIONS)} probabilities")
        for value in values:
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise DataError(f"got probability {value!r}, want a number")
            if not math.isfinite(value) or not 0 <= value <= 1 + ROUNDED:
                raise DataError(f"got probability {value!r}, want 0 to 1")
        if abs(math.fsum(values) - 1) > ROUNDED:
            raise DataError(f"the probabilities add up to {math.fsum(values):g}, and 1 is due")

    @classmethod
    def read(cls, probabilities: Mapping[str, float]) -> EmotionEstimate:
        """A reading: a probability for each of `EMOTIONS`.

        Raises:
            DataError: one is missing, unknown or no probability, or they do not add up to 1.
        """
        if set(probabilities) != set(EMOTIONS):
            raise DataError(f"got {sorted(probabilities)}, want {', '.join(EMOTIONS)}")
        return cls(tuple(float(probabilities[name]) for name in EMOTIONS))

    @classmethod
    def of(cls, reading: Read) -> EmotionEstimate:
        """What a recognizer's reading says; whatever is not an expression that was read counts as none.

        Args:
            reading: as `privemo.Recognizer` gives it: an `outcome`, of which "read" alone is an expression
                and "unsure" an abstention; `probabilities` by name, and the gate's `reason`.

        Raises:
            DataError: an expression was read, and its probabilities are none.
        """
        outcome = str(reading.outcome)
        if outcome == "read" and reading.probabilities is not None:
            return cls.read(reading.probabilities)
        if outcome == "unsure":
            return cls.abstained()
        return cls.refused(str(reading.reason or outcome))

    @classmethod
    def abstained(cls) -> EmotionEstimate:
        """The recognizer looked and would not say."""
        return cls(None)

    @classmethod
    def refused(cls, reason: str) -> EmotionEstimate:
        """Nobody was read; `reason` as the recognizer or the consent decision gave it."""
        return cls(None, str(reason) or "refused")

    def emotion(self, least: float) -> str | None:
        """The likeliest expression when it is at least so likely; None for none, and for a tie."""
        if self.probabilities is None:
            return None
        best = max(self.probabilities)
        if best < least or self.probabilities.count(best) > 1:
            return None
        return EMOTIONS[self.probabilities.index(best)]
