"""A registry's two logs as plain files: what is signed, as of one moment."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

from . import schema
from .checkpoint import Checkpoint, uses_of
from .logexport.export import EVENTS, USES, write_export
from .note import split_note

if TYPE_CHECKING:
    from .reader import RegistryReader

__all__ = ["LogExported", "export_log"]

_CHUNK = 2_000


@dataclass(frozen=True, slots=True)
class LogExported:
    """What `export_log` wrote: entries of each log, and how many uses no head covers yet."""

    events: int
    uses: int
    uses_unsigned: int


def export_log(registry: RegistryReader, folder: str | os.PathLike[str]) -> LogExported:
    """Write everything that is signed, so that anybody verifies it offline; see `verify_export`.

    Raises:
        RegistryExistsError, RegistryFullError: see `logexport.write_export`.

    """
    ring = registry.ring
    with registry._store.read() as connection:
        heads = {
            EVENTS: _heads(connection, schema.EVENTS_LOG),
            USES: _heads(connection, schema.USES_LOG),
        }
        sizes = {name: found[-1][0] if found else 0 for name, found in heads.items()}
        sizes[USES] = max(sizes[USES], _vouched(heads[EVENTS]))
        unsigned = _size(connection, schema.uses) - sizes[USES]
        write_export(
            Path(folder),
            leaves=_leaves(connection, schema.events, sizes[EVENTS]),
            uses=_leaves(connection, schema.uses, sizes[USES]),
            checkpoints={name: [note for _, note in found] for name, found in heads.items()},
            notices=_notices(connection),
            keys=[str(period.key) for period in ring.periods],
        )
    return LogExported(sizes[EVENTS], sizes[USES], unsigned)


def _vouched(heads: list[tuple[int, str]]) -> int:
    """Return how many uses the newest head of events vouches for."""
    if not heads:
        return 0
    said = uses_of(Checkpoint.parse(split_note(heads[-1][1])[0]))
    return 0 if said is None else said[0]


def _heads(connection: sa.Connection, log: int) -> list[tuple[int, str]]:
    table = schema.checkpoints
    query = sa.select(table.c.size, table.c.note).where(table.c.log == log).order_by(table.c.size)
    return [(int(size), str(note)) for size, note in connection.execute(query)]


def _size(connection: sa.Connection, table: sa.Table) -> int:
    last = connection.execute(sa.select(sa.func.max(table.c.seq))).scalar()
    return 0 if last is None else int(last) + 1


def _leaves(connection: sa.Connection, table: sa.Table, size: int) -> Iterator[bytes]:
    for at in range(0, size, _CHUNK):
        end = min(at + _CHUNK, size)
        query = (
            sa.select(table.c.leaf)
            .where(table.c.seq >= at, table.c.seq < end)
            .order_by(table.c.seq)
        )
        yield from (bytes(leaf) for leaf in connection.execute(query).scalars())


def _notices(connection: sa.Connection) -> Iterator[bytes]:
    table = schema.notices
    query = sa.select(table.c.body).order_by(table.c.nid)
    yield from (bytes(body) for body in connection.execute(query).scalars())
