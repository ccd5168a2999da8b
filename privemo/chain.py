"""A file of entries, each holding the hash of the one before; durable before anything depends on it.

One line of JSON for each entry, so a changed, removed or reordered line is found. `append` returns once
its line is on the disk (fsync): whatever it accounts for happens afterwards, and a crash in between can
only over-count (the order that google/differential-privacy's accountant calls "record, then commit").

| what happens | what the file does |
|---|---|
| a write fails half-way (full disk) | the half line is cut off again, `LedgerError`; nothing was released |
| the process dies inside a write | a torn line was never acknowledged: the next open cuts it off |
| a whole entry lacks its line end | it is kept; a damaged line end is named, never cut off |
| entries vanish from the end, or the file | `LedgerError`: the head file beside it knows how far it went |
| the head file vanishes | `LedgerError`; with one entry it is written: the process died before |
| any other line is damaged | `LedgerError` naming the entry; nothing can be released |
| two processes append at once | a lock on the file orders them |
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar, Generic, TypeVar

import rfc8785
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from privemo.errors import LedgerError, RunError
from privemo.files import write_bytes

__all__ = ["GENESIS", "Chain", "ChainEntry"]

GENESIS = "0" * 64
"""What the first entry names as the hash of its predecessor."""


class ChainEntry(BaseModel):
    """What every entry carries, whatever it says."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    seq: int = Field(ge=0)
    at: str
    prev: str = Field(pattern="^[0-9a-f]{64}$")
    hash: str = Field(pattern="^[0-9a-f]{64}$")

    def computed_hash(self) -> str:
        """The hash this entry ought to carry: sha256 over its RFC 8785 bytes without `hash`."""
        body = self.model_dump(mode="json", by_alias=True)
        del body["hash"]
        return hashlib.sha256(rfc8785.dumps(body)).hexdigest()


Entry = TypeVar("Entry", bound=ChainEntry)


class Chain(Generic[Entry]):
    """A chained file of entries of one kind; a subclass names the kind.

    Args:
        path: the file; it appears with the first entry.

    Raises:
        LedgerError: an existing file has a damaged entry, or cannot be opened for writing.
    """

    kind: ClassVar[type[ChainEntry]]
    what: ClassVar[str] = "an entry"
    lost: ClassVar[str] = "what was spent stays spent."

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._entries: list[Entry] = []
        self._size = 0
        self.refresh()

    @property
    def entries(self) -> tuple[Entry, ...]:
        """All entries, oldest first, as of the last reading or writing."""
        return tuple(self._entries)

    @property
    def head(self) -> str:
        """Hash of the newest entry, or `GENESIS`."""
        return self._entries[-1].hash if self._entries else GENESIS

    def refresh(self) -> None:
        """Read what other processes have written meanwhile.

        Raises:
            LedgerError: as on opening.
        """
        if not self.path.exists():  # to look is not to begin one
            self._check_head()
            return
        with self._locked() as descriptor:
            self._catch_up(descriptor)

    def append(self, **fields: object) -> Entry:
        """Write one entry and return once it is on the disk.

        Args:
            fields: those of an entry but `seq`, `at`, `prev` and `hash`, which are set here.

        Raises:
            LedgerError: the entry is invalid, or the write failed; then the file is as before.
        """
        with self._locked() as descriptor:
            self._catch_up(descriptor)
            return self._add(descriptor, fields)

    def _add(self, descriptor: int, fields: dict[str, object]) -> Entry:
        """Append while the lock is held and the file is read to its end."""
        try:
            draft = self.kind.model_validate(
                {
                    "seq": len(self._entries),
                    "at": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
                    "prev": self.head,
                    "hash": GENESIS,
                    **fields,
                }
            )
        except ValidationError as error:
            raise LedgerError(f"Not {self.what}: {error}") from error
        entry: Entry = draft.model_copy(update={"hash": draft.computed_hash()})  # type: ignore[assignment]  # of `kind`
        line = rfc8785.dumps(entry.model_dump(mode="json", by_alias=True))
        self._write(descriptor, line + b"\n")
        self._entries.append(entry)
        self._write_head(entry)
        return entry

    def _write_head(self, entry: Entry) -> None:
        """Note how far the file goes; if that fails, the entry stays and the release does not happen."""
        head = {"entries": entry.seq + 1, "hash": entry.hash}
        try:
            write_bytes(self._head_path, json.dumps(head).encode())
        except RunError as error:
            raise LedgerError(f"{error} Nothing was released.") from error

    @contextmanager
    def _locked(self) -> Iterator[int]:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise LedgerError(f"{self.path} cannot be opened for writing ({error}).") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield descriptor
        finally:
            os.close(descriptor)

    def _catch_up(self, descriptor: int) -> None:
        """Read what is new in the file; cut off a torn last line, which nobody was promised."""
        data = os.pread(descriptor, os.fstat(descriptor).st_size - self._size, self._size)
        whole = data.rfind(b"\n") + 1
        for line in data[:whole].splitlines():
            self._entries.append(self._checked(line))
        self._size += whole
        if data[whole:]:
            self._mend_tail(descriptor, data[whole:])
        self._check_head()

    def _mend_tail(self, descriptor: int, tail: bytes) -> None:
        """Deal with bytes after the last line end: a torn write, or a damaged line end."""
        if _is_json(
            tail
        ):  # whole but for its line end: it may have been acknowledged, so it counts
            self._entries.append(self._checked(tail))
            self._write(descriptor, tail + b"\n")
        elif _is_json(tail[:-1]):
            raise LedgerError(
                f"{self.path.name}, entry {len(self._entries)} ends in a damaged byte. Restore the "
                "file from a backup."
            )
        else:
            os.ftruncate(descriptor, self._size)
            os.fsync(descriptor)

    @property
    def _head_path(self) -> Path:
        return self.path.with_suffix(".head")

    def _check_head(self) -> None:
        """The file may be longer than its head file says (a crash in between), never shorter."""
        try:
            head = json.loads(self._head_path.read_bytes())
            entries, last = int(head["entries"]), str(head["hash"])
        except FileNotFoundError:
            self._begin_head()
            return
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise LedgerError(f"{self._head_path} cannot be read ({error}); restore it.") from error
        if len(self._entries) < entries or self._entries[entries - 1].hash != last:
            raise LedgerError(
                f"{self.path.name} ends before entry {entries - 1}, which was written: entries are "
                f"missing. Restore the file from a backup; {self.lost}"
            )

    def _begin_head(self) -> None:
        """A crash leaves one entry without a head, never two: entries are added to a file that has one."""
        if len(self._entries) > 1:
            raise LedgerError(
                f"{self._head_path} is gone: nobody can tell whether entries were cut off the end of "
                f"{self.path.name}. Restore it from a backup; {self.lost}"
            )
        if self._entries:
            self._write_head(self._entries[0])

    def _checked(self, line: bytes) -> Entry:
        seq = len(self._entries)
        where = f"{self.path.name}, entry {seq}"
        try:
            entry: Entry = self.kind.model_validate(json.loads(line))  # type: ignore[assignment]  # of `kind`
        except (ValueError, ValidationError) as error:
            raise LedgerError(
                f"{where} is unreadable ({str(error).splitlines()[0]}). Restore the file from a "
                "backup; without it nobody can know what was spent."
            ) from error
        if entry.seq != seq or entry.prev != self.head or entry.hash != entry.computed_hash():
            raise LedgerError(
                f"{where} does not continue the chain: it was changed, removed or reordered. "
                "Restore the file from a backup."
            )
        return entry

    def _write(self, descriptor: int, line: bytes) -> None:
        try:
            view = memoryview(line)
            offset = self._size
            while view:
                written = os.pwrite(descriptor, view, offset)
                offset += written
                view = view[written:]
            os.fsync(descriptor)
            if self._size == 0:
                self._sync_folder()
        except OSError as error:
            os.ftruncate(descriptor, self._size)
            raise LedgerError(
                f"{self.path} could not be written ({error.strerror}); nothing was released. "
                "Free some space and resume the run."
            ) from error
        self._size += len(line)

    def _sync_folder(self) -> None:
        """A new file's name is durable only once its folder is."""
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _is_json(data: bytes) -> bool:
    try:
        json.loads(data)
    except ValueError:
        return False
    return True
