"""A person's own key, and what is sealed under it. Pure functions over bytes.

Each person has one data key, drawn at random. It seals the person's id, the key of their subject
tags, and every item of the vault (AES-256-GCM). It is itself wrapped under the wrapping key that the
key folder derives for the person's row; once that is punctured, no copy of the database can be opened for
this person any more, wherever the copy lies (GDPR 17; NIST SP 800-88r1, cryptographic erase).

Associated data bind each ciphertext to its registry, its row and its place, so that a row moved to another
person, or to another registry, does not open.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from .errors import ErasedKeyError, TamperedError
from .handles import HANDLE_BYTES

__all__ = [
    "PersonSecrets",
    "WrapKeys",
    "handle_of",
    "handles_of",
    "open_person",
    "rewrap",
    "seal",
    "seal_person",
    "unseal",
]

KEY_BYTES = 32
_NONCE_BYTES = 12


class WrapKeys(Protocol):
    """What sealing asks of a key folder."""

    def wrap_key(self, epoch: int, pid: int) -> bytes:
        """Return the 32-byte wrapping key of a person's row."""
        ...

    def lookup_key(self, epoch: int) -> bytes:
        """Return the key of the handles of an epoch."""
        ...


@dataclass(frozen=True, slots=True)
class PersonSecrets:
    """What a person's row holds once it is opened. Never logged, never shown."""

    person: str = field(repr=False)
    key: bytes = field(repr=False)
    subject_key: bytes = field(repr=False)


def seal(key: bytes, plain: bytes, bound: bytes) -> bytes:
    """Return a fresh 12-byte nonce and the AES-256-GCM ciphertext of ``plain``.

    Args:
        key: 32 bytes.
        plain: what to seal.
        bound: associated data; opening asks for the same.

    """
    nonce = os.urandom(_NONCE_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, plain, bound)


def unseal(key: bytes, sealed: bytes, bound: bytes, entry: str) -> bytes:
    """Return what `seal` was given.

    Raises:
        TamperedError: ``entry`` was changed, moved, or sealed under another key.

    """
    try:
        return AESGCM(key).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], bound)
    except (InvalidTag, ValueError):
        raise TamperedError(entry, "does not open: changed, moved, or of other keys") from None


def handle_of(lookup_key: bytes, person: str) -> bytes:
    """Return how a person's row is found: BLAKE2b-128 of the id (RFC 7693), keyed.

    A keyed hash of 16 bytes: half the time of an HMAC, which bulk decisions notice.
    """
    return hashlib.blake2b(person.encode(), key=lookup_key, digest_size=HANDLE_BYTES).digest()


def handles_of(lookup_key: bytes, persons: Sequence[str]) -> list[bytes]:
    """Return `handle_of` for many persons; a million of them a second."""
    make = hashlib.blake2b
    return [
        make(person.encode(), key=lookup_key, digest_size=HANDLE_BYTES).digest()
        for person in persons
    ]


def _bound(registry_id: str, pid: int, what: str) -> bytes:
    return f"privemo.{what}/2\0{registry_id}\0{pid}".encode()


def seal_person(
    keys: WrapKeys,
    *,
    registry_id: str,
    epoch: int,
    pid: int,
    person: str,
    subject_key: bytes | None = None,
) -> tuple[dict[str, Any], PersonSecrets]:
    """Return a new row of ``persons`` and what it holds.

    Args:
        keys: the key folder.
        registry_id: of the registry.
        epoch: of person keys, the current one.
        pid: the row's number.
        person: the id.
        subject_key: 32 bytes; drawn where None (a migration or an import brings the old one).

    """
    key = os.urandom(KEY_BYTES)
    secrets = PersonSecrets(person, key, subject_key or os.urandom(KEY_BYTES))
    plain = secrets.subject_key + person.encode()
    row = {
        "pid": pid,
        "handle": handle_of(keys.lookup_key(epoch), person),
        "sealed": seal(key, plain, _bound(registry_id, pid, "person")),
        "wrapped": seal(keys.wrap_key(epoch, pid), key, _bound(registry_id, pid, f"key-{epoch}")),
        "epoch": epoch,
    }
    return row, secrets


def open_person(keys: WrapKeys, registry_id: str, row: Mapping[str, Any]) -> PersonSecrets:
    """Open a row of ``persons``.

    Raises:
        ErasedKeyError: the person was erased, here or in the key folder.
        TamperedError: the row was changed, or the keys are another registry's.
        KeyFileError: the row's epoch was forgotten.

    """
    pid, epoch = row["pid"], row["epoch"]
    if row["wrapped"] is None:
        raise ErasedKeyError(f"person row {pid} was erased")
    entry = f"person row {pid}"
    bound = _bound(registry_id, pid, f"key-{epoch}")
    key = unseal(keys.wrap_key(epoch, pid), row["wrapped"], bound, entry)
    plain = unseal(key, row["sealed"], _bound(registry_id, pid, "person"), entry)
    return PersonSecrets(plain[KEY_BYTES:].decode(), key, plain[:KEY_BYTES])


def rewrap(
    keys: WrapKeys, registry_id: str, row: Mapping[str, Any], epoch: int
) -> tuple[dict[str, Any], PersonSecrets]:
    """Return the row wrapped under a later epoch; what is sealed under the person's key stays.

    Raises:
        As `open_person`.

    """
    secrets = open_person(keys, registry_id, row)
    pid = row["pid"]
    bound = _bound(registry_id, pid, f"key-{epoch}")
    changed = {
        "pid": pid,
        "handle": handle_of(keys.lookup_key(epoch), secrets.person),
        "sealed": row["sealed"],
        "wrapped": seal(keys.wrap_key(epoch, pid), secrets.key, bound),
        "epoch": epoch,
    }
    return changed, secrets
