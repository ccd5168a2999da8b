"""Files whose old contents must go: written whole, replaced durably, wiped before they are let go.

To replace a file, `Shelf.put` writes ``NAME.new`` and flushes it and the folder, overwrites the
old file's bytes with zeros, flushes them, renames, and flushes the folder. Whatever moment a crash
chooses, the old file or a whole ``NAME.new`` is there; `Shelf.recover` finishes the one and removes
the other. A file system that copies on write, and the controller of an SSD, may keep the old blocks
where no program reaches them: only a root key that is kept elsewhere closes them.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from ..errors import KeyFileError, RegistryFullError
from ..locks import take
from .seal import Seal

__all__ = ["FOLDER_FILE", "FOLDER_FLAGS", "LOCK_FILE", "NEW", "Shelf", "remove_file", "told"]

LOCK_FILE = "lock"
#: what the folder is, not secret
FOLDER_FILE = "folder.json"
#: how the name of a file ends that is not finished
NEW = ".new"
#: a folder is opened to be emptied only where its name is no link
FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LOCK_SECONDS = 60.0
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


class Shelf:
    """One folder of such files, with its lock. Knows bytes, not what they mean."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = os.path.join(path, LOCK_FILE)

    def check(self) -> None:
        """Refuse a folder that is none or that others can enter.

        Raises:
            KeyFileError: it is missing, no folder, or open to others.
        """
        with told(self.path, "be read"):
            mode = os.stat(self.path).st_mode
        if not stat.S_ISDIR(mode):
            raise KeyFileError(f"{self.path} is no folder of keys")
        if mode & 0o077:
            raise KeyFileError(
                f"{self.path} can be entered by others (mode {mode & 0o777:03o}): chmod 700, "
                "and rotate"
            )

    def mark(self) -> tuple[int, int, int]:
        """Return what differs after every change: one ``stat``.

        The length of the lock's file counts the changes. A clock would not do: two changes may
        fall into one tick of the file system's.
        """
        try:
            found = os.stat(self._lock)
        except OSError as error:
            raise KeyFileError(f"{self.path} cannot be read: {error.strerror}") from error
        return found.st_dev, found.st_ino, found.st_size

    @contextlib.contextmanager
    def locked(self, seconds: float = _LOCK_SECONDS) -> Iterator[None]:
        """Hold the folder alone; every process that reads or writes it does.

        Raises:
            KeyFileError: there is no such folder, or it cannot be locked.
            RegistryBusyError: another process held it for so many seconds.
        """
        # A descriptor of its own each time: flock belongs to the open file, which forks share.
        with told(self.path, "be locked"):
            handle = os.open(self._lock, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            take(handle, self.path, seconds)
            yield
        finally:
            os.close(handle)

    def announce(self) -> None:
        """Tell other processes that something changes now: they wait for the lock and read."""
        with told(self.path, "be written"):
            handle = os.open(self._lock, os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.ftruncate(handle, os.fstat(handle).st_size + 1)  # a hole: takes no space
            finally:
                os.close(handle)

    def names(self) -> list[str]:
        """Return the names of the files that hold secrets, without unfinished ones."""
        with told(self.path, "be read"):
            return sorted(name for name in os.listdir(self.path) if name.endswith(".key"))

    def read(self, name: str) -> bytes:
        """Return a file's bytes.

        Raises:
            KeyFileError: missing, a link, no plain file, or readable by others.
        """
        place = self.path / name
        with told(place, "be read"):
            handle = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            with os.fdopen(handle, "rb") as file:
                mode = os.fstat(handle).st_mode
                if not stat.S_ISREG(mode) or mode & 0o077:
                    raise KeyFileError(
                        f"{place} can be read by others (mode {mode & 0o777:03o}): chmod 600, "
                        "and rotate"
                    )
                return file.read()

    def put(self, name: str, data: bytes, *, wipe: bool = True) -> None:
        """Write a file, or replace it; with ``wipe`` nothing of the old one stays.

        Raises:
            RegistryFullError: no space, or not writable: the old file stands.
            KeyFileError: it cannot be written.
        """
        new = self.path / (name + NEW)
        with told(self.path / name, "be written"):
            try:
                _write(new, data)
                self.flush()  # the name too, before the old bytes go
            except OSError:
                with contextlib.suppress(OSError):
                    remove_file(new)
                raise
            self._settle(name, wipe=wipe)

    def destroy(self, name: str) -> None:
        """Wipe a file and remove it, unfinished replacements too; a missing one is no error.

        Raises:
            RegistryFullError: the folder is not writable.
            KeyFileError: it cannot be removed.
        """
        with told(self.path / name, "be destroyed"):
            remove_file(self.path / (name + NEW))
            remove_file(self.path / name)
            self.flush()

    def recover(self, seal: Seal) -> None:
        """Finish the replacements that a crash left whole, and remove the others.

        Raises:
            RegistryFullError: the folder is not writable.
            KeyFileError: it cannot be mended.
        """
        with told(self.path, "be recovered"):
            for found in sorted(os.listdir(self.path)):
                if not found.endswith(NEW):
                    continue
                name = found.removesuffix(NEW)
                if name.endswith(".key") and self._is_whole(name, seal):
                    self.flush()
                    self._settle(name, wipe=True)
                else:  # it was never finished, so nothing was promised about it
                    remove_file(self.path / found)
                    self.flush()

    def _is_whole(self, name: str, seal: Seal) -> bool:
        data = self.read(name + NEW)
        try:
            seal.open(name, data, self.path)
        except KeyFileError:
            return False
        return True

    def remove(self) -> None:
        """Wipe every file and remove the folder, ``folder.json`` and the lock last.

        Raises:
            KeyFileError: it cannot be removed, is a link, or holds a folder.
            RegistryFullError: it is not writable.
        """
        with told(self.path, "be destroyed"):
            handle = os.open(self.path, FOLDER_FLAGS)
            try:
                found = os.listdir(handle)
                for name in sorted(found, key=lambda n: (n == LOCK_FILE, n == FOLDER_FILE)):
                    remove_file(name, handle)
                os.fsync(handle)
            finally:
                os.close(handle)
            os.rmdir(self.path)

    def _settle(self, name: str, *, wipe: bool) -> None:
        if wipe:
            _zero(self.path / name)
        os.rename(self.path / (name + NEW), self.path / name)
        self.flush()

    def flush(self) -> None:
        """Make the names in the folder durable."""
        handle = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextlib.contextmanager
def told(place: Path, what: str) -> Iterator[None]:
    """Say which file could not be used, and why, in the errors of this package."""
    try:
        yield
    except OSError as error:
        kind = RegistryFullError if error.errno in _FULL else KeyFileError
        raise kind(f"{place} cannot {what}: {error.strerror}") from error


def _write(path: Path, data: bytes) -> None:
    remove_file(path)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    handle = os.open(path, flags, 0o600)
    try:
        left = memoryview(data)
        while left:
            left = left[os.write(handle, left) :]
        os.fsync(handle)
    finally:
        os.close(handle)


def _zero(path: Path | str, folder: int | None = None) -> None:
    """Overwrite a file's bytes where they lie, and flush; a missing file is no error."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    except FileNotFoundError:
        return
    try:
        left, at = os.fstat(handle).st_size, 0
        while at < left:
            at += os.pwrite(handle, bytes(min(left - at, 1 << 20)), at)
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_file(path: Path | str, folder: int | None = None, *, wipe: bool = True) -> None:
    """Remove a file, its bytes first; a missing one is no error.

    Args:
        path: which; a name where ``folder`` is given.
        folder: a descriptor of the folder it lies in.
        wipe: overwrite it.

    Raises:
        OSError: it is a link and to be wiped, or cannot be removed.
    """
    if wipe:
        _zero(path, folder)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path, dir_fd=folder)
