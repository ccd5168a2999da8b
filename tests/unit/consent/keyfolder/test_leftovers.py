"""What a killed maker left beside a folder is swept up, and what somebody else put there is not."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from privemo_consent.errors import (
    KeyFileError,
)
from privemo_consent.keyfolder import KeyFolder
from privemo_consent.keys import SigningKey
from tests.unit.consent.keyfolder.parts import everything


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
