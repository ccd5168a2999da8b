"""Who is who: ids are found by keyed handles, and whoever is erased vanishes from every state."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import timedelta
from typing import Any

import pytest

from privemo_consent import ConsentRegistry, KeyFileError, Purpose, Reason, TamperedError
from privemo_consent.people import People
from privemo_consent.sealing import handle_of

TRAINING = Purpose.TRAINING


@pytest.fixture
def people(registry: ConsentRegistry, yes: Any) -> ConsentRegistry:
    for name in ("ann", "ben", "cat"):
        registry.grant(name, [TRAINING], **yes())
    return registry


def fresh(registry: ConsentRegistry) -> People:
    return People(registry.keys, registry.registry_id)


def test_people_are_found_by_a_keyed_handle_and_stand_nowhere_in_the_clear(
    people: ConsentRegistry,
) -> None:
    with closing(sqlite3.connect(people.path)) as raw:
        handles = [row[0] for row in raw.execute("SELECT handle FROM persons ORDER BY pid")]
    lookup = people.keys.lookup_key(1)
    assert handles == [handle_of(lookup, name) for name in ("ann", "ben", "cat")]
    assert handle_of(bytes(32), "ann") not in handles, "without the key an id is found nowhere"
    assert all(len(handle) == 16 for handle in handles)


@pytest.mark.parametrize("name", ["", "ANN", "ann ", "an", "annn", "nobody", "\u0430nn"])
def test_nobody_is_taken_for_somebody_else(people: ConsentRegistry, name: str) -> None:
    found = people._journal.refresh().people
    assert found.pid(name) is None
    assert found.rows(["ann", name, "cat"]) == [0, -1, 2]


def test_rows_that_were_added_are_read_and_no_other(people: ConsentRegistry, yes: Any) -> None:
    known = fresh(people)
    with people._store.read() as connection:
        known.read(connection)
    assert known.size == 3
    people.grant("dan", [TRAINING], **yes())
    assert known.pid("dan") is None
    with people._store.read() as connection:
        known.read(connection)
    assert known.rows(["dan", "ann"]) == [3, 0]


def test_a_missing_row_is_named(people: ConsentRegistry) -> None:
    people.close()
    with closing(sqlite3.connect(people.path)) as raw, raw:
        raw.execute("PRAGMA foreign_keys = OFF")
        raw.execute("DROP TRIGGER persons_no_delete")
        raw.execute("DELETE FROM persons WHERE pid = 1")
    with people._store.read() as connection, pytest.raises(TamperedError, match="person row 1"):
        fresh(people).read(connection)


def test_states_of_the_past_and_the_present_forget_together(
    people: ConsentRegistry, shop: Any
) -> None:
    past = people.snapshot(TRAINING, log_seq=4)
    present = people.snapshot(TRAINING)
    assert past.log_seq < present.log_seq
    ask = {"context": shop, "at": people.now()}
    for snapshot in (past, present):
        assert snapshot.decide_many(["ann"], **ask).permit.all()
    people.erase("ann")
    for snapshot in (past, present, people.snapshot(TRAINING, log_seq=4)):
        verdicts = snapshot.decide_many(["ann", "ben"], **ask)
        assert verdicts.reasons.tolist() == [Reason.NO_RECORD, Reason.PERMITTED]
        assert snapshot.people.pid("ann") is None


def test_names_are_remembered_and_forgotten(people: ConsentRegistry) -> None:
    known = people._journal.refresh().people
    with people._store.read() as connection:
        assert known.names(connection, range(3)) == {0: "ann", 1: "ben", 2: "cat"}
    with ConsentRegistry.open(people.path, mode="production", clock=people.now) as other:
        other.erase("ben")
    with people._store.read() as connection:
        assert known.names(connection, range(3)) == {0: "ann", 2: "cat"}
    assert "ben" not in repr(vars(known))


def test_after_a_rotation_people_are_found_under_new_handles(people: ConsentRegistry) -> None:
    with ConsentRegistry.open(people.path, mode="production", clock=people.now) as other:
        other.erase("ann")
        other.rotate_person_keys()
    known = people._journal.refresh().people
    assert known.rows(["ann", "ben", "cat"]) == [-1, 1, 2]
    assert known.size == 3


def test_without_keys_nobody_is_told_apart(people: ConsentRegistry) -> None:
    known = People(None, people.registry_id)
    with people._store.read() as connection:
        known.read(connection)
        with pytest.raises(KeyFileError, match="nobody in it can be named"):
            known.rows(["ann"])
        with pytest.raises(KeyFileError):
            known.names(connection, [0])


def test_everyone_may_be_erased(people: ConsentRegistry, yes: Any, clock: Any) -> None:
    people.erase_many(["ann", "ben", "cat"])
    assert people.persons() == ()
    assert people._journal.state.people.rows(["ann"]) == [-1]
    clock.time += timedelta(days=1)
    people.grant("ann", [TRAINING], **yes())
    assert people._journal.refresh().people.pid("ann") == 3
    people.verify()
