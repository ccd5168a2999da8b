"""Which registry and which notices a kiosk works with, looked at anew each time.

SQLite goes on writing into a file that somebody deleted or replaced. An answer written there would be lost
although it was acknowledged: the file is looked for before and after each change.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import MalformedError, NoticeRefused, RegistryUnreadableError
from ..policy import covers
from ..records import Notice
from ..registry import ConsentRegistry
from .settings import KioskSettings
from .texts import LANGUAGES

__all__ = ["SameFile", "in_force"]


class SameFile:
    """The registry's file, as it was when the kiosk began.

    Raises:
        RegistryUnreadableError: it is gone already.

    """

    def __init__(self, registry: ConsentRegistry) -> None:
        self._registry = registry
        self._opened = self._now()

    @contextmanager
    def there(self) -> Iterator[None]:
        """Hold the file against the one that was opened, before and after what is done inside.

        Raises:
            RegistryUnreadableError: it is gone, or another one.

        """
        self._look()
        yield
        self._look()

    def _look(self) -> None:
        if self._now() != self._opened:
            raise RegistryUnreadableError(
                f"{self._registry.where} is not the file that was opened: start the kiosk again"
            )

    def _now(self) -> tuple[int, int] | None:
        """Return device and number of the file; None for a database on a server."""
        try:
            path = self._registry.path
        except MalformedError:
            return None
        try:
            found = os.stat(path)
        except OSError as error:
            raise RegistryUnreadableError(f"{path} is gone: {error.strerror}") from error
        return found.st_dev, found.st_ino


def in_force(registry: ConsentRegistry, settings: KioskSettings) -> dict[str, Notice]:
    """Return the notices in force that can be shown here, by language, in the order of `LANGUAGES`.

    Raises:
        NoticeRefused: none, or several different ones.

    """
    wanted, place = settings.notice_id, settings.jurisdiction
    every = [n for n in registry.notices() if wanted is None or n.notice_id == wanted]
    newest = {n.notice_id: n.version for n in sorted(every, key=lambda n: n.version)}
    fit = [
        n
        for n in every
        if n.version == newest[n.notice_id]
        and covers(n.jurisdictions, place)
        and n.language.partition("-")[0] in LANGUAGES
    ]
    if not fit:
        raise NoticeRefused(
            f"no notice in force is for {place} in one of {', '.join(LANGUAGES)}: "
            "register one with `privemo notice register`"
        )
    if len({n.notice_id for n in fit}) > 1:
        named = ", ".join(sorted({n.notice_id for n in fit}))
        raise NoticeRefused(f"several notices are in force: say which one of {named}")
    found = {n.language.partition("-")[0]: n for n in fit}
    return {language: found[language] for language in LANGUAGES if language in found}
