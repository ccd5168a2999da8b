"""The file of a witness: one checkpoint a line, appended under a lock, each line checked when read.

A line is canonical JSON (RFC 8785): the signed note, and the proof that it extends the line before.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from . import merkle
from .canonical import canonical_bytes, parse_canonical
from .checkpoint import Checkpoint, check_extends
from .errors import (
    ConsentError,
    ForkedError,
    MalformedError,
    ProofError,
    RegistryBusyError,
    SignatureError,
    TamperedError,
)
from .keys import VerifyingKey
from .note import Note, NoteKey, open_note

__all__ = [
    "MAX_LINE",
    "Entry",
    "append",
    "check_step",
    "format_line",
    "is_torn",
    "last_line",
    "lock",
    "parse_line",
    "sync_folder",
    "write_all",
]

_SCHEMA = "privemo.witness/1"
MAX_LINE = 1 << 17
_TAIL = 2 * MAX_LINE
# A crash leaves whole sectors unwritten, which read as zeros; a zero alone is somebody's doing.
_UNWRITTEN = b"\0" * 64
_PATIENCE_S = 5.0


@dataclass(frozen=True, slots=True)
class Entry:
    """What a line says."""

    head: Checkpoint
    note: Note
    proof: tuple[bytes, ...]


def parse_line(line: bytes, keys: Iterable[NoteKey], origin: str, name: str) -> Entry:
    """Read one line; blame ``name`` when it is not what was written.

    Raises:
        TamperedError: it is not, or none of the log's keys among ``keys`` has signed it.
    """
    try:
        value = parse_canonical(line)
        if value.keys() != {"schema", "note", "proof"} or value["schema"] != _SCHEMA:
            raise MalformedError("not a line of a witness")
        opened = open_note(value["note"], keys)
        if not any(isinstance(key, VerifyingKey) for key in opened.keys):
            raise SignatureError("signed by none of the log's known keys")
        head = Checkpoint.parse(opened.text)
        if head.origin != origin:
            raise MalformedError(f"it is of {head.origin!r}")
        packed = bytes.fromhex(value["proof"])
        if len(packed) % merkle.HASH_SIZE or packed.hex() != value["proof"]:
            raise MalformedError("a proof is whole hashes in lower case")
    except SignatureError as error:
        told = f"{error}; if the log changed its key, open the witness with the old keys too"
        raise TamperedError(name, told) from error
    except (ConsentError, ValueError, TypeError, AttributeError) as error:
        raise TamperedError(name, f"not what was written: {error}") from error
    step = merkle.HASH_SIZE
    proof = tuple(packed[at : at + step] for at in range(0, len(packed), step))
    return Entry(head, opened, proof)


def check_step(last: Entry | None, entry: Entry, name: str) -> None:
    """Hold a line to the line before it.

    Raises:
        TamperedError: it goes back, or a first line has a proof.
        ForkedError: it is not shown to extend the line before.
    """
    if last is None:
        if entry.proof:
            raise TamperedError(name, "the first line has nothing to be consistent with")
        return
    if entry.head.size <= last.head.size and entry.head.root == last.head.root:
        raise TamperedError(name, "goes back behind the line before it")
    try:
        check_extends(last.head, entry.head, entry.proof)
    except ProofError as error:
        raise ForkedError(
            name,
            f"not shown to extend the {last.head.size} entries that the witness saw: the past was "
            f"rewritten, or two copies of the registry are in use ({error})",
        ) from error


def format_line(entry: Entry) -> bytes:
    """Return what `parse_line` reads, with its newline.

    Raises:
        MalformedError: longer than a line may be.
    """
    value = {"schema": _SCHEMA, "note": str(entry.note), "proof": b"".join(entry.proof).hex()}
    line = canonical_bytes(value) + b"\n"
    if len(line) > MAX_LINE:
        raise MalformedError(f"got a checkpoint of {len(line)} bytes, want at most {MAX_LINE}")
    return line


def is_torn(line: bytes) -> bool:
    """Tell a line that a crash left half written, and which was never acknowledged."""
    return _UNWRITTEN in line


def last_line(fd: int) -> tuple[bytes | None, int]:
    """Return the last whole line, without its newline, and where what follows it begins."""
    size = os.fstat(fd).st_size
    start = max(0, size - _TAIL)
    data = os.pread(fd, size - start, start)
    end = data.rfind(b"\n") + 1
    while end:
        begin = data.rfind(b"\n", 0, end - 1) + 1
        line = data[begin : end - 1]
        if not is_torn(line):
            if begin == 0 and start > 0:
                break
            return line, start + end
        end = begin
    if start > 0:
        raise TamperedError("witness", f"no whole line in its last {_TAIL} bytes")
    return None, 0


def append(fd: int, end: int, line: bytes) -> None:
    """Write ``line`` at ``end``, durably, over what a crash left there."""
    os.ftruncate(fd, end)
    os.lseek(fd, end, os.SEEK_SET)
    try:
        write_all(fd, line)
    except OSError:
        os.ftruncate(fd, end)  # or a later reader would take it for acknowledged
        raise


def write_all(fd: int, data: bytes) -> None:
    """Write and flush to the disk."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
    os.fsync(fd)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def lock(fd: int, path: Path) -> None:
    """Take the lock that closing ``fd`` gives back.

    Raises:
        RegistryBusyError: another process holds it for too long.
    """
    give_up = time.monotonic() + _PATIENCE_S
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > give_up:
                raise RegistryBusyError(f"{path} was locked for {_PATIENCE_S:g} s") from None
            time.sleep(0.005)
        except OSError as error:
            raise RegistryBusyError(f"{path} cannot be locked: {error.strerror}") from error
        else:
            return
