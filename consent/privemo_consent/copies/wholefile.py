"""New files that are whole or not there: made in a folder beside their place, then linked into it.

A maker holds its folder's lock (flock), so that whoever comes next removes what a killed one left
and nothing else. Linking never overwrites: of two makers of one file the second is refused.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import sqlalchemy as sa

from ..errors import RegistryBusyError, RegistryExistsError, RegistryFullError, RegistryMissingError
from ..storage import BUSY_TIMEOUT_MS, create_store, is_url

__all__ = ["make_store", "whole_file"]

_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)


@contextlib.contextmanager
def whole_file(to: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield where to write a file that takes its place ``to``, durably, once the block ends well.

    Raises:
        RegistryExistsError: something stands there; it is left as it is.
        RegistryMissingError: its folder does not exist.
        RegistryFullError: no space, or not writable.

    """
    place = Path(os.path.abspath(to))
    if not place.parent.is_dir():
        raise RegistryMissingError(f"{place.parent} does not exist: make the folder")
    _sweep(place)
    if os.path.lexists(place):
        raise RegistryExistsError(f"{place} exists and was left as it is: choose another path")
    folder = place.parent / f".{place.name}.making-{secrets.token_hex(4)}"
    try:
        os.mkdir(folder, 0o700)
    except OSError as error:
        raise RegistryFullError(f"{place} cannot be written: {error.strerror}") from error
    try:
        with _held(folder):
            yield folder / place.name
            _publish(folder / place.name, place)
    except OSError as error:
        raise RegistryFullError(f"{place} cannot be written: {error.strerror}") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def make_store(
    where: str | os.PathLike[str],
    fill: Callable[[sa.Connection], None],
    *,
    busy_timeout_ms: int = BUSY_TIMEOUT_MS,
) -> None:
    """Make a registry's database with what ``fill`` puts into it: all of it, or nothing.

    Raises:
        As `storage.create_store`.

    """
    if is_url(where):  # there tables and rows are one transaction of the server's
        create_store(where, fill, busy_timeout_ms=busy_timeout_ms).close()
        return
    with whole_file(where) as making:
        create_store(making, fill, busy_timeout_ms=busy_timeout_ms).close()


def _publish(made: Path, place: Path) -> None:
    if Path(f"{made}-wal").exists():
        raise RegistryBusyError(f"{place} is being read while it is made: try again")
    _flush(made)
    try:
        os.link(made, place)
    except FileExistsError:
        raise RegistryExistsError(
            f"{place} exists and was left as it is: choose another path"
        ) from None
    except OSError as error:
        if error.errno not in _NO_LINKS or os.path.lexists(place):
            raise
        os.rename(made, place)  # a file system without links, such as a stick's
    _flush(place.parent)


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def _held(folder: Path) -> Iterator[None]:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(handle)


def _sweep(place: Path) -> None:
    """Remove what makers of this file left who were killed."""
    for left in place.parent.glob(f".{place.name}.making-*"):
        # One who is still at it holds the lock.
        with contextlib.suppress(OSError), _held(left):
            shutil.rmtree(left)
