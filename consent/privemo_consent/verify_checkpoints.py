"""The signed heads: each by a key of the log, each over the tree that stands there."""

from __future__ import annotations

from collections.abc import Iterable

import sqlalchemy as sa

from .checkpoint import Checkpoint, open_checkpoint, uses_of, uses_origin
from .errors import ConsentError, TamperedError
from .log import MerkleLog
from .note import split_note
from .schema import EVENTS_LOG, checkpoints
from .state import KeyState
from .verify_events import naming, rows_of

__all__ = ["check_checkpoints"]


def check_checkpoints(connection: sa.Connection, logs: Iterable[MerkleLog], keys: KeyState) -> int:
    """Check every stored head of both logs; return how many events the last one covers.

    The nodes of both trees were checked before: roots are folded from them.

    Raises:
        TamperedError: a head is signed by no key of the log, is over another tree, or the last one
            does not cover the log.

    """
    covered = 0
    logs = tuple(logs)
    uses_log = next(log for log in logs if log.number != EVENTS_LOG)
    for log in logs:
        size = log.size(connection)
        last = 0
        query = (
            sa.select(checkpoints)
            .where(checkpoints.c.log == log.number)
            .order_by(checkpoints.c.size)
        )
        for row in rows_of(connection, query, f"{log.table.name} checkpoint"):
            entry = f"{log.table.name} checkpoint {row['size']}"
            with naming(entry):
                head = _opened(entry, str(row["note"]), keys, log.number)
                if head.size != row["size"] or head.size > size:
                    raise TamperedError(entry, f"is over {head.size} entries, the log has {size}")
                if head.root != log.root(connection, head.size):
                    raise TamperedError(entry, "is over another tree than the one that stands here")
                last = head.size
                _check_beside(entry, head, uses_log, connection)
        if log.number == EVENTS_LOG:
            covered = last
            if last != size:
                raise TamperedError(
                    f"event {last}", "no signed head covers it: it was added past the registry"
                )
    return covered


def _check_beside(
    entry: str, head: Checkpoint, uses_log: MerkleLog, connection: sa.Connection
) -> None:
    """Hold the log of uses against what a head of events says of it."""
    said = uses_of(head)
    if said is None:
        return
    size, root = said
    have = uses_log.size(connection)
    if size > have:
        raise TamperedError(f"use {have}", f"missing: {entry} vouches for {size} uses")
    if uses_log.root(connection, size) != root:
        raise TamperedError(entry, f"the first {size} uses are not those it vouches for")


def _opened(entry: str, note: str, keys: KeyState, log: int) -> Checkpoint:
    known = [period.key for period in keys.ring.periods]
    text, _ = split_note(note)
    origin = text.partition("\n")[0]
    names = {key.name for key in known}
    if origin not in (names if log == EVENTS_LOG else {uses_origin(name) for name in names}):
        raise TamperedError(entry, f"is of another log: {origin!r}")
    try:
        return open_checkpoint(note, known, origin=origin)[0]
    except ConsentError as error:
        raise TamperedError(entry, str(error)) from error
