"""Erasing a person: row, key, faces, and what WAL, free pages and backups still hold (GDPR 17).

The order makes a crash harmless. First one durable transaction ends every consent, logs the erasure,
empties the person's row and deletes their items. Then, while the registry can still tell whose they are,
their rows go out of the table that the store wrote beside it (`beside`). Then the key folder is punctured,
here and in its mirrors: from then on no copy of the database, wherever it lies, can be opened for this
person. Last the database's own leftovers are scrubbed. Whoever opens the registry next finishes what a
crash cut short. The log keeps its leaves, which name nobody, and its proofs still verify.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from . import beside, leaves, schema
from .errors import (
    KeyFileError,
    MalformedError,
    PlacesPendingError,
    RegistryError,
)
from .journal import Journal

__all__ = ["Erased", "erase", "finish_erasures"]


@dataclass(frozen=True, slots=True)
class Erased:
    """What an erasure did.

    Attributes:
        people: how many.
        items: how many faces and other items were deleted with them.
        pending: places that still hold what was to be destroyed, each with its remedy; empty when
            nothing is left anywhere.

    """

    people: int
    items: int
    pending: tuple[str, ...] = ()


def erase(journal: Journal, persons: Sequence[str], *, cause: str) -> Erased:
    """Erase people.

    Args:
        journal: of the registry.
        persons: ids, each once.
        cause: one of `leaves.CAUSES`.

    Raises:
        UnknownPersonError: someone has no record; nothing changed.
        MalformedError: an id that stands twice, or an unknown cause.
        RegistryError, KeyFileError: nothing was acknowledged; ask again. What fails once the
            erasure is logged is told in ``pending`` instead, and finished by whoever opens next.

    """
    if cause not in leaves.CAUSES:
        raise MalformedError(f"got cause {cause!r}, want one of {', '.join(leaves.CAUSES)}")
    if len(set(persons)) != len(persons):
        raise MalformedError("a person stands twice among those to erase")
    journal.keys_needed()
    with journal.lock:
        journal.refresh()
        items = _count_items(journal, persons)
        gone = journal.erase(persons, cause) if persons else []
    return Erased(len(gone), items, _destroy(journal, gone))


def finish_erasures(journal: Journal, *, scrub: bool = False) -> tuple[str, ...]:
    """Destroy the keys of everyone whose row is empty; return what is still pending.

    Costs one query, and where somebody was ever erased a reading of the table beside the registry.

    Args:
        journal: of the registry.
        scrub: clear the database's leftovers too, which may wait for a reader: an erasure that
            found one in its way left them.

    """
    keys = journal.keys_needed()
    query = sa.select(schema.persons.c.pid).where(schema.persons.c.wrapped.is_(None))
    with journal.store.read() as connection:
        empty = list(connection.execute(query).scalars())
        # A row that was damaged looks erased as well: without its entry no key is destroyed.
        late = [pid for pid in empty if not keys.punctured(pid) and _was_erased(connection, pid)]
    if late:
        return _destroy(journal, late)
    pending: list[str] = []
    if keys.pending:
        try:
            keys.finish()
        except PlacesPendingError as error:
            pending.append(str(error))
    if empty:
        pending.extend(_empty_beside(journal))
    if scrub and empty:
        pending.extend(_scrub(journal))
    return tuple(pending)


def _was_erased(connection: sa.Connection, pid: int) -> bool:
    """Return whether the log tells of this row's erasure."""
    table = schema.events
    query = sa.select(table.c.leaf).where(
        table.c.pid == pid, table.c.kind == leaves.KINDS.index("erasure")
    )
    leaf = connection.execute(query).scalar()
    return leaf is not None and leaves.parse(bytes(leaf))["kind"] == "erasure"


def _destroy(journal: Journal, pids: Sequence[int]) -> tuple[str, ...]:
    """Empty the table beside, puncture the keys, scrub the database; return what was not reached."""
    pending = _empty_beside(journal, pids)
    # The erasure is in the log by now: whatever fails is told as pending, never as not done.
    try:
        journal.keys_needed().puncture(pids)
    except PlacesPendingError as error:
        pending.append(str(error))
    except (KeyFileError, RegistryError) as error:
        pending.append(f"the keys still stand: {error}; then finish the erasure")
    pending.extend(_scrub(journal))
    with contextlib.suppress(KeyFileError, RegistryError):  # told above, and at the next use
        journal.state.people.forget(pids)
    return tuple(pending)


def _empty_beside(journal: Journal, pids: Sequence[int] = ()) -> list[str]:
    try:
        beside.forget_unknown(journal, set(pids))
    except (KeyFileError, RegistryError) as error:  # a no to everything else waits for no file
        return [f"{error}; then finish the erasure"]
    return []


def _scrub(journal: Journal) -> list[str]:
    try:
        journal.store.scrub()
    except RegistryError as error:  # a reader in the way, or a role that may not
        return [str(error)]
    return []


def _count_items(journal: Journal, persons: Sequence[str]) -> int:
    pids = [pid for pid in journal.state.people.rows(persons) if pid >= 0]
    table, total = schema.items, 0
    with journal.store.read() as connection:
        for pid in pids:
            counting = sa.select(sa.func.count()).select_from(table).where(table.c.pid == pid)
            total += int(connection.execute(counting).scalar_one())
    return total
