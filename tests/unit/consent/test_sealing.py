"""A person's key and what it seals: nothing opens in another place, registry, row or epoch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from privemo_consent import ErasedKeyError, KeyFileError, KeyFolder, TamperedError
from privemo_consent.sealing import (
    PersonSecrets,
    handle_of,
    handles_of,
    open_person,
    rewrap,
    seal,
    seal_person,
    unseal,
)

Row = dict[str, Any]


@pytest.fixture
def keys(tmp_path: Path) -> KeyFolder:
    return KeyFolder.create(tmp_path / "keys")


def ann(keys: KeyFolder, **changes: Any) -> tuple[Row, PersonSecrets]:
    fields = {"registry_id": "r1", "epoch": 1, "pid": 7, "person": "ann"}
    return seal_person(keys, **(fields | changes))


def test_what_is_sealed_opens_again(keys: KeyFolder) -> None:
    row, secrets = ann(keys, person="ann\u00e9 \U0001f600")
    assert open_person(keys, "r1", row) == secrets
    assert (secrets.person, len(secrets.key), len(secrets.subject_key)) == (
        "ann\u00e9 \U0001f600",
        32,
        32,
    )
    assert row.keys() == {"pid", "handle", "sealed", "wrapped", "epoch"}


def test_nothing_is_sealed_alike_twice(keys: KeyFolder) -> None:
    first, second = ann(keys), ann(keys)
    assert first[1].key != second[1].key
    assert first[1].subject_key != second[1].subject_key
    assert first[0]["sealed"] != second[0]["sealed"]
    assert first[0]["handle"] == second[0]["handle"], "or nobody would be found"


def test_a_subject_key_that_is_brought_is_kept(keys: KeyFolder) -> None:
    row, _ = ann(keys, subject_key=b"k" * 32)
    assert open_person(keys, "r1", row).subject_key == b"k" * 32


def of(other: str) -> Callable[[Row, Row], Row]:
    return lambda row, theirs: row | {other: theirs[other]}


def flipped(name: str, at: int) -> Callable[[Row, Row], Row]:
    def change(row: Row, _: Row) -> Row:
        data = bytearray(row[name])
        data[at] ^= 1
        return row | {name: bytes(data)}

    return change


ATTACKS: dict[str, Callable[[Row, Row], Row]] = {
    "moved to another row": lambda row, _: row | {"pid": 8},
    "said to be of another epoch": lambda row, _: row | {"epoch": 2},
    "another's key": of("wrapped"),
    "another's id": of("sealed"),
    "another's both": lambda row, theirs: theirs | {"pid": row["pid"]},
    "nonce of the key": flipped("wrapped", 0),
    "key": flipped("wrapped", 20),
    "tag of the key": flipped("wrapped", -1),
    "nonce of the id": flipped("sealed", 0),
    "id": flipped("sealed", 20),
    "tag of the id": flipped("sealed", -1),
    "key cut short": lambda row, _: row | {"wrapped": row["wrapped"][:20]},
    "key gone": lambda row, _: row | {"wrapped": b""},
    "id gone": lambda row, _: row | {"sealed": b""},
}


@pytest.mark.parametrize("name", ATTACKS)
def test_a_row_that_was_changed_or_moved_does_not_open(keys: KeyFolder, name: str) -> None:
    keys.new_epoch()
    row, theirs = ann(keys)[0], ann(keys, pid=8, person="ben")[0]
    with pytest.raises(TamperedError, match=r"person row \d: does not open") as caught:
        open_person(keys, "r1", ATTACKS[name](row, theirs))
    assert "ann" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_row_does_not_open_in_another_registry(keys: KeyFolder, tmp_path: Path) -> None:
    row, _ = ann(keys)
    with pytest.raises(TamperedError):
        open_person(keys, "r2", row)
    with pytest.raises(TamperedError):
        open_person(KeyFolder.create(tmp_path / "other"), "r1", row)


def test_an_erased_row_and_a_destroyed_key_are_told_apart_from_damage(keys: KeyFolder) -> None:
    row, _ = ann(keys)
    with pytest.raises(ErasedKeyError, match="person row 7"):
        open_person(keys, "r1", row | {"wrapped": None, "sealed": None})
    keys.puncture([7])
    with pytest.raises(ErasedKeyError):
        open_person(keys, "r1", row)
    with pytest.raises(ErasedKeyError):
        ann(keys)  # nor is anything sealed again under a number that was destroyed


def test_rewrapping_changes_the_wrapping_alone(keys: KeyFolder) -> None:
    row, secrets = ann(keys)
    epoch = keys.new_epoch()
    changed, same = rewrap(keys, "r1", row, epoch)
    assert same == secrets
    assert changed["sealed"] == row["sealed"], "nothing that a person's key seals is touched"
    assert changed["epoch"] == 2
    assert changed["wrapped"] != row["wrapped"]
    assert changed["handle"] == handle_of(keys.lookup_key(2), "ann") != row["handle"]
    assert open_person(keys, "r1", changed) == secrets
    keys.forget_epoch(1)
    assert open_person(keys, "r1", changed) == secrets
    with pytest.raises(KeyFileError, match="was forgotten"):
        open_person(keys, "r1", row)


def test_bytes_are_bound_to_their_place() -> None:
    sealed = seal(b"k" * 32, b"pixels", b"here")
    assert unseal(b"k" * 32, sealed, b"here", "item 1") == b"pixels"
    for key, bound in ((b"k" * 32, b"there"), (b"l" * 32, b"here"), (b"k" * 32, b"")):
        with pytest.raises(TamperedError, match="item 1"):
            unseal(key, sealed, bound, "item 1")


def test_a_whole_table_has_the_handles_of_each() -> None:
    names = ["ann", "ben", "ann", "\u00e9"]
    assert handles_of(b"k" * 32, names) == [handle_of(b"k" * 32, name) for name in names]


def test_secrets_are_not_shown(keys: KeyFolder) -> None:
    _, secrets = ann(keys)
    shown = repr(secrets) + str(secrets)
    assert "ann" not in shown
    assert secrets.key.hex() not in shown
    assert repr(secrets.key) not in shown
