"""What the kiosk does about visits: opened at a screen, and over as soon as somebody else stands there."""

from __future__ import annotations

import logging

from ..errors import ConsentError
from ..registry import ConsentRegistry
from ..terms import AgeBand, Purpose, Reason
from .settings import KioskSettings
from .standing import verdict
from .visits import SessionBook, SessionToken

__all__ = ["VisitDesk"]

_LOGGER = logging.getLogger("privemo.consent.kiosk")


class VisitDesk:
    """The half of `Desk` that the camera's program hears of.

    Args:
        registry: who may be read.
        settings: of the kiosk; without a folder of sessions no visit opens.

    """

    def __init__(self, registry: ConsentRegistry, settings: KioskSettings) -> None:
        self.registry = registry
        self.settings = settings
        self.book = None if settings.sessions is None else SessionBook(settings.sessions)

    @property
    def has_visits(self) -> bool:
        """Whether a visit can be opened here."""
        return self.book is not None

    def open_visit(
        self, person: str, age_band: AgeBand | None, place: str | None
    ) -> SessionToken | None:
        """Open a visit for the camera's program; None where the person may not be read here now.

        Args:
            person: whose visit.
            age_band: what they said in this session.
            place: of the screen they stand at; None where that is not known, and no visit opens.

        """
        if self.book is None or place is None:
            return None
        where = self.settings.jurisdiction
        if verdict(self.registry, person, Purpose.PERSONALISATION, where) is not Reason.PERMITTED:
            return None
        self.book.end_at(place)  # one screen, one person
        return self.book.open(person, age_band, place)

    def visit(self, token: str | None) -> SessionToken | None:
        """Return a visit that is open, or None."""
        return None if self.book is None or token is None else self.book.find(token)

    def end_visits(self, person: str) -> None:
        """End every visit of a person; none is no error."""
        if self.book is not None:
            self.book.end_of(person)

    def end_quietly(self, person: str) -> None:
        """End visits of somebody whose consent is over, with which no visit lets anybody be read."""
        try:
            self.end_visits(person)
        except (ConsentError, OSError) as error:
            _LOGGER.error("a visit could not be ended: %s", type(error).__name__)  # noqa: TRY400

    def end_visits_at(self, place: str | None) -> None:
        """End every visit at a screen, where somebody else stands now; nothing is asked of it."""
        if self.book is None or place is None:
            return
        try:
            self.book.end_at(place)
        except (ConsentError, OSError) as error:
            _LOGGER.error("a visit could not be ended: %s", type(error).__name__)  # noqa: TRY400
