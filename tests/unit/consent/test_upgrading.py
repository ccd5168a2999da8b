"""A registry that the first release wrote, brought to this version by its user's one command."""

from __future__ import annotations

import lzma
import os
import shutil
import signal
import sqlite3
from pathlib import Path

import pytest

from privemo_consent import (
    ConsentRegistry,
    Context,
    KeyFileError,
    KeyFolder,
    PassphraseRoot,
    Purpose,
    Reason,
    RegistryMissingError,
    RegistryUnreadableError,
    TamperedError,
)
from privemo_consent.upgrading import upgrade_registry
from tests.support.consent import KILLED, in_child
from tests.support.interrupt import interrupt

OLD = Path(__file__).parents[2] / "data" / "consent-v1.sqlite.xz"
SHOP = Context(setting="retail", jurisdiction="IE")
TRAINING = Purpose.TRAINING


@pytest.fixture
def old(tmp_path: Path) -> Path:
    path = tmp_path / "consent.sqlite"
    path.write_bytes(lzma.decompress(OLD.read_bytes()))
    return path


def old_leaves(path: Path) -> list[bytes]:
    with sqlite3.connect(path) as raw:
        rows = raw.execute("SELECT leaf FROM events ORDER BY seq").fetchall()
    raw.close()
    return [row[0] for row in rows]


def old_people(path: Path) -> list[str]:
    with sqlite3.connect(path) as raw:
        rows = raw.execute("SELECT person FROM persons ORDER BY pid").fetchall()
    raw.close()
    return [row[0] for row in rows]


def test_an_old_registry_says_what_to_do(old: Path) -> None:
    with pytest.raises(RegistryUnreadableError, match="privemo registry migrate"):
        ConsentRegistry.open(old, mode="production", keys=KeyFolder.create(old.parent / "k"))


def test_everything_of_the_old_is_there_under_new_keys(old: Path) -> None:
    leaves, people = old_leaves(old), old_people(old)
    assert upgrade_registry(old) == (1, 2)
    with ConsentRegistry.open(old, mode="production") as registry:
        verified = registry.verify()
        assert verified.events == verified.signed == len(leaves) + 1
        assert [registry.leaf(seq) for seq in range(len(leaves))] == leaves
        assert list(registry.persons()) == people
        assert registry.decide(people[5], TRAINING, SHOP).permit
        assert registry.preview(people[1], TRAINING, SHOP).reason is Reason.WITHDRAWN
        assert len(list(registry.uses())) == 18
        registry.withdraw(people[5])  # the log goes on, old tags and new ones side by side
        registry.erase(people[6])
        registry.verify()


def test_upgrading_twice_is_as_good_as_once(old: Path) -> None:
    upgrade_registry(old)
    with ConsentRegistry.open(old, mode="production") as registry:
        head = registry.head()
    assert upgrade_registry(old) == (2, 2)
    with ConsentRegistry.open(old, mode="production") as registry:
        assert registry.head() == head


def test_nobody_stands_in_the_file_by_name_any_more(old: Path) -> None:
    people = old_people(old)
    assert people[0].encode() in old.read_bytes()
    upgrade_registry(old)
    with ConsentRegistry.open(old, mode="production") as registry:
        registry.head()
    for path in old.parent.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert not any(person.encode() in data for person in people), path.name


def test_whoever_was_emptied_by_hand_counts_as_erased(old: Path) -> None:
    with sqlite3.connect(old) as raw:
        raw.execute("UPDATE persons SET person = NULL, nonce = NULL WHERE pid = 3")
    raw.close()
    upgrade_registry(old)
    with ConsentRegistry.open(old, mode="production") as registry:
        registry.verify()
        assert registry.keys.punctured(3)
        assert "p03" not in registry.persons()


def test_a_folder_of_other_keys_is_refused_and_nothing_changes(old: Path) -> None:
    before = old.read_bytes()
    other = KeyFolder.create(old.parent / "other.keys")
    with pytest.raises(KeyFileError, match="holds other keys"):
        upgrade_registry(old, keys=other)
    assert old.read_bytes()[:4096] == before[:4096]
    assert old_people(old)[0] == "p00"


def test_under_a_passphrase(old: Path) -> None:
    root = PassphraseRoot(b"correct horse")
    upgrade_registry(old, root=root)
    with pytest.raises(KeyFileError):
        ConsentRegistry.open(old, mode="production")
    with ConsentRegistry.open(old, mode="production", root=root) as registry:
        assert registry.verify().named


def test_a_damaged_row_stops_it_and_nothing_changes(old: Path) -> None:
    with sqlite3.connect(old) as raw:
        raw.execute("DROP TRIGGER persons_no_update")
        raw.execute("UPDATE persons SET nonce = 'text' WHERE pid = 3")
    raw.close()
    with pytest.raises(TamperedError) as caught:
        upgrade_registry(old)
    assert caught.value.entry == "person row 3"
    assert old_people(old)[3] == "p03"


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(RegistryMissingError):
        upgrade_registry(tmp_path / "no.sqlite")


def test_killed_at_any_step_of_its_files_it_can_be_repeated(old: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    shutil.copy(old, kept / "consent.sqlite")
    for step in range(0, 400, 5):

        def act(step: int = step) -> None:
            interrupt(step, lambda: os.kill(os.getpid(), signal.SIGKILL))
            upgrade_registry(old)

        code = in_child(act)
        upgrade_registry(old)  # whoever was stopped asks again
        with ConsentRegistry.open(old, mode="production") as registry:
            assert registry.verify().signed == 27
        if code != KILLED:
            assert code == 0
            break
        for leftover in tmp_path.glob("consent.*"):
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
        shutil.copy(kept / "consent.sqlite", old)
    assert step > 10
