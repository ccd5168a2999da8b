"""Notices and parties in DPV terms, and the shape of an exported record.

Terms of DPV 2.3 and its extensions: ``pd`` personal data, ``loc`` places, ``eu-gdpr``,
``eu-aiact``. Each was compared with the files of https://github.com/w3c/dpv; 2.3 is the first
release to name the systems of Annex III one by one. The tests hold the list.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from ..records import JURISDICTION, Notice, Party, Right
from ..terms import ConsentStatus, Purpose, Role

__all__ = [
    "CONFORMS_TO",
    "CONTEXT",
    "EXPORT_SCHEMA",
    "ExportedRecord",
    "notice_node",
    "party_node",
]

CONFORMS_TO = "https://w3id.org/dpv/schema/dpv-27560#record"
EXPORT_SCHEMA = "privemo.consent-record/1"
#: Local: it stands in every document, and no reader has to fetch anything.
CONTEXT = {
    "dct": "http://purl.org/dc/terms/",
    "dpv": "https://w3id.org/dpv#",
    "eu-aiact": "https://w3id.org/dpv/legal/eu/aiact#",
    "eu-gdpr": "https://w3id.org/dpv/legal/eu/gdpr#",
    "loc": "https://w3id.org/dpv/loc#",
    "pd": "https://w3id.org/dpv/pd#",
    "privemo": "urn:privemo:terms:",
    "rdf": "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
    "schema": "https://schema.org/",
    "skos": "http://www.w3.org/2004/02/skos/core#",
    "xsd": "http://www.w3.org/2001/XMLSchema#",
    # References, not words.
    **{
        name: {"@type": "@id"}
        for name in (
            *("dct:conformsTo", "dpv:hasConsentStatus", "dpv:hasJurisdiction", "dpv:hasLegalBasis"),
            *("dpv:hasNotice", "dpv:hasPersonalData", "dpv:hasPurpose", "dpv:isIndicatedBy"),
            *("skos:broader", "dpv:hasDataSubject", "dpv:hasRight"),
        )
    },
    "dpv:isIndicatedAtTime": {"@type": "xsd:dateTime"},
    "dct:created": {"@type": "xsd:dateTime"},
    "privemo:body": {"@type": "@json"},
}
_BROADER = {
    Purpose.TRAINING: "dpv:ResearchAndDevelopment",
    Purpose.PERSONALISATION: "dpv:Personalisation",
    # Not dpv:LegalCompliance: that is for what a law requires, and this stands on consent.
    Purpose.FAIRNESS_AUDIT: "dpv:OrganisationRiskManagement",
}
_RIGHTS = {
    Right.ACCESS: "eu-gdpr:A15",
    Right.RECTIFICATION: "eu-gdpr:A16",
    Right.ERASURE: "eu-gdpr:A17",
    Right.RESTRICTION: "eu-gdpr:A18",
    Right.PORTABILITY: "eu-gdpr:A20",
}
_ROLES = {
    "controller": "dpv:DataController",
    "processor": "dpv:DataProcessor",
    "authority": "dpv:Authority",
    "representative": "dpv:Representative",
}


def party_node(party: Party) -> dict[str, Any]:
    """Return a party (27560 6.3.6): id, name, address, contact, type."""
    return {
        "@type": _ROLES.get(party.type, "dpv:LegalEntity"),
        "dct:identifier": party.id,
        "dpv:hasName": party.name,
        "dpv:hasAddress": party.address,
        "dpv:hasContact": party.contact,
        "privemo:partyType": party.type,
    }


def notice_node(notice: Notice) -> dict[str, Any]:
    """Return a notice, named by its hash, with a process for each purpose (27560 6.3.4)."""
    return {
        "@id": f"urn:privemo:notice:{notice.hash}",
        "@type": "dpv:ConsentNotice",
        "dct:identifier": notice.notice_id,
        "dct:hasVersion": notice.version,
        "dct:language": notice.language,
        "dpv:hasProcess": [_process(notice, purpose) for purpose in notice.purposes],
        "privemo:body": notice.model_dump(mode="json", exclude_none=True),
    }


def _process(notice: Notice, purpose: Purpose) -> dict[str, Any]:
    node: dict[str, Any] = {
        "@type": "dpv:Process",
        "dpv:hasPurpose": {
            "@id": f"privemo:{purpose.value}",
            "@type": "dpv:Purpose",
            "skos:broader": _BROADER[purpose],
        },
        "dpv:hasPersonalData": list(notice.pii_types),
        # GDPR 6(1)(a), 9(2)(a)
        "dpv:hasLegalBasis": ["dpv:ExplicitlyExpressedConsent", "eu-gdpr:A9-2-a"],
        "dpv:hasDataController": party_node(notice.controller),
        "dpv:hasStorageCondition": [
            {"@type": "dpv:StorageLocation", "dct:description": notice.storage_location},
            {"@type": "dpv:StorageDuration", "dpv:hasDuration": f"P{notice.retention_days}D"},
        ],
        "dpv:hasJurisdiction": [f"loc:{code}" for code in notice.jurisdictions],
        "dpv:hasConsentControl": {
            "@type": "dpv:WithdrawConsent",
            "dct:description": notice.withdrawal_method,
        },
        "dpv:hasRight": ["eu-gdpr:A7-3", *(_RIGHTS[right] for right in notice.rights or ())],
        # AI Act Annex III 1(c): a system that reads emotions is a high-risk one.
        "dpv:isImplementedUsingTechnology": {
            "@type": ["eu-aiact:EmotionRecognitionSystem", "eu-aiact:HighRiskAISystem-AnnexIII-1-c"]
        },
        # AADC 7, 9, 12; AI Act 5(1)(f): nobody may grant these away.
        "dpv:hasProhibition": {
            "@type": "dpv:Prohibition",
            "dpv:hasDataSubject": ["dpv:Child", "dpv:Employee", "dpv:Student"],
        },
    }
    recipients = [party_node(each) for each in notice.recipients if isinstance(each, Party)]
    if recipients:
        node["dpv:hasRecipient"] = recipients
    if notice.authority is not None:
        node["dpv:hasAuthority"] = party_node(notice.authority)
    return node


# -- the shape: what JSON Schema is made of --------------------------------------------------------

Text = Annotated[str, StringConstraints(min_length=1)]
Time = Annotated[str, StringConstraints(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$")]
Id = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
NoticeIri = Annotated[str, StringConstraints(pattern=r"^urn:privemo:notice:[0-9a-f]{64}$")]


class _Node(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    def fields(self) -> dict[str, Any]:
        """Return the node as it stands in the document, absent terms as None."""
        return self.model_dump(by_alias=True)


class _Party(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    role: Annotated[Text, Field(alias="@type")]
    id: Annotated[Text, Field(alias="dct:identifier")]
    name: Annotated[Text, Field(alias="dpv:hasName")]
    address: Annotated[Text, Field(alias="dpv:hasAddress")]
    contact: Annotated[Text, Field(alias="dpv:hasContact")]
    type: Annotated[Text, Field(alias="privemo:partyType")]

    def fields(self) -> dict[str, Any]:
        """Return the fields of `records.Party`."""
        return self.model_dump(exclude={"role"})


class _Duration(_Node):
    type: Annotated[Literal["dpv:UntilTimeDuration"], Field(alias="@type")]
    value: Annotated[Time, Field(alias="rdf:value")]


class _Subject(_Node):
    type: Annotated[list[Literal["dpv:DataSubject", "dpv:Adult"]], Field(alias="@type")]
    identifier: Annotated[Text, Field(alias="dct:identifier")]


class _Notice(_Node):
    iri: Annotated[NoticeIri, Field(alias="@id")]
    type: Annotated[Literal["dpv:ConsentNotice"], Field(alias="@type")]
    identifier: Annotated[Text, Field(alias="dct:identifier")]
    version: Annotated[int, Field(alias="dct:hasVersion", ge=1)]
    language: Annotated[Text, Field(alias="dct:language")]
    process: Annotated[list[dict[str, Any]], Field(alias="dpv:hasProcess", min_length=1)]
    body: Annotated[dict[str, Any], Field(alias="privemo:body")]


_STATES = tuple(f"dpv:{status.value}" for status in ConsentStatus)
_PURPOSES = tuple(f"privemo:{purpose.value}" for purpose in Purpose)
_ROLE_NAMES = tuple(role.value for role in Role)


class _Event(_Node):
    iri: Annotated[Text, Field(alias="@id", pattern=r"^urn:privemo:event:[0-9a-f]{32}$")]
    state: Annotated[str, Field(alias="@type", json_schema_extra={"enum": list(_STATES)})]
    identifier: Annotated[Id, Field(alias="dct:identifier")]
    purpose: Annotated[
        str, Field(alias="dpv:hasPurpose", json_schema_extra={"enum": list(_PURPOSES)})
    ]
    basis: Annotated[Literal["dpv:ExplicitlyExpressedConsent"], Field(alias="dpv:hasLegalBasis")]
    entity: Annotated[
        Literal["dpv:DataSubject", "dpv:DataController"], Field(alias="dpv:isIndicatedBy")
    ]
    at: Annotated[Time, Field(alias="dpv:isIndicatedAtTime")]
    recorded: Annotated[Time, Field(alias="dct:created")]
    duration: Annotated[_Duration | None, Field(alias="dpv:hasDuration")] = None
    place: Annotated[str, Field(alias="dpv:hasJurisdiction", pattern=rf"^loc:{JURISDICTION}$")]
    notice: Annotated[NoticeIri, Field(alias="dpv:hasNotice")]
    sequence: Annotated[int, Field(alias="privemo:sequence", ge=0)]
    subject: Annotated[str, Field(alias="privemo:subject", pattern=r"^[0-9a-f]{64}$")]
    role: Annotated[str, Field(alias="privemo:role", json_schema_extra={"enum": list(_ROLE_NAMES)})]
    simulated: Annotated[bool, Field(alias="privemo:simulated")]


class ExportedRecord(_Node):
    """A consent record as `dpv.record_to_jsonld` writes it."""

    context: Annotated[dict[str, Any], Field(alias="@context")]
    iri: Annotated[Text, Field(alias="@id", pattern=r"^urn:privemo:record:[0-9a-f]{32}$")]
    type: Annotated[Literal["dpv:ConsentRecord"], Field(alias="@type")]
    identifier: Annotated[Id, Field(alias="dct:identifier")]
    conforms: Annotated[
        Literal["https://w3id.org/dpv/schema/dpv-27560#record"], Field(alias="dct:conformsTo")
    ]
    schema_version: Annotated[
        Literal["privemo.consent-record/1"], Field(alias="privemo:schemaVersion")
    ]
    data_subject: Annotated[_Subject, Field(alias="dpv:hasDataSubject")]
    controller: Annotated[_Party, Field(alias="dpv:hasDataController")]
    notices: Annotated[list[_Notice], Field(alias="dpv:hasNotice", min_length=1)]
    events: Annotated[list[_Event], Field(alias="dpv:hasConsentStatus", min_length=1)]

    @property
    def person(self) -> str:
        """Whose record it is."""
        return self.data_subject.identifier
