"""What a store wrote of people beside its registry: shown to them, and gone when they go."""

from __future__ import annotations

import errno
import multiprocessing
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from privemo_consent import (
    AgeBand,
    ConsentRegistry,
    Context,
    MinorRefused,
    NewItem,
    Purpose,
    RegistryFullError,
    RegistryUnreadableError,
    Vault,
    beside,
    erasing,
)
from privemo_consent.beside import FILE, alone, forget, people_of, rows_of
from privemo_consent.retention import DueRule, Kept

TRAINING, AUDIT = Purpose.TRAINING, Purpose.FAIRNESS_AUDIT
HEAD = "store,person,face,label,prediction,p_happy,p_sad,gender\n"
TABLE = (
    f"{HEAD}s,ann,f1,0,1,0.2,0.8,woman\n"
    's,ben,f2,1,1,0.1,0.9,"a, b"\n'
    's,"ann",f3,1,1,0.3,0.7,""\n'
    's,cat,f4,1,0,0.6,0.4,"two\nlines"'
)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    (path := tmp_path / FILE).write_text(TABLE)
    return path


@pytest.fixture
def people(registry: ConsentRegistry, yes: Any, table: Path) -> ConsentRegistry:
    for person in ("ann", "ben", "cat"):
        registry.grant(person, [TRAINING, AUDIT], **yes(valid_for=timedelta(days=100)))
    table.write_text(TABLE)  # measured after they agreed
    return registry


# -- shown -----------------------------------------------------------------------------------------


def test_an_export_tells_what_a_model_said_of_a_person_and_of_nobody_else(
    people: ConsentRegistry,
) -> None:
    first, second = people.export("ann")["predictions"]
    assert first == {
        "store": "s",
        "face": "f1",
        "label": "happy",
        "prediction": "sad",
        "p_happy": "0.2",
        "p_sad": "0.8",
        "gender": "woman",
    }
    assert (second["face"], second["gender"]) == ("f3", "")
    (last,) = people.export("cat")["predictions"]
    assert last["gender"] == "two\nlines"


@pytest.mark.parametrize(
    "content",
    [None, b"", b"\n", b"price,stock\n1,2\n", b"id,person\n1,ann\n2,dan\n", HEAD.encode()],
    ids=repr,
)
def test_where_no_table_names_people_nothing_is_held(
    people: ConsentRegistry, table: Path, content: bytes | None
) -> None:
    table.unlink() if content is None else table.write_bytes(content)
    assert people.export("ann")["predictions"] == []
    assert people.erase("ann").pending == ()
    assert (table.read_bytes() if table.exists() else None) == content


@pytest.mark.parametrize(
    "content", [b"\xff\xfe\x00", HEAD.encode() + b's,"ann\n', HEAD.encode() + b"\xff\n"]
)
def test_a_table_that_cannot_be_read_is_no_empty_one(
    people: ConsentRegistry, table: Path, content: bytes
) -> None:
    table.write_bytes(content)
    with pytest.raises(RegistryUnreadableError, match=r"predictions\.csv cannot be read"):
        people.export("ann")
    (pending,) = people.erase("ann").pending  # erased all the same
    assert "predictions.csv" in pending
    assert "ann" not in people.persons()
    assert table.read_bytes() == content
    table.unlink()
    assert people.finish_erasures() == ()


def test_another_registry_in_the_folder_neither_shows_nor_clears_the_stores_table(
    people: ConsentRegistry, table: Path, party: Any, notice: Any, yes: Any
) -> None:
    place = table.with_name("another.sqlite")
    with ConsentRegistry.create(place, mode="production", controller=party) as another:
        another.notice(notice)
        another.grant("ann", [AUDIT], **yes())
        assert another.export("ann")["predictions"] == []
        another.erase("ann")
    assert table.read_text() == TABLE


# -- gone ------------------------------------------------------------------------------------------


def test_whoever_is_erased_goes_and_every_other_row_stays_byte_for_byte(
    people: ConsentRegistry, table: Path
) -> None:
    assert people.erase("ann").pending == ()
    assert table.read_text() == (
        f'{HEAD}s,ben,f2,1,1,0.1,0.9,"a, b"\ns,cat,f4,1,0,0.6,0.4,"two\nlines"'
    )
    people.erase_many(["ben", "cat"])
    assert table.read_text() == HEAD
    assert not list(table.parent.glob(f".{FILE}.*[!k]"))  # nothing but the lock is left beside it


def test_a_minor_found_out_leaves_the_table_as_well(people: ConsentRegistry, table: Path) -> None:
    with pytest.raises(MinorRefused):
        people.refuse("ann", age_band=AgeBand.FROM_13, jurisdiction="IE")
    assert people_of(table) == ["ben", "cat"]


def test_an_erasure_that_was_cut_short_reaches_the_table_at_the_next_opening(
    people: ConsentRegistry, table: Path, monkeypatch: pytest.MonkeyPatch, clock: Any
) -> None:
    def power_cut(*_: Any) -> Sequence[str]:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(erasing, "_destroy", power_cut)
        with pytest.raises(KeyboardInterrupt):
            people.erase("ann")
    path = people.path
    people.close()
    assert people_of(table) == ["ann", "ben", "cat"]
    ConsentRegistry.open(path, mode="production", clock=clock).close()
    assert people_of(table) == ["ben", "cat"]


def _full(*_: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_nobody_new_is_given_the_rows_of_an_erased_person_whose_id_they_get(
    people: ConsentRegistry, yes: Any, table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(beside, "_replace", _full)
        (pending,) = people.erase("ann").pending
        assert "free some space" in pending
        with pytest.raises(RegistryFullError, match=r"predictions\.csv cannot be written"):
            people.grant("ann", [AUDIT], **yes())
        assert "ann" not in people.persons()
        people.grant("dan", [AUDIT], **yes())  # nobody else waits for it
        assert people.finish_erasures() == (pending,)
    people.grant("ann", [AUDIT], **yes())
    assert people.export("ann")["predictions"] == []
    assert people_of(table) == ["ben", "cat"]


def test_a_table_that_an_erasure_could_not_write_is_emptied_at_the_next_opening(
    people: ConsentRegistry, table: Path, monkeypatch: pytest.MonkeyPatch, clock: Any
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(beside, "_replace", _full)
        assert people.erase("ann").pending
    people.close()
    ConsentRegistry.open(people.path, mode="production", clock=clock).close()
    assert people_of(table) == ["ben", "cat"]


def test_whoever_holds_the_lock_keeps_nobody_waiting_for_good(
    people: ConsentRegistry, table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = table.with_name(f".{FILE}.lock")
    lock.touch(0o644)
    monkeypatch.setattr(beside, "_LOCK_SECONDS", 0.05)
    with alone(table):
        assert lock.stat().st_mode & 0o777 == 0o600
        (pending,) = people.erase("ann").pending
    assert "held by another process" in pending
    assert people.finish_erasures() == ()
    assert people_of(table) == ["ben", "cat"]


def test_a_registry_opened_by_a_relative_path_keeps_to_its_own_folder(
    people: ConsentRegistry, table: Path, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    people.close()
    (elsewhere := table.parent / "elsewhere").mkdir()
    (other := elsewhere / FILE).write_text(TABLE)
    monkeypatch.chdir(table.parent)
    with ConsentRegistry.open(Path("consent.sqlite"), mode="production", clock=clock) as opened:
        monkeypatch.chdir(elsewhere)
        assert opened.erase("ann").pending == ()
    assert people_of(table) == ["ben", "cat"]
    assert other.read_text() == TABLE


@pytest.mark.parametrize("whole", [True, False], ids=["written before", "never whole"])
def test_what_a_killed_writer_left_goes_with_the_first_who_is_erased(
    people: ConsentRegistry, table: Path, whole: bool
) -> None:
    if not whole:
        table.unlink()
    (left := table.with_name(f".{FILE}.a1_b2c3d")).write_text(TABLE)
    assert people.erase("ann").pending == ()
    assert not left.exists()


def _take_out(path: Path, name: str, begun: Any) -> None:
    begun.set()
    assert forget(path, {name}) == 1


def test_two_processes_that_take_people_out_lose_neither(table: Path) -> None:
    """The second waits for the first, and reads the file of after it."""
    context = multiprocessing.get_context("spawn")
    begun = [context.Event(), context.Event()]
    work = [
        context.Process(target=_take_out, args=(table, name, event))
        for name, event in zip(("ben", "cat"), begun, strict=True)
    ]
    with alone(table):
        for process in work:
            process.start()
        assert all(event.wait(60) for event in begun)
        table.write_text(TABLE.replace("s,ann", "s,dan"))  # a store measures anew meanwhile
    for process in work:
        process.join(60)
        assert process.exitcode == 0
    assert people_of(table) == ["dan", "ann"]


# -- due -------------------------------------------------------------------------------------------


def test_answers_of_a_model_are_due_when_the_consent_to_be_measured_ends(
    people: ConsentRegistry, table: Path, clock: Any
) -> None:
    people.withdraw("ben", [TRAINING])
    assert people.overdue() == (), "not measured for that"
    clock.forward(days=1)
    people.withdraw("ann", [AUDIT])
    (found,) = people.overdue()
    assert (found.person, found.what, found.rule) == (
        "ann",
        Kept.PREDICTION,
        DueRule.PURPOSE_SATISFIED,
    )
    assert found.since == clock.time
    done = people.destroy_overdue()
    assert (done.people, done.items, done.pending) == (0, 2, ())
    assert people_of(table) == ["ben", "cat"]
    assert people.overdue() == ()
    clock.forward(days=99)
    assert {(each.person, each.what) for each in people.overdue()} == {
        ("ben", Kept.PREDICTION),
        ("cat", Kept.PREDICTION),
    }


def test_faces_that_are_due_wait_for_no_table(
    people: ConsentRegistry, shop: Context, table: Path
) -> None:
    vault = Vault(people)
    vault.put([NewItem(person="ann", item_id="f1", body=b"pixels")], shop)
    people.withdraw("ann")
    table.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RegistryUnreadableError):
        people.overdue()
    done = people.destroy_overdue()
    assert (done.people, done.items) == (0, 1)
    assert "predictions.csv cannot be read" in done.pending[0]
    assert sum(vault.counts().values()) == 0
    table.write_text(TABLE)
    assert people.destroy_overdue().pending == ()
    assert people_of(table) == ["ben", "cat"]


def test_whoever_was_never_asked_to_be_measured_has_nothing_to_wait_for(
    registry: ConsentRegistry, yes: Any, table: Path
) -> None:
    registry.grant("ann", [TRAINING], **yes())
    table.write_text(TABLE)
    registry.withdraw("ann")
    assert [(each.person, each.what) for each in registry.overdue()] == [("ann", Kept.PREDICTION)]


def test_a_person_who_stands_in_no_row_has_none(table: Path) -> None:
    assert rows_of(table, "an") == rows_of(table, "") == rows_of(None, "ann") == []
    assert forget(table, {"nobody"}) == forget(None, {"ann"}) == 0
    assert table.read_text() == TABLE
