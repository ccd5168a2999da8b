"""New files that are whole or not there: made in a folder beside their place, then linked into it.

A maker holds its folder's lock (flock), so that whoever comes next removes what a killed one left
and nothing else. Linking never overwrites: of two makers of one file the second is refused.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import sqlalchemy as sa

from ..errors import RegistryBusyError, RegistryExistsError, RegistryFullError, RegistryMissingError
from ..keyfolder.leftovers import held, making_beside, sweep
from ..storage import BUSY_TIMEOUT_MS, create_store, is_url

__all__ = ["make_store", "whole_file"]

#: of the files in which it is made; SQLite has some of its own
_ENDINGS = ("", "-journal", "-wal", "-shm")
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
    sweep(place, [place.name + ending for ending in _ENDINGS], wipe=False)
    if os.path.lexists(place):
        raise RegistryExistsError(f"{place} exists and was left as it is: choose another path")
    folder = making_beside(place, secrets.token_hex(4))
    try:
        os.mkdir(folder, 0o700)
    except OSError as error:
        raise RegistryFullError(f"{place} cannot be written: {error.strerror}") from error
    try:
        with held(folder):
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
