"""What the kiosk does at the registry, one method for each thing a person can ask for.

Every method runs in a thread, and either does all of what it says or raises.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
import threading
from collections.abc import Mapping
from typing import Any

from ..errors import (
    ConsentError,
    MalformedError,
    MinorRefused,
    NoticeRefused,
    StaffRefused,
    TamperedError,
    UnknownAgeRefused,
    UnknownPersonError,
)
from ..qr import qr_svg, qr_text
from ..records import Notice
from ..registry import ConsentRegistry
from ..terms import AgeBand, Purpose, Role
from .codes import draw_code, person_of
from .holder import holder_of
from .settings import KioskSettings
from .shown import SameFile, in_force
from .staff import Checked, Figures, figures
from .standing import Standing, standing_of
from .visiting import VisitDesk

__all__ = ["Desk"]

#: Any will do: see `qr_svg`. Two hundred people may be waiting for theirs.
_MASK = 3
_LOGGER = logging.getLogger("privemo.consent.kiosk")


class Desk(VisitDesk):
    """One registry, as the kiosk uses it.

    Args:
        registry: open and writable; the desk never closes it.
        settings: of the kiosk.

    Raises:
        NoticeRefused: no notice in force is written for this place in a language of the kiosk, or
            several different ones are.

    """

    def __init__(self, registry: ConsentRegistry, settings: KioskSettings) -> None:
        super().__init__(registry, settings)
        self.simulated = registry.mode == "simulation"
        self.shop = registry.controller.name
        self._file = SameFile(registry)
        self._verifying = threading.Lock()
        #: what the last verification found, until the next one
        self.checked: Checked | None = None
        self._notices = in_force(self.registry, self.settings)

    # -- what is shown ---------------------------------------------------------------------------

    @property
    def languages(self) -> tuple[str, ...]:
        """The languages in which a notice is in force."""
        return tuple(self._notices)

    def notice(self, language: str) -> Notice:
        """Return the notice in force in a language of `languages`, as of now."""
        with self._file.there():
            self._notices = in_force(self.registry, self.settings)
        if language not in self._notices:
            raise NoticeRefused(f"no notice in {language!r} is in force any more")
        return self._notices[language]

    # -- answers -----------------------------------------------------------------------------------

    def record(
        self, answers: Mapping[Purpose, bool], *, age_band: AgeBand, notice: str
    ) -> tuple[str, str]:
        """Record an adult shopper's answers under a new code; return person id and code.

        Raises:
            Refused: the rules forbid it; nothing was recorded.
            ConsentError: nothing was recorded.

        """
        code = draw_code()
        person = person_of(code)
        with self._file.there():
            self.registry.answer(
                person,
                answers,
                age_band=age_band,
                jurisdiction=self.settings.jurisdiction,
                notice=notice,
                valid_for=self.settings.valid_for,
            )
        return person, code

    def turn_away(self, age_band: AgeBand, role: Role, notice: Notice) -> bool:
        """Count somebody who is no adult or works or studies here; keep nothing else of them.

        Returns:
            Whether they were counted. Nobody is kept waiting because a count could not be kept.

        """
        nobody = f"kiosk-away-{secrets.token_hex(16)}"
        try:
            with self._file.there():
                try:
                    self.registry.answer(
                        nobody,
                        {notice.purposes[0]: False},
                        age_band=age_band,
                        jurisdiction=self.settings.jurisdiction,
                        notice=notice,
                        role=role,
                    )
                except (MinorRefused, UnknownAgeRefused):
                    return True
                except StaffRefused:
                    # Recorded as invalidated under an id drawn for this alone; once it is erased the
                    # entry of the log is a count (GDPR 5(1)(c)).
                    self.registry.erase(nobody, cause="controller")
                    return True
        except ConsentError as error:
            _LOGGER.warning("an answer was not counted: %s", type(error).__name__)
            return False
        raise MalformedError("an adult shopper is not turned away")

    def rule_out(self, person: str, age_band: AgeBand, role: Role, language: str) -> None:
        """End all that was recorded of a person who now says to be no adult, or to work or study here.

        Raises:
            ConsentError: not all of it could be recorded; no visit of theirs goes on.

        """
        try:
            with self._file.there():
                # First and alone: no yes outlives this, whatever comes of the rest.
                with contextlib.suppress(UnknownPersonError):
                    self.registry.withdraw(person)
                # Without a notice in force they are not counted, and erased all the same.
                with contextlib.suppress(
                    MinorRefused, UnknownAgeRefused, StaffRefused, NoticeRefused
                ):
                    notice = self.notice(language)
                    self.registry.answer(
                        person,
                        {notice.purposes[0]: False},
                        age_band=age_band,
                        jurisdiction=self.settings.jurisdiction,
                        notice=notice,
                        role=role,
                    )
                # They are told that nothing is kept of them; a minor's record is gone already.
                if self.registry.history(person):
                    self.registry.erase(person, cause="controller")
        finally:
            self.end_quietly(person)

    # -- coming back -------------------------------------------------------------------------------

    def identify(self, presented: str) -> str:
        """Return the person id that a receipt, the text of its QR code, or a typed code leads to.

        Raises:
            UnknownPersonError: it leads to nobody; the message does not say why.

        """
        with self._file.there():
            return holder_of(self.registry, presented)

    def receipt(self, person: str) -> str:
        """Return the receipt as a signed token."""
        with self._file.there():
            return self.registry.receipt(person)

    def has_svg(self, receipt: str) -> bool:
        """Return whether a receipt fits into a QR code, without drawing one."""
        try:
            qr_text(receipt)
        except MalformedError:
            return False
        return True

    def svg(self, receipt: str) -> str | None:
        """Return the QR code of a receipt, or None for one that is too large for a code."""
        try:
            return qr_svg(receipt, mask=_MASK)
        except MalformedError:
            return None

    def standing(self, person: str, language: str) -> list[Standing]:
        """Return how each purpose stands that the person was asked for, or can be now.

        Raises:
            UnknownPersonError: erased meanwhile.

        """
        with self._file.there():
            notice = in_force(self.registry, self.settings).get(language)
            return standing_of(self.registry, person, notice, self.settings.jurisdiction)

    def change(
        self, person: str, purpose: Purpose, yes: bool, *, age_band: AgeBand, notice: str
    ) -> None:
        """Record one answer anew of an adult shopper who is known; on the disk when this returns.

        Raises:
            UnknownPersonError: erased meanwhile; nothing was recorded.
            Refused: the rules forbid it; nothing was recorded.
            ConsentError: nothing was recorded.

        """
        with self._file.there():
            last = {event.purpose: event.status for event in self.registry.history(person)}
            if not last:
                raise UnknownPersonError("erased meanwhile")
            given = purpose in last and last[purpose].permits
            if given and yes:
                # It ran out, or was given to another text: the same yes again, to this one.
                self.registry.renew(
                    person, [purpose], notice=notice, valid_for=self.settings.valid_for
                )
            elif not given:
                self.registry.answer(
                    person,
                    {purpose: yes},
                    age_band=age_band,
                    jurisdiction=self.settings.jurisdiction,
                    notice=notice,
                    valid_for=self.settings.valid_for,
                )
        if given and not yes:
            self.withdraw(person, purpose)

    def withdraw(self, person: str, purpose: Purpose | None) -> None:
        """Take back one consent, or all; on the disk when this returns, and any visit is over.

        A visit whose file cannot be removed does not stand in the way: the registry refuses from now on.

        Raises:
            ConsentError: nothing was withdrawn; visits are over all the same.

        """
        try:
            with self._file.there():
                last = {event.purpose: event.status for event in self.registry.history(person)}
                # Somebody who touches twice has withdrawn once; that is no error.
                if purpose is None or (purpose in last and last[purpose].permits):
                    self.registry.withdraw(person, None if purpose is None else [purpose])
        finally:
            if purpose in (None, Purpose.PERSONALISATION):
                self.end_quietly(person)

    def export(self, person: str) -> dict[str, Any]:
        """Return everything held of a person (GDPR 15, 20)."""
        with self._file.there():
            return self.registry.export(person)

    def erase(self, person: str) -> bool:
        """Erase a person; return whether nothing is left anywhere.

        Raises:
            ConsentError: nothing was erased.

        """
        try:
            with self._file.there():
                return not self.registry.erase(person).pending
        finally:
            self.end_quietly(person)

    # -- for the staff -----------------------------------------------------------------------------

    def figures(self) -> Figures:
        """Return what the staff page shows."""
        with self._file.there():
            return figures(self.registry)

    def verify(self) -> None:
        """Recompute the whole log and remember what was found; one at a time.

        Raises:
            ConsentError: it could not be read.

        """
        if not self._verifying.acquire(blocking=False):
            return
        try:
            with self._file.there():
                now = self.registry.now()
                try:
                    self.checked = Checked(now, self.registry.verify().events, None)
                except TamperedError as error:
                    self.checked = Checked(now, 0, error.entry)
        finally:
            self._verifying.release()
