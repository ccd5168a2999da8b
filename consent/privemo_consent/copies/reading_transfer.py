"""A fresh registry out of a transfer's file: every line checked, all of it or nothing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from .. import leaves, schema
from ..errors import (
    ClockBackwardsError,
    ConsentError,
    KeyFileError,
    ModeMismatchError,
    RegistryMissingError,
    SignatureError,
    TamperedError,
)
from ..handle import Keys, Mode, Where, _check_mode
from ..items import check_items
from ..keyfolder.folder import KeyFolder
from ..keyfolder.roots import Root
from ..keys import VerifyingKey
from ..log import MerkleLog
from ..note import open_note
from ..signing import Signer
from ..storage import BUSY_TIMEOUT_MS, insert_rows
from ..times import Clock, iso, to_us, utcnow
from ..verify_events import naming
from .copycheck import ArrivingCheck, Checked, Facts, check_logs
from .restoredrows import Additions
from .transferfile import LineReader, lines_of
from .transferlines import COUNTED, FIELDS, SCHEMA, TransferRead, end_text
from .transferrows import TransferRows, key_of, whole_numbers
from .wholefile import make_store

__all__ = ["TransferRead", "read_transfer"]

_CHUNK = 5_000
_MOST_EPOCHS = 10_000


def read_transfer(
    path: str | os.PathLike[str],
    where: Where,
    *,
    keys: Keys,
    mode: Mode,
    passphrase: bytes | None = None,
    known: Iterable[VerifyingKey] | None = None,
    root: Root | None = None,
    clock: Clock | None = None,
    busy_timeout_ms: int = BUSY_TIMEOUT_MS,
) -> TransferRead:
    """Make a registry, with keys of its own, out of what `write_transfer` wrote.

    The log goes on under a new signing key and a new name: the registry it came from may still be
    in use, and two logs of one name would contradict each other.

    Unless the file ends with the closing of that registry, people may say no there whom this one
    never hears of: every consent is suspended, as after a restore (GDPR 7(3); promise 1). Nothing
    tells an old file of a registry that was closed from a new one: read it once, and destroy it.

    Args:
        path: the file.
        where: a file that does not exist, or the URL of an empty PostgreSQL schema.
        keys: a folder that does not exist; or a new `KeyFolder` with the registry key of the old.
        mode: what the caller takes the file for.
        passphrase: what it was sealed with.
        known: signing keys of the registry it came from, got from elsewhere: one of them must have
            signed it. None takes the file's own word for its keys, and says so.
        root: what protects the new key folder.
        clock: returns the time with its zone.
        busy_timeout_ms: how long a write waits.

    Raises:
        TamperedError: ``entry`` names the line, or the entry of the log, that is not as written.
        MalformedError: its first line is none that anybody writes.
        SignatureError: it was signed by none of the keys ``known``.
        KeyFileError: another passphrase, or a key folder that is in use.
        ClockBackwardsError: the clock reads earlier than the log.
        ModeMismatchError: a simulation read as production or the reverse.
        RegistryExistsError, RegistryMissingError, RegistryFullError, RegistryUnreadableError

    """
    _check_mode(mode)
    place = Path(path)
    if not place.is_file():
        raise RegistryMissingError(f"no transfer at {place}: check the path")
    with place.open("rb") as file:
        lines = LineReader(lines_of(file, place, passphrase))
        pins = None if known is None else tuple(known)
        work = _Reading(lines, mode, keys, root, to_us((clock or utcnow)()), pins)
        try:
            make_store(where, work.fill, busy_timeout_ms=busy_timeout_ms)
        except BaseException:
            work.discard()
            raise
    return work.result()


class _Reading:
    """Fills the tables of a new registry with one transfer, inside one transaction."""

    def __init__(
        self,
        lines: LineReader,
        mode: Mode,
        keys: Keys,
        root: Root | None,
        now: int,
        known: tuple[VerifyingKey, ...] | None,
    ) -> None:
        self._lines, self._known = lines, known
        self._keys, self._root, self._now = keys, root, now
        self._made: Path | None = None
        self._whole = False
        head = lines.next("registry", FIELDS["registry"])
        with naming(lines.entry):
            self._take_head(head)
        if head["mode"] != mode:
            raise ModeMismatchError(
                f"the file is of a {head['mode']} registry, read as {mode}: "
                "simulated and real consent never mix"
            )
        self._simulated = mode == "simulation"

    def _take_head(self, head: dict[str, Any]) -> None:
        if head["schema"] != SCHEMA:
            raise ValueError(f"want schema {SCHEMA}")
        counts = head["counts"]
        if list(counts) != [table.name for table in COUNTED]:
            raise ValueError("the counts are not those of the tables")
        whole_numbers(*counts.values())
        if type(head["epoch"]) is not int or not 0 < head["epoch"] <= _MOST_EPOCHS:
            raise ValueError("the epoch is none")
        self._counts: dict[str, int] = counts
        self._epoch: int = head["epoch"]
        self._registry_key = key_of(head["registry_key"])
        self._meta = {name: str(head[name]) for name in ("mode", "registry_id", "controller")}
        self._registry_id = self._meta["registry_id"]

    # -- the whole ---------------------------------------------------------------------------------

    def fill(self, target: sa.Connection) -> None:
        """Write every line into its table, check the whole, and begin a new signing key."""
        folder = self._folder = self._open_folder()
        rows = self._rows = TransferRows(folder, self._registry_id, self._epoch)
        meta = [{"key": name, "value": value} for name, value in self._meta.items()]
        target.execute(sa.insert(schema.meta), meta)
        self._fill("notice", schema.notices, rows.notice, target)
        self._fill("person", schema.persons, rows.person, target)
        events = MerkleLog(schema.EVENTS_LOG, schema.events)
        self._fill("event", events, rows.event, target)
        self._fill("use", MerkleLog(schema.USES_LOG, schema.uses), rows.use, target)
        self._fill("checkpoint", schema.checkpoints, rows.checkpoint, target)
        self._fill("item", schema.items, rows.item, target)
        facts = Facts(folder, self._registry_id, self._simulated)
        checked = check_logs(facts, target, ArrivingCheck)
        if checked.check.keys.epoch != self._epoch:
            raise TamperedError("line 1", "the epoch is not the one that the log tells of")
        self._check_end(checked)
        folder.puncture(pid for pid, found in enumerate(rows.people) if found is None)
        self._checked = checked
        self._begin(target, events, facts)
        check_items(self._registry_id, target, checked.check.people)
        self._whole = True

    def result(self) -> TransferRead:
        """Return what was read."""
        return TransferRead(
            events=self._checked.events,
            root=self._checked.root.hex(),
            uses=self._checked.uses,
            persons=len(self._rows.people),
            items=self._counts["items"],
            origin=self._origin,
            closed=self._closed,
            suspended=self._suspended,
            pinned=self._known is not None,
        )

    def discard(self) -> None:
        """Remove the key folder that was made here, unless a registry may have come of it."""
        if self._made is not None and not self._whole:
            shutil.rmtree(self._made, ignore_errors=True)

    def _open_folder(self) -> KeyFolder:
        if isinstance(self._keys, KeyFolder):
            folder = self._keys
            if folder.signers or folder.registry_key != self._registry_key:
                raise KeyFileError(
                    f"{folder.path} is another registry's, or in use: make a new one"
                )
        else:
            path = Path(os.path.abspath(self._keys))
            folder = KeyFolder.create(path, root=self._root, registry_key=self._registry_key)
            self._made = path
        # The log names its epochs by number. Those before the last sealed nothing in this folder.
        while folder.epoch < self._epoch:
            folder.new_epoch()
        for epoch in folder.epochs:
            if epoch < self._epoch:
                folder.forget_epoch(epoch)
        return folder

    def _begin(self, target: sa.Connection, log: MerkleLog, facts: Facts) -> None:
        checked, now = self._checked, self._now
        last = target.execute(sa.select(sa.func.max(schema.events.c.recorded))).scalar_one()
        if now < last:
            raise ClockBackwardsError(
                f"the clock reads {iso(now)}, the log was written until {iso(last)}: set the clock"
            )
        self._closed = _ends_closed(target)
        add = Additions(facts, checked.check, now)
        begin = add.new_name()
        suspended = [] if self._closed else add.suspensions(target)
        self._suspended = len(suspended)
        rows = [begin, *suspended]
        log.append(target, checked.events, rows)
        state = checked.check.keys.after([begin["leaf"]], now)
        Signer(self._folder).sign(target, log, checked.events + len(rows), state)
        self._origin = state[0].origin

    def _check_end(self, checked: Checked) -> None:
        lines, digest = self._lines.count, self._lines.digest
        end = self._lines.next("end", FIELDS["end"])
        self._lines.finish()
        ring = checked.check.keys.ring
        known = [period.key for period in ring.periods if period.revoked is None]
        try:
            note = open_note(str(end["note"]), known)
        except ConsentError as error:
            raise TamperedError(self._lines.entry, str(error)) from error
        if note.text != end_text(self._registry_id, lines, digest):
            raise TamperedError(self._lines.entry, "is signed over another file")
        if self._known is not None and not set(note.keys) & set(self._known):
            raise SignatureError(
                "the file is signed by keys of its own log, and by none of those that you gave: it "
                "is another registry's, or forged"
            )

    # -- the lines ---------------------------------------------------------------------------------

    def _fill(
        self,
        kind: str,
        to: sa.Table | MerkleLog,
        make: Callable[[int, dict[str, Any]], dict[str, Any]],
        target: sa.Connection,
    ) -> None:
        table = to.table if isinstance(to, MerkleLog) else to
        for low, rows in self._chunks(kind, self._counts[table.name], make):
            if isinstance(to, MerkleLog):
                to.append(target, low, rows)
            else:
                insert_rows(target, table, rows)

    def _chunks(
        self, kind: str, count: int, make: Callable[[int, dict[str, Any]], dict[str, Any]]
    ) -> Iterator[tuple[int, list[dict[str, Any]]]]:
        size = _CHUNK if kind != "item" else _CHUNK // 50
        for low in range(0, count, size):
            rows = []
            for number in range(low, min(low + size, count)):
                line = self._lines.next(kind, FIELDS[kind])
                with naming(self._lines.entry):
                    rows.append(make(number, line))
            yield low, rows


def _ends_closed(connection: sa.Connection) -> bool:
    """Return whether the last entry of a log, checked before, closes the registry."""
    newest = sa.select(schema.events.c.leaf).order_by(schema.events.c.seq.desc()).limit(1)
    said = leaves.parse(bytes(connection.execute(newest).scalar_one()))
    return bool(said["kind"] == "key" and said["op"] == "moved")
