"""Ed25519 keys: made, kept in files only their owner can read, named, rotated, revoked.

A key has a name and a four-byte id over name and public key (C2SP signed-note), so that a
signature says which key made it and a name alone can be carried by successive keys. The private
half is held by pyca/cryptography and appears in no repr, message or pickle.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import NoReturn

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from .errors import KeyFileError, MalformedError, SignatureError
from .times import to_us

__all__ = ["KeyPeriod", "KeyRing", "SigningKey", "VerifyingKey"]

_ED25519 = b"\x01"  # C2SP signed-note: the signature type
_SIGNATURE_BYTES = 64
_PUBLIC_BYTES = 32
_WANTED = (
    "a public key is one line, name+id+base64, as `privemo audit key` or "
    "`privemo keys list` printed it"
)


def _check_name(name: str) -> str:
    if not isinstance(name, str) or not name or not name.isprintable():
        raise MalformedError("a key's name is a printable text")
    if "+" in name or any(ch.isspace() for ch in name):
        raise MalformedError("a key's name holds neither blanks nor a plus")
    return name


def key_parts(text: str) -> tuple[str, str, bytes]:
    """Split a public key into name, id and bytes; whether they belong together is not yet checked.

    Raises:
        MalformedError: another form.
    """
    parts = text.split("+", 2)  # base64 may hold a plus
    if len(parts) != 3:
        raise MalformedError(_WANTED)
    try:
        return parts[0], parts[1], base64.b64decode(parts[2].encode("ascii"), validate=True)
    except (binascii.Error, UnicodeError) as error:
        raise MalformedError(f"{_WANTED}; its last part is no base64: {error}") from error


@dataclass(frozen=True, slots=True)
class VerifyingKey:
    """A public key and its name."""

    name: str
    public: bytes

    def __post_init__(self) -> None:
        _check_name(self.name)
        if not isinstance(self.public, bytes) or len(self.public) != _PUBLIC_BYTES:
            raise MalformedError(f"an Ed25519 public key is {_PUBLIC_BYTES} bytes")

    @property
    def key_id(self) -> bytes:
        """The first four bytes of SHA-256 over name, newline, type and public key."""
        return hashlib.sha256(self.name.encode() + b"\n" + _ED25519 + self.public).digest()[:4]

    def __str__(self) -> str:
        """Return the encoding of C2SP signed-note: ``name+id+base64``."""
        encoded = base64.b64encode(_ED25519 + self.public).decode()
        return f"{self.name}+{self.key_id.hex()}+{encoded}"

    @classmethod
    def parse(cls, text: str) -> VerifyingKey:
        """Read what ``str`` writes.

        Raises:
            MalformedError: another form, another kind of key, or an id that does not match.
        """
        name, key_id, data = key_parts(text)
        if data[:1] != _ED25519:
            raise MalformedError(f"got a key of type {data[:1].hex()!r}, want 01 (Ed25519)")
        key = cls(name, data[1:])
        if str(key) != text:
            raise MalformedError(f"got key id {key_id!r}, want {key.key_id.hex()!r}")
        return key

    def verify(self, signature: bytes, message: bytes) -> None:
        """Check a signature.

        Raises:
            SignatureError: it is not this key's over ``message``.
        """
        if not isinstance(signature, bytes) or len(signature) != _SIGNATURE_BYTES:
            raise SignatureError(f"{self.name}: a signature is {_SIGNATURE_BYTES} bytes")
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(signature, message)
        except (InvalidSignature, ValueError) as error:
            raise SignatureError(f"{self.name}+{self.key_id.hex()}: bad signature") from error


class SigningKey:
    """A private key. It signs; it is not shown, copied or sent."""

    __slots__ = ("_private", "verifying")

    def __init__(self, name: str, private: Ed25519PrivateKey) -> None:
        self._private = private
        public = private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self.verifying = VerifyingKey(_check_name(name), public)

    @classmethod
    def generate(cls, name: str) -> SigningKey:
        """Draw a new key."""
        return cls(name, Ed25519PrivateKey.generate())

    @classmethod
    def from_secret(cls, name: str, secret: bytes) -> SigningKey:
        """Make the key of 32 secret bytes, as `secret` gives them.

        Raises:
            MalformedError: not 32 bytes.
        """
        if not isinstance(secret, bytes) or len(secret) != _PUBLIC_BYTES:
            raise MalformedError(f"an Ed25519 private key is {_PUBLIC_BYTES} bytes")
        return cls(name, Ed25519PrivateKey.from_private_bytes(secret))

    def secret(self) -> bytes:
        """Return the 32 private bytes (RFC 8032), for a key folder to seal: for nothing else."""
        return self._private.private_bytes_raw()

    @property
    def name(self) -> str:
        """The name it signs under."""
        return self.verifying.name

    @property
    def key_id(self) -> bytes:
        """Four bytes: see `VerifyingKey.key_id`."""
        return self.verifying.key_id

    def sign(self, message: bytes) -> bytes:
        """Return 64 bytes."""
        return self._private.sign(message)

    def __repr__(self) -> str:
        return f"SigningKey({self.name}+{self.key_id.hex()})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a signing key is neither copied nor sent: load it where it is used")

    def save(self, path: str | os.PathLike[str], *, passphrase: bytes | None = None) -> None:
        """Write a new PEM file (PKCS 8) that its owner alone can read, flushed to the disk.

        Its first line says the name (RFC 7468, 2: text before the key is for people, and skipped), so that
        nobody signs under another one by mistake.

        Raises:
            KeyFileError: something stands at ``path``, or it cannot be written.
            MalformedError: an empty passphrase.
        """
        if passphrase is not None and not passphrase:
            raise MalformedError("an empty passphrase protects nothing: give one, or None")
        how: KeySerializationEncryption = (
            NoEncryption() if passphrase is None else BestAvailableEncryption(passphrase)
        )
        body = self._private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, how)
        try:
            handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        except FileExistsError:
            raise KeyFileError(f"{path} exists: a key is never overwritten") from None
        except OSError as error:
            raise KeyFileError(f"{path} cannot be written: {error.strerror}") from error
        with os.fdopen(handle, "wb") as file:
            file.write(b"name: %s\n" % self.name.encode() + body)
            file.flush()
            os.fsync(file.fileno())

    @classmethod
    def load(
        cls, name: str | None, path: str | os.PathLike[str], *, passphrase: bytes | None = None
    ) -> SigningKey:
        """Read what `save` wrote.

        Args:
            name: that it signs under; None for the one that the file says.
            path: of the file.
            passphrase: that it was saved with.

        Raises:
            KeyFileError: missing, readable by others, not a key, of another name, of none, or another
                passphrase. The message holds neither key nor passphrase.
        """
        file = Path(path)
        try:
            mode = file.stat().st_mode
            body = file.read_bytes()
        except OSError as error:
            raise KeyFileError(f"{path} cannot be read: {error.strerror}") from error
        if not stat.S_ISREG(mode) or mode & 0o077:
            raise KeyFileError(
                f"{path} can be read by others (mode {mode & 0o777:03o}): chmod 600, and rotate"
            )
        try:
            private = load_pem_private_key(body, passphrase)
        except (ValueError, TypeError):
            # from None: the cause's text may quote the file
            raise KeyFileError(f"{path} is no key, or the passphrase is another") from None
        if not isinstance(private, Ed25519PrivateKey):
            raise KeyFileError(f"{path} is a key of another kind: want Ed25519")
        return cls(_named(path, body, name), private)


def _named(path: str | os.PathLike[str], body: bytes, name: str | None) -> str:
    """Return the name that a key signs under, by its file and by its owner."""
    first = body.partition(b"\n")[0]
    said = (
        first.removeprefix(b"name: ").decode(errors="replace")
        if first.startswith(b"name: ")
        else None
    )
    if said is None and name is None:
        raise KeyFileError(f"{path} does not say whose key it is: give its name")
    if None not in (said, name) and said != name:
        raise KeyFileError(f"{path} is the key of {said}, not of {name}")
    return str(said if name is None else name)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyPeriod:
    """When a key may sign; times in UTC."""

    key: VerifyingKey
    begins: datetime
    #: None while it is the one in use
    ends: datetime | None = None
    #: from when nothing it signed counts any more, however old
    revoked: datetime | None = None


class KeyRing:
    """The keys one has used, old ones too: an immutable value.

    Rotation keeps the old key valid for an overlap, so that whoever signs with it meanwhile is not
    refused; revocation ends all trust in a key at once, for signatures of any date, because a
    thief can date them back.
    """

    def __init__(self, periods: Iterable[KeyPeriod] = ()) -> None:
        self._periods = tuple(periods)
        ids = [(p.key.name, p.key.key_id) for p in self._periods]
        if len(set(ids)) != len(ids):
            raise MalformedError("a key stands twice in the ring")
        for period in self._periods:
            for moment in (period.begins, period.ends, period.revoked):
                if moment is not None:
                    to_us(moment)

    @property
    def periods(self) -> tuple[KeyPeriod, ...]:
        """Every key, oldest first."""
        return self._periods

    def rotate(self, new: VerifyingKey, *, at: datetime, overlap: timedelta) -> KeyRing:
        """Return the ring in which ``new`` begins at ``at`` and the others end after ``overlap``.

        Raises:
            MalformedError: a negative overlap, a key that is in the ring, or a naive time.
        """
        if overlap < timedelta(0):
            raise MalformedError("an overlap is not negative")
        ended = (
            replace(p, ends=at + overlap) if p.ends is None or p.ends > at + overlap else p
            for p in self._periods
        )
        return KeyRing((*ended, KeyPeriod(key=new, begins=at)))

    def revoke(self, key: VerifyingKey, *, at: datetime) -> KeyRing:
        """Return the ring in which nothing that ``key`` signed counts.

        Raises:
            MalformedError: the key is not in the ring.
        """
        if all(period.key != key for period in self._periods):
            raise MalformedError(f"{key.name}+{key.key_id.hex()} is not in the ring")
        return KeyRing(
            replace(p, revoked=p.revoked or at) if p.key == key else p for p in self._periods
        )

    def valid(self, at: datetime) -> tuple[VerifyingKey, ...]:
        """Return the keys whose signatures of the moment ``at`` count: from begins up to ends."""
        return tuple(
            p.key
            for p in self._periods
            if p.revoked is None and p.begins <= at and (p.ends is None or at < p.ends)
        )
