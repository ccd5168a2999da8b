"""Sessions for the visits that people open at a kiosk: how a camera's program learns who stands before it."""

from __future__ import annotations

from datetime import timedelta

from privemo.recognizer.base import FrameReader
from privemo.recognizer.readings import Region
from privemo.recognizer.session import Limits, Session
from privemo_consent import ConsentError, SessionBook, SessionToken

__all__ = ["FRESH", "Visits"]

FRESH = timedelta(seconds=30)
"""How old a visit may be when it is taken up: whoever opened it longer ago may stand somewhere else."""


class Visits:
    """The session of whoever opened a visit at one kiosk last, if they are still there.

    | what happens | whose session it is |
    |---|---|
    | somebody opens a visit | theirs, from the next frame on |
    | somebody else opens one | theirs: who stands at the kiosk now opened it last; the first one's is over |
    | the visit is ended, withdrawn from, erased, or its time is over | nobody's, from the next frame on |
    | the next person begins at the kiosk: notice, receipt, answer | nobody's: the kiosk ends the visit |
    | the screen is cleared, and nobody comes | theirs still: they may stand there and look |
    | the session ends by itself (nobody seen, looks too young) | nobody's, until a visit is opened anew |
    | the folder of visits cannot be read | nobody's; what stands in it once it can be is not taken up |
    | a visit's file was there before this object was made, open or not | nobody's: they may have left since |
    | a visit is older than `FRESH` when first seen, or from the future | nobody's, for the same reason |

    Args:
        reader: that is to read them.
        book: where the kiosk writes visits (`privemo kiosk --visits DIR`).
        place: the kiosk beside this camera.
        region: where people stand; see `Recognizer.session`.
        limits: when a session ends by itself.
    """

    def __init__(
        self,
        reader: FrameReader,
        book: SessionBook,
        place: str,
        *,
        region: Region | None = None,
        limits: Limits | None = None,
    ) -> None:
        self._reader, self._book, self._place = reader, book, place
        self._region, self._limits = region, limits
        self._visit = ""  # the name of the last one taken up: a token is of no use here
        self._session: Session | None = None
        # Later ones alone are taken up: a visit runs on while its owner is somewhere else in the shop, and
        # whoever stands here then is not them. By name, for clocks are set; None until they could be listed.
        self._known = self._names()

    def session(self) -> Session | None:
        """The session that is open now, or None; asked before each frame (`FrameReader.follow`)."""
        known, self._known = self._known, self._names()  # before the visits: none slips in between
        visit = self._last()
        if visit is None:
            self._end("")
            return None
        name = self._book.name_of(visit.token)
        if name != self._visit:
            self._end(name)
            # An older one stands last again where a later one ended; nobody came back to this screen.
            if known is None or name in known or not self._fresh(visit):
                return None
            self._session = self._reader.session(
                visit.person,
                age_band=visit.attested_age_band,
                region=self._region,
                limits=self._limits,
            )
        return self._session if self._session is not None and self._session.open else None

    def _fresh(self, visit: SessionToken) -> bool:
        return timedelta(0) <= self._book.now() - visit.opened <= FRESH

    def _names(self) -> frozenset[str] | None:
        try:
            return self._book.names()
        except OSError:
            return None

    def _last(self) -> SessionToken | None:
        try:
            found = self._book.current(self._place)
        except (ConsentError, OSError):
            return None
        return found[-1] if found else None

    def _end(self, name: str) -> None:
        if self._session is not None:
            self._session.close()
        self._session, self._visit = None, name
