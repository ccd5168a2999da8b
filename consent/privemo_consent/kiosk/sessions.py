"""Who is at which screen: sessions in memory, found by a random cookie, gone after a quiet while.

Nothing of a session is written anywhere. An id that this process did not draw finds nothing, and the id
changes whenever the session comes to mean more (a person known, staff let in), so that one that was
planted before is worth nothing after (session fixation).
"""

from __future__ import annotations

import hmac
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from ..terms import AgeBand, Purpose
from ..times import elapsed

__all__ = ["Session", "Sessions", "same"]

_MOST = 2000


@dataclass(slots=True, repr=False)
class Session:
    """One person's time at the screen. It has no repr: it must not come into a log."""

    id: str
    csrf: str
    began: float
    seen: float
    #: the notice that was on the screen, by hash
    notice: str | None = None
    #: what was said of age, once it is an adult's
    age_band: AgeBand | None = None
    person: str | None = None
    #: shown once, on the page of the receipt
    code: str | None = None
    receipt: str | None = None
    svg: str | None = None
    #: the token of the visit that was opened at this screen
    visit: str | None = None
    #: the one answer that is being given anew
    changing: Purpose | None = None
    #: a word to say on the next page, a key of the texts
    told: str | None = None
    #: whether the staff's password was given
    staff: bool = False
    #: one answer at a time: a form sent twice is recorded once
    lock: threading.Lock = field(default_factory=threading.Lock)


class Sessions:
    """All sessions of one process. Safe for threads.

    Args:
        idle_s: a session ends after so many seconds without a request,
        longest_s: and after so many in all.
        clock: returns seconds that only grow, also while the machine sleeps.

    """

    def __init__(
        self,
        *,
        idle_s: float,
        longest_s: float = 1800.0,
        most: int = _MOST,
        clock: Callable[[], float] = elapsed,
    ) -> None:
        self.idle_s = idle_s
        self._longest_s = longest_s
        self._most = most
        self._clock = clock
        self._lock = threading.Lock()
        self._open: OrderedDict[str, Session] = OrderedDict()

    def __len__(self) -> int:
        return len(self._open)

    def begin(self) -> Session:
        """Open a session of which nothing is known."""
        with self._lock:
            now = self._clock()
            self._drop_old(now)
            session = Session(secrets.token_urlsafe(32), secrets.token_urlsafe(32), now, now)
            self._open[session.id] = session
            while len(self._open) > self._most:
                self._evict()
            return session

    def find(self, id_: str | None) -> Session | None:
        """Return a live session and note that it was used, or None."""
        if not id_:
            return None
        with self._lock:
            now = self._clock()
            self._drop_old(now)
            session = self._open.get(id_)
            if session is None:
                return None
            if now - session.began > self._longest_s:
                del self._open[session.id]
                return None
            session.seen = now
            self._open.move_to_end(id_)
            return session

    def renew_id(self, session: Session) -> None:
        """Give a session another id and another token against forged requests.

        One that was ended meanwhile stays so: somebody else may stand there now.
        """
        with self._lock:
            if self._open.pop(session.id, None) is None:
                return
            session.id, session.csrf = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
            self._open[session.id] = session

    def end(self, session: Session) -> None:
        """Forget a session and all that it knew."""
        with self._lock:
            self._open.pop(session.id, None)

    def _drop_old(self, now: float) -> None:
        # Ordered by last use, so the quiet ones stand first.
        while self._open:
            first = next(iter(self._open.values()))
            if now - first.seen <= self.idle_s:
                break
            del self._open[first.id]

    def _evict(self) -> None:
        """Make room: a flood of new screens must not end the session of somebody who is known."""
        nobody = next((i for i, s in self._open.items() if s.person is None and not s.staff), None)
        del self._open[nobody if nobody is not None else next(iter(self._open))]


def same(one: str, other: str) -> bool:
    """Compare two tokens in constant time."""
    return hmac.compare_digest(one.encode(), other.encode())
