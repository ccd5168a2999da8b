"""Sessions for the visits that people open at a kiosk: how a camera's program learns who stands before it."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

from privemo.recognizer.base import FrameReader
from privemo.recognizer.readings import Region
from privemo.recognizer.session import Limits, Session
from privemo_consent import ConsentError, SessionBook, SessionToken

__all__ = ["Visits"]


class Visits:
    """The session of whoever opened a visit at one kiosk last, if they are still there.

    | what happens | whose session it is |
    |---|---|
    | somebody opens a visit | theirs, from the next frame on |
    | somebody else opens one | theirs: who stands at the kiosk now opened it last; the first one's is over |
    | the visit is ended, withdrawn from, erased, or its time is over | nobody's, from the next frame on |
    | the session ends by itself (nobody seen, looks too young) | nobody's, until a visit is opened anew |
    | the folder of visits cannot be read | nobody's |
    | a visit was open before this object was made | nobody's: they may have left since |

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
        self._visit = ""  # the last one's, hashed: a token is of no use here
        self._session: Session | None = None
        before = self._last()
        # Later ones alone are taken up: a visit runs on while its owner is somewhere else in the shop, and
        # whoever stands here then is not them.
        self._after = datetime.min.replace(tzinfo=UTC) if before is None else before.opened

    def session(self) -> Session | None:
        """The session that is open now, or None; asked before each frame (`FrameReader.follow`)."""
        visit = self._last()
        if visit is None:
            self._end("")
            return None
        name = hashlib.sha256(visit.token.encode()).hexdigest()
        if name != self._visit:
            self._end(name)
            if visit.opened <= self._after:
                return None
            self._after = visit.opened
            self._session = self._reader.session(
                visit.person,
                age_band=visit.attested_age_band,
                region=self._region,
                limits=self._limits,
            )
        return self._session if self._session is not None and self._session.open else None

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
