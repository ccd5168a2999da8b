"""What the keys are sealed under: nothing, a passphrase, or the keyring of the operating system."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keyring
import keyring.backend
import keyring.backends.chainer
import keyring.backends.fail
import keyring.backends.null
import pytest

from privemo_consent.errors import (
    KeyFileError,
    MalformedError,
)
from privemo_consent.keyfolder import KeyFolder
from privemo_consent.keyfolder.roots import KeyringRoot, NoRoot, PassphraseRoot, root_of
from tests.unit.consent.keyfolder.parts import (
    PASSPHRASE,
    LockedKeyring,
    MemoryKeyring,
    PlaintextKeyring,
)


def test_a_passphrase_opens_and_no_other_does(tmp_path: Path) -> None:
    made = KeyFolder.create(tmp_path / "keys", root=PassphraseRoot(PASSPHRASE))
    again = KeyFolder.open(tmp_path / "keys", root=PassphraseRoot(PASSPHRASE))
    assert again.wrap_key(1, 1) == made.wrap_key(1, 1)
    everything = b"".join(f.read_bytes() for f in made.path.iterdir())
    assert made.registry_key not in everything
    assert made.lookup_key(1) not in everything
    messages = set()
    for wrong in (b"correct horse battery stapl", b"x"):
        with pytest.raises(KeyFileError) as caught:
            KeyFolder.open(tmp_path / "keys", root=PassphraseRoot(wrong))
        messages.add(str(caught.value))
        told = "".join(traceback.format_exception(caught.value))
        assert wrong.decode() not in told or wrong == b"x"
    assert len(messages) == 1, "no hint how near it was"
    for other in (None, KeyringRoot()):
        with pytest.raises(KeyFileError, match="root of kind 'passphrase'"):
            KeyFolder.open(tmp_path / "keys", root=other)


SCRYPT = {"n": 2**17, "r": 8, "p": 1, "salt": "00" * 16}


@pytest.mark.parametrize(
    "forged",
    [
        {"n": 2**16},  # cheaper to guess
        {"n": 2},
        {"n": 2**40},  # a petabyte
        {"n": 2**17 + 1},
        {"n": "131072"},
        {"n": True},
        {"r": 1},
        {"r": 2**20},
        {"p": 2**20},
        {"salt": ""},
        {"salt": "00" * 15},
        {"salt": "zz" * 16},
        {"salt": 5},
        {"more": 1},
    ],
)
def test_forged_parameters_are_refused_before_they_cost_anything(forged: dict[str, Any]) -> None:
    with pytest.raises(KeyFileError, match=r"folder\.json"):
        PassphraseRoot(PASSPHRASE).key(SCRYPT | forged)
    with pytest.raises(KeyFileError, match=r"folder\.json"):
        PassphraseRoot(PASSPHRASE).key({})


def test_the_keyring_holds_the_root(tmp_path: Path, ring: MemoryKeyring) -> None:
    made = KeyFolder.create(tmp_path / "keys", root=KeyringRoot())
    assert list(ring.entries) == [("privemo", made.folder_id)]
    again = KeyFolder.open(tmp_path / "keys", root=KeyringRoot())
    assert again.wrap_key(1, 1) == made.wrap_key(1, 1)
    for wrong in (KeyringRoot("other"), KeyringRoot(account="other")):
        with pytest.raises(KeyFileError, match="another entry"):
            KeyFolder.open(tmp_path / "keys", root=wrong)
    entry = ("privemo", made.folder_id)
    for held, why in (("zz", "no root key"), ("00" * 31, "no root key"), ("00" * 32, "changed")):
        ring.entries[entry] = held
        with pytest.raises(KeyFileError, match=why):
            KeyFolder.open(tmp_path / "keys", root=KeyringRoot())
    del ring.entries[entry]
    with pytest.raises(KeyFileError, match="log in"):
        KeyFolder.open(tmp_path / "keys", root=KeyringRoot())
    for parameters in ({}, {"service": "privemo", "account": 1}, {"account": "a"}):
        with pytest.raises(KeyFileError, match=r"folder\.json"):
            KeyringRoot().key(parameters)


def test_an_entry_of_the_keyring_is_not_overwritten(tmp_path: Path, ring: MemoryKeyring) -> None:
    KeyFolder.create(tmp_path / "keys", root=KeyringRoot(account="shop"))
    with pytest.raises(KeyFileError, match="never overwritten"):
        KeyFolder.create(tmp_path / "other", root=KeyringRoot(account="shop"))
    assert not (tmp_path / "other").exists()


def chain_to_plain_text() -> keyring.backend.KeyringBackend:
    chain = keyring.backends.chainer.ChainerBackend()
    type(chain).backends = [MemoryKeyring(), PlaintextKeyring()]  # type: ignore[assignment,method-assign]
    return chain


@pytest.mark.parametrize(
    ("backend", "why"),
    [
        (keyring.backends.fail.Keyring, "no keyring"),
        (keyring.backends.null.Keyring, "no keyring"),
        (PlaintextKeyring, "plain text"),
        (LockedKeyring, "unlock"),
        (chain_to_plain_text, "plain text"),
    ],
)
def test_a_keyring_that_protects_nothing_is_refused(
    backend: Callable[[], keyring.backend.KeyringBackend],
    why: str,
    tmp_path: Path,
    ring: MemoryKeyring,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    chainer = keyring.backends.chainer.ChainerBackend
    monkeypatch.setattr(chainer, "backends", chainer.backends)  # put back afterwards
    keyring.set_keyring(backend())
    with pytest.raises(KeyFileError, match=why) as caught:
        KeyFolder.create(tmp_path / "keys", root=KeyringRoot())
    assert "0123456789abcdef" not in "".join(traceback.format_exception(caught.value))
    assert os.listdir(tmp_path) == []


def test_a_missing_keyring_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "keyring", None)
    with pytest.raises(KeyFileError, match="pip install"):
        KeyringRoot().new_parameters()


def test_roots_by_name() -> None:
    assert isinstance(root_of("none"), NoRoot)
    assert isinstance(root_of("keyring"), KeyringRoot)
    assert isinstance(root_of("passphrase", passphrase=b"x"), PassphraseRoot)
    for kind, passphrase in (("tpm", None), ("passphrase", None), ("none", b"x"), ("keyring", b"")):
        with pytest.raises(MalformedError):
            root_of(kind, passphrase=passphrase)
    with pytest.raises(MalformedError, match="protects nothing"):
        PassphraseRoot(b"")
    with pytest.raises(KeyFileError, match="no parameters"):
        NoRoot().key({"n": 1})


def swap(keys: Path, other: Path) -> None:
    """Two secrets of one folder change places."""
    del other
    one, two = keys / "registry.key", keys / "persons-0001.key"
    first, second = one.read_bytes(), two.read_bytes()
    one.write_bytes(second)
    two.write_bytes(first)


def foreign(keys: Path, other: Path) -> None:
    """A secret of another folder, whose root is the same."""
    (keys / "registry.key").write_bytes((other / "registry.key").read_bytes())


def unsealed(keys: Path, other: Path) -> None:
    """A plain file, whole, with a registry key of the attacker's choice."""
    from privemo_consent.keyfolder.seal import Seal

    del other
    folder_id = KeyFolder.open(keys, root=KeyringRoot()).folder_id
    forged = Seal(folder_id, None).close("registry.key", bytes(32))
    (keys / "registry.key").write_bytes(forged)


def mirror_added(keys: Path, other: Path) -> None:
    """Somebody who can write folder.json asks for a copy of the keys, with a fresh checksum."""
    from privemo_consent.keyfolder.record import FolderRecord
    from privemo_consent.keyfolder.seal import Seal

    record = FolderRecord.decode((keys / "folder.json").read_bytes(), keys)
    forged = record.change(mirrors=(str(other / "x"),))
    (keys / "folder.json").write_bytes(forged.encode(Seal(record.folder_id, None)))


@pytest.mark.parametrize("attack", [swap, foreign, unsealed, mirror_added])
def test_files_that_were_exchanged_are_refused(
    attack: Callable[[Path, Path], None], tmp_path: Path, ring: MemoryKeyring
) -> None:
    for name in ("keys", "other"):
        KeyFolder.create(tmp_path / name, root=KeyringRoot())
    attack(tmp_path / "keys", tmp_path / "other")
    with pytest.raises(KeyFileError):
        KeyFolder.open(tmp_path / "keys", root=KeyringRoot())
