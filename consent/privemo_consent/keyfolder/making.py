"""A new key folder: whole, or not there at all."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

from ..errors import ConsentError, KeyFileError, MalformedError
from .files import FOLDER_FILE, Shelf, told
from .load import KEY_BYTES, REGISTRY_FILE, PersonKeys, persons_file
from .record import FolderRecord
from .roots import Root
from .seal import Seal

__all__ = ["make_folder"]


def make_folder(path: Path, root: Root, registry_key: bytes | None) -> Seal:
    """Draw keys, write them beside ``path``, and give the folder its name when all is durable.

    Raises:
        KeyFileError: something stands there, it cannot be written, or the root has no key.
        MalformedError: a registry key that is none.
        RegistryFullError: no space.
    """
    if registry_key is None:
        registry_key = secrets.token_bytes(KEY_BYTES)
    if not isinstance(registry_key, bytes) or len(registry_key) != KEY_BYTES:
        raise MalformedError(f"a registry key is {KEY_BYTES} bytes")
    if os.path.lexists(path):
        raise KeyFileError(f"{path} exists: keys are never overwritten")
    _sweep(path)
    folder_id = secrets.token_hex(16)
    parameters = root.new_parameters(folder_id)
    seal = Seal(folder_id, root.key(parameters))
    record = FolderRecord(folder_id=folder_id, root=root.kind, parameters=parameters)
    making = path.parent / f".{path.name}.making-{secrets.token_hex(4)}"
    shelf = Shelf(making)
    with told(path, "be made"):
        os.mkdir(making, 0o700)
    try:
        with shelf.locked():
            for name, content in (
                (REGISTRY_FILE, registry_key),
                (persons_file(1), PersonKeys.generate().content()),
            ):
                shelf.put(name, seal.close(name, content))
            shelf.put(FOLDER_FILE, record.encode(seal), wipe=False)
            with told(path, "be made"):
                os.rename(making, path)
    except BaseException:
        with contextlib.suppress(ConsentError):
            shelf.remove()
        raise
    Shelf(path.parent).flush()
    return seal


def _sweep(path: Path) -> None:
    """Remove what makers of this folder left who were killed; their keys were never used."""
    for left in path.parent.glob(f".{path.name}.making-*"):
        shelf = Shelf(left)
        # One who is still at it holds the lock.
        with contextlib.suppress(ConsentError), shelf.locked(seconds=0):
            shelf.remove()
