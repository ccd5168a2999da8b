"""What is held of a person: receipt, export, record of processing, and what falls due."""

from __future__ import annotations

import base64
import json
from datetime import timedelta
from typing import Any

import pytest

from privemo_consent import (
    ConsentRegistry,
    ConsentStatus,
    Context,
    NewItem,
    Purpose,
    Role,
    StaffRefused,
    UnknownPersonError,
    Vault,
    verify_receipt,
)
from privemo_consent.items import ItemKind
from privemo_consent.retention import SCHEDULE, DueRule, Kept
from tests.unit.consent.conftest import make_notice

TRAINING, AUDIT = Purpose.TRAINING, Purpose.FAIRNESS_AUDIT


@pytest.fixture
def people(registry: ConsentRegistry, yes: Any, shop: Any) -> ConsentRegistry:
    registry.grant("ann", [TRAINING, AUDIT], **yes(valid_for=timedelta(days=100)))
    registry.grant("ben", [TRAINING], **yes())
    items = [NewItem(person=p, item_id=f"{p}-f", body=p.encode() * 5) for p in ("ann", "ben")]
    Vault(registry).put(items, shop)
    label = NewItem(person="ann", item_id="tone", body=b"4", facts={"scale": "monk"})
    Vault(registry).put([label], shop, kind=ItemKind.DEMOGRAPHIC)
    registry.record_use(["ann", "ben"], TRAINING, run="r", round=1, store="s", batch=0, log_seq=3)
    registry.record_use(["ben"], TRAINING, run="r", round=1, store="s", batch=1, log_seq=3)
    for person in ("ann", "ben"):
        registry.decide(person, TRAINING, shop)
    return registry


# -- the receipt ---------------------------------------------------------------------------------------


def test_a_receipt_verifies_with_the_keys_of_the_log(people: ConsentRegistry, clock: Any) -> None:
    token = people.receipt("ann")
    keys = [period.key for period in people.ring.periods]
    content = verify_receipt(token, keys, origin=people.origin)
    assert content.person == "ann"
    assert {event.purpose for event in content.events} == {TRAINING, AUDIT}
    assert {event.status for event in content.events} == {ConsentStatus.GIVEN}
    assert content.registry.id == people.registry_id
    assert content.issued_at == clock.time
    assert "ben" not in json.dumps(content.model_dump(mode="json"))


def test_a_receipt_shows_the_last_answer_for_each_purpose(people: ConsentRegistry) -> None:
    people.withdraw("ann", [AUDIT])
    keys = [period.key for period in people.ring.periods]
    events = verify_receipt(people.receipt("ann"), keys).events
    assert {event.purpose: event.status for event in events} == {
        TRAINING: ConsentStatus.GIVEN,
        AUDIT: ConsentStatus.WITHDRAWN,
    }


def test_an_old_receipt_outlives_rotation_and_erasure(people: ConsentRegistry, clock: Any) -> None:
    token = people.receipt("ann")
    people.rotate_signing_key(overlap=timedelta(0))
    clock.forward(days=1)
    keys = [period.key for period in people.ring.periods]
    newer = people.receipt("ann")
    people.erase("ann")
    assert verify_receipt(token, keys).person == verify_receipt(newer, keys).person == "ann"


# -- the export ----------------------------------------------------------------------------------------


def test_an_export_holds_everything_of_one_person_and_nothing_of_another(
    people: ConsentRegistry,
) -> None:
    export = people.export("ann")
    assert export["person"] == "ann"
    assert len(export["uses"]) == 1
    assert [use["batch"] for use in export["uses"]] == [0]
    assert [(d["purpose"], d["permit"]) for d in export["decisions"]] == [("training", True)]
    found = {(item["kind"], item["id"]): base64.b64decode(item["body"]) for item in export["items"]}
    assert found == {("face", "ann-f"): b"ann" * 5, ("demographic", "tone"): b"4"}
    (label,) = [item for item in export["items"] if item["kind"] == "demographic"]
    assert label["facts"] == {"scale": "monk"}
    text = json.dumps(export)  # JSON values throughout
    assert "ben" not in text
    assert base64.b64encode(b"ben" * 5).decode() not in text
    assert people.notices()[0].withdrawal_method in text, "and how to withdraw"
    for event in people.history("ann"):
        assert event.record_id in text


def test_asking_for_an_export_leaves_what_is_held_as_it_is(people: ConsentRegistry) -> None:
    before = people.head(), people.uses_head()
    people.export("ann")
    assert (people.head(), people.uses_head()) == before


@pytest.mark.parametrize("ask", ["receipt", "export"])
@pytest.mark.parametrize("person", ["nobody", "", "ANN"])
def test_nothing_is_held_of_a_stranger(people: ConsentRegistry, ask: str, person: str) -> None:
    with pytest.raises(UnknownPersonError, match="no record under this person id"):
        getattr(people, ask)(person)


def test_the_record_of_processing_tells_what_article_30_asks(people: ConsentRegistry) -> None:
    record = people.processing_record()
    assert record["controller"]["name"] == "A Shop"
    assert record["purposes"] == sorted(purpose.value for purpose in Purpose)
    assert all(entry["days"] > 0 for entry in record["retention"])
    assert record["people"] == 2
    assert record["items"] == {"face": 2, "demographic": 1, "refusal": 0}
    assert tuple(record["log"].values()) == people.head()
    for field in ("data_subjects", "categories", "lawful_basis", "security", "notices"):
        assert record[field], field
    text = json.dumps(record)
    assert '"ann"' not in text
    assert '"ben"' not in text


# -- what falls due ------------------------------------------------------------------------------------


FACE, RECORD = Kept.FACE, Kept.CONSENT_RECORD


def due(registry: ConsentRegistry) -> list[tuple[str, Kept, DueRule]]:
    return [(entry.person, entry.what, entry.rule) for entry in registry.overdue()]


def keep_a_face(registry: ConsentRegistry, person: str) -> None:
    shop = Context(setting="retail", jurisdiction="IE")
    done = Vault(registry).put([NewItem(person=person, item_id="f", body=b"face")], shop)
    assert done.stored == 1


def test_nobody_is_due_while_consent_runs(people: ConsentRegistry) -> None:
    assert people.overdue() == ()


def test_faces_are_due_when_every_purpose_has_ended(people: ConsentRegistry, clock: Any) -> None:
    people.withdraw("ann", [TRAINING])
    assert due(people) == [], "held for the other purpose still"
    clock.forward(days=1)
    people.withdraw("ann", [AUDIT])
    assert due(people) == [("ann", FACE, DueRule.PURPOSE_SATISFIED)]
    assert people.overdue()[0].since == clock.time
    people.erase("ann", cause="retention")
    assert due(people) == []


def test_the_record_outlives_the_faces_it_was_for(people: ConsentRegistry, clock: Any) -> None:
    """GDPR 7(1): that somebody agreed has to be shown after they took it back."""
    people.withdraw("ann")
    done = people.destroy_overdue()
    assert (done.people, done.items) == (0, 2), "the face and the label"
    assert Vault(people).of_person("ann") == []
    assert len(Vault(people).of_person("ben")) == 1
    assert [event.status.value for event in people.history("ann")][-1] == "ConsentWithdrawn"
    assert due(people) == []
    people.destroy_overdue()
    people.verify()
    clock.forward(days=SCHEDULE[RECORD].days, microseconds=-1)
    assert ("ann", RECORD, DueRule.RECORD_TERM) not in due(people)
    clock.forward(microseconds=1)
    assert ("ann", RECORD, DueRule.RECORD_TERM) in due(people)
    assert people.destroy_overdue().people >= 1
    assert "ann" not in people.persons()
    people.verify()


def test_whoever_has_no_face_here_is_not_due_for_one(registry: ConsentRegistry, yes: Any) -> None:
    registry.grant("ann", [TRAINING], **yes())
    registry.withdraw("ann")
    assert due(registry) == []


def test_faces_are_due_when_the_term_of_consent_ran_out(
    people: ConsentRegistry, clock: Any
) -> None:
    clock.forward(days=100, microseconds=-1)
    assert due(people) == []
    clock.forward(microseconds=1)
    assert due(people) == [("ann", FACE, DueRule.PURPOSE_SATISFIED)]


def test_faces_are_due_when_the_notice_said_so(
    people: ConsentRegistry, party: Any, yes: Any, clock: Any
) -> None:
    brief = make_notice(party, notice_id="brief", retention_days=30)
    people.notice(brief)
    people.grant("cat", [TRAINING], **yes(notice=brief, valid_for=timedelta(days=300)))
    keep_a_face(people, "cat")
    clock.forward(days=30)
    assert due(people) == [("cat", FACE, DueRule.NOTICE_TERM)]
    people.destroy_overdue()
    assert due(people) == [], "the consent runs on, and nothing is held under it"
    assert people.history("cat")


def test_a_question_nobody_answered_is_not_kept_for_ever(
    registry: ConsentRegistry, yes: Any, clock: Any
) -> None:
    registry.request("asked", [TRAINING], **yes())
    registry.defer("asked", [TRAINING])
    clock.forward(days=SCHEDULE[RECORD].days - 1)
    assert due(registry) == []
    clock.forward(days=1)
    assert due(registry) == [("asked", RECORD, DueRule.RECORD_TERM)]


def test_refusals_and_staff_are_kept_for_the_term_of_a_record(
    registry: ConsentRegistry, yes: Any, clock: Any
) -> None:
    registry.refuse("no", **yes())
    with pytest.raises(StaffRefused):
        registry.grant("clerk", [TRAINING], **yes(role=Role.EMPLOYEE))
    assert due(registry) == []
    clock.forward(days=SCHEDULE[RECORD].days)
    assert {person for person, _, _ in due(registry)} == {"no", "clerk"}
    assert registry.destroy_overdue().people == 2
