"""Copies of a key folder in other places, kept equal to it: what is destroyed here goes there too."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import KeyFileError
from .files import FOLDER_FILE, Shelf, told
from .record import FolderRecord
from .seal import Seal

__all__ = ["begin_mirror", "remove_mirror", "sync_mirror"]


def _own(shelf: Shelf, record: FolderRecord, seal: Seal) -> FolderRecord:
    """Return the record of a mirror.

    Raises:
        KeyFileError: it cannot be reached, is of another folder, or has become one of its own.
    """
    shelf.check()
    data = shelf.read(FOLDER_FILE)
    there = FolderRecord.decode(data, shelf.path)
    there.vouch(data, seal, shelf.path)
    if there.folder_id != record.folder_id or there.mirror_of is None:
        raise KeyFileError(f"{shelf.path} is no mirror of this folder any more")
    return there


def begin_mirror(place: Path, owner: Path, record: FolderRecord, seal: Seal) -> None:
    """Make an empty mirror, which `sync_mirror` fills.

    Raises:
        KeyFileError: something stands there, or it cannot be made.
        RegistryFullError: no space.
    """
    if os.path.islink(place):
        raise KeyFileError(f"{place} is a link, which may lead elsewhere tomorrow: name the folder")
    with told(place, "be made"):
        if not os.path.isdir(place):
            os.mkdir(place, 0o700)
    shelf = Shelf(place)
    shelf.check()
    with told(place, "be read"):
        found = set(os.listdir(place))
    if FOLDER_FILE not in found:
        if found - {FOLDER_FILE + ".new", "lock"}:
            raise KeyFileError(f"{place} is not empty: nothing was overwritten")
        with shelf.locked():
            empty = record.copy_for_mirror(owner)
            shelf.put(FOLDER_FILE, empty.encode(seal), wipe=False)
    _own(shelf, record, seal)


def sync_mirror(place: Path, owner: Shelf, record: FolderRecord, seal: Seal) -> None:
    """Make a mirror equal to its owner, whose lock the caller holds.

    New files first, then the record, then destruction: a crash leaves a mirror that opens.

    Raises:
        KeyFileError: it cannot be reached, or is no mirror of this folder.
        RegistryError: it is full or busy.
    """
    shelf = Shelf(place)
    there = _own(shelf, record, seal)
    with shelf.locked():
        shelf.announce()
        shelf.recover(seal)
        wanted = {name: owner.read(name) for name in owner.names()}
        held = shelf.names()
        for name, data in wanted.items():
            if name not in held or shelf.read(name) != data:
                shelf.put(name, data)
        copy = record.copy_for_mirror(owner.path)
        if copy != there:
            shelf.put(FOLDER_FILE, copy.encode(seal), wipe=False)
        for name in held:
            if name not in wanted:
                shelf.destroy(name)


def remove_mirror(place: Path, record: FolderRecord, seal: Seal) -> None:
    """Destroy the copy in a mirror.

    Raises:
        KeyFileError: it cannot be reached, or is no mirror of this folder.
        RegistryError: it is busy, or not writable.
    """
    shelf = Shelf(place)
    _own(shelf, record, seal)
    with shelf.locked():
        shelf.announce()
        shelf.remove()
