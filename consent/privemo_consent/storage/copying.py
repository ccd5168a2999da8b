"""All of a registry's rows from one database into another: backup, restore, moving."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from typing import Any

import sqlalchemy as sa

from .. import schema
from ..errors import MalformedError
from .rows import insert_values

__all__ = ["Change", "copy_tables"]

#: Takes a row and returns what to write in its place, None to leave it out.
Change = Callable[[dict[str, Any]], dict[str, Any] | None]

_WIDE = 50  # an item may be a picture: fewer of them fit into memory


def copy_tables(
    source: sa.Connection,
    target: sa.Connection,
    *,
    change: Mapping[str, Change] | None = None,
    chunk: int = 5000,
) -> dict[str, int]:
    """Copy every table, those that others refer to first, in the order of their keys.

    The guards of the target stay up: what does not count without gaps is refused.

    Args:
        source: inside one snapshot, as `Store.read` gives.
        target: empty tables of this schema, under the write lock.
        change: by table, what to do with each row.
        chunk: rows held in memory at a time.

    Returns:
        How many rows went into each table.

    Raises:
        MalformedError: ``change`` names a table that is none, or ``chunk`` is below 1.

    """
    change = change or {}
    if strange := change.keys() - schema.metadata.tables.keys():
        raise MalformedError(f"got a change of {min(strange)}, which is no table")
    if chunk < 1:
        raise MalformedError(f"got chunk {chunk}, want 1 or more")
    counts: dict[str, int] = {}
    for table in schema.metadata.sorted_tables:
        size = max(1, chunk // _WIDE) if table is schema.items else chunk
        counts[table.name] = 0
        with closing(_chunks(source, table, change.get(table.name), size)) as chunks:
            for rows in chunks:
                insert_values(target, table, rows)
                counts[table.name] += len(rows)
    return counts


def _chunks(
    source: sa.Connection, table: sa.Table, change: Change | None, size: int
) -> Generator[list[tuple[Any, ...]], None, None]:
    query = sa.select(table).order_by(*table.primary_key.columns)
    # stream_results: the server keeps the rows that were not asked for yet.
    options = {"stream_results": True, "max_row_buffer": size}
    names = [column.name for column in table.columns]
    with source.execute(query, execution_options=options) as result:
        for part in result.partitions(size):
            if change is None:
                yield [tuple(row) for row in part]
                continue
            changed = (change(dict(zip(names, row, strict=True))) for row in part)
            yield [tuple([row[name] for name in names]) for row in changed if row is not None]
