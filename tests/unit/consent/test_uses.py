from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from privemo_consent import (
    BackdatedRefused,
    ConsentRegistry,
    MalformedError,
    Purpose,
    UnknownPersonError,
)
from privemo_consent.reader import LogHead

TRAINING = Purpose.TRAINING


def use(registry: ConsentRegistry, persons: list[str], **changes: Any) -> int:
    fields: dict[str, Any] = {
        "run": "run-1",
        "round": 1,
        "store": "store-01",
        "batch": 0,
        "log_seq": registry.log_seq,
    }
    return registry.record_use(persons, TRAINING, **(fields | changes))


@pytest.fixture
def people(registry: ConsentRegistry, yes: Any) -> ConsentRegistry:
    for person in ("ann", "bob"):
        registry.grant(person, [TRAINING], **yes())
    return registry


def test_uses_come_back_as_they_were_recorded(people: ConsentRegistry, clock: Any) -> None:
    seq = people.log_seq
    assert use(people, ["bob", "ann", "bob"]) == 0
    clock.forward(seconds=5)
    assert use(people, [], batch=1, round=2) == 1
    first, second = people.uses()
    assert first.persons == ("bob", "ann", "bob")
    assert (first.run, first.round, first.store, first.batch) == ("run-1", 1, "store-01", 0)
    assert (first.purpose, first.log_seq, first.simulated) == (TRAINING, seq, False)
    assert (second.persons, second.round) == ((), 2)
    assert second.at - first.at == timedelta(seconds=5)


def test_a_use_is_no_event_of_consent(people: ConsentRegistry) -> None:
    head, uses = people.head(), people.uses_head()
    use(people, ["ann"])
    assert people.head() == head
    assert people.uses_head() != uses
    assert uses == LogHead(0, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")


def test_a_person_without_record_stops_the_batch(people: ConsentRegistry) -> None:
    with pytest.raises(UnknownPersonError, match="1 of 2"):
        use(people, ["ann", "eve"])
    assert list(people.uses()) == []


def test_a_leaf_of_a_use_names_nobody(people: ConsentRegistry) -> None:
    import sqlite3

    use(people, ["ann", "bob"])
    people.close()
    raw = sqlite3.connect(people.path)
    (leaf,) = raw.execute("SELECT leaf FROM uses").fetchone()
    raw.close()
    assert b"ann" not in leaf
    assert b'"persons":2' in leaf


@pytest.mark.parametrize("seq", [-1, 10_000])
def test_a_use_relies_on_a_log_that_exists(people: ConsentRegistry, seq: int) -> None:
    with pytest.raises(MalformedError, match="log_seq"):
        use(people, ["ann"], log_seq=seq)


def test_no_use_lies_in_the_future(people: ConsentRegistry, clock: Any) -> None:
    with pytest.raises(BackdatedRefused, match="to come"):
        use(people, ["ann"], at=clock.time + timedelta(seconds=1))


def test_uses_are_whole_and_tampering_is_named(people: ConsentRegistry) -> None:
    for batch in range(40):
        use(people, ["ann", "bob"][: 1 + batch % 2], batch=batch)
    verified = people.verify()
    assert (verified.uses, verified.uses_root) == tuple(people.uses_head())
