"""What killed makers left beside a place: removed by what it is, not by what its name leads to.

Whoever may write into the folder around can put anything under the name of a leftover: a link to
another registry's keys, or a folder of somebody's photos. So a leftover counts only where it is a
folder of this user's that nobody else could enter, and holds plain files of known names alone. All
of that is asked of, and done through, one descriptor, which no renaming leads elsewhere.
"""

from __future__ import annotations

import contextlib
import fcntl
import glob
import os
import stat
from collections.abc import Collection, Iterator
from pathlib import Path

from .files import FOLDER_FLAGS, remove_file

__all__ = ["held", "making_beside", "sweep"]


def making_beside(place: Path, token: str) -> Path:
    """Return where ``place`` is made before it takes its name."""
    return place.parent / f".{place.name}.making-{token}"


@contextlib.contextmanager
def held(folder: Path) -> Iterator[int]:
    """Hold a folder that is being made, and yield its descriptor; nobody sweeps it meanwhile.

    Raises:
        OSError: a link, no folder, or held by somebody else.

    """
    handle = os.open(folder, FOLDER_FLAGS)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield handle
    finally:
        os.close(handle)


def sweep(place: Path, names: Collection[str], *, wipe: bool) -> None:
    """Remove what makers of ``place`` left who were killed; anything else stays as it is.

    Args:
        place: what was being made.
        names: of the files that its makers write.
        wipe: overwrite them first.

    """
    for left in place.parent.glob(f".{glob.escape(place.name)}.making-*"):
        # One who is still at it holds it.
        with contextlib.suppress(OSError), held(left) as handle:
            found = os.listdir(handle)
            if not _is_ours(handle, found, names, wipe=wipe):
                continue
            for name in found:
                remove_file(name, handle, wipe=wipe)
            os.rmdir(left)


def _is_ours(handle: int, found: Collection[str], names: Collection[str], *, wipe: bool) -> bool:
    folder = os.fstat(handle)
    if folder.st_uid != os.geteuid() or folder.st_mode & 0o777 != 0o700:
        return False
    if not set(found) <= set(names):
        return False
    files = [os.stat(name, dir_fd=handle, follow_symlinks=False) for name in found]
    # Bytes that have a second name are not only a leftover's: that name can go, they cannot.
    return all(stat.S_ISREG(file.st_mode) and not (wipe and file.st_nlink > 1) for file in files)
