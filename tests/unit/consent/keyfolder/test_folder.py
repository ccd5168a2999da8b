"""The folder of people's keys: made once, its owner's alone, punctured for good, and shared with care."""

from __future__ import annotations

import copy
import os
import pickle
from datetime import UTC, datetime
from pathlib import Path

import pytest

from privemo_consent.copies.restorekeys import ended_since
from privemo_consent.errors import (
    ErasedKeyError,
    KeyFileError,
    MalformedError,
)
from privemo_consent.keyfolder import KeyFolder
from privemo_consent.keyfolder.roots import KeyringRoot, PassphraseRoot
from privemo_consent.keys import KeyPeriod, KeyRing, SigningKey, VerifyingKey
from privemo_consent.signing import check_belongs, drop_revoked
from tests.unit.consent.keyfolder.parts import PASSPHRASE


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
