"""The recognizer: a frame and a session in, an emotion or a reason out. Nothing is kept."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from privemo.errors import ModelError, PrivemoError, SettingsError
from privemo.recognizer.age import AgeEstimator
from privemo.recognizer.base import FrameReader
from privemo.recognizer.card import ModelCard
from privemo.recognizer.exported import Exported, open_exported
from privemo.recognizer.faces import SURE, FaceFinder, face_for_models
from privemo.recognizer.readings import Event, Outcome, Reading, as_picture
from privemo.recognizer.runtime import Classifier
from privemo.recognizer.session import Session
from privemo_consent import (
    ConsentError,
    ConsentGate,
    ConsentRegistry,
    Context,
    Decision,
    Purpose,
    Reason,
    VerifyingKey,
)
from privemo_consent.handle import Mode

__all__ = ["Nobody", "Recognizer"]


class Recognizer(FrameReader):
    """Names the emotion in the face of somebody who agreed to it, and of nobody else.

    The order of work on each frame: is a session open; does the gate permit this person's face to be used
    for personalisation, as of now (logged); only then where is a face in the session's region; how old does
    it look, and does the gate permit that as well (logged); only then the emotion. What refuses at one step
    keeps the later ones from being taken. Nothing of a frame outlives the call.

    One thread uses a recognizer at a time.

    Args:
        exported: the model, whose signature was verified; None for one that reads nobody.
        registry: who agreed to what; decisions are logged in it.
        context: where the camera is.
        challenge_age: whoever looks younger is refused; may be raised, not set under 18.
        mode: what the store is; one in production refuses a simulation's registry.
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
        mode: Mode = "production",
        abstain_below: float | None = None,
        on_event: Callable[[Event], None] | None = None,
    ) -> None:
        super().__init__(on_event)
        gate = ConsentGate(registry, challenge_age=challenge_age, mode=mode)
        self._registry, self._context = registry, context
        self._own: ConsentRegistry | None = None
        self._challenge_age = gate.challenge_age
        own = exported.card.abstention.threshold
        self.threshold = own if abstain_below is None else abstain_below
        if not own <= self.threshold <= 1:
            raise SettingsError(
                f"abstain_below is {abstain_below}: it may be raised above the model's own {own:.3f}, up to "
                "1, not lowered."
            )
        self._classifier = Classifier(exported)
        self._finder, self._ages = FaceFinder(), AgeEstimator()

    @classmethod
    def load(
        cls,
        model: Path | str,
        *,
        keys: Iterable[VerifyingKey | str],
        registry: ConsentRegistry,
        jurisdiction: str,
        setting: str = "retail",
        **options: Any,
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
        context = Context(setting=setting, jurisdiction=jurisdiction)
        return cls(open_exported(model, known), registry, context, **options)

    @property
    def card(self) -> ModelCard:
        """What the model says of itself."""
        return self._classifier.card

    def close(self) -> None:
        """Read nobody any more; sign the log over what was decided, and close it if `start` opened it."""
        super().close()
        with contextlib.suppress(ConsentError):  # the next durable change signs it as well
            self._registry.sign_heads()
        if self._own is not None:
            self._own.close()

    @classmethod
    def start(
        cls,
        model: Path | str,
        *,
        keys: Iterable[VerifyingKey | str],
        registry: ConsentRegistry | Path | str,
        jurisdiction: str,
        mode: Mode = "production",
        on_event: Callable[[Event], None] | None = None,
        **options: Any,
    ) -> FrameReader:
        """As `load`, for an app that has to go on whatever is wrong with the model or the registry.

        Args:
            model: see `load`.
            keys: see `load`.
            registry: one that is open, or where it is: then it is opened here, and closed by `close`.
            jurisdiction: see `load`.
            mode: see the class.
            on_event: see the class.
            options: see `load`.

        Returns:
            A recognizer; or, after one event that says why, something of the same use that reads nobody.
        """
        own = None
        try:
            if not isinstance(registry, ConsentRegistry):
                registry = own = ConsentRegistry.open(registry, mode=mode)
            found = cls.load(
                model,
                keys=keys,
                registry=registry,
                jurisdiction=jurisdiction,
                mode=mode,
                on_event=on_event,
                **options,
            )
            found._own = own
        except (PrivemoError, ConsentError, OSError) as error:
            if own is not None:
                own.close()
            if isinstance(error, SettingsError):
                raise  # a mistake in the program, which its author should see
            return Nobody(str(error), on_event)
        return found

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
        face = face_for_models(here, faces[0], self.card.channels)
        return self._named(self._classifier.probabilities(face), allowed)

    def _named(self, said: NDArray[np.float32], allowed: Decision) -> Reading:
        most = int(said.argmax())
        if not float(said[most]) >= self.threshold:  # nor where it is not a number
            return Reading(Outcome.UNSURE, reason=allowed.reason)
        names = self.card.label_names
        probabilities = dict(zip(names, said.astype(float).tolist(), strict=True))
        return Reading(Outcome.READ, names[most], probabilities, allowed.reason)

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


class Nobody(FrameReader):
    """Reads nobody: what `Recognizer.start` gives where there is no model or no registry to go by.

    Args:
        why: one sentence.
        on_event: told of it at once.
    """

    def __init__(self, why: str, on_event: Callable[[Event], None] | None = None) -> None:
        super().__init__(on_event)
        self._why = why
        self._tell(Reading(Outcome.FAILED), why)

    def _read(self, frame: object, session: Session | None) -> Reading:
        raise ModelError(self._why)
