"""The two logs of a registry, read as of one moment for an export."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import sqlalchemy as sa

    from privemo_consent import ConsentRegistry

__all__ = ["export_log"]

_CHUNK = 2_000


def export_log(registry: ConsentRegistry, where: str, folder: Path) -> dict[str, Any]:
    """Write an export of what is signed; return its sizes, and how many uses are not signed yet.

    Raises:
        RegistryExistsError, RegistryFullError: see `logexport.write_export`.

    """
    from privemo_consent import schema
    from privemo_consent.logexport import EVENTS, USES, write_export
    from privemo_consent.storage import open_store

    ring = registry.ring
    store = open_store(where, readonly=True)
    try:
        with store.read() as connection:
            heads = {
                EVENTS: _heads(connection, schema.EVENTS_LOG),
                USES: _heads(connection, schema.USES_LOG),
            }
            sizes = {name: found[-1][0] if found else 0 for name, found in heads.items()}
            unsigned = _size(connection, schema.uses) - sizes[USES]
            write_export(
                folder,
                leaves=_leaves(connection, schema.events, sizes[EVENTS]),
                uses=_leaves(connection, schema.uses, sizes[USES]),
                checkpoints={name: [note for _, note in found] for name, found in heads.items()},
                notices=_notices(connection),
                keys=[str(period.key) for period in ring.periods],
            )
    finally:
        store.close()
    return {
        "folder": str(folder),
        "events": sizes[EVENTS],
        "uses": sizes[USES],
        "uses_unsigned": unsigned,
    }


def _heads(connection: sa.Connection, log: int) -> list[tuple[int, str]]:
    import sqlalchemy as sa

    from privemo_consent.schema import checkpoints as table

    query = sa.select(table.c.size, table.c.note).where(table.c.log == log).order_by(table.c.size)
    return [(int(size), str(note)) for size, note in connection.execute(query)]


def _size(connection: sa.Connection, table: sa.Table) -> int:
    import sqlalchemy as sa

    last = connection.execute(sa.select(sa.func.max(table.c.seq))).scalar()
    return 0 if last is None else int(last) + 1


def _leaves(connection: sa.Connection, table: sa.Table, size: int) -> Iterator[bytes]:
    import sqlalchemy as sa

    for at in range(0, size, _CHUNK):
        end = min(at + _CHUNK, size)
        query = (
            sa.select(table.c.leaf)
            .where(table.c.seq >= at, table.c.seq < end)
            .order_by(table.c.seq)
        )
        yield from (bytes(leaf) for leaf in connection.execute(query).scalars())


def _notices(connection: sa.Connection) -> Iterator[bytes]:
    import sqlalchemy as sa

    from privemo_consent.schema import notices as table

    query = sa.select(table.c.body).order_by(table.c.nid)
    yield from (bytes(body) for body in connection.execute(query).scalars())
