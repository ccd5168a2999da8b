"""The bytes of a file of a key folder: what it is, what it holds, and that it is whole.

One line (magic, version, form), a body, and the SHA-256 of all that with the folder's id and the
file's name, so that a torn, swapped or damaged file is known before it is used. In the form
``sealed`` the body is AES-256-GCM under the root key, with folder id and name as associated data;
in the form ``plain`` it is the content.
"""

from __future__ import annotations

import hashlib
import secrets
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ..errors import KeyFileError

__all__ = ["Seal"]

_PLAIN = b"privemo key file 1 plain\n"
_SEALED = b"privemo key file 1 sealed\n"
_NONCE_BYTES = 12
_SUM_BYTES = 32


class Seal:
    """How the files of one folder are closed and opened; holds the root key and shows nothing."""

    __slots__ = ("_key", "folder_id")

    def __init__(self, folder_id: str, key: bytes | None) -> None:
        self.folder_id = folder_id
        self._key = key

    def close(self, name: str, content: bytes) -> bytes:
        """Return the bytes of the file ``name``."""
        if self._key is None:
            body = _PLAIN + content
        else:
            nonce = secrets.token_bytes(_NONCE_BYTES)
            bound = self._bound(name)
            body = _SEALED + nonce + AESGCM(self._key).encrypt(nonce, content, bound)
        return body + self._sum(name, body)

    def _is_whole(self, name: str, data: bytes) -> bool:
        """Tell whether ``data`` is a file that was written to its end; needs no key."""
        body = data[:-_SUM_BYTES]
        known = body.startswith((_PLAIN, _SEALED))
        return known and data[-_SUM_BYTES:] == self._sum(name, body)

    def open(self, name: str, data: bytes, place: Path) -> bytes:
        """Return the content.

        Raises:
            KeyFileError: damaged, of another name or folder, or sealed under another root key. A
                plain file in a folder that has a root key is refused: anybody could have put it.
        """
        if not self._is_whole(name, data):
            raise KeyFileError(f"{place / name} is damaged, or of another folder: restore it")
        body = data[:-_SUM_BYTES]
        if self._key is None:
            if not body.startswith(_PLAIN):
                raise KeyFileError(f"{place / name} is sealed under a root key: give its root")
            return body[len(_PLAIN) :]
        at = len(_SEALED)
        if not body.startswith(_SEALED) or len(body) < at + _NONCE_BYTES:
            raise KeyFileError(f"{place / name} is not sealed, in a folder that is: restore it")
        nonce, sealed = body[at : at + _NONCE_BYTES], body[at + _NONCE_BYTES :]
        try:
            return AESGCM(self._key).decrypt(nonce, sealed, self._bound(name))
        except InvalidTag:
            raise KeyFileError(f"{place / name} was changed, or has another root key") from None

    def tag(self, data: bytes) -> str:
        """Return 64 hexadecimal digits over ``folder.json``: a MAC with a root, else a checksum."""
        # BLAKE2b is a MAC by its own key (RFC 7693); person parts it from other uses of the root.
        keyed = hashlib.blake2b(
            data, digest_size=32, key=self._key or b"", person=b"privemo folder"
        )
        return keyed.hexdigest()

    def _bound(self, name: str) -> bytes:
        return f"{self.folder_id}\n{name}".encode()

    def _sum(self, name: str, body: bytes) -> bytes:
        return hashlib.sha256(self._bound(name) + b"\n" + body).digest()

    def __repr__(self) -> str:
        return f"Seal({self.folder_id})"
