"""A registry out of a backup: nobody who was erased comes back, and no consent that may have ended.

The copy is checked to the last entry before anything is made. What the key folder knows counts for more
than what the copy says: whoever's key was destroyed since stays erased, and a signing key that was revoked
since stays revoked.

What was recorded after the backup is lost, and withdrawals may be among it. Unless somebody
remembers the very end of the log and the copy reaches it, every consent in it is suspended: people
are asked again (GDPR 7(3); promise 1). No option permits otherwise. Then the log also goes on under a
new origin, so that it never contradicts what was signed under the old one, and people's keys under a new
epoch, so that nobody to come shares a key with somebody lost.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from .. import schema
from ..errors import ClockBackwardsError, ConsentError, ModeMismatchError
from ..handle import Keys, Mode, Where, _check_mode
from ..items import check_items
from ..journal import Journal
from ..keyfolder.folder import KeyFolder
from ..keyfolder.roots import Root
from ..leaves import KINDS
from ..log import MerkleLog
from ..reader import LogHead
from ..sealing import handle_of, rewrap
from ..signing import Signer, latest_checkpoint
from ..storage import BUSY_TIMEOUT_MS, open_store, pairs
from ..storage.copying import copy_tables
from ..times import Clock, iso, to_us, utcnow
from ..witnessing import tell_witness
from .backupfile import open_backup
from .copycheck import Checked, CopyCheck, Facts, check_logs
from .evidence import Whole, look_back, remember
from .restoredrows import Additions
from .restorekeys import ended_since, erased_beyond
from .wholefile import make_store

__all__ = ["Restored", "restore"]

_LOGGER = logging.getLogger("privemo.consent")
_NOBODY = ("handle", "sealed", "wrapped", "epoch")


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restore did.

    Attributes:
        events: entries of the log, with those that the restore added.
        root: of its tree, in hexadecimal.
        uses: entries of the log of uses.
        whole: whether it was shown that the copy holds the end of the log of events.
        origin: the name under which the log goes on.
        checkpoint: its last signed head.
        suspended: how many consents have to be asked for again.
        erased: how many people the copy still held, who had been erased after it was made.

    """

    events: int
    root: str
    uses: int
    whole: bool
    origin: str
    checkpoint: str
    suspended: int
    erased: int


def restore(
    source: str | os.PathLike[str],
    where: Where,
    *,
    keys: Keys,
    mode: Mode,
    root: Root | None = None,
    newest: LogHead | None = None,
    newest_uses: LogHead | None = None,
    suspend: bool = False,
    clock: Clock | None = None,
    busy_timeout_ms: int = BUSY_TIMEOUT_MS,
) -> Restored:
    """Make a registry out of a backup, in a new place: whole, or not at all.

    Args:
        source: what `write_backup` wrote.
        where: a file that does not exist, or the URL of an empty PostgreSQL schema.
        keys: the registry's own key folder: the one that erasures reached.
        mode: what the caller takes the backup for.
        root: what protects the key folder.
        newest: the last head of the log that somebody noted, as `ConsentRegistry.head` gives it. Where
            the copy reaches it, nothing is suspended.
        newest_uses: likewise of the log of uses (`uses_head`). Where both are shown to be whole,
            the log goes on under its old name.
        suspend: suspend every consent whatever is shown: for a witness that was away at the end.
        clock: returns the time with its zone.
        busy_timeout_ms: how long a write waits.

    Raises:
        TamperedError: the copy is not as it was written; ``entry`` names the first bad entry.
        ForkedError: the witness or ``newest`` remembers another history.
        ModeMismatchError: a simulation restored as production or the reverse.
        KeyFileError: another registry's keys, or an epoch that was forgotten.
        ClockBackwardsError: the clock reads earlier than the log.
        WitnessMissingError: the key folder names a witness that cannot be asked.
        RegistryExistsError, RegistryMissingError, RegistryFullError, RegistryUnreadableError

    """
    _check_mode(mode)
    folder = keys if isinstance(keys, KeyFolder) else KeyFolder.open(keys, root=root)
    folder.refresh()
    copy = open_backup(source)
    try:
        with copy.read() as connection:
            copy.check(connection)
            facts = _facts(connection, folder, mode, copy.where)
            checked = check_logs(facts, connection, CopyCheck)
            heads = remember(newest), remember(newest_uses)
            whole = look_back(connection, folder, checked.check.keys, *heads)
            if suspend:
                whole = Whole(events=False, uses=False)
            work = _Restore(connection, facts, checked, whole, to_us((clock or utcnow)()))
            make_store(where, work.fill, busy_timeout_ms=busy_timeout_ms)
    finally:
        copy.close()
    _tell(where, folder, clock or utcnow)
    return work.result()


class _Restore:
    """One restore: what was found, and the filling of the new tables."""

    def __init__(
        self, source: sa.Connection, facts: Facts, checked: Checked, whole: Whole, now: int
    ) -> None:
        assert isinstance(checked.check, CopyCheck)  # noqa: S101
        self._source = source
        self._facts = facts
        self._check = checked.check
        self._checked = checked
        self._now = now
        folder, rows = facts.keys, len(self._check.people)
        self._revoked = ended_since(folder, self._check.keys.ring)
        # Whom the copy holds and the folder does not was erased in an entry that the copy lacks.
        lost = self._check.late or self._revoked or erased_beyond(folder, rows)
        self._whole = Whole(whole.events and not lost, whole.uses)
        self._epoch: int | None = None
        self._add = Additions(facts, self._check, now)
        self._check_clock()

    def _check_clock(self) -> None:
        last = self._source.execute(sa.select(sa.func.max(schema.events.c.recorded))).scalar_one()
        if self._now < last:
            raise ClockBackwardsError(
                f"the clock reads {iso(self._now)}, the log was written until {iso(last)}: "
                "set the clock"
            )

    def fill(self, target: sa.Connection) -> None:
        """Copy, close what must stay closed, and sign the new head, in the caller's transaction."""
        check, folder = self._check, self._facts.keys
        if not self._whole.events:
            gone = [pid for pid, found in enumerate(check.readable) if found is None]
            self._epoch = folder.new_epoch(rows=len(check.people), gone=gone)
        copy_tables(self._source, target, change={"persons": self._person, "items": self._item})
        log, size = MerkleLog(schema.EVENTS_LOG, schema.events), self._checked.events
        rows = self._rows()
        log.append(target, size, rows)
        state = check.keys
        if rows:
            special = [row["leaf"] for row in rows if row["kind"] == KINDS.index("key")]
            after = state.after(special, self._now)
            Signer(folder).sign(target, log, size + len(rows), after)
            state = after[0]
        self._size = size + len(rows)
        self._root = log.root(target, self._size).hex()
        self._origin = state.origin
        found = latest_checkpoint(target, schema.EVENTS_LOG)
        self._note = "" if found is None else found[1]
        check_items(self._facts.registry_id, target, check.readable)

    def _rows(self) -> list[dict[str, Any]]:
        add, self._suspended = self._add, 0
        rows = [] if all(self._whole) else [add.new_name()]
        rows += add.revoked(self._revoked)
        if self._epoch is not None:
            rows.append(add.epoch(self._epoch))
        if not self._whole.events:
            suspended = add.suspensions(self._source)
            # An erased person's consent ends as well, but nobody is there to be asked again.
            self._suspended = sum(row["pid"] not in self._check.late for row in suspended)
            rows += suspended
        return rows + add.erasures()

    def result(self) -> Restored:
        """Return what was done."""
        return Restored(
            events=self._size,
            root=self._root,
            uses=self._checked.uses,
            whole=self._whole.events,
            origin=self._origin,
            checkpoint=self._note,
            suspended=self._suspended,
            erased=len(self._check.late),
        )

    # -- rows that are copied ----------------------------------------------------------------------

    def _person(self, row: dict[str, Any]) -> dict[str, Any]:
        pid = row["pid"]
        found = self._check.readable_at(pid)
        if found is None:
            return row | dict.fromkeys(_NOBODY)
        if self._epoch is not None:
            return rewrap(self._facts.keys, self._facts.registry_id, row, self._epoch)[0]
        lookup = self._facts.keys.lookup_key(row["epoch"])
        return row | {"handle": handle_of(lookup, found.person)}

    def _item(self, row: dict[str, Any]) -> dict[str, Any] | None:
        return None if row["pid"] in self._check.late else row


def _facts(connection: sa.Connection, folder: KeyFolder, mode: Mode, where: str) -> Facts:
    meta: dict[str, str] = pairs(connection.execute(sa.select(schema.meta)))
    if meta.get("mode") != mode:
        raise ModeMismatchError(
            f"{where} is the backup of a {meta.get('mode')} registry, restored as {mode}: "
            "simulated and real consent never mix"
        )
    return Facts(folder, meta.get("registry_id", ""), mode == "simulation")


def _tell(where: Where, folder: KeyFolder, clock: Clock) -> None:
    """Let the witness remember where the log goes on; the next signed head would tell it too."""
    if folder.witness is None:
        return
    try:
        store = open_store(where)
        try:
            tell_witness(Journal(store, folder, clock), folder.witness)
        finally:
            store.close()
    except (ConsentError, OSError) as error:
        _LOGGER.warning("the witness was not told: %s", error)
