"""What comes of a frame: an emotion, or a reason why there is none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from privemo.errors import SettingsError
from privemo_consent import Reason

__all__ = ["Event", "Outcome", "Reading", "Region", "as_picture"]

SMALLEST, LARGEST = 32, 8192
"""Sides of a frame in pixels; what lies outside is refused before it is looked at."""


class Outcome(StrEnum):
    """What came of a frame. Every outcome but `READ` leaves the store as if nobody were there."""

    READ = "read"
    #: a face was read, and the model is not sure enough to say anything
    UNSURE = "unsure"
    #: no session is open: nothing was looked at
    NO_SESSION = "no_session"
    #: the session is over: closed, too long, the person went away, or looked too young
    SESSION_OVER = "session_over"
    #: consent, age, role or place: see the reading's `reason`
    REFUSED = "refused"
    #: no face in the session's region
    NO_FACE = "no_face"
    #: more than one face in the session's region, or perhaps one: nobody can say whose consent it is
    SEVERAL_FACES = "several_faces"
    #: the frame is no picture
    BAD_FRAME = "bad_frame"
    #: the camera or file gave no frame
    NO_CAMERA = "no_camera"
    #: model, registry or this program failed; nothing was read
    FAILED = "failed"


@dataclass(frozen=True)
class Reading:
    """What came of a frame.

    Attributes:
        outcome: whether there is an emotion, and why not.
        emotion: its name; None unless the outcome is `READ`.
        probabilities: of all emotions by name; empty unless the outcome is `READ`.
        reason: of the gate, where it was asked.
    """

    outcome: Outcome
    emotion: str | None = None
    probabilities: Mapping[str, float] | None = None
    reason: Reason | None = None

    def __bool__(self) -> bool:
        """True if there is an emotion."""
        return self.outcome is Outcome.READ


@dataclass(frozen=True)
class Event:
    """Something that a store's staff should know: it says nothing of anybody.

    Attributes:
        outcome: what it is about; `READ` says that all is well again.
        text: one sentence, with the remedy.
        at: when, by this machine's clock.
    """

    outcome: Outcome
    text: str
    at: datetime


@dataclass(frozen=True)
class Region:
    """The place in a frame where the person of a session stands, in pixels from the upper left.

    Raises:
        SettingsError: it is empty or smaller than 32 pixels, or begins outside every frame.
    """

    x: int
    y: int
    width: int
    height: int

    def __post_init__(self) -> None:
        numbers = (self.x, self.y, self.width, self.height)
        if any(isinstance(n, bool) or not isinstance(n, int) for n in numbers):
            raise SettingsError(f"A region is four whole numbers of pixels, not {numbers}.")
        if min(self.x, self.y) < 0 or min(self.width, self.height) < SMALLEST:
            raise SettingsError(
                f"The region {numbers} has to begin at 0 or later and be {SMALLEST} pixels wide and high."
            )

    def of(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
        """The pixels of the region, a view; None if the picture does not hold all of it."""
        bottom, right = self.y + self.height, self.x + self.width
        if bottom > picture.shape[0] or right > picture.shape[1]:
            return None
        return picture[self.y : bottom, self.x : right]


def as_picture(frame: object) -> NDArray[np.uint8] | None:
    """A frame as (height, width, 3) uint8 without copying, where it can be one; None where it is no picture.

    | frame | picture |
    |---|---|
    | uint8, (h, w, 3) | as it is |
    | uint8, (h, w) or (h, w, 1): gray | three equal colours |
    | uint8, (h, w, 4) | without the fourth |
    | another type (floats, NaN), shape, or a side under 32 or over 8192 pixels | none |
    """
    if not isinstance(frame, np.ndarray) or frame.dtype != np.uint8 or frame.ndim not in (2, 3):
        return None
    if not all(SMALLEST <= side <= LARGEST for side in frame.shape[:2]):
        return None
    channels = 1 if frame.ndim == 2 else frame.shape[2]
    if channels not in (1, 3, 4):
        return None
    if channels == 1:
        return np.broadcast_to(frame.reshape(*frame.shape[:2], 1), (*frame.shape[:2], 3))
    return frame[:, :, :3]
