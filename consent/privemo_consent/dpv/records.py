"""Consent records as JSON-LD in the terms of the W3C Data Privacy Vocabulary (DPV).

After the DPV guide to ISO/IEC TS 27560. The ``@context`` stands in the document and nothing is ever
fetched. What DPV has no term for stands under ``privemo:``, among it the notice's whole body, so
that what is read back is what was written: an import builds the records, exports them again and
refuses a document that is not the same. This is engineering, not legal advice.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any

from pydantic import ValidationError

from ..canonical import canonical_bytes
from ..errors import MalformedError
from ..records import ConsentEvent, Notice, Party
from ..times import from_us, iso, parse_iso, to_us
from .terms import CONFORMS_TO, CONTEXT, EXPORT_SCHEMA, ExportedRecord, notice_node, party_node

__all__ = [
    "CONTEXT",
    "ConsentRecord",
    "event_to_jsonld",
    "record_from_jsonld",
    "record_schema",
    "record_to_jsonld",
]

#: More than any one person's history; a guard against documents made to exhaust memory.
_LONGEST = 64 * 1024 * 1024
_ENTITY = {"data_subject": "dpv:DataSubject", "registry": "dpv:DataController"}
_ENTITY_OF = {term: name for name, term in _ENTITY.items()}


@dataclass(frozen=True, slots=True)
class ConsentRecord:
    """Everything a record says of one person: the history, the notices, who is responsible."""

    person: str
    events: tuple[ConsentEvent, ...]
    notices: tuple[Notice, ...]
    controller: Party


def event_to_jsonld(event: ConsentEvent, notice: Notice) -> dict[str, Any]:
    """Return one change of state as a document of its own, its notice within.

    Raises:
        MalformedError: the event binds to another notice.

    """
    if event.notice != notice.hash:
        raise MalformedError(
            f"the event binds to notice {event.notice[:12]}, got {notice.hash[:12]}"
        )
    return {"@context": CONTEXT} | _event_node(event) | {"dpv:hasNotice": notice_node(notice)}


def record_to_jsonld(
    person: str, events: Iterable[ConsentEvent], notices: Iterable[Notice], controller: Party
) -> dict[str, Any]:
    """Return a person's whole record as one JSON-LD document.

    Args:
        person: whose record it is.
        events: of this person alone, in the order of the log, at least one.
        notices: every notice the events bind to, and no other; in any order.
        controller: of the registry.

    Raises:
        MalformedError: an event of somebody else, out of order, or without its notice; a notice
            nobody was shown; no events.

    """
    history = tuple(events)
    shown = tuple(sorted(notices, key=lambda notice: notice.hash))
    _check(person, history, shown)
    document = {
        "@context": CONTEXT,
        "@id": f"urn:privemo:record:{history[0].record_id}",
        "@type": "dpv:ConsentRecord",
        "dct:identifier": history[0].record_id,
        "dct:conformsTo": CONFORMS_TO,
        "privemo:schemaVersion": EXPORT_SCHEMA,
        "dpv:hasDataSubject": {
            # 27560 6.3.6: no contact of the person; privemo keeps none.
            "@type": ["dpv:DataSubject", "dpv:Adult"],
            "dct:identifier": person,
        },
        "dpv:hasDataController": party_node(controller),
        "dpv:hasNotice": [notice_node(notice) for notice in shown],
        "dpv:hasConsentStatus": [_event_node(event) for event in history],
    }
    _validated(document)  # what is written is what `record_schema` promises
    return document


def record_from_jsonld(document: Mapping[str, Any] | str | bytes) -> ConsentRecord:
    """Read back what `record_to_jsonld` wrote, and nothing else.

    Raises:
        MalformedError: not JSON, a key twice, a field missing, unknown or out of its vocabulary,
            another ``@context``, or a term that contradicts the record it stands for.

    """
    value = _loaded(document)
    found = _validated(value)
    try:
        notices = tuple(
            Notice.model_validate_json(canonical_bytes(node.body)) for node in found.notices
        )
        controller = Party.model_validate(found.controller.fields())
        events = tuple(_event_of(node.fields(), found.person) for node in found.events)
        again = record_to_jsonld(found.person, events, notices, controller)
    except (ValidationError, KeyError) as error:
        raise MalformedError(f"not a consent record: {_without_input(error)}") from None
    odd = [n for n in again if canonical_bytes([again[n]]) != canonical_bytes([value.get(n)])]
    if odd or again.keys() != value.keys():
        raise MalformedError(f"not as this package writes it: {', '.join(odd) or 'unknown fields'}")
    return ConsentRecord(found.person, events, notices, controller)


def record_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of the exported record."""
    return ExportedRecord.model_json_schema(by_alias=True) | {
        "$schema": "https://json-schema.org/draft/2020-12/schema"
    }


def _check(person: str, events: Sequence[ConsentEvent], notices: Sequence[Notice]) -> None:
    if not events:
        raise MalformedError("a record without events: there is nothing to export")
    if any(event.person != person for event in events):
        raise MalformedError("an event of somebody else stands in the record")
    if any(later.seq <= event.seq for event, later in pairwise(events)):
        raise MalformedError("events out of the order of the log")
    bound = {event.notice for event in events}
    given = [notice.hash for notice in notices]
    if sorted(bound) != given:
        raise MalformedError(
            f"got {len(given)} notices, the events bind to {len(bound)}: give each of those once"
        )


def _event_node(event: ConsentEvent) -> dict[str, Any]:
    """27560 6.3.7: time, validity, entity, type, state."""
    node: dict[str, Any] = {
        "@id": f"urn:privemo:event:{event.record_id}",
        "@type": f"dpv:{event.status.value}",
        "dct:identifier": event.record_id,
        "dpv:hasPurpose": f"privemo:{event.purpose.value}",
        "dpv:hasLegalBasis": "dpv:ExplicitlyExpressedConsent",
        "dpv:isIndicatedBy": _ENTITY[event.entity],
        "dpv:isIndicatedAtTime": _time(event.at),
        "dct:created": _time(event.recorded_at),
        "dpv:hasJurisdiction": f"loc:{event.jurisdiction}",
        "dpv:hasNotice": f"urn:privemo:notice:{event.notice}",
        "privemo:sequence": event.seq,
        "privemo:subject": event.subject,
        "privemo:role": event.role.value,
        "privemo:simulated": event.simulated,
    }
    if event.expires is not None:
        # Never dpv:EndlessDuration (DPV guide 8.5.4).
        node["dpv:hasDuration"] = {
            "@type": "dpv:UntilTimeDuration",
            "rdf:value": _time(event.expires),
        }
    return node


def _event_of(node: Mapping[str, Any], person: str) -> ConsentEvent:
    duration = node["dpv:hasDuration"]
    return ConsentEvent.model_validate(
        {
            "record_id": node["dct:identifier"],
            "person": person,
            "seq": node["privemo:sequence"],
            "purpose": node["dpv:hasPurpose"].removeprefix("privemo:"),
            "status": node["@type"].removeprefix("dpv:"),
            "at": _moment(node["dpv:isIndicatedAtTime"]),
            "recorded_at": _moment(node["dct:created"]),
            "expires": None if duration is None else _moment(duration["rdf:value"]),
            "entity": _ENTITY_OF[node["dpv:isIndicatedBy"]],
            "role": node["privemo:role"],
            "jurisdiction": node["dpv:hasJurisdiction"].removeprefix("loc:"),
            "notice": node["dpv:hasNotice"].removeprefix("urn:privemo:notice:"),
            "subject": node["privemo:subject"],
            "simulated": node["privemo:simulated"],
        }
    )


def _time(moment: datetime) -> str:
    return iso(to_us(moment))


def _moment(text: str) -> datetime:
    return from_us(parse_iso(text))


def _loaded(document: Mapping[str, Any] | str | bytes) -> dict[str, Any]:
    if isinstance(document, Mapping):
        return dict(document)
    if len(document) > _LONGEST:
        raise MalformedError(f"got {len(document)} bytes, want at most {_LONGEST}")
    try:
        value = json.loads(document, object_pairs_hook=_no_duplicates)
    except (ValueError, RecursionError) as error:
        raise MalformedError(f"not JSON: {error}") from None
    if not isinstance(value, dict):
        raise MalformedError(f"got a JSON {type(value).__name__}, want an object")
    return value


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise MalformedError("duplicate key in a JSON object")
    return found


def _validated(value: dict[str, Any]) -> ExportedRecord:
    try:
        return ExportedRecord.model_validate(value)
    except ValidationError as error:
        raise MalformedError(f"not a consent record: {_without_input(error)}") from None


def _without_input(error: ValidationError | KeyError) -> str:
    """Where and what, without repeating values: a person's id may be among them."""
    if isinstance(error, KeyError):
        return "a term out of its vocabulary"
    return "; ".join(
        f"{'.'.join(map(str, found['loc']))}: {found['type']}"
        for found in error.errors(include_input=False, include_url=False, include_context=False)[:5]
    )
