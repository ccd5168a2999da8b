"""What a registry answers: histories, people and uses; decisions and proofs come from the layers below."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa

from . import leaves, schema
from .errors import TamperedError
from .leaves import KINDS
from .policy import AgeRule
from .proving import LogHead, RegistryProver
from .records import ConsentEvent, Notice, Use
from .terms import Purpose
from .times import from_us
from .uses import LoggedDecision

if TYPE_CHECKING:
    from .exporting import LogExported

__all__ = ["LogHead", "RegistryReader"]


class RegistryReader(RegistryProver):
    """The reading half of `ConsentRegistry`."""

    def export_log(self, folder: str | os.PathLike[str]) -> LogExported:
        """Write both logs as plain files that anybody verifies offline; no entry names a person.

        Entries that no head covers yet (decisions since the last batch) are left out:
        `ConsentRegistry.sign_heads` signs them.

        Raises:
            RegistryExistsError, RegistryFullError: nothing was written.

        """
        from .exporting import export_log

        return export_log(self, folder)

    # -- what is held --------------------------------------------------------------------------

    def history(self, person: str) -> tuple[ConsentEvent, ...]:
        """Return every event of one person, oldest first; empty for someone unknown."""
        table = schema.events
        with self._journal.lock:
            pid = self._journal.refresh().people.pid(person)
        if pid is None:
            return ()
        query = (
            sa.select(table.c.seq, table.c.leaf)
            .where(table.c.pid == pid, table.c.kind == KINDS.index("consent"))
            .order_by(table.c.seq)
        )
        with self._store.read() as connection:
            rows = connection.execute(query).all()
        try:
            return tuple(leaves.event_of(bytes(leaf), person=person, seq=seq) for seq, leaf in rows)
        except ValueError as error:
            raise TamperedError("history", str(error).splitlines()[0]) from error

    def histories(self) -> Iterator[ConsentEvent]:
        """Yield every event of everybody, oldest first, but of people who were erased.

        For whoever reads all of a log, such as an audit: `history` of one person after the other asks the
        database for each.

        Raises:
            TamperedError: an entry is no event.

        """
        table = schema.events
        with self._journal.lock:
            people = self._journal.refresh().people
        query = (
            sa.select(table.c.seq, table.c.leaf, table.c.pid)
            .where(table.c.kind == KINDS.index("consent"))
            .order_by(table.c.seq)
        )
        with self._store.read() as connection:
            names = people.names(connection, range(people.size))
            rows = connection.execute(query).all()
        for seq, leaf, pid in rows:
            person = names.get(pid)
            if person is None:
                continue
            try:
                yield leaves.event_of(bytes(leaf), person=person, seq=seq)
            except ValueError as error:
                raise TamperedError("history", str(error).splitlines()[0]) from error

    def persons(self) -> tuple[str, ...]:
        """Return every person with a record, in the order of their first."""
        with self._journal.lock:
            people = self._journal.refresh().people
        with self._store.read() as connection:
            names = people.names(connection, range(people.size))
        return tuple(names[pid] for pid in sorted(names))

    def notices(self) -> tuple[Notice, ...]:
        """Return every notice ever in force, oldest first."""
        return self._book.all()

    def age_refusals(self) -> dict[AgeRule, int]:
        """Return how many people were refused at the door for their age, by rule."""
        query = sa.select(schema.events.c.leaf).where(
            schema.events.c.kind == KINDS.index("age_refusal")
        )
        counts = dict.fromkeys(AgeRule, 0)
        with self._store.read() as connection:
            for leaf in connection.execute(query).scalars():
                value = leaves.parse(leaf)
                counts[AgeRule(value["rule"])] += int(value["count"])
        return counts

    # -- uses ----------------------------------------------------------------------------------

    def record_use(
        self,
        persons: Sequence[str] | npt.NDArray[np.str_],
        purpose: Purpose,
        *,
        run: str,
        round: int,  # noqa: A002 - the word of the field, as in the run's files
        store: str,
        batch: int,
        log_seq: int,
        at: datetime | None = None,
    ) -> int:
        """Append, durably, who was in a batch; return the entry's number.

        Call it before the batch is used: a crash then over-counts uses and never hides one.

        Args:
            persons: shape (n,), person ids; each as often as they should be counted.
            purpose: what for.
            run: id of the run.
            round: of the run, from 1; 0 before the first.
            store: name of the store.
            batch: number of the batch in its round.
            log_seq: the log the admission relied on (``Admitted.log_seq``).
            at: the moment of the use, now by default.

        Raises:
            UnknownPersonError: someone has no record; nothing was written.
            MalformedError, BackdatedRefused, ClockBackwardsError, RegistryError

        """
        return self._uses.record(
            persons,
            Purpose(purpose),
            run=run,
            round_=round,
            store=store,
            batch=batch,
            log_seq=log_seq,
            at=at,
        )

    def uses(self) -> Iterator[Use]:
        """Yield every recorded batch, oldest first."""
        return self._uses.read()

    def decisions(self) -> Iterator[LoggedDecision]:
        """Yield every answer of `decide`, oldest first."""
        return self._uses.decisions()

    def now(self) -> datetime:
        """Read the clock that decisions use.

        Raises:
            ClockBackwardsError: it reads earlier than before, or than the log's last event.

        """
        return from_us(self._journal.now())
