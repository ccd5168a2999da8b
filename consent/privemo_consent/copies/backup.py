"""Backups: one consistent copy of a registry in one file, which erasure still reaches.

A copy holds the rows and never a key, so that a key destroyed in the key folder is destroyed for
it too. Handles are left out: they would be the one thing in it that tells, to whoever holds the
lookup key, whether a person stands there at all; what is left of a person is ciphertext under a key that an
erasure destroys. A restore works them out again from what is sealed.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from .. import schema
from ..checkpoint import Checkpoint
from ..errors import TamperedError
from ..handle import RegistryHandle
from ..log import MerkleLog
from ..note import split_note
from ..signing import latest_checkpoint
from ..storage import BUSY_TIMEOUT_MS
from ..storage.copying import copy_tables
from .backupfile import BackupFile, mark_backup, one_plain_file
from .restoring import Restored, restore
from .wholefile import whole_file

__all__ = ["BackupMade", "Restored", "restore", "write_backup"]


@dataclass(frozen=True, slots=True)
class BackupMade:
    """What a backup holds.

    Note ``events`` and ``root`` elsewhere: they show later whether a copy is the newest.

    Attributes:
        path: the file.
        events: entries of the log.
        uses: entries of the log of uses.
        root: of the log's tree, in hexadecimal.
        checkpoint: the log's last signed head.

    """

    path: Path
    events: int
    uses: int
    root: str
    checkpoint: str


def write_backup(registry: RegistryHandle, to: str | os.PathLike[str]) -> BackupMade:
    """Copy a registry, as of one moment and while it is used, into the new file ``to``.

    The file is its owner's alone, whole and on the disk when this returns. The key folder is no part of
    it: keep that safe by a mirror (`KeyFolder.add_mirror`), which erasures reach.

    Args:
        registry: open, on any kind of database; its keys are not needed.
        to: a file that does not exist, in a folder that does.

    Raises:
        RegistryExistsError, RegistryMissingError, RegistryFullError: no backup was made.
        TamperedError: the log is not the one whose head was signed; a copy would not restore.

    """
    with whole_file(to) as making, registry._store.read() as source:
        made: list[BackupMade] = []

        def fill(target: sa.Connection) -> None:
            copy_tables(source, target, change={"persons": _without_handle})
            made.append(_describe(target, Path(to)))
            mark_backup(target)

        BackupFile.create(making, fill, busy_timeout_ms=BUSY_TIMEOUT_MS).close()
        one_plain_file(making)
    return made[0]


def _without_handle(row: dict[str, Any]) -> dict[str, Any]:
    return row | {"handle": None}


def _describe(target: sa.Connection, path: Path) -> BackupMade:
    log = MerkleLog(schema.EVENTS_LOG, schema.events)
    size = log.size(target)
    root, signed = log.root(target, size), latest_checkpoint(target, schema.EVENTS_LOG)
    head = None if signed is None else Checkpoint.parse(split_note(signed[1])[0])
    if signed is None or head is None or (head.size, head.root) != (size, root):
        raise TamperedError(
            f"event {max(0, size - 1)}", "no signed head covers it: run `privemo log verify`"
        )
    uses = MerkleLog(schema.USES_LOG, schema.uses).size(target)
    return BackupMade(path, size, uses, root.hex(), signed[1])
