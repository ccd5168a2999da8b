"""What every reader of frames does: open sessions, never raise, and tell the staff once of what is wrong."""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime

from privemo.errors import CameraError, ModelError, PrivemoError, SettingsError
from privemo.recognizer.readings import Event, Outcome, Reading, Region
from privemo.recognizer.session import Limits, Session
from privemo_consent import AgeBand, Reason

__all__ = ["FrameReader"]

_LOGGER = logging.getLogger("privemo.recognizer")
_TROUBLE = {
    Reason.REGISTRY_UNREADABLE: "The consent registry cannot be read. Look at its disk and its database.",
    Reason.CLOCK_BACKWARDS: "The clock was put back. Set it right.",
    Reason.NOT_LOGGED: "Decisions cannot be logged. Free some space on the registry's disk.",
    Reason.NOT_ANNOUNCED: "Nobody is told yet that expressions are read here. Hang up the notice and say so "
    "(`ConsentRegistry.announce_reading`).",
    Reason.SIMULATED_IN_PRODUCTION: "Simulated consents are in a production registry.",
    Reason.WRONG_CONTEXT: "Expressions are not read at this kind of place, or in this jurisdiction.",
}
"""Refusals that are about the place and not about a person: the staff hears of them."""

_IDLE = (Outcome.NO_SESSION, Outcome.SESSION_OVER)
_NOBODY = " Nobody is read until then; the shop goes on as if nobody had agreed."


class FrameReader(ABC):
    """Frames in, readings out.

    Args:
        on_event: told of what the staff should know, once for each change; whatever it raises is logged by
            its kind.
    """

    def __init__(self, on_event: Callable[[Event], None] | None = None) -> None:
        self._on_event, self._closed = on_event, False
        self._trouble, self._outcome = "", Outcome.READ  # what the staff heard last

    def session(
        self,
        person: str,
        *,
        age_band: AgeBand | str | None,
        region: Region | None = None,
        limits: Limits | None = None,
    ) -> Session:
        """Open a session for somebody who answered just now; use it in a `with` block.

        Args:
            person: their id in the registry.
            age_band: what they said of their age in this session; whatever is no band is refused. None where
                they were not asked again: then what they said as they agreed counts.
            region: where they stand; None for the whole frame, where nobody else may be seen.
            limits: when it ends by itself: after ten minutes, or five seconds without their face.
        """
        return Session(person, age_band, region, limits or Limits())

    def read(self, frame: object, session: Session | None) -> Reading:
        """Read one frame. Never raises: whatever goes wrong, nobody is read, and the outcome says why.

        Args:
            frame: uint8 RGB (height, width, 3), gray (height, width), or with a fourth channel.
            session: of the person in front of the camera; None where nobody opened one.
        """
        try:
            if self._closed:
                raise ModelError("the recognizer was closed")
            reading, detail = self._read(frame, session), ""
        except Exception as error:  # fail closed: a defect of ours or of a library reads nobody
            # Only our own errors are known to quote nobody.
            told = str(error) if isinstance(error, PrivemoError) else type(error).__name__
            reading, detail = Reading(Outcome.FAILED), told
        self._tell(reading, detail)
        return reading

    def follow(
        self, frames: Iterable[object], session: Callable[[], Session | None]
    ) -> Iterator[Reading]:
        """Read frames as they come; ends with them, or with a reading `NO_CAMERA` when there are no more.

        Args:
            frames: for instance `privemo.frames(0)`.
            session: asked before each frame who stands there.
        """
        try:
            for frame in frames:
                yield self.read(frame, session())
        except CameraError as error:
            lost = Reading(Outcome.NO_CAMERA)
            self._tell(lost, str(error))
            yield lost

    def watch(
        self,
        camera: Callable[[], Iterable[object]],
        session: Callable[[], Session | None],
        *,
        again: float = 5.0,
    ) -> Iterator[Reading]:
        """As `follow`, for a camera that may be missing or unplugged: it is opened again until it is there.

        The staff hears of it once, and once more when frames come again. Ends only where frames end without
        an error, as those of a film do.

        Args:
            camera: opens it, for instance `lambda: privemo.frames(0, per_second=2)`.
            session: see `follow`.
            again: seconds until it is tried again. Each try gives a reading `NO_CAMERA`, so that a screen can
                be kept up to date meanwhile.

        Raises:
            SettingsError: `again` is not above 0, or longer than an hour.
        """
        if not 0 < again <= 3600:
            raise SettingsError(
                f"again is {again}: a camera is tried again after 0 to 3600 seconds."
            )
        return self._watched(camera, session, again)

    def _watched(
        self,
        camera: Callable[[], Iterable[object]],
        session: Callable[[], Session | None],
        again: float,
    ) -> Iterator[Reading]:
        while True:
            outcome = None
            for reading in self.follow(camera(), session):
                outcome = reading.outcome
                yield reading
            if outcome is not Outcome.NO_CAMERA:
                return
            time.sleep(again)

    def close(self) -> None:
        """Let go of what was opened; nobody is read any more."""
        self._closed = True

    @abstractmethod
    def _read(self, frame: object, session: Session | None) -> Reading:
        """Read one frame; may raise."""

    def _tell(self, reading: Reading, detail: str) -> None:
        """One event for each change; none for what is about a person, which the registry's log holds."""
        if reading.outcome in _IDLE and self._outcome is not Outcome.NO_CAMERA:
            return
        text = _trouble(reading, detail)
        outcome = reading.outcome if text else Outcome.READ
        # A camera that is gone is told of once, whatever is said of it each time it is tried again.
        if text == self._trouble or outcome is self._outcome is Outcome.NO_CAMERA:
            return
        self._trouble, self._outcome = text, outcome
        event = Event(outcome, text or "All is well again.", datetime.now(UTC))
        (_LOGGER.warning if text else _LOGGER.info)("%s", event.text)
        if self._on_event is None:
            return
        try:
            self._on_event(event)
        except Exception as error:  # the app's own mistake must not end the loop over frames
            _LOGGER.error("on_event failed: %s", type(error).__name__)  # noqa: TRY400 - it may name anybody


def _trouble(reading: Reading, detail: str) -> str:
    if reading.outcome is Outcome.BAD_FRAME:
        return (
            "Frames are no pictures, or do not hold the session's region. Look at the camera."
            + _NOBODY
        )
    if reading.outcome is Outcome.NO_CAMERA:
        return f"{detail}{_NOBODY}"
    if reading.outcome is Outcome.FAILED:
        return f"Reading fails: {detail.rstrip('.')}.{_NOBODY}"
    if reading.outcome is Outcome.REFUSED and reading.reason in _TROUBLE:
        return _TROUBLE[reading.reason] + _NOBODY
    return ""
