"""A key folder and its mirrors: which there are, and which could not be reached."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from ..errors import ConsentError, KeyFileError, PlacesPendingError, RegistryError
from .access import OpenFolder
from .files import Shelf
from .mirrors import begin_mirror, remove_mirror, sync_mirror

__all__ = ["MirroredFolder"]


class MirroredFolder(OpenFolder):
    """The part of `KeyFolder` that keeps copies in other places."""

    @property
    def mirrors(self) -> tuple[Path, ...]:
        """Folders that are kept equal to this one."""
        return tuple(map(Path, self._now.record.mirrors))

    @property
    def mirror_of(self) -> Path | None:
        """The folder that keeps this one up to date, if it is a mirror."""
        owner = self._now.record.mirror_of
        return None if owner is None else Path(owner)

    @property
    def pending(self) -> tuple[Path, ...]:
        """Mirrors that still hold what was to be destroyed."""
        return tuple(map(Path, self._now.record.pending))

    @property
    def behind(self) -> tuple[Path, ...]:
        """Mirrors that lack what is new, or may: they are no whole copy."""
        record = self._now.record
        return tuple(Path(p) for p in record.mirrors if p in record.behind + record.pending)

    def add_mirror(self, path: str | os.PathLike[str]) -> None:
        """Copy the folder to another place and keep it equal from now on.

        Raises:
            KeyFileError: something stands there, it cannot be written, or lies in this folder.
        """
        place = Path(os.path.abspath(path))
        if self.path.resolve() in (place.resolve(), *place.resolve().parents):
            raise KeyFileError(f"{place} lies in the folder itself: choose another disk")
        with self._writing():
            record = self._now.record
            if str(place) not in record.mirrors:
                if os.path.lexists(place) and not (place.is_dir() and not os.listdir(place)):
                    raise KeyFileError(f"{place} exists: nothing was overwritten")
                # Named before it exists: no copy of a key stands where erasure does not reach it.
                self._record(
                    mirrors=(*record.mirrors, str(place)), behind=(*record.behind, str(place))
                )
            try:
                begin_mirror(place, self.path, self._now.record, self._seal)
                sync_mirror(place, self._shelf, self._now.record, self._seal)
            except (KeyFileError, RegistryError):
                with contextlib.suppress(ConsentError):
                    remove_mirror(place, self._now.record, self._seal)
                if not os.path.isdir(place) or not Shelf(place).names():
                    self._strike(str(place))  # nothing of ours is there
                raise
            self._settle()

    def remove_mirror(self, path: str | os.PathLike[str], *, lost: bool = False) -> None:
        """Destroy the copy in a mirror and strike it off.

        With ``lost`` it is struck off though nobody destroyed it: whoever finds it can open, from
        old copies of the database, what is erased from now on.

        Raises:
            KeyFileError: it is no mirror.
            PlacesPendingError: it cannot be reached; it stays on the list.
        """
        named = os.path.abspath(path)
        with self._writing():
            record = self._now.record
            if named not in record.mirrors:
                raise KeyFileError(f"{named} is no mirror of {self.path}")
            if not lost:
                if named not in record.pending:
                    self._record(pending=(*record.pending, named))
                try:
                    remove_mirror(Path(named), record, self._seal)
                except (KeyFileError, RegistryError) as error:
                    raise PlacesPendingError((Path(named),)) from error
            self._strike(named)

    def promote(self) -> None:
        """Make a folder of its own of a mirror whose owner is lost; that one's grip on it ends."""
        with self._writing(mirror=True):
            self._record(mirror_of=None)

    def finish(self) -> None:
        """Try the mirrors again that are pending or behind.

        Raises:
            PlacesPendingError: some still hold what was to be destroyed.
        """
        with self._writing():
            self._settle()
            self._raise_pending()

    def _settle(self) -> None:
        """Bring the mirrors up to date that are not, and record which could not be reached."""
        record = self._now.record
        failed = set()
        for place in dict.fromkeys(record.pending + record.behind):
            try:
                sync_mirror(Path(place), self._shelf, record, self._seal)
            except (KeyFileError, RegistryError):
                failed.add(place)
        self._record(
            puncturing=(),
            pending=tuple(place for place in record.pending if place in failed),
            behind=tuple(place for place in record.behind if place in failed),
        )

    def _raise_pending(self) -> None:
        if self.pending:
            self._mark = self._shelf.mark()  # nothing failed here
            raise PlacesPendingError(self.pending)

    def _catch_up(self) -> None:
        """Try what is pending, as far as it can be reached: whoever opens is not kept from it."""
        if any(
            os.path.isdir(place) for place in self._now.record.pending + self._now.record.behind
        ):
            with contextlib.suppress(ConsentError):
                self.finish()

    def _strike(self, named: str) -> None:
        record = self._now.record
        self._record(
            mirrors=tuple(place for place in record.mirrors if place != named),
            pending=tuple(place for place in record.pending if place != named),
            behind=tuple(place for place in record.behind if place != named),
        )
