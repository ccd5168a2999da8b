"""From the first version's database to this one: people sealed, a key folder made, the log signed.

The first version kept ids in plain sight and the key of the subject tags beside them. Here every
person gets a key of their own; the tags of old leaves stay as they are, because the key that made each is
carried over, sealed. The old log keeps every leaf and its root, and goes on with an entry that begins
its first signing key.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from . import leaves, schema
from .errors import KeyFileError, RegistryUnreadableError, TamperedError
from .handle import Keys, Where, key_folder_of, new_signing_key
from .keyfolder.folder import KeyFolder
from .keyfolder.roots import Root
from .log import MerkleLog
from .sealing import seal_person
from .signing import Signer
from .state import KeyState
from .storage import BUSY_TIMEOUT_MS, insert_rows, pairs, shown
from .storage.upgrade import migrate
from .times import Clock, to_us, utcnow
from .transaction import plain_row

__all__ = ["upgrade_registry"]

_OLD_PERSONS = sa.table("persons_v1", sa.column("pid"), sa.column("person"), sa.column("nonce"))
_OLD_SECRETS = sa.table("secrets", sa.column("name"), sa.column("value"))
_CHUNK = 5_000


def upgrade_registry(
    where: Where,
    *,
    keys: Keys | None = None,
    root: Root | None = None,
    clock: Clock | None = None,
    busy_timeout_ms: int = BUSY_TIMEOUT_MS,
) -> tuple[int, int]:
    """Bring a registry to the version of this privemo; return the versions (from, to).

    Everything is one transaction: whatever happens, the old registry or the new one is there. A
    registry of this version is left alone.

    Args:
        where: a file or a PostgreSQL URL.
        keys: the key folder to make; beside the file by default.
        root: what protects it.
        clock: returns the time with its zone.
        busy_timeout_ms: how long to wait for another process.

    Raises:
        RegistryMissingError, RegistryUnreadableError: no registry there, or a later version's.
        KeyFileError: the key folder is another registry's.
        TamperedError: a row is not as the first version wrote it; nothing changed.

    """

    def convert(connection: sa.Connection) -> None:
        secret = connection.execute(
            sa.select(_OLD_SECRETS.c.value).where(_OLD_SECRETS.c.name == "subject")
        ).scalar()
        meta: dict[str, str] = pairs(connection.execute(sa.select(schema.meta)))
        if {"mode", "registry_id"} - meta.keys() or not isinstance(secret, bytes):
            raise RegistryUnreadableError(f"{shown(where)} is a registry that was never finished")
        registry_id, folder = meta["registry_id"], _folder(where, keys, root, secret)
        gone = _seal_everyone(connection, folder, registry_id, secret)
        simulated = meta["mode"] != "production"
        _go_on(connection, folder, registry_id, simulated, gone, to_us((clock or utcnow)()))
        folder.puncture(gone)

    return migrate(where, convert=convert, busy_timeout_ms=busy_timeout_ms)


def _folder(where: Where, keys: Keys | None, root: Root | None, secret: bytes) -> KeyFolder:
    """Return the key folder, made unless an earlier try made it already."""
    if isinstance(keys, KeyFolder):
        folder = keys
    else:
        path = key_folder_of(where) if keys is None else Path(keys)
        if not path.exists():
            return KeyFolder.create(path, root=root, registry_key=secret)
        folder = KeyFolder.open(path, root=root)
    if not hmac.compare_digest(folder.registry_key, secret):
        raise KeyFileError(f"{folder.path} holds other keys: give a folder that is not there yet")
    return folder


def _seal_everyone(
    connection: sa.Connection, folder: KeyFolder, registry_id: str, secret: bytes
) -> list[int]:
    """Fill ``persons``; return the rows that were emptied by hand, which that version let through."""
    query = sa.select(_OLD_PERSONS).order_by(_OLD_PERSONS.c.pid)
    rows, gone = [], []
    for pid, person, nonce in connection.execute(query).all():
        if person is None and nonce is None:
            rows.append(
                {"pid": pid, "handle": None, "sealed": None, "wrapped": None, "epoch": None}
            )
            gone.append(pid)
            continue
        if not isinstance(person, str) or not isinstance(nonce, bytes):
            raise TamperedError(f"person row {pid}", "holds values of another type")
        # The first version's derivation: its leaves were tagged under this key.
        tag_key = hmac.digest(secret, b"privemo.subject-key/1\0" + nonce, "sha256")
        row, _ = seal_person(
            folder, registry_id=registry_id, epoch=1, pid=pid, person=person, subject_key=tag_key
        )
        rows.append(row)
    for at in range(0, len(rows), _CHUNK):
        insert_rows(connection, schema.persons, rows[at : at + _CHUNK])
    return gone


def _go_on(
    connection: sa.Connection,
    folder: KeyFolder,
    registry_id: str,
    simulated: bool,
    gone: Sequence[int],
    now: int,
) -> None:
    """Begin the first signing key, log who was erased before, and sign the head."""
    log = MerkleLog(schema.EVENTS_LOG, schema.events)
    size = log.size(connection)
    last = connection.execute(
        sa.select(schema.events.c.recorded).where(schema.events.c.seq == size - 1)
    ).scalar_one()
    now = max(now, int(last))
    key = new_signing_key(registry_id)
    folder.add_signer(key)
    leaf = leaves.key_leaf(
        op="begin", key=str(key.verifying), ends_others=now, recorded=now, simulated=simulated
    )
    rows = [plain_row("key", leaf, now, simulated)]
    rows += [_erasure_row(pid, now, simulated) for pid in gone]
    log.append(connection, size, rows)
    Signer(folder).sign(connection, log, size + len(rows), KeyState().after([leaf], now))


def _erasure_row(pid: int, now: int, simulated: bool) -> dict[str, Any]:
    leaf = leaves.erasure_leaf(
        record_id=os.urandom(16).hex(),
        subject=os.urandom(32).hex(),  # the key of the true one is gone, as it should be
        cause="request",
        recorded=now,
        simulated=simulated,
    )
    return plain_row("erasure", leaf, now, simulated) | {"pid": pid}
