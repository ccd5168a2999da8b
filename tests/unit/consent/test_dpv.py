"""Exported records carry DPV's terms, say nothing but what is recorded, and come back unchanged."""

from __future__ import annotations

import copy
import json
import socket
import warnings
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import jsonschema
import pytest
import rdflib
from rdflib.namespace import DCTERMS, RDF, SKOS

from privemo_consent.dpv import (
    CONTEXT,
    event_to_jsonld,
    record_from_jsonld,
    record_schema,
    record_to_jsonld,
)
from privemo_consent.dpv.terms import party_node
from privemo_consent.errors import MalformedError
from privemo_consent.records import ConsentEvent, Notice, Party
from privemo_consent.terms import ConsentStatus
from tests.support.notices import whole_notice

SHOP = Party(id="shop-1", name="A Shop", address="1 Main Street", contact="privacy@example.org")
HOST = Party(id="host", name="Host", address="Cork", contact="h@example.org", type="processor")
FIRST = whole_notice(SHOP)
SECOND = whole_notice(SHOP, 2, recipients=(HOST,))
GRANTED = datetime(2026, 3, 1, 9, tzinfo=UTC)
DPV = rdflib.Namespace("https://w3id.org/dpv#")
AIACT = rdflib.Namespace("https://w3id.org/dpv/legal/eu/aiact#")
GDPR = rdflib.Namespace("https://w3id.org/dpv/legal/eu/gdpr#")
PD = rdflib.Namespace("https://w3id.org/dpv/pd#")
LOC = rdflib.Namespace("https://w3id.org/dpv/loc#")


def event(seq: int, status: str, notice: Notice = FIRST, **changes: Any) -> ConsentEvent:
    given = status in ("ConsentGiven", "RenewedConsentGiven")
    fields: dict[str, Any] = {
        "record_id": f"{seq:032x}",
        "person": "ann",
        "seq": seq,
        "purpose": "training",
        "status": status,
        "at": GRANTED + timedelta(days=seq),
        "recorded_at": GRANTED + timedelta(days=seq, microseconds=1),
        "expires": GRANTED + timedelta(days=seq + 365) if given else None,
        "entity": "data_subject",
        "role": "shopper",
        "jurisdiction": "IE",
        "notice": notice.hash,
        "subject": f"{seq:064x}",
        "simulated": False,
    }
    return ConsentEvent.model_validate(fields | changes)


HISTORY = (
    event(3, "ConsentRequested"),
    event(4, "ConsentGiven"),
    event(9, "RenewedConsentGiven", SECOND, jurisdiction="US-IL"),
    event(10, "ConsentRefused", SECOND, purpose="personalisation"),
    event(12, "ConsentWithdrawn", SECOND),
    event(20, "ConsentInvalidated", SECOND, entity="registry", role="employee", simulated=True),
)
RECORD = record_to_jsonld("ann", HISTORY, [SECOND, FIRST], SHOP)


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("something was fetched")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def graph(document: dict[str, Any]) -> rdflib.Graph:
    """Read by another implementation of JSON-LD."""
    with warnings.catch_warnings():
        # rdflib's own reader uses a class that rdflib deprecates
        warnings.simplefilter("ignore", DeprecationWarning)
        return rdflib.Graph().parse(data=json.dumps(document), format="json-ld")


def test_a_record_comes_back_as_it_was() -> None:
    for form in (RECORD, json.dumps(RECORD), json.dumps(RECORD, indent=1).encode()):
        found = record_from_jsonld(form)
        assert (found.person, found.events, found.controller) == ("ann", HISTORY, SHOP)
        assert {notice.hash for notice in found.notices} == {FIRST.hash, SECOND.hash}


def test_an_old_notice_comes_back_with_its_hash() -> None:
    old = Notice(
        schema_version="privemo.notice/1",
        notice_id="old",
        version=1,
        language="en",
        text="Words.",
        controller=SHOP,
        purposes=("training",),  # type: ignore[arg-type]
        jurisdictions=("IE",),
        recipients=("none",),
        storage_location="here",
        retention_days=30,
        withdrawal_method="ask",
    )
    document = record_to_jsonld("ann", [event(1, "ConsentGiven", old)], [old], SHOP)
    assert record_from_jsonld(document).notices[0].body == old.body


def test_other_zones_come_back_as_the_same_moment() -> None:
    there = GRANTED.astimezone(timezone(timedelta(hours=5, minutes=30)))
    document = record_to_jsonld("ann", [event(1, "ConsentGiven", at=there)], [FIRST], SHOP)
    assert record_from_jsonld(document).events[0].at == GRANTED


def test_another_reader_of_json_ld_finds_the_terms_of_dpv() -> None:
    # DPV guide to 27560: metadata, processing, party and event fields
    found = graph(RECORD)
    (record,) = found.subjects(RDF.type, DPV.ConsentRecord)
    subject = found.value(record, DPV.hasDataSubject)
    assert set(found.objects(subject, RDF.type)) == {DPV.DataSubject, DPV.Adult}
    assert str(found.value(subject, DCTERMS.identifier)) == "ann"
    states = list(found.objects(record, DPV.hasConsentStatus))
    assert len(states) == len(HISTORY)
    kinds = {kind for state in states for kind in found.objects(state, RDF.type)}
    assert kinds == {DPV[each.status.value] for each in HISTORY}
    (given,) = found.subjects(RDF.type, DPV.ConsentGiven)
    assert found.value(given, DPV.hasLegalBasis) == DPV.ExplicitlyExpressedConsent
    assert found.value(given, DPV.isIndicatedBy) == DPV.DataSubject
    moment = found.value(given, DPV.isIndicatedAtTime)
    assert isinstance(moment, rdflib.Literal)
    assert moment.toPython() == HISTORY[1].at
    duration = found.value(given, DPV.hasDuration)
    assert found.value(duration, RDF.type) == DPV.UntilTimeDuration
    assert str(found.value(given, DPV.hasNotice)) == f"urn:privemo:notice:{FIRST.hash}"
    assert set(found.objects(None, DPV.hasPersonalData)) == {PD.FacialExpression}
    assert {LOC.IE, LOC["US-IL"]} <= set(found.objects(None, DPV.hasJurisdiction))
    assert GDPR["A9-2-a"] in set(found.objects(None, DPV.hasLegalBasis))
    assert set(found.objects(None, DPV.hasRight)) == {
        GDPR[article] for article in ("A7-3", "A15", "A16", "A17", "A18", "A20")
    }


def test_the_system_is_named_as_high_risk_and_children_as_barred() -> None:
    found = graph(RECORD)
    for technology in found.objects(None, DPV.isImplementedUsingTechnology):
        assert AIACT["HighRiskAISystem-AnnexIII-1-c"] in set(found.objects(technology, RDF.type))
    for process in found.subjects(RDF.type, DPV.Process):
        barred = found.value(process, DPV.hasProhibition)
        assert DPV.Child in set(found.objects(barred, DPV.hasDataSubject))


#: Looked up by hand in the files of DPV 2.3; a new term is looked up before it is added here.
VOCABULARY = {
    "dpv": """
        Adult Authority Child ConsentExpired ConsentGiven ConsentInvalidated ConsentNotice
        ConsentRecord ConsentRefused ConsentRequestDeferred ConsentRequested ConsentRevoked
        ConsentUnknown ConsentWithdrawn DataController DataProcessor DataSubject Employee
        ExplicitlyExpressedConsent LegalEntity OrganisationRiskManagement Personalisation Process
        Prohibition Purpose RenewedConsentGiven Representative ResearchAndDevelopment
        StorageDuration StorageLocation Student UntilTimeDuration WithdrawConsent hasAddress
        hasAuthority hasConsentControl hasConsentStatus hasContact hasDataController
        hasDataSubject hasDuration hasJurisdiction hasLegalBasis hasName hasNotice
        hasPersonalData hasProcess hasProhibition hasPurpose hasRecipient hasRight
        hasStorageCondition isImplementedUsingTechnology isIndicatedAtTime isIndicatedBy
    """,
    "eu-aiact": "EmotionRecognitionSystem HighRiskAISystem-AnnexIII-1-c",
    "eu-gdpr": "A7-3 A9-2-a A15 A16 A17 A18 A20",
    "pd": "FacialExpression",
    "loc": "IE US-IL",
    "dct": "conformsTo created description hasVersion identifier language",
    "rdf": "value",
    "skos": "broader",
}
KNOWN = {f"{prefix}:{name}" for prefix, names in VOCABULARY.items() for name in names.split()}


def terms(value: object) -> Iterator[str]:
    """Every key, and every value that has the form of a term."""
    if isinstance(value, dict):
        for key, item in value.items():
            if key != "privemo:body":
                yield key
                yield from terms(item)
    elif isinstance(value, list):
        for item in value:
            yield from terms(item)
    elif isinstance(value, str) and value.partition(":")[0] in VOCABULARY:
        yield value


def test_every_term_has_a_name_in_a_vocabulary() -> None:
    # A term without a prefix, or with one the context does not know, falls out of the graph.
    for term in terms({k: v for k, v in RECORD.items() if k != "@context"}):
        assert term in KNOWN or term.startswith(("@", "privemo:")), term


def test_no_term_is_made_up() -> None:
    states = [f"dpv:{status.value}" for status in ConsentStatus]
    roles = [
        party_node(SHOP.model_copy(update={"type": kind}))["@type"]
        for kind in ("controller", "processor", "authority", "representative", "auditor")
    ]
    words = [name for name in CONTEXT if ":" in name]
    for term in (*states, *roles, *words):
        assert term in KNOWN or term.startswith("privemo:"), term


def test_what_is_asked_for_by_consent_is_not_called_required_by_law() -> None:
    broader = {str(each) for each in graph(RECORD).objects(None, SKOS.broader)}
    assert broader == {
        str(DPV[name])
        for name in ("ResearchAndDevelopment", "Personalisation", "OrganisationRiskManagement")
    }


def test_recipients_and_authority_stand_in_the_notice() -> None:
    found = graph(RECORD)
    names = {
        str(found.value(party, DPV.hasName)) for party in found.objects(None, DPV.hasRecipient)
    }
    assert names == {"Host"}
    assert list(found.subjects(RDF.type, DPV.DataProcessor))
    assert list(found.objects(None, DPV.hasAuthority))


def test_one_event_stands_alone_with_its_notice() -> None:
    document = event_to_jsonld(HISTORY[1], FIRST)
    assert document["@type"] == "dpv:ConsentGiven"
    assert document["dpv:hasNotice"]["@id"].endswith(FIRST.hash)
    assert len(list(graph(document).subjects(RDF.type, DPV.ConsentNotice))) == 1
    with pytest.raises(MalformedError, match="binds to notice"):
        event_to_jsonld(HISTORY[1], SECOND)


def test_what_is_exported_fits_the_schema_and_what_does_not_fit_is_told() -> None:
    schema = record_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    validator.validate(RECORD)
    for path in (["dpv:hasConsentStatus"], ["dpv:hasNotice"], ["dpv:hasDataSubject"], ["@type"]):
        broken = copy.deepcopy(RECORD)
        del broken[path[0]]
        assert list(validator.iter_errors(broken)), path


@pytest.mark.parametrize(
    ("person", "events", "notices", "reason"),
    [
        ("ann", (), (), "nothing to export"),
        ("bob", HISTORY[:2], (FIRST,), "somebody else"),
        ("ann", HISTORY[1::-1], (FIRST,), "order of the log"),
        ("ann", (HISTORY[0], HISTORY[0]), (FIRST,), "order of the log"),
        ("ann", HISTORY[:2], (), "give each of those once"),
        ("ann", HISTORY[:2], (SECOND,), "give each of those once"),
        ("ann", HISTORY[:2], (FIRST, SECOND), "give each of those once"),
        ("ann", HISTORY[:2], (FIRST, FIRST), "give each of those once"),
    ],
)
def test_a_record_is_of_one_person_whole_and_no_more(
    person: str, events: tuple[ConsentEvent, ...], notices: tuple[Notice, ...], reason: str
) -> None:
    with pytest.raises(MalformedError, match=reason):
        record_to_jsonld(person, events, notices, SHOP)


# -- documents that this package did not write -----------------------------------------------------

Change = Callable[[dict[str, Any]], Any]


def at(*path: str | int, to: object) -> Change:
    def change(document: Any) -> None:
        for step in path[:-1]:
            document = document[step]
        document[path[-1]] = to

    return change


def gone(*path: str | int) -> Change:
    def change(document: Any) -> None:
        for step in path[:-1]:
            document = document[step]
        del document[path[-1]]

    return change


STATE, NOTICE = "dpv:hasConsentStatus", "dpv:hasNotice"


@pytest.mark.parametrize(
    "change",
    [
        at("@context", to="https://example.org/context"),  # nothing is ever fetched
        at("@context", "dpv", to="https://example.org/other#"),
        gone("@context"),
        at("@id", to="urn:privemo:record:" + "f" * 32),
        at("@type", to="dpv:ConsentReceipt"),
        at("dct:identifier", to="f" * 32),
        at("dct:conformsTo", to="https://example.org"),
        at("privemo:schemaVersion", to="privemo.consent-record/2"),
        at("surprise", to=1),
        at("dpv:hasDataSubject", "@type", to=["dpv:DataSubject", "dpv:Child"]),
        at("dpv:hasDataSubject", "@type", to=["dpv:DataSubject"]),
        at("dpv:hasDataSubject", "schema:email", to="ann@example.org"),
        at("dpv:hasDataSubject", "dct:identifier", to=""),
        at("dpv:hasDataController", "dpv:hasContact", to=""),
        at("dpv:hasDataController", "@type", to="dpv:DataProcessor"),
        at(STATE, to=[]),
        gone(STATE, 0),  # the record is named after its first event
        at(STATE, 1, "@type", to="dpv:ConsentEternal"),
        at(STATE, 1, "@type", to=["dpv:ConsentGiven"]),
        at(STATE, 1, "dpv:hasDuration", "@type", to="dpv:EndlessDuration"),
        at(STATE, 1, "dpv:hasDuration", "rdf:value", to="2027-03-01"),
        at(STATE, 1, "dpv:hasDuration", to=None),
        at(STATE, 1, "dpv:isIndicatedAtTime", to="2026-03-01T09:00:00Z"),
        at(STATE, 1, "dpv:isIndicatedAtTime", to="2026-13-01T09:00:00.000000Z"),
        at(STATE, 1, "dpv:isIndicatedBy", to="dpv:ParentOfDataSubject"),
        at(STATE, 1, "dpv:hasLegalBasis", to="dpv:ImpliedConsent"),
        at(STATE, 1, "dpv:hasPurpose", to="privemo:advertising"),
        at(STATE, 1, "dpv:hasPurpose", to="training"),
        at(STATE, 1, "dpv:hasJurisdiction", to="loc:Ireland"),
        at(STATE, 1, "dpv:hasNotice", to="urn:privemo:notice:" + "0" * 64),
        at(STATE, 1, "privemo:sequence", to="4"),
        at(STATE, 1, "privemo:sequence", to=3),
        at(STATE, 1, "privemo:simulated", to=0),
        gone(STATE, 1, "privemo:simulated"),
        at(STATE, 1, "privemo:role", to="customer"),
        at(STATE, 1, "privemo:subject", to="ann"),
        at(STATE, 1, "surprise", to=1),
        at(NOTICE, 0, "privemo:body", "text", to="Other words."),
        at(NOTICE, 0, "privemo:body", "retention_days", to=1),
        at(NOTICE, 0, "privemo:body", "language", to=" en"),
        at(NOTICE, 0, "privemo:body", "version", to=True),
        at(NOTICE, 0, "dct:language", to="de"),
        at(NOTICE, 0, "dct:hasVersion", to=7),
        at(NOTICE, 0, "dpv:hasProcess", 0, "dpv:hasPurpose", "skos:broader", to="dpv:Marketing"),
        gone(NOTICE, 0, "dpv:hasProcess", 0, "dpv:hasProhibition"),
        at(NOTICE, 0, "dpv:hasProcess", 0, "dpv:hasRecipient", to=[]),
        gone(NOTICE, 0),
        lambda document: document[NOTICE].reverse(),
        lambda document: document[NOTICE].append(document[NOTICE][0]),
        lambda document: document[STATE].reverse(),
    ],
)
def test_a_document_that_says_anything_else_is_refused(change: Change) -> None:
    document = json.loads(json.dumps(RECORD))
    change(document)
    assert document != RECORD or json.dumps(document) != json.dumps(RECORD)
    with pytest.raises(MalformedError) as refused:
        record_from_jsonld(document)
    assert "ann" not in str(refused.value)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"\xff{}",
        b"{",
        b"[" * 100_000,
        b'{"@id": 1, "@id": 2}',
        json.dumps(RECORD).replace('"@type"', '"@type": "x", "@type"', 1).encode(),
        json.dumps(RECORD).replace("365", "NaN").encode(),
        " " * (64 * 1024 * 1024 + 1),
    ],
    ids=lambda data: f"{len(data)} of {data[:3]!r}",
)
def test_bytes_that_are_no_record_are_refused(data: bytes | str) -> None:
    with pytest.raises(MalformedError):
        record_from_jsonld(data)
