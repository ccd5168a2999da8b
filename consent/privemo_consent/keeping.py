"""Keeping a registry: its keys, its announcements, its copies."""

from __future__ import annotations

import contextlib
import os
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

from . import leaves, schema
from .errors import MalformedError, NoticeRefused, RegistryBusyError
from .keys import SigningKey, VerifyingKey
from .reader import RegistryReader
from .records import Notice
from .sealing import rewrap
from .times import from_us
from .transaction import plain_row

if TYPE_CHECKING:
    from .copies.backup import BackupMade

__all__ = ["OVERLAP", "RegistryKeeping"]

#: How long an old signing key goes on beside a new one, unless it is told otherwise.
OVERLAP = timedelta(days=7)
_CHUNK = 5_000


class RegistryKeeping(RegistryReader):
    """What whoever runs a registry does with it."""

    # -- telling people --------------------------------------------------------------------------

    def announce_reading(self, notice: Notice | str, *, place: str) -> None:
        """Log that people are told, where they enter, that expressions are read here.

        No later than the first reading (EU AI Act 50(3)): until then every decision for
        PERSONALISATION refuses, as ``not_announced``.

        Args:
            notice: the notice that hangs there, or its hash; registered before.
            place: where it hangs, as the staff would say it.

        Raises:
            NoticeRefused: no such notice is registered, or it is silent on PERSONALISATION.
            MalformedError: no place.

        """
        if not place.strip() or not place.isprintable():
            raise MalformedError("place: say where the notice hangs, in printable characters")
        digest = notice if isinstance(notice, str) else notice.hash
        if "personalisation" not in self._book.get(digest).purposes:
            raise NoticeRefused("the notice does not name personalisation")
        with self._journal.lock:
            nid = self._journal.refresh().notice_rows[digest]

            def leaf(now: int) -> bytes:
                return leaves.exposure_leaf(
                    notice=digest, place=place, recorded=now, simulated=self._journal.simulated
                )

            self._journal.announce("exposure", leaf, nid)

    # -- heads -----------------------------------------------------------------------------------

    def sign_heads(self) -> None:
        """Sign the head of the log of uses, with the decisions since the last batch in it.

        The log of events is signed with every change; there is nothing to do for it.

        Raises:
            RegistryError, KeyFileError: nothing was signed.

        """
        journal = self._journal
        with journal.lock:
            if journal.refresh().keys.moved:
                return  # both heads were signed as it was closed
            with self._store.write() as connection:
                journal.catch_up(connection)
                if journal.uses_size:
                    now = (journal.state.keys, journal.now())
                    journal.signer.sign(connection, self._uses.log, journal.uses_size, now)
        journal.signer.publish(journal)

    # -- signing keys ----------------------------------------------------------------------------

    def rotate_signing_key(self, *, overlap: timedelta = OVERLAP) -> VerifyingKey:
        """Begin a new signing key; the others go on for ``overlap`` and then count no more.

        Raises:
            MalformedError: a negative overlap.
            KeyFileError: the key folder cannot be written; nothing changed.

        """
        if overlap < timedelta(0):
            raise MalformedError("an overlap is not negative")
        with self._journal.writing() as work:
            now = self._journal.now()
            return self._begin_key(work.rows, now, ends=now + _microseconds(overlap))

    def revoke_signing_key(self, key_id: str) -> None:
        """End all trust in a signing key at once, for signatures of any date.

        Where it is the only key in use, a new one begins in the same transaction.

        Args:
            key_id: eight hexadecimal digits, as checkpoints and `ring` show them.

        Raises:
            MalformedError: the log knows no such key.

        """
        with self._journal.writing() as work:
            ring, now = self._journal.state.keys.ring, self._journal.now()
            found = [p.key for p in ring.periods if p.key.key_id.hex() == key_id]
            if not found:
                raise MalformedError(f"the log knows no key {key_id!r}: see `privemo keys list`")
            if not [key for key in ring.valid(from_us(now)) if key != found[0]]:
                self._begin_key(work.rows, now, ends=now)
            work.rows.append(self._key_row("revoke", str(found[0]), None, now))
        self.keys.drop_signer(found[0].key_id)

    def _begin_key(self, rows: list[dict[str, object]], now: int, *, ends: int) -> VerifyingKey:
        name = self._journal.state.keys.origin or f"privemo.consent/{self.registry_id}"
        key = SigningKey.generate(name)
        # First the private half on the disk: a log that names a key nobody holds could not go on.
        self.keys.add_signer(key)
        rows.append(self._key_row("begin", str(key.verifying), ends, now))
        return key.verifying

    def _key_row(self, op: str, key: str, ends: int | None, now: int) -> dict[str, object]:
        leaf = leaves.key_leaf(
            op=op, key=key, ends_others=ends, recorded=now, simulated=self._journal.simulated
        )
        return plain_row("key", leaf, now, self._journal.simulated)

    # -- keys of persons -------------------------------------------------------------------------

    def rotate_person_keys(self) -> int:
        """Wrap every person's key anew under a fresh epoch; return its number.

        No face is decrypted: what is sealed under a person's key stays as it is. The old epoch is
        kept, so that older backups can still be restored, until `forget_person_keys`.

        Raises:
            RegistryBusyError, KeyFileError: nothing changed.

        """
        keys, journal = self.keys, self._journal
        with journal.writing() as work:
            keys.refresh()
            # An epoch that a crash left unused is taken up again.
            epoch = keys.epoch if keys.epoch > journal.state.keys.epoch else keys.new_epoch()
            self._rewrap_all(work.connection, epoch)
            work.rows.append(self._key_row("epoch", f"epoch:{epoch}", None, journal.now()))
        # It is done: a reader in the way keeps old wrappings in the WAL for a while, which open
        # under the old epoch alone.
        with contextlib.suppress(RegistryBusyError):
            self._store.scrub()
        return epoch

    def forget_person_keys(self, epoch: int) -> None:
        """Destroy the keys of an earlier epoch: backups made under it cannot be opened any more.

        Raises:
            MalformedError: the epoch in use, or one that is not there.

        """
        with self._journal.writing() as work:
            if not 0 < epoch < self._journal.state.keys.epoch or epoch not in self.keys.epochs:
                raise MalformedError(f"epoch {epoch} is in use, or is not there any more")
            work.rows.append(self._key_row("forget", f"epoch:{epoch}", None, self._journal.now()))
        self.keys.forget_epoch(epoch)

    def _rewrap_all(self, connection: sa.Connection, epoch: int) -> None:
        table, at = schema.persons, 0
        change = (
            sa.update(table)
            .where(table.c.pid == sa.bindparam("b_pid"))
            .values({name: sa.bindparam(f"b_{name}") for name in ("handle", "wrapped", "epoch")})
        )
        while True:
            query = sa.select(table).where(table.c.pid >= at).order_by(table.c.pid).limit(_CHUNK)
            rows = connection.execute(query).mappings().all()
            if not rows:
                return
            new = [
                rewrap(self.keys, self.registry_id, dict(row), epoch)[0]
                for row in rows
                if row["wrapped"] is not None
            ]
            if new:
                values = [{f"b_{k}": v for k, v in row.items() if k != "sealed"} for row in new]
                connection.execute(change, values)
            at = rows[-1]["pid"] + 1

    # -- the witness -----------------------------------------------------------------------------

    def set_witness(self, path: str | os.PathLike[str] | None) -> None:
        """Let a folder elsewhere remember the log's signed heads, from now on; None ends that.

        Every later opening holds the log against it, so that an old copy of the database is told
        from the newest, and refuses while the folder is away.

        Args:
            path: a folder on another disk; made a witness where it is empty or missing.

        Raises:
            RegistryExistsError: the folder holds other things.
            RolledBackError, ForkedError: it remembers another log than this one.
            WitnessMissingError, RegistryFullError: it cannot be reached.

        """
        from .witness import Witness, is_there
        from .witnessing import tell_witness

        folder = None if path is None else Path(path).absolute()
        missed = self.keys.witness_behind
        if folder is not None:
            if not is_there(folder):
                Witness.create(folder, known=[p.key for p in self.ring.periods])
            tell_witness(self._journal, folder)
        self.keys.witness = folder
        if folder is not None:
            tell_witness(self._journal, folder)  # of what came between the two
        if missed is not None:
            self.keys.catch_up_witness(missed)

    # -- copies ----------------------------------------------------------------------------------

    def backup(self, to: str | os.PathLike[str]) -> BackupMade:
        """Write a copy to the file ``to``: see `copies.backup.write_backup`."""
        from .copies.backup import write_backup

        return write_backup(self, to)


def _microseconds(span: timedelta) -> int:
    """Return a span in microseconds."""
    return span // timedelta(microseconds=1)
