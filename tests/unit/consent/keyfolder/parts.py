"""Keyrings that keep, show and refuse, and everything that lies in a folder."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import keyring
import keyring.backend
import keyring.backends.chainer
import keyring.backends.fail
import keyring.backends.null

PASSPHRASE = b"correct horse battery staple"


class MemoryKeyring(keyring.backend.KeyringBackend):
    """A keyring as the package's documentation says to write one; this machine has none."""

    priority: ClassVar[float] = 1  # type: ignore[assignment]

    def __init__(self) -> None:
        super().__init__()
        self.entries: dict[tuple[str, str], str] = {}

    def get_password(self, service: str, username: str) -> str | None:
        return self.entries.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self.entries[service, username] = password


class PlaintextKeyring(MemoryKeyring):
    """Named as the one of keyrings.alt that writes secrets down as they are."""


class LockedKeyring(MemoryKeyring):
    def get_password(self, service: str, username: str) -> str | None:
        raise RuntimeError("the secret is 0123456789abcdef")


def everything(path: Path) -> dict[str, bytes | None]:
    return {
        str(file.relative_to(path)): file.read_bytes() if file.is_file() else None
        for file in sorted(path.rglob("*"))
    }
