"""Session tokens: who, of those in the store now, opened a visit at the kiosk.

Nobody is recognised by face, ever. A person opens a visit; the kiosk writes a token into a folder that
the camera's program reads, and until the visit ends that program may ask the registry about this person.
What it needs for asking stands in the token: the person's id and the age band said in this session.

The folder is readable by its owner alone and holds no picture. A file of it goes when the visit ends,
when the person withdraws or is erased, and when its time is over, whichever comes first. Keep it in
memory (``/run``, a tmpfs): it is of no use after a restart.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path

from ..errors import MalformedError, RegistryError, RegistryFullError
from ..terms import AgeBand
from ..times import Clock, utcnow

__all__ = ["SessionBook", "SessionToken"]

_SCHEMA = "privemo.session-token/1"
#: An hour in a shop; whoever stays longer opens another.
_LONGEST = timedelta(hours=4)
#: Writing one takes far less; an older one is left over.
_DRAFT_S = 60.0


@dataclass(frozen=True, slots=True)
class SessionToken:
    """One open visit: what `ConsentRegistry.decide` and a camera's table are to be asked with.

    Attributes:
        token: random; names the visit and nobody.
        person: pseudonymous id in the registry.
        attested_age_band: what was said in this session; None for somebody who came back with a
            receipt and was not asked again (the record's own attestation speaks for them).
        place: which kiosk, and so which camera.
        opened: when.
        expires: from when it counts no more.

    """

    token: str = field(repr=False)
    person: str = field(repr=False)
    attested_age_band: AgeBand | None
    place: str
    opened: datetime
    expires: datetime

    def is_open(self, at: datetime) -> bool:
        """Return whether the visit runs at a moment; a clock gone backwards closes it."""
        return self.opened <= at < self.expires


class SessionBook:
    """The open visits of a store, in a folder. Safe for threads and processes.

    Args:
        folder: made where it does not exist; its owner alone may read it.
        lasts: how long a visit runs when nobody ends it.
        clock: returns the time with its zone.

    Raises:
        MalformedError: an empty or overlong term.
        RegistryError: the folder is another user's, or open to others.
        RegistryFullError: it cannot be made.

    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        lasts: timedelta = timedelta(hours=1),
        clock: Clock = utcnow,
    ) -> None:
        if not timedelta(0) < lasts <= _LONGEST:
            raise MalformedError(f"got a visit of {lasts}, want more than nothing and at most 4 h")
        self.folder = Path(folder)
        self.lasts = lasts
        self._clock = clock
        try:
            self.folder.mkdir(mode=0o700, exist_ok=True)
            found = self.folder.stat()
        except OSError as error:
            raise RegistryFullError(f"{self.folder}: {error.strerror}: choose another") from error
        if found.st_uid != os.geteuid() or found.st_mode & 0o077:
            raise RegistryError(f"{self.folder} can be read by others: chmod 700 {self.folder}")

    def open(self, person: str, attested_age_band: AgeBand | None, place: str) -> SessionToken:
        """Open a visit; one that this person had open is ended first.

        Raises:
            RegistryFullError: the folder cannot be written; no visit was opened.
            OSError: the one before could not be ended; no visit was opened.

        """
        self.end_of(person)
        now = self._clock()
        made = SessionToken(
            secrets.token_urlsafe(32), person, attested_age_band, place, now, now + self.lasts
        )
        self._write(made)
        return made

    def now(self) -> datetime:
        """Return the time by the clock of this book."""
        return self._clock()

    @staticmethod
    def name_of(token: str) -> str:
        """Return under which name a visit stands in the folder."""
        # Hashed: whoever lists the folder holds no token, and no token can lead out of it.
        return f"{sha256(token.encode()).hexdigest()}.json"

    def names(self) -> frozenset[str]:
        """Return the names of all that stands in the folder, open or not.

        Raises:
            OSError: it cannot be listed.

        """
        return frozenset(os.listdir(self.folder))

    def find(self, token: str) -> SessionToken | None:
        """Return an open visit by its token, or None."""
        path = self._path(token)
        try:
            found = self._parse(path, path.read_bytes())
        except OSError:
            return None
        return found if found is not None and found.is_open(self._clock()) else None

    def current(self, place: str | None = None) -> tuple[SessionToken, ...]:
        """Return every open visit, of one place or of all, oldest first; clear away the others.

        A file that is no token counts as none: whatever cannot be read lets nobody in. What cannot be
        read just now stays, and so does what cannot be removed; neither is an error here.

        Raises:
            OSError: the folder cannot be listed.

        """
        now, found = self._clock(), []
        self._sweep()
        for path in self._files(".json"):
            try:
                token = self._parse(path, path.read_bytes())
            except OSError:
                continue
            if token is not None and token.is_open(now):
                found.append(token)
            elif token is None or now >= token.expires:
                with contextlib.suppress(OSError):
                    path.unlink(missing_ok=True)
        wanted = [each for each in found if place is None or each.place == place]
        return tuple(sorted(wanted, key=lambda each: each.opened))

    def end(self, token: str) -> None:
        """End a visit; one that is not open is no error."""
        self._path(token).unlink(missing_ok=True)

    def end_of(self, person: str) -> None:
        """End every visit of a person.

        Raises:
            OSError: one of them could not be ended; the others were.

        """
        self._end_all(lambda each: each.person == person)

    def end_at(self, place: str) -> None:
        """End every visit at a place: somebody else stands there now.

        Raises:
            OSError: one of them could not be ended; the others were.

        """
        self._end_all(lambda each: each.place == place)

    def _end_all(self, meant: Callable[[SessionToken], bool]) -> None:
        """End visits, open or not yet. One that cannot be read may be meant: losing it costs a touch."""
        failed: OSError | None = None
        self._sweep()
        for path in self._files(".json"):
            try:
                with contextlib.suppress(OSError):
                    token = self._parse(path, path.read_bytes())
                    if token is not None and not meant(token):
                        continue
                path.unlink(missing_ok=True)
            except OSError as error:
                failed = error
        if failed is not None:
            raise failed

    def _files(self, suffix: str) -> list[Path]:
        """Return the files of one kind; none where the folder is gone, and all visits with it."""
        try:
            with os.scandir(self.folder) as entries:
                return sorted(
                    Path(each.path)
                    for each in entries
                    if each.name.endswith(suffix) and each.is_file(follow_symlinks=False)
                )
        except FileNotFoundError:
            return []

    def _sweep(self) -> None:
        """Remove what a process left that died while it wrote: a person's id stands in it."""
        for path in self._files(".draft"):
            with contextlib.suppress(OSError):
                if abs(time.time() - path.stat().st_mtime) > _DRAFT_S:
                    path.unlink()

    def _path(self, token: str) -> Path:
        return self.folder / self.name_of(token)

    def _write(self, made: SessionToken) -> None:
        band = made.attested_age_band
        body = {
            "schema": _SCHEMA,
            "token": made.token,
            "person": made.person,
            "attested_age_band": None if band is None else band.value,
            "place": made.place,
            "opened": made.opened.isoformat(),
            "expires": made.expires.isoformat(),
        }
        draft = ""
        try:
            handle, draft = tempfile.mkstemp(dir=self.folder, suffix=".draft")
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(body, file)
            os.replace(draft, self._path(made.token))
        except OSError as error:
            with contextlib.suppress(OSError):
                os.unlink(draft)
            raise RegistryFullError(f"{self.folder}: {error.strerror}: no visit opened") from error

    def _parse(self, path: Path, raw: bytes) -> SessionToken | None:
        """Return the token that a file holds, or None."""
        try:
            value = json.loads(raw)
            if value["schema"] != _SCHEMA or self._path(value["token"]) != path:
                return None
            band = value["attested_age_band"]
            found = SessionToken(
                str(value["token"]),
                str(value["person"]),
                None if band is None else AgeBand(band),
                str(value["place"]),
                datetime.fromisoformat(value["opened"]),
                datetime.fromisoformat(value["expires"]),
            )
            found.is_open(self._clock())  # naive times cannot be compared
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None
        return found if found.person else None
