"""All that a key folder holds, read from its files and checked against its record."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import KeyFileError, MalformedError
from ..keys import SigningKey
from .files import FOLDER_FILE, Shelf
from .puncture import PuncturableKey
from .record import FolderRecord
from .seal import Seal

__all__ = [
    "KEY_BYTES",
    "REGISTRY_FILE",
    "Held",
    "PersonKeys",
    "load",
    "persons_file",
    "signer_bytes",
    "signer_file",
]

REGISTRY_FILE = "registry.key"
KEY_BYTES = 32
_PERSONS = re.compile(r"persons-(\d{4,9})\.key", re.ASCII)
_SIGNER = re.compile(r"log-([0-9a-f]{8})\.key")


def persons_file(epoch: int) -> str:
    """Return the name of an epoch's file."""
    return f"persons-{epoch:04d}.key"


def signer_file(key_id: bytes) -> str:
    """Return the name of a signing key's file."""
    return f"log-{key_id.hex()}.key"


def signer_bytes(key: SigningKey) -> bytes:
    """Return the content of a signing key's file."""
    return key.name.encode() + b"\n" + key.secret()


@dataclass(frozen=True, slots=True, repr=False)
class PersonKeys:
    """An epoch: the key that finds people, and the tree that wraps their keys."""

    lookup: bytes
    tree: PuncturableKey

    @classmethod
    def generate(cls) -> PersonKeys:
        """Draw both."""
        return cls(secrets.token_bytes(KEY_BYTES), PuncturableKey.generate())

    def content(self) -> bytes:
        """Return the content of the epoch's file."""
        return self.lookup + self.tree.to_bytes()


@dataclass(frozen=True, slots=True, repr=False)
class Held:
    """What was read: an immutable value, but for the trees."""

    record: FolderRecord
    registry_key: bytes
    persons: dict[int, PersonKeys] = field(default_factory=dict)
    signers: dict[bytes, SigningKey] = field(default_factory=dict)


def load(shelf: Shelf, seal: Seal) -> Held:
    """Read a folder whose lock the caller holds; finish or remove what a crash left.

    Raises:
        KeyFileError: a file is missing, damaged, open to others, or of another root key.
        RegistryFullError: something is left to finish, and the folder is not writable.
    """
    data = shelf.read(FOLDER_FILE)
    record = FolderRecord.decode(data, shelf.path)
    record.vouch(data, seal, shelf.path)
    shelf.recover(seal)
    gone = {persons_file(epoch) for epoch in record.forgotten}
    gone |= {signer_file(bytes.fromhex(key_id)) for key_id in record.gone}
    for name in gone.intersection(shelf.names()):
        shelf.destroy(name)
    registry_key = seal.open(REGISTRY_FILE, shelf.read(REGISTRY_FILE), shelf.path)
    if len(registry_key) != KEY_BYTES:
        raise KeyFileError(f"{shelf.path / REGISTRY_FILE} holds no key of {KEY_BYTES} bytes")
    persons, signers = _persons(shelf, seal, record), _signers(shelf, seal, record)
    # A file may be there that the record does not name yet: it was written before a crash.
    whole = record.change(
        epoch=max(persons), signers=tuple(sorted(key_id.hex() for key_id in signers))
    )
    if whole != record:
        shelf.put(FOLDER_FILE, whole.encode(seal), wipe=False)
    return Held(whole, registry_key, persons, signers)


def _persons(shelf: Shelf, seal: Seal, record: FolderRecord) -> dict[int, PersonKeys]:
    found = {int(m[1]): m[0] for m in map(_PERSONS.fullmatch, shelf.names()) if m}
    wanted = set(range(1, record.epoch + 1)) - set(record.forgotten)
    _all_there(shelf.path, (persons_file(epoch) for epoch in sorted(wanted - set(found))))
    held = {}
    for epoch, name in sorted(found.items()):
        content = seal.open(name, shelf.read(name), shelf.path)
        try:
            tree = PuncturableKey.from_bytes(content[KEY_BYTES:])
        except MalformedError:
            raise KeyFileError(f"{shelf.path / name} holds no person keys: restore it") from None
        held[epoch] = PersonKeys(content[:KEY_BYTES], tree)
    return held


def _signers(shelf: Shelf, seal: Seal, record: FolderRecord) -> dict[bytes, SigningKey]:
    found = {m[1]: m[0] for m in map(_SIGNER.fullmatch, shelf.names()) if m}
    missing = sorted(set(record.signers) - set(found) - set(record.gone))
    _all_there(shelf.path, (signer_file(bytes.fromhex(key_id)) for key_id in missing))
    held = {}
    for key_id, name in sorted(found.items()):
        signer, _, secret = seal.open(name, shelf.read(name), shelf.path).partition(b"\n")
        try:
            key = SigningKey.from_secret(signer.decode(), secret)
        except ValueError:
            raise KeyFileError(f"{shelf.path / name} holds no signing key: restore it") from None
        if key.key_id.hex() != key_id:
            raise KeyFileError(f"{shelf.path / name} holds another signing key: restore it")
        held[key.key_id] = key
    return held


def _all_there(folder: Path, missing: Iterable[str]) -> None:
    for name in missing:
        raise KeyFileError(f"{folder / name} is missing: restore it, or what it sealed is lost")
