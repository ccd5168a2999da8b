"""Whatever a registry may hold of a person goes out as JSON-LD and comes back unchanged."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privemo_consent.dpv import record_from_jsonld, record_to_jsonld
from privemo_consent.errors import MalformedError
from privemo_consent.records import ConsentEvent, Notice, Party
from privemo_consent.terms import ConsentStatus, Purpose, Role
from tests.support.notices import whole_notice

EPOCH = datetime(2020, 1, 1, tzinfo=UTC)
WORDS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12).filter(str.strip)
MOMENTS = st.integers(0, 10**15).map(lambda us: EPOCH + timedelta(microseconds=us))
PARTIES = st.builds(Party, id=WORDS, name=WORDS, address=WORDS, contact=WORDS)


@st.composite
def notices(draw: st.DrawFn) -> Notice:
    changes: dict[str, Any] = {
        "notice_id": draw(WORDS),
        "text": draw(WORDS),
        "purposes": tuple(draw(st.sets(st.sampled_from(Purpose), min_size=1))),
    }
    return whole_notice(draw(PARTIES), draw(st.integers(1, 2**31 - 1)), **changes)


@st.composite
def histories(draw: st.DrawFn) -> tuple[str, list[ConsentEvent], list[Notice], Party]:
    person = draw(WORDS)
    shown = draw(st.lists(notices(), min_size=1, max_size=2, unique_by=lambda n: n.hash))
    seqs = sorted(draw(st.sets(st.integers(0, 2**53 - 1), min_size=len(shown), max_size=5)))
    events = []
    for place, seq in enumerate(seqs):
        status = draw(st.sampled_from(ConsentStatus))
        fields: dict[str, Any] = {
            "record_id": f"{draw(st.integers(0, 2**128 - 1)):032x}",
            "person": person,
            "seq": seq,
            "purpose": draw(st.sampled_from(Purpose)),
            "status": status,
            "at": draw(MOMENTS),
            "recorded_at": draw(MOMENTS),
            "expires": draw(MOMENTS) if status.permits else None,
            "entity": draw(st.sampled_from(["data_subject", "registry"])),
            "role": draw(st.sampled_from(Role)),
            "jurisdiction": draw(st.sampled_from(["IE", "US-IL", "ZZ"])),
            "notice": shown[place % len(shown)].hash,
            "subject": f"{draw(st.integers(0, 2**256 - 1)):064x}",
            "simulated": draw(st.booleans()),
        }
        events.append(ConsentEvent.model_validate(fields))
    return person, events, shown, draw(PARTIES)


@settings(max_examples=60, deadline=None)
@given(histories())
def test_a_record_survives_the_journey(
    history: tuple[str, list[ConsentEvent], list[Notice], Party],
) -> None:
    person, events, shown, controller = history
    found = record_from_jsonld(json.dumps(record_to_jsonld(person, events, shown, controller)))
    assert (found.person, found.events) == (person, tuple(events))
    assert found.controller == controller
    assert {n.hash: n.body for n in found.notices} == {n.hash: n.body for n in shown}


def paths(value: object, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    if isinstance(value, dict):
        return [p for key, item in value.items() for p in paths(item, (*path, key))]
    if isinstance(value, list):
        return [p for place, item in enumerate(value) for p in paths(item, (*path, place))]
    return [path]


#: A person may be called anything; so may a controller and its address: not a lie in itself.
FREE = {
    ("dpv:hasDataSubject", "dct:identifier"),
    *(("dpv:hasDataController", f"dpv:has{field}") for field in ("Name", "Address", "Contact")),
    ("dpv:hasDataController", "dct:identifier"),
}
#: Of an event these stand alone in the document; the log's leaf is what vouches for them.
FREE_OF_EVENTS = {
    *("dpv:isIndicatedAtTime", "dct:created", "rdf:value", "privemo:subject", "privemo:role"),
    *("dpv:hasJurisdiction", "dpv:hasPurpose", "dpv:isIndicatedBy", "@type", "privemo:sequence"),
    "privemo:simulated",
}


@settings(max_examples=200, deadline=None)
@given(histories(), st.data())
def test_no_other_value_can_be_slipped_in(
    history: tuple[str, list[ConsentEvent], list[Notice], Party], data: st.DataObject
) -> None:
    document = json.loads(json.dumps(record_to_jsonld(*history)))
    path = data.draw(st.sampled_from(paths(document)))
    if path in FREE or (path[0] == "dpv:hasConsentStatus" and path[-1] in FREE_OF_EVENTS):
        return
    place: Any = document
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = data.draw(st.sampled_from(["x", 1, 0, True, None, [], {}, "none", "a" * 32]))
    if document == json.loads(json.dumps(record_to_jsonld(*history))):
        return
    with pytest.raises(MalformedError):
        record_from_jsonld(document)
