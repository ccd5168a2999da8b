"""Signed heads of the logs: one with every durable change, in the same transaction.

A head that does not extend the one signed before is never signed (C2SP tlog-checkpoint; REQUIREMENTS 30):
then the transaction fails and nothing is written. Keys come from the log, which says when each begins
and ends; private halves come from the key folder.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

import sqlalchemy as sa

from .checkpoint import Checkpoint, open_checkpoint, sign_checkpoint, uses_line, uses_origin
from .errors import ConsentError, KeyFileError, TamperedError
from .keyfolder.folder import KeyFolder
from .keys import KeyRing, SigningKey
from .log import MerkleLog
from .schema import EVENTS_LOG, USES_LOG, checkpoints, uses
from .times import from_us

if TYPE_CHECKING:
    from .journal import Journal
    from .state import KeyState

__all__ = ["KEPT_EVERY", "Signer", "latest_checkpoint"]

#: One head in so many entries is kept for good, besides the last: a chain of a million grants would
#: otherwise take longer to verify for its signatures than for its entries.
KEPT_EVERY = 1024

_LOGGER = logging.getLogger("privemo.consent")


def latest_checkpoint(connection: sa.Connection, log: int) -> tuple[int, str] | None:
    """Return size and note of the last head signed for a log, or None."""
    query = (
        sa.select(checkpoints.c.size, checkpoints.c.note)
        .where(checkpoints.c.log == log)
        .order_by(checkpoints.c.size.desc())
        .limit(1)
    )
    row = connection.execute(query).first()
    return None if row is None else (int(row[0]), str(row[1]))


class Signer:
    """Signs heads with the keys of one folder."""

    def __init__(self, keys: KeyFolder | None) -> None:
        self._keys = keys
        #: whether this thread signed since it last told the witness
        self._mine = threading.local()
        #: the last head signed or checked by this process, by log
        self._last: dict[int, Checkpoint] = {}

    def keys_at(self, state: KeyState, now: int) -> list[SigningKey]:
        """Return the keys that may sign now and that the folder holds, the newest last.

        Raises:
            KeyFileError: the folder holds none of them.

        """
        if self._keys is None:
            raise KeyFileError(
                "this registry was opened without its key folder: give keys=..., or --keys DIR"
            )
        valid = state.ring.valid(from_us(now))
        held = [key for key in valid if self._keys.holds(key)]
        if not held:
            self._keys.refresh()
            held = [key for key in valid if self._keys.holds(key)]
        if not held:
            raise KeyFileError(
                f"{self._keys.path} holds no key that may sign for this registry: "
                "it belongs to another one, or every key was revoked"
            )
        return [self._keys.signer(key.key_id) for key in held]

    def sign(
        self,
        connection: sa.Connection,
        log: MerkleLog,
        size: int,
        state: tuple[KeyState, int],
    ) -> str:
        """Sign and store the head of the first ``size`` entries; return the note.

        Args:
            connection: holds the write lock.
            log: which log.
            size: how many entries.
            state: what the log says of keys by then, and the moment in microseconds.

        Raises:
            ProofError: the tree does not extend the head signed before; nothing was signed.
            TamperedError: the head signed before is not signed by a key of this log.
            KeyFileError: no key may sign.

        """
        key_state, now = state
        origin = key_state.origin
        if log.number != EVENTS_LOG:
            origin = uses_origin(origin)
        previous = self._previous(connection, log.number, key_state, origin)
        head = Checkpoint(origin, size, log.root(connection, size), self._beside(connection, log))
        proof: list[bytes] = []
        if previous is not None:
            if previous.size == size and previous.root != head.root:
                raise TamperedError(
                    f"{log.table.name} {size - 1}",
                    f"a head was signed over {size} other entries: the log was cut",
                )
            if previous.size == size:
                return _stored(connection, log.number, size)
            if previous.size > size:
                raise TamperedError(
                    f"{log.table.name} {size}",
                    f"a head of {previous.size} entries was signed, the log has {size}",
                )
            proof = log.consistency_proof(connection, previous.size, size)
        note = sign_checkpoint(head, *self.keys_at(key_state, now), previous=previous, proof=proof)
        values = {"log": log.number, "size": size, "note": note}
        connection.execute(sa.insert(checkpoints), [values])
        if previous is not None and previous.size // KEPT_EVERY == size // KEPT_EVERY:
            _let_go(connection, log.number, previous.size)
        self._last[log.number] = head
        self._mine.signed = True
        return note

    @staticmethod
    def _beside(connection: sa.Connection, log: MerkleLog) -> tuple[str, ...]:
        """Return what a head of events says of the log of uses: its head cannot be left out then."""
        other = MerkleLog(USES_LOG, uses)
        size = other.size(connection) if log.number == EVENTS_LOG else 0
        return (uses_line(size, other.root(connection, size)),) if size else ()

    def _previous(
        self, connection: sa.Connection, log: int, state: KeyState, origin: str
    ) -> Checkpoint | None:
        """Return the last head signed under this origin, checked; None for the first one."""
        found = latest_checkpoint(connection, log)
        if found is None:
            return None
        size, note = found
        last = self._last.get(log)
        if last is not None and last.size == size and last.text == note.partition("\n\n")[0] + "\n":
            return last
        # Keys that were revoked since, too: the question here is what this log once signed.
        known = [period.key for period in state.ring.periods]
        try:
            checkpoint = open_checkpoint(note, known, origin=note.partition("\n")[0])[0]
        except ConsentError as error:
            raise TamperedError(f"checkpoint {log}/{size}", str(error)) from error
        if checkpoint.origin != origin:
            # A log that goes on under a new name (restored, or taken over): same tree, new promises.
            return Checkpoint(origin, checkpoint.size, checkpoint.root)
        return checkpoint

    def publish(self, journal: Journal) -> None:
        """Copy what was signed to the witness, if there is one; a withdrawal never waits for it.

        Called after the commit, in its thread, and before the change is acknowledged. That the
        witness lacks it is remembered durably: a restore would take its word for the log's end.

        Raises:
            KeyFileError, RegistryFullError, RegistryBusyError: neither the witness could be told nor
                the key folder written. The change is in the log, and is not acknowledged.

        """
        # By thread: another one may sign, and not have committed yet, while this one tells.
        signed, self._mine.signed = getattr(self._mine, "signed", False), False
        if not signed or self._keys is None or self._keys.witness is None:
            return
        from .witnessing import tell_witness

        self._keys.refresh()
        missed = self._keys.witness_behind  # before the heads are read that the witness is told
        try:
            tell_witness(journal, self._keys.witness)
        except (ConsentError, OSError) as error:
            _LOGGER.warning("the witness was not told: %s", error)
            self._keys.miss_witness()
            return
        if missed is not None:
            self._keys.catch_up_witness(missed)


def _let_go(connection: sa.Connection, log: int, size: int) -> None:
    """Delete a head that a later one has replaced: the witness and receipts keep their own."""
    old = sa.delete(checkpoints).where(checkpoints.c.log == log, checkpoints.c.size == size)
    connection.execute(old)


def _stored(connection: sa.Connection, log: int, size: int) -> str:
    query = sa.select(checkpoints.c.note).where(
        checkpoints.c.log == log, checkpoints.c.size == size
    )
    return str(connection.execute(query).scalar_one())


def check_belongs(keys: KeyFolder, ring: KeyRing) -> None:
    """Refuse a log none of whose signing keys this folder ever held.

    Raises:
        KeyFileError: the log is another registry's, or forged from nothing.

    """
    if not any(keys.ever_held(period.key) for period in ring.periods):
        raise KeyFileError(
            f"{keys.path} never held a signing key of this log: give the registry's own keys"
        )


def drop_revoked(keys: KeyFolder, ring: KeyRing) -> None:
    """Let go of private keys that the log says were revoked: a crash may have come in between."""
    for period in ring.periods:
        if period.revoked is not None and keys.holds(period.key):
            keys.drop_signer(period.key.key_id)


def newest_signer(journal: Journal) -> SigningKey:
    """Return the key that signs now, the newest where two overlap.

    Raises:
        KeyFileError: the folder holds none that may.

    """
    return journal.signer.keys_at(journal.state.keys, journal.now())[-1]
