"""What `erase` writes, in which order, and what `finish_erasures` picks up."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa

from privemo_consent import (
    ConsentRegistry,
    Erased,
    KeyFileError,
    MalformedError,
    NewItem,
    Purpose,
    UnknownPersonError,
    Vault,
    leaves,
    schema,
)
from privemo_consent.erasing import finish_erasures

TRAINING, AUDIT = Purpose.TRAINING, Purpose.FAIRNESS_AUDIT


@pytest.fixture
def people(registry: ConsentRegistry, yes: Any, shop: Any) -> ConsentRegistry:
    registry.grant("ann", [TRAINING, AUDIT], **yes())
    registry.grant("ben", [TRAINING], **yes())
    registry.refuse("cat", **yes())
    faces = [NewItem(person="ann", item_id=f"f{n}", body=b"pixels") for n in range(3)]
    Vault(registry).put([*faces, NewItem(person="ben", item_id="f", body=b"pixels")], shop)
    return registry


def told(registry: ConsentRegistry, seq: int) -> list[tuple[str, str]]:
    found = [leaves.parse(registry.leaf(n)) for n in range(seq, registry.log_seq)]
    return [(leaf["kind"], leaf.get("purpose") or leaf.get("cause")) for leaf in found]


def test_what_was_given_ends_before_the_person_goes(people: ConsentRegistry) -> None:
    seq = people.log_seq
    assert people.erase("ann") == Erased(people=1, items=3, pending=())
    assert told(people, seq) == [
        ("consent", "training"),
        ("consent", "fairness_audit"),
        ("erasure", "request"),
    ]
    people.verify()


def test_what_was_not_given_needs_no_ending(people: ConsentRegistry) -> None:
    people.withdraw("ben")
    seq = people.log_seq
    people.erase_many(["cat", "ben"], cause="controller")
    assert told(people, seq) == [("erasure", "controller"), ("erasure", "controller")]


@pytest.mark.parametrize("cause", ["request", "retention", "controller"])
def test_every_cause_is_logged(people: ConsentRegistry, cause: str) -> None:
    people.erase("cat", cause=cause)
    assert leaves.parse(people.leaf(people.log_seq - 1))["cause"] == cause


@pytest.mark.parametrize(
    ("persons", "cause", "error"),
    [
        (["ann", "nobody"], "request", UnknownPersonError),
        (["ann", "ann"], "request", MalformedError),
        (["ann"], "", MalformedError),
        (["ann"], "REQUEST", MalformedError),
        (["ann"], "restore", MalformedError),  # a restore alone says so of itself
    ],
)
def test_nothing_is_done_by_halves(
    people: ConsentRegistry, persons: list[str], cause: str, error: type[Exception]
) -> None:
    before = people.head()
    with pytest.raises(error) as caught:
        people.erase_many(persons, cause=cause)
    assert "ann" not in str(caught.value)
    assert people.head() == before
    assert not people.keys.punctured(0)


def test_an_erasure_leaf_names_nobody(people: ConsentRegistry) -> None:
    people.erase("ann")
    leaf = people.leaf(people.log_seq - 1)
    assert b"ann" not in leaf
    assert leaves.parse(leaf).keys() == {
        *("schema", "kind", "record_id", "subject", "cause", "recorded_at", "simulated")
    }


def test_without_keys_nobody_is_erased(people: ConsentRegistry, clock: Any) -> None:
    people.close()
    keys = people.path.with_suffix(".keys")
    keys.rename(keys.with_name("elsewhere"))
    with (
        ConsentRegistry.open(people.path, mode="production", clock=clock, readonly=True) as opened,
        pytest.raises(KeyFileError, match="without its key folder"),
    ):
        opened.erase("ann")


def test_finishing_with_nothing_to_finish_reads_once_and_writes_nothing(
    people: ConsentRegistry,
) -> None:
    people.erase("ann")
    statements: list[str] = []
    people._store.listen("before_cursor_execute", lambda *a: statements.append(a[2]))
    assert finish_erasures(people._journal) == ()
    assert [s.split()[0] for s in statements if not s.startswith(("PRAGMA", "BEGIN"))] == ["SELECT"]


def test_a_row_that_only_looks_erased_costs_no_key(people: ConsentRegistry) -> None:
    """Damage empties a row; without an entry of the log nothing is destroyed for it."""
    with people._store.write() as connection:
        nothing = dict.fromkeys(("handle", "sealed", "wrapped", "epoch"))
        rows = sa.update(schema.persons).where(schema.persons.c.pid == 1)
        connection.execute(rows.values(**nothing))
    assert people.finish_erasures() == ()
    assert not people.keys.punctured(1)


def test_erasing_after_a_rotation_reaches_every_epoch(people: ConsentRegistry) -> None:
    people.rotate_person_keys()
    people.erase("ann")
    for epoch in (1, 2):
        with pytest.raises(Exception, match="was destroyed"):
            people.keys.wrap_key(epoch, 0)
        assert len(people.keys.wrap_key(epoch, 1)) == 32
    people.rotate_person_keys()
    assert people.keys.punctured(0), "and those to come"
    people.verify()
