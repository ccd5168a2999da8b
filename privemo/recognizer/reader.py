"""The recognizer: a frame and a session in, an emotion or a reason out. Nothing is kept."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from privemo.errors import CameraError, PrivemoError, SettingsError
from privemo.recognizer.age import AgeEstimator
from privemo.recognizer.card import ModelCard
from privemo.recognizer.exported import Exported, open_exported
from privemo.recognizer.faces import EMOTION_POINTS, SURE, Face, FaceFinder, cut_out
from privemo.recognizer.readings import Event, Outcome, Reading, Region, as_picture
from privemo.recognizer.runtime import Classifier
from privemo.recognizer.session import Limits, Session
from privemo_consent import (
    AgeBand,
    ConsentError,
    ConsentGate,
    ConsentRegistry,
    Context,
    Decision,
    Purpose,
    Reason,
    VerifyingKey,
)

__all__ = ["Recognizer"]

_LOGGER = logging.getLogger("privemo.recognizer")
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
"""Of red, green and blue in gray (ITU-R BT.601), as models are trained."""

_TROUBLE = {
    Reason.REGISTRY_UNREADABLE: "The consent registry cannot be read. Look at its disk and its database.",
    Reason.CLOCK_BACKWARDS: "The clock was put back. Set it right.",
    Reason.NOT_LOGGED: "Decisions cannot be logged. Free some space on the registry's disk.",
    Reason.NOT_ANNOUNCED: "Nobody is told yet that expressions are read here. Hang up the notice, and say so: "
    "`ConsentRegistry.announce_reading`.",
    Reason.SIMULATED_IN_PRODUCTION: "Simulated consents are in a production registry.",
    Reason.WRONG_CONTEXT: "Expressions are not read at this kind of place, or in this jurisdiction.",
}
"""Refusals that are about the place and not about a person: the staff hears of them."""

_IDLE = (Outcome.NO_SESSION, Outcome.SESSION_OVER)
_NOBODY = " Nobody is read until then; the shop goes on as if nobody had agreed."


class Recognizer:
    """Names the emotion in the face of somebody who agreed to it, and of nobody else.

    The order of work on each frame: is a session open; does the gate permit this person's face to be used for
    personalisation, as of now (logged); only then where is a face in the session's region; how old does it
    look, and does the gate permit that as well (logged); only then the emotion. What refuses at one step keeps
    the later ones from being taken. Nothing of a frame outlives the call.

    One thread uses a recognizer at a time.

    Args:
        exported: the model, whose signature was verified; None for one that reads nobody.
        registry: who agreed to what; decisions are logged in it.
        context: where the camera is.
        challenge_age: whoever looks younger is refused; may be raised, not set under 18.
        mode: what the store is: a ``"production"`` recognizer refuses a simulation's registry.
        abstain_below: say nothing unless the most probable emotion is at least so probable; may be raised
            above the model's own threshold, not lowered.
        on_event: told of what the staff should know, once for each change.

    Raises:
        SettingsError: `abstain_below` is lower than the model's own threshold, or above 1.
        ModelError: the network cannot be read, or is not what its card tells.
        MissingExtra: ONNX Runtime or OpenCV is not installed.
        ConsentError: a challenge age under 18, or a registry of the other mode.
    """

    def __init__(
        self,
        exported: Exported,
        registry: ConsentRegistry,
        context: Context,
        *,
        challenge_age: float = 25.0,
        mode: str | None = None,
        abstain_below: float | None = None,
        on_event: Callable[[Event], None] | None = None,
    ) -> None:
        gate = ConsentGate(registry, challenge_age=challenge_age, mode=mode)  # type: ignore[arg-type]
        self._registry, self._context = registry, context
        self._challenge_age = gate.challenge_age
        own = exported.card.abstention.threshold
        self.threshold = own if abstain_below is None else abstain_below
        if not own <= self.threshold <= 1:
            raise SettingsError(
                f"abstain_below is {abstain_below}: it may be raised above the model's own {own:.3f}, up to 1, "
                "not lowered."
            )
        self._classifier = Classifier(exported)
        self._finder, self._ages = FaceFinder(), AgeEstimator()
        self._on_event, self._trouble = on_event, ""

    @classmethod
    def load(
        cls,
        model: Path | str,
        *,
        keys: Iterable[VerifyingKey | str],
        registry: ConsentRegistry,
        jurisdiction: str,
        setting: str = "retail",
        **options: object,
    ) -> Self:
        """A recognizer of an exported model.

        Args:
            model: the file that `privemo export` wrote.
            keys: public keys of whoever may sign models.
            registry: see the class.
            jurisdiction: code of the place, as in notices: IE, US-IL.
            setting: kind of place; workplaces and schools are refused at each frame.
            options: see the class.

        Raises:
            ModelError: unsigned, altered, of another key, damaged.
            As for the class.
        """
        known = [VerifyingKey.parse(key) if isinstance(key, str) else key for key in keys]
        context = Context(setting=setting, jurisdiction=jurisdiction)  # type: ignore[arg-type]
        return cls(open_exported(model, known), registry, context, **options)  # type: ignore[arg-type]

    @property
    def card(self) -> ModelCard:
        """What the model says of itself."""
        return self._classifier.card

    def session(
        self,
        person: str,
        *,
        age_band: AgeBand | str,
        region: Region | None = None,
        limits: Limits | None = None,
    ) -> Session:
        """Open a session for somebody who answered just now; use it in a `with` block.

        Args:
            person: their id in the registry.
            age_band: what they said of their age in this session; whatever is no band is refused.
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
            reading, detail = self._read(frame, session), ""
        except Exception as error:  # fail closed: a defect of ours or of a library reads nobody
            reading, detail = Reading(Outcome.FAILED), type(error).__name__
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

    def _read(self, frame: object, session: Session | None) -> Reading:
        if session is None:
            return Reading(Outcome.NO_SESSION)
        person = session.person
        if person is None:
            return Reading(Outcome.SESSION_OVER)
        # GDPR 7(3): as of now, before a pixel is looked at; a withdrawal acts on the next frame.
        allowed = self._ask(person, session, None)
        if not allowed.permit:
            return self._refused(allowed, session)
        picture = as_picture(frame)
        here = picture if picture is None or session.region is None else session.region.of(picture)
        if here is None:
            return Reading(Outcome.BAD_FRAME)
        return self._look(np.ascontiguousarray(here), person, session)

    def _look(self, here: NDArray[np.uint8], person: str, session: Session) -> Reading:
        """Read the pixels of a session's region; there are no others from here on."""
        faces = self._finder.find(here)
        if not faces or faces[0].score < SURE:
            return Reading(Outcome.NO_FACE)
        if len(faces) > 1:
            return Reading(Outcome.SEVERAL_FACES)
        session.seen()
        years = self._ages.years(here, faces[0])
        # No estimate is no evidence to the gate; one that failed must not pass for none.
        allowed = self._ask(person, session, years if math.isfinite(years) else -1.0)
        if not allowed.permit:
            return self._refused(allowed, session)
        return self._named(self._classifier.probabilities(self._cut(here, faces[0])), allowed)

    def _named(self, said: NDArray[np.float32], allowed: Decision) -> Reading:
        most = int(said.argmax())
        if not float(said[most]) >= self.threshold:  # nor where it is not a number
            return Reading(Outcome.UNSURE, reason=allowed.reason)
        names = self.card.label_names
        probabilities = dict(zip(names, said.astype(float).tolist(), strict=True))
        return Reading(Outcome.READ, names[most], probabilities, allowed.reason)

    def _cut(self, here: NDArray[np.uint8], face: Face) -> NDArray[np.uint8]:
        cut = cut_out(here, face, EMOTION_POINTS, self.card.size)
        if self.card.channels == 3:
            return cut
        return np.rint(cut.astype(np.float32) @ _LUMA).astype(np.uint8)

    def _ask(self, person: str, session: Session, years: float | None) -> Decision:
        """Ask the gate; the answer is in the registry's log before it is here (AI Act 12; ADR 0011)."""
        return self._registry.decide(
            person,
            Purpose.PERSONALISATION,
            self._context,
            estimated_age=years,
            attested_age_band=session.age_band,
            challenge_age=self._challenge_age,
        )

    @staticmethod
    def _refused(decision: Decision, session: Session) -> Reading:
        if decision.reason in (Reason.SUSPECTED_MINOR, Reason.MINOR, Reason.UNKNOWN_AGE):
            session.close()  # as with pictures at the gate: one that looks too young refuses all of them
        return Reading(Outcome.REFUSED, reason=decision.reason)

    def _tell(self, reading: Reading, detail: str) -> None:
        """One event for each change; none for what is about a person, which the registry's log holds."""
        if reading.outcome in _IDLE:
            return
        text = _trouble(reading, detail)
        if text == self._trouble:
            return
        self._trouble = text
        outcome = reading.outcome if text else Outcome.READ
        event = Event(outcome, text or "All is well again.", datetime.now(UTC))
        (_LOGGER.warning if text else _LOGGER.info)("%s", event.text)
        if self._on_event is not None:
            self._on_event(event)


def _trouble(reading: Reading, detail: str) -> str:
    if reading.outcome is Outcome.BAD_FRAME:
        return (
            "Frames are no pictures, or do not hold the session's region. Look at the camera."
            + _NOBODY
        )
    if reading.outcome is Outcome.NO_CAMERA:
        return f"{detail}{_NOBODY}"
    if reading.outcome is Outcome.FAILED:
        return f"Reading failed ({detail}).{_NOBODY}"
    if reading.outcome is Outcome.REFUSED and reading.reason in _TROUBLE:
        return _TROUBLE[reading.reason] + _NOBODY
    return ""
