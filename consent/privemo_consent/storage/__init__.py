"""Where a registry's tables live: a SQLite file or a PostgreSQL server.

A place is a path, or a URL as ``postgresql://user@host/database?schema=name``.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

from ..errors import RegistryError
from .base import BUSY_TIMEOUT_MS, Store, pairs
from .places import is_url, shown
from .rows import fetch_row, insert_row, insert_rows
from .sqlite import SqliteStore

if TYPE_CHECKING:
    from .postgres import PostgresStore

__all__ = [
    "BUSY_TIMEOUT_MS",
    "Store",
    "create_store",
    "fetch_row",
    "insert_row",
    "insert_rows",
    "is_url",
    "open_store",
    "pairs",
    "shown",
]


def create_store(
    where: str | os.PathLike[str],
    fill: Callable[[sa.Connection], None],
    *,
    busy_timeout_ms: int = BUSY_TIMEOUT_MS,
) -> Store:
    """Make the tables of a new registry, with what ``fill`` puts into them.

    Tables and filling are one transaction: a crash leaves no half-made registry that opens.

    Args:
        where: a file that does not exist, readable then by its owner alone; or a URL whose schema
            is empty or not there.
        fill: called once with the connection.
        busy_timeout_ms: how long a write waits for another process.

    Raises:
        RegistryExistsError: something stands there.
        RegistryFullError: no space, or not writable.
        RegistryMissingError: the folder or the database does not exist.
        RegistryUnreadableError: the server cannot be reached.

    """
    if is_url(where):
        return _postgres().create(str(where), fill, busy_timeout_ms=busy_timeout_ms)
    return SqliteStore.create(Path(where), fill, busy_timeout_ms=busy_timeout_ms)


def open_store(
    where: str | os.PathLike[str],
    *,
    readonly: bool = False,
    busy_timeout_ms: int = BUSY_TIMEOUT_MS,
) -> Store:
    """Open what `create_store` made, after checking that it is a registry of this schema.

    Raises:
        RegistryMissingError: no registry there.
        RegistryUnreadableError: not a registry, of another schema, damaged or out of reach.
        RegistryFullError: to be written, on a server that does not flush its commits.

    """
    if is_url(where):
        return _postgres().open(str(where), readonly=readonly, busy_timeout_ms=busy_timeout_ms)
    return SqliteStore.open(Path(where), readonly=readonly, busy_timeout_ms=busy_timeout_ms)


def _postgres() -> type[PostgresStore]:
    try:
        from .postgres import PostgresStore
    except ImportError as error:
        raise RegistryError(
            "a registry on PostgreSQL needs psycopg, which is not installed: "
            "pip install 'privemo[postgres]'"
        ) from error
    return PostgresStore
