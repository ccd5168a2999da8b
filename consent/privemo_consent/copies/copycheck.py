"""A copy of a registry, checked on a connection before anything of it is opened.

`verify` checks a registry that stands; this checks one that arrives: a backup, in which people may
stand whose key was destroyed since, or the rows of a transfer inside the transaction that brings
them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

import sqlalchemy as sa

from .. import merkle, schema
from ..errors import ErasedKeyError, TamperedError
from ..journal import Journal
from ..keyfolder.folder import KeyFolder
from ..log import MerkleLog
from ..sealing import PersonSecrets, open_person
from ..verify import check_nodes, check_notices, check_uses
from ..verify_checkpoints import check_checkpoints
from ..verify_events import EventsCheck

__all__ = ["ArrivingCheck", "Checked", "CopyCheck", "Facts", "check_logs"]

#: What stands in `CopyCheck.people` for someone whose key was destroyed after the copy was made.
_LATE = PersonSecrets("", b"", b"")
_SEALED = ("sealed", "wrapped", "epoch")


@dataclass(frozen=True, slots=True)
class Facts:
    """What a check asks of a registry that is not open yet."""

    keys: KeyFolder = field(repr=False)
    registry_id: str
    simulated: bool

    def keys_needed(self) -> KeyFolder:
        """Return the key folder."""
        return self.keys


@dataclass(frozen=True, slots=True)
class Checked:
    """What `check_logs` found whole."""

    check: EventsCheck = field(repr=False)
    events: int
    root: bytes
    uses: int
    uses_root: bytes


class CopyCheck(EventsCheck):
    """The pass over a backup's log: rows without handles, and people erased since.

    Attributes:
        late: rows whose key was destroyed after the copy was made.

    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.late: set[int] = set()

    def readable_at(self, pid: int) -> PersonSecrets | None:
        """Return what a row holds, None for whoever was erased before or since."""
        found = self.people[pid]
        return None if found is _LATE else found

    @property
    def readable(self) -> list[PersonSecrets | None]:
        """By row: what it holds, None for whoever was erased before or since."""
        return [None if found is _LATE else found for found in self.people]

    def _open(self, entry: str, row: Any) -> PersonSecrets | None:
        if row["handle"] is not None:
            raise TamperedError(entry, "has a handle, which no backup holds")
        empty = [row[name] is None for name in _SEALED]
        if all(empty):
            return None
        if any(empty):
            raise TamperedError(entry, "half erased")
        try:
            return open_person(self._journal.keys_needed(), self._journal.registry_id, row)
        except ErasedKeyError:
            self.late.add(row["pid"])
            return _LATE

    def _check_person(self, entry: str, row: Any, leaf: dict[str, Any]) -> None:
        pid = row["pid"]
        if pid not in self.late:
            super()._check_person(entry, row, leaf)
            return
        # Nobody can tell any more whom its subject names: the key that could is destroyed.
        if pid in self._erased:
            raise TamperedError(entry, f"is about person row {pid}, which was erased before")
        self._seen.add(pid)


class ArrivingCheck(EventsCheck):
    """The pass over a log that was kept elsewhere, before it goes on under a name of its own."""

    def _check_keys_held(self) -> None:
        """The keys that signed so far lie with whoever kept the log."""


def check_logs(
    facts: Facts, connection: sa.Connection, kind: type[EventsCheck] = EventsCheck
) -> Checked:
    """Check notices, people, both logs, their trees and their signed heads.

    Raises:
        TamperedError: names the first bad entry.

    """
    check = kind(cast("Journal", facts), connection, check_notices(connection))
    events_log = MerkleLog(schema.EVENTS_LOG, schema.events)
    uses_log = MerkleLog(schema.USES_LOG, schema.uses)
    hashes = check.check()
    check_nodes(connection, events_log, hashes)
    use_hashes = check_uses(connection, cast("Journal", facts), uses_log, len(hashes))
    check_nodes(connection, uses_log, use_hashes)
    check_checkpoints(connection, (events_log, uses_log), check.keys)
    return Checked(
        check, len(hashes), merkle.root(hashes), len(use_hashes), merkle.root(use_hashes)
    )
