"""From an earlier version of the schema to this one: all of it, or nothing.

The revisions stand in ``migrations/`` and run through alembic, on one connection that holds the
write lock, in one transaction: whenever the power fails, the old registry is whole, or the new one.
Guards belong to no revision: all are dropped first, and those of today stand at the end.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import sqlalchemy as sa

from .. import schema
from ..errors import (
    RegistryBusyError,
    RegistryError,
    RegistryUnreadableError,
    TamperedError,
)
from . import _postgres, guards, is_url
from .base import BUSY_TIMEOUT_MS, Store
from .sqlite import SqliteStore, look_at

__all__ = ["migrate", "run_revisions"]

_SCRIPTS = Path(__file__).parents[1] / "migrations"


class _MigratingFile(SqliteStore):
    """Tables that others refer to are replaced: keys are checked once, at the end.

    https://sqlite.org/lang_altertable.html#otheralter. Nothing old goes to a temporary file.
    """

    pragmas = (
        *(pragma for pragma in SqliteStore.pragmas if pragma != "foreign_keys = ON"),
        "temp_store = MEMORY",
    )


def migrate(
    where: str | os.PathLike[str],
    *,
    convert: Callable[[sa.Connection], None],
    busy_timeout_ms: int = BUSY_TIMEOUT_MS,
) -> tuple[int, int]:
    """Bring a registry to this version of the schema; return the version it had and has.

    A registry that is there already only has its free space cleared again: a migration that was
    stopped between its commit and that may simply be repeated.

    Args:
        where: a file or a URL.
        convert: carries the people of version 1 over; see ``migrations/versions``.
        busy_timeout_ms: how long to wait for other processes.

    Raises:
        RegistryMissingError: no registry there.
        RegistryUnreadableError: not a registry, or written by a later privemo.
        RegistryBusyError: another process writes, or reads the old version still.
        TamperedError: what came out is not a registry of this version; nothing was changed.

    """
    store = _store(where, busy_timeout_ms)
    try:
        with store.write() as connection:
            found = store.version(connection)
            if found > schema.SCHEMA_VERSION:
                raise RegistryUnreadableError(
                    f"{store.where} has schema {found}, this privemo writes "
                    f"{schema.SCHEMA_VERSION}: use a later privemo"
                )
            if found < schema.SCHEMA_VERSION:
                _upgrade(store, connection, found, convert)
        _clear(store)
    finally:
        store.close()
    return found, schema.SCHEMA_VERSION


def _store(where: str | os.PathLike[str], busy_timeout_ms: int) -> Store:
    if is_url(where):
        return _postgres()(str(where), readonly=False, busy_timeout_ms=busy_timeout_ms)
    path = Path(where)
    look_at(path)
    return _MigratingFile(path, readonly=False, busy_timeout_ms=busy_timeout_ms)


def _upgrade(
    store: Store, connection: sa.Connection, found: int, convert: Callable[[sa.Connection], None]
) -> None:
    guards.remove(connection)
    if not sa.inspect(connection).has_table(guards.versions.name):  # version 1 had none
        guards.versions.create(connection)
        stamp = sa.insert(guards.versions).values(version_num=guards.revision(found))
        connection.execute(stamp)
    run_revisions(connection, guards.revision(schema.SCHEMA_VERSION), convert)
    guards.install(connection)
    guards.mark(connection)
    if store.dialect == "sqlite":
        lost = connection.exec_driver_sql("PRAGMA foreign_key_check").first()
        if lost is not None:
            raise TamperedError(f"table {lost[0]}", "refers to a row that is not there")
    store.check(connection)


def run_revisions(
    connection: sa.Connection, target: str, convert: Callable[[sa.Connection], None] | None = None
) -> None:
    """Run alembic's revisions up to ``target`` inside the connection's transaction."""
    try:
        from alembic import command
        from alembic.config import Config
    except ImportError as error:
        raise RegistryError(
            "migrating needs alembic, which is not installed: pip install alembic"
        ) from error
    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
    config.attributes.update(connection=connection, convert=convert)
    command.upgrade(config, target)


def _clear(store: Store) -> None:
    """Leave nothing of what was dropped in the file: version 1 held names in the clear."""
    try:
        if isinstance(store, SqliteStore):
            store.compact()
        else:
            store.scrub()
    except RegistryBusyError as error:
        raise RegistryBusyError(
            f"{store.where} was migrated, but another process still reads the old version, whose "
            "names stand in the file: end that process and run `privemo registry migrate` again"
        ) from error
