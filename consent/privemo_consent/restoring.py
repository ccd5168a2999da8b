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

from . import leaves, schema
from .backupfile import open_backup
from .checkpoint import Checkpoint, uses_origin
from .copycheck import Checked, CopyCheck, Facts, check_logs
from .errors import ClockBackwardsError, ConsentError, ModeMismatchError
from .evidence import Whole, look_back, remember
from .handle import Keys, Mode, Where, _check_mode
from .items import check_items
from .journal import Journal
from .keyfolder import KeyFolder
from .keys import KeyRing
from .leaves import KINDS, STATUSES
from .log import MerkleLog
from .reader import LogHead
from .restorekeys import begin_epoch, check_belongs, ended_since, erased_beyond, next_key
from .roots import Root
from .sealing import handle_of, rewrap
from .signing import Signer, latest_checkpoint
from .storage import BUSY_TIMEOUT_MS, open_store, pairs
from .storage.copying import copy_tables
from .terms import ConsentStatus
from .times import Clock, iso, to_us, utcnow
from .transaction import plain_row
from .wholefile import make_store
from .witness import Witness
from .witnessing import tell_witness

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
            check_belongs(folder, checked.check.keys.ring)
            heads = remember(newest), remember(newest_uses)
            whole = look_back(connection, folder, checked.check.keys, *heads)
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
            self._epoch = begin_epoch(folder, len(check.people), gone)
        copy_tables(self._source, target, change={"persons": self._person, "items": self._item})
        check_items(self._facts.registry_id, target, check.readable)
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

    def result(self) -> Restored:
        """Return what was done."""
        return Restored(
            events=self._size,
            root=self._root,
            uses=self._checked.uses,
            whole=self._whole.events,
            origin=self._origin,
            checkpoint=self._note,
            suspended=len(self._suspended),
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

    # -- rows that are added -----------------------------------------------------------------------

    def _rows(self) -> list[dict[str, Any]]:
        self._suspended: list[dict[str, Any]] = []
        rows: list[dict[str, Any]] = []
        if not all(self._whole):
            rows.append(self._begin())
        rows.extend(self._key_row("revoke", str(key)) for key in self._revoked)
        if self._epoch is not None:
            rows.append(self._key_row("epoch", f"epoch:{self._epoch}"))
        if not self._whole.events:
            self._suspended = [self._suspension(last) for last in self._standing()]
        rows += self._suspended
        return rows + [self._erasure(pid) for pid in sorted(self._check.late)]

    def _begin(self) -> dict[str, Any]:
        folder, ring = self._facts.keys, self._check.keys.ring
        known = _known_to_witness(folder, ring)
        key = next_key(folder, self._facts.registry_id, ring, known)
        # First the private half on the disk: a log that names a key nobody holds could not go on.
        folder.add_signer(key)
        # No overlap: an old key signing for the new name would tie the two histories together.
        return self._key_row("begin", str(key.verifying), ends=self._now)

    def _key_row(self, op: str, key: str, ends: int | None = None) -> dict[str, Any]:
        simulated, now = self._facts.simulated, self._now
        leaf = leaves.key_leaf(op=op, key=key, ends_others=ends, recorded=now, simulated=simulated)
        return plain_row("key", leaf, now, simulated)

    def _standing(self) -> list[Any]:
        """Return the last entry of every consent that stands, its term over or not.

        Terms do not count: a clock can be set back.
        """
        table, last = schema.events, {}
        columns = (table.c.pid, table.c.purpose, table.c.status, table.c.nid, table.c.leaf)
        query = sa.select(*columns).where(table.c.kind == KINDS.index("consent"))
        for row in self._source.execute(query.order_by(table.c.seq)):
            last[row.pid, row.purpose] = row
        return [row for _, row in sorted(last.items()) if STATUSES[row.status].permits]

    def _suspension(self, last: Any) -> dict[str, Any]:
        record_id, now, said = os.urandom(16).hex(), iso(self._now), leaves.parse(last.leaf)
        leaf = leaves.consent_leaf(
            record_id=record_id,
            subject=self._subject(last.pid, record_id),
            purpose=said["purpose"],
            status=ConsentStatus.INVALIDATED.value,
            at=now,
            recorded_at=now,
            expires=None,
            entity="registry",
            role=said["role"],
            jurisdiction=said["jurisdiction"],
            notice=said["notice"],
            simulated=self._facts.simulated,
        )
        row = plain_row("consent", leaf, self._now, self._facts.simulated, nid=last.nid)
        coded = leaves.columns(leaves.parse(leaf))
        return row | {"pid": last.pid} | {k: coded[k] for k in ("purpose", "status", "role")}

    def _erasure(self, pid: int) -> dict[str, Any]:
        record_id = os.urandom(16).hex()
        leaf = leaves.erasure_leaf(
            record_id=record_id,
            subject=self._subject(pid, record_id),
            cause="restore",
            recorded=self._now,
            simulated=self._facts.simulated,
        )
        return plain_row("erasure", leaf, self._now, self._facts.simulated) | {"pid": pid}

    def _subject(self, pid: int, record_id: str) -> str:
        found = self._check.readable_at(pid)
        if found is None:
            # The key that made this person's tags is destroyed. Random digits are what an erased
            # person's tags look like to everybody: nobody can tell these from the true ones.
            return os.urandom(32).hex()
        return leaves.subject_tag(found.subject_key, record_id, found.person)


def _facts(connection: sa.Connection, folder: KeyFolder, mode: Mode, where: str) -> Facts:
    meta: dict[str, str] = pairs(connection.execute(sa.select(schema.meta)))
    if meta.get("mode") != mode:
        raise ModeMismatchError(
            f"{where} is the backup of a {meta.get('mode')} registry, restored as {mode}: "
            "simulated and real consent never mix"
        )
    return Facts(folder, meta.get("registry_id", ""), mode == "simulation")


def _known_to_witness(folder: KeyFolder, ring: KeyRing) -> Any:
    if folder.witness is None:
        return lambda _origin: False
    witness = Witness.open(folder.witness, known=[period.key for period in ring.periods])

    def taken(origin: str) -> bool:
        try:
            heads: list[Checkpoint | None] = [
                witness.latest(name) for name in (origin, uses_origin(origin))
            ]
        except ConsentError:
            return True  # lines by keys that this copy does not know: another restore's
        return any(head is not None for head in heads)

    return taken


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
