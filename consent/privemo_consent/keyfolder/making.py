"""A new key folder: whole, or not there at all."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

from ..errors import ConsentError, KeyFileError, MalformedError
from .files import FOLDER_FILE, LOCK_FILE, NEW, Shelf, told
from .leftovers import held, making_beside, sweep
from .load import KEY_BYTES, REGISTRY_FILE, PersonKeys, persons_file
from .record import FolderRecord
from .roots import Root
from .seal import Seal

__all__ = ["make_folder"]

_FILES = (REGISTRY_FILE, persons_file(1), FOLDER_FILE)
#: all that can lie in a folder that was never finished; one in use has signing keys besides
_MADE = frozenset((LOCK_FILE, *_FILES, *(name + NEW for name in _FILES)))


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
    sweep(path, _MADE, wipe=True)  # keys that were never used
    folder_id = secrets.token_hex(16)
    parameters = root.new_parameters(folder_id)
    seal = Seal(folder_id, root.key(parameters))
    record = FolderRecord(folder_id=folder_id, root=root.kind, parameters=parameters)
    making = making_beside(path, secrets.token_hex(4))
    shelf = Shelf(making)
    with told(path, "be made"):
        os.mkdir(making, 0o700)
    try:
        with told(path, "be made"), held(making), shelf.locked():
            for name, content in (
                (REGISTRY_FILE, registry_key),
                (persons_file(1), PersonKeys.generate().content()),
            ):
                shelf.put(name, seal.close(name, content))
            shelf.put(FOLDER_FILE, record.encode(seal), wipe=False)
            os.rename(making, path)
    except BaseException:
        with contextlib.suppress(ConsentError):
            shelf.remove()
        raise
    Shelf(path.parent).flush()
    return seal
