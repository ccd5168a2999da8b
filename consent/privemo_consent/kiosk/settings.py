"""How a kiosk is set up: checked once, before anybody stands in front of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from ..errors import MalformedError
from ..jurisdictions import jurisdiction
from ..policy import check_validity
from .limits import Rate, plain

__all__ = ["KioskSettings", "Rates"]

#: Letters, digits, dots and dashes; an IPv6 address in brackets.
_HOST = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?|\[[0-9a-f:.]{2,45}\]")
_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
_THIS_MACHINE = ("127.0.0.1", "::1")
#: WCAG 2.2.1 asks for time: shorter than a minute nobody reads a notice.
_IDLE_S = (60.0, 1200.0)
_PAGES, _RECEIPTS = Rate(240, 0.25), Rate(10, 6.0)
_LOGINS, _ANSWERS = Rate(5, 60.0), Rate(20, 3.0)


@dataclass(frozen=True, slots=True)
class Rates:
    """How often one address may ask.

    Attributes:
        pages: any request.
        receipts: a receipt or a code presented.
        logins: a password of the staff.
        answers: an answer recorded, or a minor counted.

    """

    pages: Rate = _PAGES
    receipts: Rate = _RECEIPTS
    logins: Rate = _LOGINS
    answers: Rate = _ANSWERS


@dataclass(frozen=True, slots=True, kw_only=True)
class KioskSettings:
    """What a store decides about its kiosk.

    Attributes:
        jurisdiction: where it stands, ISO 3166 as ``IE`` or ``US-IL``.
        place: which kiosk this is; session tokens carry it, so that a camera knows its own. Each kiosk
            beside a camera has a place of its own.
        screens: from which address people at which place ask. Visits are opened there and nowhere else:
            a telephone shows the same pages, and its owner may stand anywhere. By default the screen
            of this machine, at ``place``.
        notice_id: which notice is shown; needed where the registry has several.
        valid_for: the term of a consent given here.
        idle_s: seconds without a touch after which a session ends, 60 to 1200.
        hosts: names under which the kiosk is reached; every other Host header is refused.
        secure: whether browsers reach it over TLS: cookies are then marked so.
        staff_file: a file made by `staff.write_password`; without one there is no staff page.
        sessions: the folder of `SessionBook`; without one no visit can be opened.
        rates: how often one address may ask.

    Raises:
        MalformedError: a setting is not what it should be.
        ValidityRefused: an endless or empty term.

    """

    jurisdiction: str
    place: str = "kiosk"
    screens: Mapping[str, str] | None = None
    notice_id: str | None = None
    valid_for: timedelta = timedelta(days=365)
    idle_s: float = 300.0
    hosts: tuple[str, ...] = _LOOPBACK
    secure: bool = False
    staff_file: Path | None = None
    sessions: Path | None = None
    rates: Rates = field(default_factory=Rates)

    def __post_init__(self) -> None:
        jurisdiction(self.jurisdiction)
        check_validity(self.valid_for)
        for place in (self.place, *(self.screens or {}).values()):
            if not place.strip() or not place.isprintable() or len(place) > 100:
                raise MalformedError("place: name the kiosk in 1 to 100 printable characters")
        if not _IDLE_S[0] <= self.idle_s <= _IDLE_S[1]:
            raise MalformedError(
                f"idle: got {self.idle_s:g} s, want {_IDLE_S[0]:g} to {_IDLE_S[1]:g} s: people need "
                "time to read, and the next one must not find their page"
            )
        for host in self.hosts:
            if not _HOST.fullmatch(host):
                raise MalformedError(f"got host {host!r:.80}, want a name as kiosk.example")
        if not self.hosts:
            raise MalformedError("hosts: name at least one")

    def place_at(self, address: str) -> str | None:
        """Return the place of the screen at an address; None where no screen is known there."""
        screens = dict.fromkeys(_THIS_MACHINE, self.place) if self.screens is None else self.screens
        return {plain(each): place for each, place in screens.items()}.get(plain(address))
