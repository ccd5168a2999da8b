"""Whoever knows the format and writes every sum anew is found out by what was signed."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from privemo_consent import (
    ConsentRegistry,
    TamperedError,
)
from privemo_consent.copies.transfer import write_transfer
from privemo_consent.errors import (
    SignatureError,
)
from privemo_consent.keys import VerifyingKey
from tests.unit.consent.conftest import MovableClock
from tests.unit.consent.transfer.moves import Sent


def first_of(kind: str, /, **fields: Any) -> Callable[[list[dict[str, Any]]], object]:
    def change(values: list[dict[str, Any]]) -> None:
        next(value for value in values if value["line"] == kind).update(fields)

    return change


def swap_people(values: list[dict[str, Any]]) -> None:
    people = [value for value in values if value["line"] == "person"]
    people[0]["person"], people[1]["person"] = people[1]["person"], people[0]["person"]


def revive(values: list[dict[str, Any]]) -> None:
    people = [value for value in values if value["line"] == "person"]
    people[2].update(person="cy", subject_key="ab" * 32)


def bury(values: list[dict[str, Any]]) -> None:
    people = [value for value in values if value["line"] == "person"]
    people[3].update(person=None, subject_key=None)


def drop_last_event(values: list[dict[str, Any]]) -> None:
    last = max(i for i, value in enumerate(values) if value["line"] == "event")
    del values[last]
    values[0]["counts"]["events"] -= 1


def drop_item(values: list[dict[str, Any]]) -> None:
    del values[next(i for i, value in enumerate(values) if value["line"] == "item")]
    values[0]["counts"]["items"] -= 1


def claim_a_move(values: list[dict[str, Any]]) -> None:
    """Make an old copy look like a registry that was closed: consents in it would be live."""
    last = max(i for i, value in enumerate(values) if value["line"] == "event")
    begun = json.loads(values[last]["leaf"])
    leaf = begun | {"op": "moved", "key": begun["key"].partition("+")[0], "ends_others": None}
    text = json.dumps(leaf, sort_keys=True, separators=(",", ":"))
    values.insert(last + 1, {"line": "event", "pid": None, "leaf": text})
    values[0]["counts"]["events"] += 1


def give_consent(values: list[dict[str, Any]]) -> None:
    for value in values:
        if value["line"] == "event" and "ConsentWithdrawn" in value["leaf"]:
            value["leaf"] = value["leaf"].replace("ConsentWithdrawn", "ConsentGiven")
            return


@pytest.mark.parametrize(
    ("change", "entry"),
    [
        (swap_people, "event"),
        (revive, "event"),
        (bury, "person row 3"),
        (drop_last_event, "events checkpoint"),
        (give_consent, "event"),
        (claim_a_move, "event"),
        (drop_item, "line"),  # in no log: the signature at the end tells
        (first_of("item", body="AAAA"), "line"),
        (first_of("item", facts={"estimated_age": 99}), "line"),
        (first_of("item", facts=[]), "line"),
        (first_of("item", pid=2), "line"),
        (first_of("item", pid=99), "line"),
        (first_of("item", kind="hair"), "line"),
        (first_of("item", body="*"), "line"),
        (first_of("event", leaf="{}"), "line"),
        (first_of("event", pid=True), "line"),
        (first_of("event", pid=1), "event 0"),
        (first_of("event", more=1), "line"),
        (first_of("use", persons=[3, 1]), "use 0"),
        (first_of("use", persons=[-1]), "line"),
        (first_of("use", persons=2), "line"),
        (first_of("checkpoint", size=3), "events checkpoint"),
        (first_of("checkpoint", log=7), "event 0"),
        (first_of("checkpoint", note="x"), "events checkpoint"),
        (first_of("notice", body="{}"), "line"),
        (first_of("person", subject_key="00"), "line"),
        (first_of("person", subject_key="00" * 32), "event"),
        (first_of("person", person=7), "line"),
        (first_of("registry", schema="privemo.transfer/9"), "line 1"),
        (first_of("registry", registry_id="0" * 32), "meta registry_id"),
        (first_of("registry", registry_key="00" * 32), "use 0"),
        (first_of("registry", epoch=1), "person row 0"),
        (first_of("registry", epoch=0), "line 1"),
        (first_of("registry", epoch="2"), "line 1"),
        (first_of("registry", counts={}), "line 1"),
        (first_of("registry", controller="{}"), "meta controller"),
        (first_of("end", note="x"), "line"),
    ],
)  # fmt: skip
def test_whoever_writes_the_sums_anew_is_found_out(
    sent: Sent, change: Callable[[list[dict[str, Any]]], object], entry: str
) -> None:
    sent.forge(change)
    error = sent.refuse(TamperedError, None)
    assert isinstance(error, TamperedError)
    assert error.entry.startswith(entry), error.entry
    assert "anna" not in str(error)


def test_a_known_key_must_have_signed(
    sent: Sent, full: ConsentRegistry, simulation: ConsentRegistry, clock: MovableClock
) -> None:
    ours = [period.key for period in full.ring.periods]
    theirs = [period.key for period in simulation.ring.periods]
    told = "signed by keys of its own log, and by none of those that you gave"
    sent.refuse(SignatureError, told, known=theirs)
    sent.refuse(SignatureError, told, known=[])
    same_id = VerifyingKey(ours[-1].name, theirs[0].public)
    sent.refuse(SignatureError, told, known=[same_id])
    assert sent.read(known=[*theirs, ours[-1]]).pinned
    # Whoever has the file goes on with it, closes that, and offers it as the registry it was.
    with sent.open() as thief:
        thief.verify()
        write_transfer(thief, sent.folder / "forged.jsonl", passphrase=None, close=True)
    sent.file = sent.folder / "forged.jsonl"
    sent.clear()
    sent.refuse(SignatureError, told, known=ours)
    assert not sent.read().pinned, "without a key its own word is taken, and it says so"
