"""What a registry's logs prove: their heads, proofs, and whether all that is stored is whole."""

from __future__ import annotations

from typing import NamedTuple

import sqlalchemy as sa

from . import schema
from .deciding import RegistryDecider
from .errors import MalformedError
from .keys import KeyRing
from .leaves import PURPOSES, STATUSES
from .signing import latest_checkpoint
from .terms import ConsentStatus, Purpose
from .verify import Verified, verify_registry

__all__ = ["LogHead", "RegistryProver"]

_ENDED = (
    ConsentStatus.REFUSED,
    ConsentStatus.EXPIRED,
    ConsentStatus.INVALIDATED,
    ConsentStatus.REVOKED,
    ConsentStatus.WITHDRAWN,
)


class LogHead(NamedTuple):
    """How long the log is, and the root of its tree in hexadecimal."""

    seq: int
    root: str


class RegistryProver(RegistryDecider):
    """The layer of a registry whose answers anybody can check."""

    @property
    def log_seq(self) -> int:
        """The number of events, as of now."""
        with self._store.read() as connection:
            return self._journal.log.size(connection)

    def head(self) -> LogHead:
        """Return length and root of the log as of one moment."""
        with self._store.read() as connection:
            size = self._journal.log.size(connection)
            return LogHead(size, self._journal.log.root(connection, size).hex())

    def log_root(self, size: int | None = None) -> str:
        """Return the RFC 9162 root over the first ``size`` events (all by default), as hex."""
        if size is None:
            return self.head().root
        with self._store.read() as connection:
            self._check_size(size, self._journal.log.size(connection))
            return self._journal.log.root(connection, size).hex()

    def uses_head(self) -> LogHead:
        """Return length and root of the log of uses."""
        with self._store.read() as connection:
            size = self._uses.log.size(connection)
            return LogHead(size, self._uses.log.root(connection, size).hex())

    def changed_since(self, seq: int) -> bool:
        """Return whether anything was appended after the first ``seq`` events; one small query."""
        return self.log_seq != seq

    def withdrawn_since(self, seq: int, purpose: Purpose | None = None) -> tuple[str, ...]:
        """Return the persons who said no, or whose consent was ended, after the first ``seq`` events.

        By withdrawal, refusal, revocation or invalidation; in the order of the log. Terms that merely
        ran out leave no event: decisions see to those.
        """
        table = schema.events
        query = (
            sa.select(table.c.pid)
            .where(
                table.c.seq >= seq,
                table.c.status.in_([STATUSES.index(status) for status in _ENDED]),
            )
            .order_by(table.c.seq)
        )
        if purpose is not None:
            query = query.where(table.c.purpose == PURPOSES.index(Purpose(purpose)))
        with self._store.read() as connection:
            pids = list(dict.fromkeys(connection.execute(query).scalars()))
            names = self._journal.state.people.names(connection, pids)
        return tuple(names[pid] for pid in pids if pid in names)

    def inclusion_proof(self, seq: int, size: int | None = None) -> list[bytes]:
        """Return the proof that event ``seq`` is in the log; check it with `merkle`."""
        with self._store.read() as connection:
            size = self._journal.log.size(connection) if size is None else size
            return self._journal.log.inclusion_proof(connection, seq, size)

    def consistency_proof(self, size1: int, size2: int | None = None) -> list[bytes]:
        """Return the proof that the log of ``size2`` events extends that of ``size1``."""
        with self._store.read() as connection:
            size2 = self._journal.log.size(connection) if size2 is None else size2
            return self._journal.log.consistency_proof(connection, size1, size2)

    def checkpoint(self, *, uses: bool = False) -> str:
        """Return the last signed head of the log (a C2SP signed note), or of the log of uses.

        Raises:
            MalformedError: nothing was signed yet.

        """
        log = schema.USES_LOG if uses else schema.EVENTS_LOG
        with self._store.read() as connection:
            found = latest_checkpoint(connection, log)
        if found is None:
            raise MalformedError("no head of this log was signed yet")
        return found[1]

    def check_witnessed(self) -> None:
        """Say so when nobody could ask the witness whether this is an old copy.

        Raises:
            WitnessMissingError: until it is plugged in and asked, nobody is permitted.

        """
        self._journal.check_witnessed()

    @property
    def ring(self) -> KeyRing:
        """The signing keys of the log and their periods, as the log itself tells them."""
        with self._journal.lock:
            return self._journal.refresh().keys.ring

    @property
    def origin(self) -> str:
        """The name of the log in its checkpoints."""
        with self._journal.lock:
            return self._journal.refresh().keys.origin

    def leaf(self, seq: int) -> bytes:
        """Return the stored bytes of event ``seq``; they hold no identifier."""
        query = sa.select(schema.events.c.leaf).where(schema.events.c.seq == seq)
        with self._store.read() as connection:
            found = connection.execute(query).scalar()
        if found is None:
            raise MalformedError(f"the log has no event {seq}")
        return bytes(found)

    def verify(self) -> Verified:
        """Recompute everything from the stored bytes.

        Raises:
            TamperedError: its ``entry`` names the first bad entry.
            RegistryUnreadableError: the file cannot be read.

        """
        return verify_registry(self._journal, self._uses)

    @staticmethod
    def _check_size(size: int, have: int) -> None:
        if not 0 <= size <= have:
            raise MalformedError(f"got size {size}, the log has {have} entries")
