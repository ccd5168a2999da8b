"""The file of a backup: a registry's tables under another mark, so that it never opens as one."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import sqlalchemy as sa

from ..errors import RegistryMissingError, RegistryUnreadableError
from ..schema import APPLICATION_ID, BACKUP_ID
from ..storage import BUSY_TIMEOUT_MS
from ..storage.sqlite import SqliteStore

__all__ = ["BACKUP_ID", "BackupFile", "mark_backup", "one_plain_file", "open_backup"]


def mark_backup(connection: sa.Connection) -> None:
    """Turn the tables of a fresh registry into a backup's, in the same transaction."""
    connection.exec_driver_sql(f"PRAGMA application_id = {BACKUP_ID}")


def one_plain_file(path: Path) -> None:
    """Leave a closed file without a write-ahead log, which a copy of it could forget."""
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA journal_mode = DELETE")
    finally:
        connection.close()


class BackupFile(SqliteStore):
    """One backup."""

    def version(self, connection: sa.Connection) -> int:
        """Return the version of the schema.

        Raises:
            RegistryUnreadableError: not a backup.

        """
        found = self._version(connection)
        if found is None:
            mark = connection.exec_driver_sql("PRAGMA application_id").scalar()
            what = "a registry" if mark == APPLICATION_ID else "no file of privemo's"
            raise RegistryUnreadableError(f"{self.where} is {what}, want a backup: check the path")
        return found

    def _version(self, connection: sa.Connection) -> int | None:
        if connection.exec_driver_sql("PRAGMA application_id").scalar() != BACKUP_ID:
            return None
        return int(connection.exec_driver_sql("PRAGMA user_version").scalar_one())


def open_backup(path: str | os.PathLike[str]) -> BackupFile:
    """Open a backup for reading; nothing in it is trusted yet.

    Raises:
        RegistryMissingError: no file there.
        RegistryUnreadableError: not a backup, damaged, or of another schema.

    """
    place = Path(path)
    if not place.is_file():
        raise RegistryMissingError(f"no backup at {place}: check the path")
    store = BackupFile(place, readonly=True, busy_timeout_ms=BUSY_TIMEOUT_MS)
    try:
        with store.read() as connection:
            store._check_version(connection)
    except BaseException:
        store.close()
        raise
    return store
