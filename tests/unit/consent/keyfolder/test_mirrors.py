"""Mirrors are kept equal, and one that is out of reach is pending until it is reached."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from privemo_consent.errors import (
    KeyFileError,
    PlacesPendingError,
)
from privemo_consent.keyfolder import KeyFolder
from privemo_consent.keyfolder.roots import KeyringRoot, NoRoot, Root
from privemo_consent.keys import SigningKey
from tests.unit.consent.keyfolder.parts import MemoryKeyring


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
