"""The key folder: who may open it, what it gives, what it destroys, and in how many places."""

from __future__ import annotations

import copy
import os
import pickle
import sys
import traceback
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

import keyring
import keyring.backend
import keyring.backends.chainer
import keyring.backends.fail
import keyring.backends.null
import pytest

from privemo_consent.copies.restorekeys import ended_since
from privemo_consent.errors import (
    ErasedKeyError,
    KeyFileError,
    MalformedError,
    PlacesPendingError,
)
from privemo_consent.keyfolder import KeyFolder
from privemo_consent.keyfolder.roots import KeyringRoot, NoRoot, PassphraseRoot, Root, root_of
from privemo_consent.keys import KeyPeriod, KeyRing, SigningKey, VerifyingKey
from privemo_consent.signing import check_belongs, drop_revoked

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


@pytest.fixture
def ring() -> Iterator[MemoryKeyring]:
    before, held = keyring.get_keyring(), MemoryKeyring()
    keyring.set_keyring(held)
    yield held
    keyring.set_keyring(before)


@pytest.fixture
def folder(tmp_path: Path) -> KeyFolder:
    return KeyFolder.create(tmp_path / "keys")


def test_what_is_made_is_found_again(tmp_path: Path) -> None:
    made = KeyFolder.create(tmp_path / "keys", registry_key=bytes(range(32)))
    signer = SigningKey.generate("example.org/log")
    made.add_signer(signer)
    made.witness = tmp_path / "witness"
    found = KeyFolder.open(tmp_path / "keys")
    assert (found.path, found.folder_id) == (tmp_path / "keys", made.folder_id)
    assert found.registry_key == bytes(range(32))
    assert (found.epoch, found.epochs) == (1, (1,))
    assert found.wrap_key(1, 7) == made.wrap_key(1, 7) != made.wrap_key(1, 8)
    assert found.lookup_key(1) == made.lookup_key(1)
    assert found.signers == (signer.key_id,)
    assert found.signer(signer.key_id).verifying == signer.verifying
    assert found.witness == tmp_path / "witness"
    assert (found.mirrors, found.pending, found.behind, found.mirror_of) == ((), (), (), None)


def test_only_the_owner_can_enter(folder: KeyFolder) -> None:
    folder.add_signer(SigningKey.generate("log"))
    assert folder.path.stat().st_mode & 0o777 == 0o700
    for file in folder.path.iterdir():
        assert file.stat().st_mode & 0o777 == 0o600, file


@pytest.mark.parametrize("mode", [0o750, 0o705, 0o710, 0o777])
def test_a_folder_open_to_others_is_refused(folder: KeyFolder, mode: int) -> None:
    folder.path.chmod(mode)
    for act in (lambda: KeyFolder.open(folder.path), lambda: folder.puncture([1])):
        with pytest.raises(KeyFileError, match="chmod 700"):
            act()


@pytest.mark.parametrize("name", ["folder.json", "registry.key", "persons-0001.key"])
def test_a_file_open_to_others_or_gone_is_refused(folder: KeyFolder, name: str) -> None:
    (folder.path / name).chmod(0o640)
    with pytest.raises(KeyFileError, match=rf"{name}.*chmod 600"):
        KeyFolder.open(folder.path)
    moved = folder.path.parent / name
    (folder.path / name).rename(moved)
    with pytest.raises(KeyFileError, match=name):
        KeyFolder.open(folder.path)
    moved.chmod(0o600)
    (folder.path / name).symlink_to(moved)
    with pytest.raises(KeyFileError, match=name):
        KeyFolder.open(folder.path)


def test_what_is_no_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="No such file"):
        KeyFolder.open(tmp_path / "keys")
    (tmp_path / "file").write_text("x")
    with pytest.raises(KeyFileError, match="no folder of keys"):
        KeyFolder.open(tmp_path / "file")
    (tmp_path / "empty").mkdir(mode=0o700)
    with pytest.raises(KeyFileError, match=r"folder\.json"):
        KeyFolder.open(tmp_path / "empty")


def test_nothing_is_overwritten(folder: KeyFolder, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for there in (folder.path, tmp_path / "file"):
        with pytest.raises(KeyFileError, match="never overwritten"):
            KeyFolder.create(there)
    with pytest.raises(KeyFileError, match="cannot be made"):
        KeyFolder.create(tmp_path / "no" / "keys")
    for wrong in (b"", bytes(31), "x" * 32):
        with pytest.raises(MalformedError, match="32 bytes"):
            KeyFolder.create(tmp_path / "other", registry_key=wrong)  # type: ignore[arg-type]
    assert sorted(os.listdir(tmp_path)) == ["file", "keys"]


# What lies beside


def link_to_keys(place: Path, other: Path) -> None:
    """Another registry's folder, under the name that a killed maker would have left."""
    KeyFolder.create(other)
    place.symlink_to(other)


def link_to_keys_in_use(place: Path, other: Path) -> None:
    KeyFolder.create(other).add_signer(SigningKey.generate("log"))
    place.symlink_to(other)


def keys_in_use(place: Path, other: Path) -> None:
    """The folder itself, moved there by somebody who may write around it."""
    KeyFolder.create(other).add_signer(SigningKey.generate("log"))
    other.rename(place)


def link_to_photos(place: Path, other: Path) -> None:
    photos(other, other)
    place.symlink_to(other)


def photos(place: Path, other: Path) -> None:
    del other
    place.mkdir(mode=0o700)
    (place / "photo").write_text("a cat")
    (place / "registry.key").write_text("mine")


def open_to_others(place: Path, other: Path) -> None:
    photos(place, other)
    (place / "photo").unlink()
    place.chmod(0o755)


def links_within(place: Path, other: Path) -> None:
    other.write_text("a cat")
    place.mkdir(mode=0o700)
    (place / "registry.key").symlink_to(other)


def second_names_within(place: Path, other: Path) -> None:
    other.write_text("a cat")
    place.mkdir(mode=0o700)
    os.link(other, place / "registry.key")


def folder_within(place: Path, other: Path) -> None:
    photos(other, other)
    place.mkdir(mode=0o700)
    (place / "registry.key").mkdir()


def everything(path: Path) -> dict[str, bytes | None]:
    return {
        str(file.relative_to(path)): file.read_bytes() if file.is_file() else None
        for file in sorted(path.rglob("*"))
    }


@pytest.mark.parametrize(
    "plant",
    [
        link_to_keys,
        link_to_keys_in_use,
        keys_in_use,
        link_to_photos,
        photos,
        open_to_others,
        links_within,
        second_names_within,
        folder_within,
    ],
)
@pytest.mark.parametrize("over", [".new.keys.making-x", ".new.keys.making-0123abcd"])
def test_what_somebody_put_in_a_leftovers_place_is_left_alone(
    plant: Callable[[Path, Path], None], over: str, tmp_path: Path
) -> None:
    (tmp_path / "here").mkdir()
    plant(tmp_path / "here" / over, tmp_path / "other")
    before = everything(tmp_path)
    KeyFolder.create(tmp_path / "here" / "new.keys")
    after = everything(tmp_path)
    assert {name: after[name] for name in before} == before
    assert (tmp_path / "here" / over).is_symlink() is plant.__name__.startswith("link_")


@pytest.mark.parametrize(("mine", "others"), [("key?", "keys"), ("[k]eys", "keys"), ("*", "keys")])
def test_leftovers_are_found_by_their_own_name(mine: str, others: str, tmp_path: Path) -> None:
    for name in (mine, others):
        left = tmp_path / f".{name}.making-0123abcd"
        left.mkdir(mode=0o700)
        (left / "registry.key.new").write_text("half")
    KeyFolder.create(tmp_path / mine)
    assert sorted(os.listdir(tmp_path)) == sorted([mine, f".{others}.making-0123abcd"])


def test_a_maker_at_work_is_not_swept_away(tmp_path: Path) -> None:
    from privemo_consent.keyfolder.leftovers import held

    left = tmp_path / ".keys.making-0123abcd"
    left.mkdir(mode=0o700)
    with held(left):
        KeyFolder.create(tmp_path / "keys")
        assert left.exists()
    KeyFolder.create(tmp_path / "keys2")
    assert left.exists(), "that is nobody's of this name"


def test_a_folder_is_not_removed_through_a_link(tmp_path: Path) -> None:
    from privemo_consent.keyfolder.files import Shelf

    folder = KeyFolder.create(tmp_path / "keys")
    before = everything(folder.path)
    (tmp_path / "link").symlink_to(folder.path)
    with pytest.raises(KeyFileError, match="cannot be destroyed"):
        Shelf(tmp_path / "link").remove()
    assert everything(folder.path) == before


def test_a_puncture_holds_here_and_on_the_disk(folder: KeyFolder) -> None:
    kept = folder.wrap_key(1, 6)
    folder.puncture([7, 8, 7])
    for one in (folder, KeyFolder.open(folder.path)):
        assert [one.punctured(pid) for pid in (6, 7, 8, 9)] == [False, True, True, False]
        assert one.wrap_key(1, 6) == kept
        with pytest.raises(ErasedKeyError):
            one.wrap_key(1, 7)
    folder.puncture([7])
    folder.puncture([])


def test_what_is_no_row_is_refused_before_anything_is_done(folder: KeyFolder) -> None:
    for wrong in (-1, 2**32, True, 1.0):
        with pytest.raises(MalformedError, match="row"):
            folder.puncture([3, wrong])  # type: ignore[list-item]
    assert not folder.punctured(3)


def test_the_old_bytes_are_overwritten_where_they_lay(folder: KeyFolder, tmp_path: Path) -> None:
    signer = SigningKey.generate("log")
    folder.add_signer(signer)
    folder.new_epoch()
    names = ["persons-0001.key", "persons-0002.key", f"log-{signer.key_id.hex()}.key"]
    for name in names:  # a second name for the same bytes shows what became of them
        os.link(folder.path / name, tmp_path / name)
    folder.puncture([1])
    assert set((tmp_path / names[0]).read_bytes()) == {0}
    assert set((tmp_path / names[1]).read_bytes()) == {0}
    folder.drop_signer(signer.key_id)
    assert set((tmp_path / names[2]).read_bytes()) == {0}
    os.link(folder.path / names[0], tmp_path / "forgotten")
    folder.forget_epoch(1)
    assert set((tmp_path / "forgotten").read_bytes()) == {0}
    assert sorted(os.listdir(folder.path)) == [
        "folder.json",
        "lock",
        "persons-0002.key",
        "registry.key",
    ]


def test_epochs_begin_and_are_forgotten(folder: KeyFolder) -> None:
    folder.puncture([5])
    assert folder.new_epoch() == 2
    assert (folder.epoch, folder.epochs) == (2, (1, 2))
    assert folder.wrap_key(1, 1) != folder.wrap_key(2, 1)
    assert folder.lookup_key(1) != folder.lookup_key(2)
    folder.puncture([6])
    for epoch in (1, 2):
        for pid in (5, 6):  # a row that was erased before the epoch began, too
            with pytest.raises(ErasedKeyError):
                folder.wrap_key(epoch, pid)
    with pytest.raises(KeyFileError, match="current"):
        folder.forget_epoch(2)
    folder.forget_epoch(1)
    folder.forget_epoch(1)
    for one in (folder, KeyFolder.open(folder.path)):
        assert (one.epoch, one.epochs) == (2, (2,))
        for ask in (lambda one=one: one.wrap_key(1, 1), lambda one=one: one.lookup_key(1)):
            with pytest.raises(KeyFileError, match="epoch 1 of the person keys was forgotten"):
                ask()
        with pytest.raises(KeyFileError, match="never begun"):
            one.wrap_key(3, 1)
        assert one.punctured(5)
    with pytest.raises(KeyFileError, match="never begun"):
        folder.forget_epoch(3)
    assert folder.new_epoch() == 3, "a number is never used again"


def test_signing_keys_come_and_go(folder: KeyFolder) -> None:
    one, two = SigningKey.generate("log"), SigningKey.generate("log")
    for key in (one, two, one):
        folder.add_signer(key)
    assert folder.signers == tuple(sorted((one.key_id, two.key_id)))
    folder.drop_signer(one.key_id)
    folder.drop_signer(one.key_id)
    for held in (folder, KeyFolder.open(folder.path)):
        assert held.signers == (two.key_id,)
        with pytest.raises(KeyFileError, match=one.key_id.hex()):
            held.signer(one.key_id)
    with pytest.raises(KeyFileError, match="dropped"):
        folder.add_signer(one)
    with pytest.raises(KeyFileError, match="no signing key"):
        folder.drop_signer(b"\0\0\0\0")
    assert folder.dropped == {one.verifying.public}
    assert folder.holds(two.verifying)
    assert not folder.holds(one.verifying)
    assert folder.ever_held(one.verifying)
    assert folder.ever_held(two.verifying)


def test_a_key_of_the_same_id_is_another_key(
    folder: KeyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """2**32 tries give a key whose id is a given one's; here all have one."""
    monkeypatch.setattr(VerifyingKey, "key_id", property(lambda _: b"same"))
    mine, thief = SigningKey.generate("log"), SigningKey.generate("log/2")
    now = datetime(2026, 1, 1, tzinfo=UTC)
    forged = KeyRing([KeyPeriod(key=thief.verifying, begins=now)])
    revoked = forged.revoke(thief.verifying, at=now)
    folder.add_signer(mine)

    def nothing_is_the_thiefs(folder: KeyFolder) -> None:
        assert folder.ever_held(mine.verifying)
        assert not folder.holds(thief.verifying)
        assert not folder.ever_held(thief.verifying)
        with pytest.raises(KeyFileError, match="never held"):
            check_belongs(folder, forged)
        assert ended_since(folder, forged) == []

    nothing_is_the_thiefs(folder)
    drop_revoked(folder, revoked)
    assert folder.holds(mine.verifying), "the log does not end a key by naming its id"
    folder.drop_signer(mine.key_id)
    for one in (folder, KeyFolder.open(folder.path)):
        nothing_is_the_thiefs(one)
        with pytest.raises(KeyFileError, match="dropped"):
            one.add_signer(thief)
    assert ended_since(folder, KeyRing([KeyPeriod(key=mine.verifying, begins=now)]))


def test_a_witness_that_lacks_a_change_is_remembered_until_it_has_the_newest(
    folder: KeyFolder, tmp_path: Path
) -> None:
    folder.add_mirror(tmp_path / "mirror")
    assert folder.witness_behind is None
    folder.miss_witness()
    first = folder.witness_behind
    assert first is not None
    for place in (folder.path, tmp_path / "mirror"):
        assert KeyFolder.open(place).witness_behind == first
    KeyFolder.open(folder.path).miss_witness()  # another process, while this one tells the first
    folder.catch_up_witness(first)
    assert folder.witness_behind not in (None, first), "the later change was not told"
    folder.catch_up_witness(str(folder.witness_behind))
    for place in (folder.path, tmp_path / "mirror"):
        assert KeyFolder.open(place).witness_behind is None


def test_a_signing_key_that_went_missing_is_named(folder: KeyFolder) -> None:
    key = SigningKey.generate("log")
    folder.add_signer(key)
    (folder.path / f"log-{key.key_id.hex()}.key").unlink()
    with pytest.raises(KeyFileError, match=rf"log-{key.key_id.hex()}\.key is missing"):
        KeyFolder.open(folder.path)


# Roots


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


# Mirrors


@pytest.mark.parametrize("sealed", [False, True])
def test_a_mirror_is_kept_equal(tmp_path: Path, ring: MemoryKeyring, sealed: bool) -> None:
    root: Root = KeyringRoot() if sealed else NoRoot()
    folder, place = KeyFolder.create(tmp_path / "keys", root=root), tmp_path / "mirror"
    folder.add_mirror(place)
    folder.add_mirror(place)
    signers = [SigningKey.generate("log") for _ in range(2)]
    for key in signers:
        folder.add_signer(key)
    folder.new_epoch()
    folder.puncture([4])
    folder.drop_signer(signers[0].key_id)
    folder.forget_epoch(1)
    folder.witness = tmp_path / "witness"
    assert (folder.mirrors, folder.pending, folder.behind) == ((place,), (), ())
    copied = KeyFolder.open(place, root=root)
    assert copied.mirror_of == folder.path
    assert copied.signers == folder.signers
    assert (copied.epochs, copied.witness) == (folder.epochs, folder.witness)
    assert copied.wrap_key(2, 3) == folder.wrap_key(2, 3)
    assert copied.punctured(4)
    assert sorted(os.listdir(place)) == sorted(os.listdir(folder.path))


def test_a_mirror_is_changed_through_its_owner_alone(folder: KeyFolder, tmp_path: Path) -> None:
    folder.add_mirror(tmp_path / "mirror")
    mirror = KeyFolder.open(tmp_path / "mirror")
    for act in (lambda: mirror.puncture([1]), mirror.new_epoch, mirror.finish):
        with pytest.raises(KeyFileError, match="is a mirror of"):
            act()
    mirror.promote()
    mirror.puncture([1])
    with pytest.raises(PlacesPendingError):  # its former owner does not undo that
        folder.puncture([2])
    assert KeyFolder.open(tmp_path / "mirror").punctured(1)


def test_a_mirror_out_of_reach_is_pending(folder: KeyFolder, tmp_path: Path) -> None:
    near, far, away = tmp_path / "near", tmp_path / "far", tmp_path / "unplugged"
    folder.add_mirror(near)
    folder.add_mirror(far)
    far.rename(away)
    folder.new_epoch()
    assert (folder.pending, folder.behind) == ((), (far,)), "nothing that must go is there"
    with pytest.raises(PlacesPendingError, match=str(far)) as caught:
        folder.puncture([5])
    assert caught.value.places == (far,)
    assert folder.pending == folder.behind == (far,)
    assert folder.punctured(5), "done here"
    assert KeyFolder.open(near).punctured(5), "and where it could be"
    assert KeyFolder.open(folder.path).pending == (far,)
    for again in (folder.finish, lambda: folder.puncture([5]), lambda: folder.puncture([])):
        with pytest.raises(PlacesPendingError):
            again()
    assert not far.exists(), "nothing is made where a disk is to be mounted"
    away.rename(far)
    assert not KeyFolder.open(far).punctured(5)
    folder.finish()
    assert (folder.pending, folder.behind) == ((), ())
    assert KeyFolder.open(far).punctured(5)
    assert KeyFolder.open(far).epochs == (1, 2)


def test_whoever_opens_finishes_what_can_be_reached(folder: KeyFolder, tmp_path: Path) -> None:
    folder.add_mirror(tmp_path / "far")
    (tmp_path / "far").rename(tmp_path / "away")
    with pytest.raises(PlacesPendingError):
        folder.puncture([5])
    (tmp_path / "away").rename(tmp_path / "far")
    assert KeyFolder.open(folder.path).pending == ()
    assert folder.refresh()
    assert folder.pending == ()
    assert KeyFolder.open(tmp_path / "far").punctured(5)


def test_a_mirror_is_removed_with_its_keys(folder: KeyFolder, tmp_path: Path) -> None:
    place = tmp_path / "mirror"
    folder.add_mirror(place)
    os.link(place / "persons-0001.key", tmp_path / "link")
    folder.remove_mirror(place)
    assert not place.exists()
    assert set((tmp_path / "link").read_bytes()) == {0}
    assert folder.mirrors == ()
    with pytest.raises(KeyFileError, match="no mirror"):
        folder.remove_mirror(place)


def test_a_lost_mirror_is_struck_off_only_on_purpose(folder: KeyFolder, tmp_path: Path) -> None:
    place = tmp_path / "mirror"
    folder.add_mirror(place)
    place.rename(tmp_path / "stolen")
    with pytest.raises(PlacesPendingError):
        folder.remove_mirror(place)
    assert folder.mirrors == folder.pending == (place,)
    folder.remove_mirror(place, lost=True)
    folder.puncture([1])
    assert (folder.mirrors, folder.pending) == ((), ())


def test_no_mirror_goes_where_something_stands(folder: KeyFolder, tmp_path: Path) -> None:
    full, other = tmp_path / "full", tmp_path / "other"
    full.mkdir(mode=0o700)
    (full / "photo").write_text("x")
    KeyFolder.create(other)
    (tmp_path / "open").mkdir(mode=0o755)
    (tmp_path / "empty").mkdir(mode=0o700)
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "empty")
    inside = (folder.path, folder.path / "in")
    for place in (full, other, full / "photo", *inside, tmp_path / "open", link):
        with pytest.raises(KeyFileError):
            folder.add_mirror(place)
    with pytest.raises(KeyFileError, match="cannot be made"):
        folder.add_mirror(tmp_path / "no" / "mirror")
    assert folder.mirrors == ()
    assert os.listdir(full) == ["photo"]


# Other processes, and what is shown


def test_refresh_drops_what_another_destroyed(folder: KeyFolder) -> None:
    other = KeyFolder.open(folder.path)
    assert not folder.refresh()
    other.puncture([1])
    other.new_epoch()
    assert folder.refresh()
    assert not folder.refresh()
    with pytest.raises(ErasedKeyError):
        folder.wrap_key(1, 1)
    assert folder.wrap_key(2, 2) == other.wrap_key(2, 2)


def test_who_writes_builds_on_what_others_wrote(folder: KeyFolder) -> None:
    other = KeyFolder.open(folder.path)
    other.puncture([1])
    folder.puncture([2])
    assert [KeyFolder.open(folder.path).punctured(pid) for pid in (1, 2)] == [True, True]


def test_no_key_is_given_from_a_folder_that_is_gone(folder: KeyFolder, tmp_path: Path) -> None:
    folder.path.rename(tmp_path / "moved")
    for ask in (folder.refresh, lambda: folder.wrap_key(1, 1), lambda: folder.registry_key):
        with pytest.raises(KeyFileError):
            ask()
    (tmp_path / "moved").rename(folder.path)
    assert folder.refresh()
    assert folder.wrap_key(1, 1)


def test_another_folder_in_its_place_is_refused(folder: KeyFolder, tmp_path: Path) -> None:
    folder.path.rename(tmp_path / "moved")
    KeyFolder.create(folder.path)
    with pytest.raises(KeyFileError):
        folder.refresh()
    with pytest.raises(KeyFileError):
        folder.wrap_key(1, 1)


def test_nothing_secret_is_shown_or_sent(tmp_path: Path) -> None:
    root = PassphraseRoot(PASSPHRASE)
    folder = KeyFolder.create(tmp_path / "keys", root=root)
    shown = repr((folder, root, folder._held, folder._seal, folder._persons, KeyringRoot()))
    secrets = (folder.registry_key, folder.lookup_key(1), folder.wrap_key(1, 1), PASSPHRASE)
    for secret in (*secrets, folder._seal._key):
        assert secret is not None
        assert secret.hex() not in shown
        assert repr(secret)[2:-1] not in shown
    for act in (pickle.dumps, copy.copy, copy.deepcopy):
        for value in (folder, root):
            with pytest.raises(TypeError, match="neither copied nor sent"):
                act(value)
