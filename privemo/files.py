"""Writing files so that a reader sees the old content or the new one, never half of it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from privemo.errors import LedgerError, RunError
from privemo_consent import RegistryBusyError
from privemo_consent.beside import alone
from privemo_consent.locks import take

__all__ = [
    "appearing",
    "append_line",
    "changing",
    "is_held",
    "numbered",
    "only_here",
    "read_json",
    "write_bytes",
    "write_json",
]

_LOCK_S = 60.0
"""Seconds to wait for another writer: a line takes milliseconds."""

_BLOCK = 1 << 16


def write_bytes(path: Path, data: bytes) -> None:
    """Replace `path` by `data`, durable when this returns; on failure the old file stays.

    Raises:
        RunError: the disk is full or the folder cannot be written.
    """
    temporary: str | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        temporary = None
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise RunError(
            f"{path} could not be written ({error.strerror or error}). Free some space or choose "
            "another folder; what was there before is untouched."
        ) from error
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)


@contextmanager
def changing(path: Path) -> Iterator[None]:
    """Be the only process that reads `path` in order to replace it; others wait. The file need not be there.

    Hold it as long as reading and writing take, and no longer. `.NAME.lock` beside the file stays.

    Raises:
        RunError: the folder is not there, or cannot be written, or another process held the file for long.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(alone(path))
        except OSError as error:
            raise RunError(
                f"{path} cannot be changed: {path.parent} cannot be written ({error.strerror})."
            ) from error
        except RegistryBusyError as error:
            raise RunError(f"{error}.") from error
        yield


@contextmanager
def only_here(lock: Path, otherwise: str) -> Iterator[None]:
    """Hold a lock that only one process may have at a time; nobody waits for it.

    Raises:
        RunError: another process holds it: what `otherwise` says.
    """
    with lock.open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise RunError(otherwise) from error
        yield


def is_held(lock: Path) -> bool:
    """Whether somebody holds a lock of `only_here`; a moment later that may be otherwise."""
    if not lock.exists():
        return False
    with lock.open() as handle:
        try:
            # Shared, so that many may ask at once; closing the file lets go.
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


@contextmanager
def appearing(out: Path) -> Iterator[Path]:
    """A folder to fill, which becomes `out` at the end, or is gone if anything fails.

    Raises:
        RunError: `out` is a file or not empty, or the disk failed.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RunError(f"{out} is not empty; choose another folder.")
    draft = out.parent / f".{out.name}.preparing-{os.getpid()}"
    try:
        draft.mkdir(parents=True)
        yield draft
        if out.exists():
            out.rmdir()
        draft.rename(out)
    except OSError as error:
        raise RunError(f"{out} could not be prepared ({error.strerror or error}).") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Replace `path` by readable JSON."""
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    write_bytes(path, text.encode() + b"\n")


def append_line(path: Path, content: Mapping[str, Any]) -> None:
    """Append one line of JSON, durable; a torn line of an earlier crash is cut off first.

    Writers wait for each other: what is torn to one of them may be what another is writing.

    Raises:
        LedgerError: the disk is full, the file cannot be written, or another process held it for long;
            nobody reads half a line.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            take(descriptor, path, _LOCK_S)
            whole = _whole(descriptor)
            os.ftruncate(descriptor, whole)
            _add(descriptor, json.dumps(content).encode() + b"\n", whole)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise LedgerError(f"{path} could not be written ({error.strerror}).") from error
    except RegistryBusyError as error:
        raise LedgerError(f"{error}.") from error


def _add(descriptor: int, line: bytes, at: int) -> None:
    """Write a line whole, or leave the file as it was: a disk that fills up takes half a line, unsaid."""
    left = memoryview(line)
    try:
        while left:
            left = left[os.pwrite(descriptor, left, at + len(line) - len(left)) :]
        os.fsync(descriptor)
    except OSError:
        os.ftruncate(descriptor, at)
        raise


def _whole(descriptor: int) -> int:
    """Bytes of a file up to the end of its last whole line; read from its end, for it may be long."""
    end = os.fstat(descriptor).st_size
    while end:
        begin = max(0, end - _BLOCK)
        found = os.pread(descriptor, end - begin, begin).rfind(b"\n")
        if found >= 0:
            return begin + found + 1
        end = begin
    return 0


def read_json(path: Path, *, schema: str, of: str = "a run folder") -> dict[str, Any]:
    """Read JSON that carries the given `schema`.

    Args:
        path: of the file.
        schema: that it has to name.
        of: what a folder is that holds such a file, for whoever named another one.

    Raises:
        RunError: the file is missing, not JSON, or of another schema.
    """
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise RunError(f"{path} does not exist; is {path.parent} {of}?") from error
    except OSError as error:
        raise RunError(
            f"{path} cannot be read ({error.strerror}). Mend its rights or restore it."
        ) from error
    except ValueError as error:
        raise RunError(f"{path} cannot be read as JSON ({error}).") from error
    if not isinstance(content, dict) or content.get("schema") != schema:
        raise RunError(f"{path} is not of schema {schema}; it was made by something else.")
    return content


def numbered(folder: Path, ending: str) -> list[Path]:
    """Files that are named by a number and nothing else, in the order of their numbers.

    Names have four digits at least and more where it takes more, so their texts alone sort "10000" before
    "9999".
    """
    found = [path for path in folder.glob(f"*{ending}") if path.name.removesuffix(ending).isdigit()]
    return sorted(found, key=lambda path: (len(path.name), path.name))
