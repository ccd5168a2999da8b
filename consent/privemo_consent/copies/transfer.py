"""A whole registry in one portable file, and out of it into a fresh one: another disk, another server.

Leaves travel byte for byte, so the trees have the same roots, and everything that was signed over
them still holds. People are sealed anew under the keys of the new folder: no ciphertext travels.
What is in the file is therefore in the clear, ids and the keys of subject tags among it: give a
passphrase, and delete the file once it is read. Whoever was erased is a number without a name in it.

Two registries cannot both go on from one file: people would say no in the one, and the other would not
hear of it. So a move closes where it starts: the last entry of the log says ``moved``, the old registry
refuses everything from then on, and consents stay live in the new one. A file without that entry is
a copy of a registry that goes on, and whoever reads it asks everybody again.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa

from .. import leaves, schema
from ..errors import RegistryBusyError, RegistryFullError
from ..handle import RegistryHandle
from ..items import KINDS, open_body, open_head
from ..log import MerkleLog
from ..note import sign_note
from ..sealing import PersonSecrets
from ..transaction import plain_row
from .reading_transfer import TransferRead, read_transfer
from .transferfile import LineWriter, sealing_sink
from .transferlines import COUNTED, SCHEMA, end_text
from .wholefile import whole_file

__all__ = ["TransferMade", "TransferRead", "read_transfer", "write_transfer"]

_CHUNK = 2_000


@dataclass(frozen=True, slots=True)
class TransferMade:
    """What a transfer's file holds.

    Attributes:
        path: the file.
        events: entries of the log.
        uses: entries of the log of uses.
        root: of the log's tree, in hexadecimal; the registry that reads it has the same.
        sealed: whether it needs a passphrase.
        closed: whether the registry is closed, so that consents are live where the file is read.

    """

    path: Path
    events: int
    uses: int
    root: str
    sealed: bool
    closed: bool


def write_transfer(
    registry: RegistryHandle,
    path: str | os.PathLike[str],
    *,
    passphrase: bytes | None,
    close: bool = False,
) -> TransferMade:
    """Write everything of a registry, as of one moment, into the new file ``path``.

    Args:
        registry: opened with its keys.
        path: a file that does not exist; its owner's alone.
        passphrase: seals the file; None leaves ids and faces in it readable to whoever has it.
        close: end the registry with an entry of its log: it decides and records nothing more, and
            consents stay live where the file is read. There is no way back. Where writing fails
            after that, or the file is lost, write it again: a closed registry still can be.

    Raises:
        RegistryExistsError, RegistryMissingError, RegistryFullError: no file was written.
        KeyFileError: opened without keys.
        MalformedError: an empty passphrase.
        TamperedError: something in the registry does not open.
        RegistryBusyError: someone was erased meanwhile; no file was written.

    """
    journal = registry._journal
    journal.keys_needed()
    with journal.lock:
        journal.refresh()
    with whole_file(path) as making:
        handle = os.open(making, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        with os.fdopen(handle, "wb", buffering=1 << 20) as file:
            sink = sealing_sink(file, passphrase)
            if close:  # only now: the place and the passphrase are good
                _close(registry)
            with journal.store.read() as connection:
                writer = _Writer(registry, connection, LineWriter(sink))
                writer.write()
            sink.close()
            try:
                file.flush()
                os.fsync(handle)
            except OSError as error:
                raise RegistryFullError(f"{path} cannot be written: {error.strerror}") from error
    return TransferMade(
        path=Path(path),
        events=writer.events,
        uses=writer.uses,
        root=writer.root,
        sealed=passphrase is not None,
        closed=writer.closed,
    )


def _close(registry: RegistryHandle) -> None:
    """Append the last entry of a registry, with both logs signed to their ends; once is enough."""
    journal = registry._journal
    with journal.lock:
        if journal.refresh().keys.moved:
            return
        with journal.writing() as work:
            now, state = journal.now(), journal.state.keys
            if journal.uses_size:  # decisions since the last batch: nobody will sign them later
                uses = registry._uses.log
                journal.signer.sign(work.connection, uses, journal.uses_size, (state, now))
            leaf = leaves.key_leaf(
                op="moved",
                key=state.origin,
                ends_others=None,
                recorded=now,
                simulated=journal.simulated,
            )
            work.rows.append(plain_row("key", leaf, now, journal.simulated))


class _Writer:
    """Writes one registry, on one snapshot, line by line."""

    def __init__(
        self, registry: RegistryHandle, connection: sa.Connection, lines: LineWriter
    ) -> None:
        self._registry = registry
        self._connection = connection
        self._lines = lines
        log = MerkleLog(schema.EVENTS_LOG, schema.events)
        self.events = log.size(connection)
        self.root = log.root(connection, self.events).hex()
        self.uses = MerkleLog(schema.USES_LOG, schema.uses).size(connection)
        self.closed = False

    def write(self) -> None:
        journal, state = self._registry._journal, self._registry._journal.fresh_state()
        state.advance(self._connection, self.events)
        self.closed = state.keys.moved
        counts = {
            table.name: self._connection.execute(
                sa.select(sa.func.count()).select_from(table)
            ).scalar_one()
            for table in COUNTED
        }
        self._lines.put(
            "registry",
            schema=SCHEMA,
            **journal.meta,
            registry_key=journal.keys_needed().registry_key.hex(),
            epoch=state.keys.epoch,
            counts=counts,
        )
        self._notices()
        self._persons()
        self._events()
        self._uses()
        self._checkpoints()
        self._items()
        keys = journal.signer.keys_at(state.keys, journal.now())
        text = end_text(journal.registry_id, self._lines.count, self._lines.digest)
        self._lines.put("end", note=sign_note(text, *keys))

    def _notices(self) -> None:
        query = sa.select(schema.notices.c.body).order_by(schema.notices.c.nid)
        for body in self._connection.execute(query).scalars():
            self._lines.put("notice", body=bytes(body).decode())

    def _persons(self) -> None:
        table = schema.persons
        query = sa.select(table.c.pid, table.c.wrapped.is_(None)).order_by(table.c.pid)
        rows = list(self._connection.execute(query).all())
        for low in range(0, len(rows), _CHUNK):
            part = rows[low : low + _CHUNK]
            found = self._secrets([pid for pid, erased in part if not erased])
            for pid, erased in part:
                secrets = None if erased else found[pid]
                self._lines.put(
                    "person",
                    person=None if secrets is None else secrets.person,
                    subject_key=None if secrets is None else secrets.subject_key.hex(),
                )

    def _secrets(self, pids: list[int]) -> dict[int, PersonSecrets]:
        found = self._registry._journal.state.people.secrets(self._connection, pids)
        if len(found) < len(pids):
            raise RegistryBusyError(
                "someone was erased while the transfer was written: write it again"
            )
        return found

    def _events(self) -> None:
        table = schema.events
        query = sa.select(table.c.pid, table.c.leaf).order_by(table.c.seq)
        for pid, leaf in self._rows(query):
            self._lines.put("event", pid=pid, leaf=bytes(leaf).decode())

    def _uses(self) -> None:
        table = schema.uses
        query = sa.select(table.c.persons, table.c.leaf).order_by(table.c.seq)
        for packed, leaf in self._rows(query):
            pids = np.frombuffer(packed, dtype="<i4").tolist()
            self._lines.put("use", persons=pids, leaf=bytes(leaf).decode())

    def _checkpoints(self) -> None:
        table = schema.checkpoints
        query = sa.select(table.c.log, table.c.size, table.c.note)
        for log, size, note in self._rows(query.order_by(table.c.log, table.c.size)):
            self._lines.put("checkpoint", log=log, size=size, note=note)

    def _items(self) -> None:
        registry_id, table = self._registry.registry_id, schema.items
        query = sa.select(table).order_by(table.c.pid, table.c.iid)
        pid, secrets = -1, None
        for row in self._rows(query):
            if row.pid != pid:
                pid, secrets = row.pid, self._secrets([row.pid])[row.pid]
            assert secrets is not None  # noqa: S101 - set with the first row
            kind = KINDS[row.kind]
            head = open_head(registry_id, row.iid, pid, kind, bytes(row.head), secrets)
            body = open_body(registry_id, head, bytes(row.body), secrets)
            self._lines.put(
                "item",
                pid=pid,
                kind=kind.value,
                id=head.item_id,
                facts=dict(head.facts),
                body=base64.b64encode(body).decode(),
            )

    def _rows(self, query: sa.Select[Any]) -> Iterable[Any]:
        options = {"stream_results": True, "max_row_buffer": _CHUNK}
        for part in self._connection.execute(query, execution_options=options).partitions(100):
            yield from part
