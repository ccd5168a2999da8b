"""A key folder, and a keyring to hold its root."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import keyring
import keyring.backend
import keyring.backends.chainer
import keyring.backends.fail
import keyring.backends.null
import pytest

from privemo_consent.keyfolder import KeyFolder
from tests.unit.consent.keyfolder.parts import MemoryKeyring


@pytest.fixture
def ring() -> Iterator[MemoryKeyring]:
    before, held = keyring.get_keyring(), MemoryKeyring()
    keyring.set_keyring(held)
    yield held
    keyring.set_keyring(before)


@pytest.fixture
def folder(tmp_path: Path) -> KeyFolder:
    return KeyFolder.create(tmp_path / "keys")
