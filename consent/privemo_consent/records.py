"""Frozen records after ISO/IEC TS 27560: parties, notices, events, decisions, uses.

Field names follow the W3C Data Privacy Vocabulary's guide to 27560. What is stored or exported carries
its ``schema_version``; nothing can be built with an empty mandatory field (27560 6.3.4 to 6.3.7).
Whether a notice tells all that must be told is `notices.check_notice`'s question.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import (
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationInfo,
    field_validator,
    model_validator,
)

from .canonical import canonical_bytes, sha256_hex
from .terms import AgeBand, ConsentStatus, Purpose, Reason, Role, Setting

__all__ = [
    "JURISDICTION",
    "ConsentEvent",
    "Context",
    "Decision",
    "Grant",
    "Notice",
    "Party",
    "Right",
    "Told",
    "Transfer",
    "Use",
]

Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
Hex256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
#: ISO 3166-1 alpha-2, optionally with a subdivision: ``IE``, ``US-IL``.
JURISDICTION = r"[A-Z]{2}(?:-[A-Z0-9]{1,3})?"
Jurisdiction = Annotated[str, StringConstraints(pattern=rf"^{JURISDICTION}$")]
Language = Annotated[str, StringConstraints(pattern=r"^[a-z]{2,3}(-[A-Za-z0-9]{2,8})*$")]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Party(_Record):
    """Someone with duties: a controller, processor, recipient or authority (27560 6.3.6).

    The data subject is no Party: no contact is ever demanded of the person.
    """

    id: Text
    name: Text
    address: Text
    contact: Text
    type: Text = "controller"


class Right(StrEnum):
    """The rights a notice tells of (GDPR 13(2)(b), 15-18, 20); withdrawal has its own field.

    Objection (GDPR 21) is not among them: it opposes processing that needs no consent.
    """

    ACCESS = "access"
    RECTIFICATION = "rectification"
    ERASURE = "erasure"
    RESTRICTION = "restriction"
    PORTABILITY = "portability"


class Transfer(_Record):
    """A third country that data go to, the safeguard, and where to get a copy (GDPR 13(1)(f))."""

    country: Jurisdiction
    #: in the words of the notice's text
    safeguard: Text
    copy_from: Text


class Told(_Record):
    """Where the text tells something that the record holds as a code: the very words."""

    item: Text
    words: Text


def _told(value: object) -> object:
    """Let an author write ``{"training": "to train a model"}``."""
    if isinstance(value, Mapping):
        return tuple({"item": item, "words": words} for item, words in value.items())
    return value


#: What `privemo.notice/2` added. None means that the notice is silent; "none" that there is none.
_SINCE_2 = (
    *("representative", "data_protection_officer", "transfers", "rights", "authority"),
    *("data_required", "refusal", "automated_decisions", "told"),
)


class Notice(_Record):
    """What a person was shown, word for word; consent binds to its hash (GDPR 7(1); 27560).

    A later ``version`` of the same ``notice_id`` supersedes this one: whoever consented to this
    one must renew (ISO/IEC 29184 5.5). Versions in several languages share id and version.

    A notice may be silent on what GDPR 13 asks, so that a draft can be checked and an old one
    read; `notices.check_notice` names what is missing, and a production registry refuses it.
    """

    schema_version: Literal["privemo.notice/1", "privemo.notice/2"] = "privemo.notice/2"
    notice_id: Text
    version: Annotated[int, Field(ge=1, le=2**31 - 1)]
    language: Language
    text: Text
    controller: Party
    purposes: Annotated[tuple[Purpose, ...], Field(min_length=1)]
    jurisdictions: Annotated[tuple[Jurisdiction, ...], Field(min_length=1)]
    #: processors and authorities; words in `privemo.notice/1`
    recipients: (
        Literal["none"]
        | Annotated[tuple[Party, ...], Field(min_length=1)]
        | Annotated[tuple[Text, ...], Field(min_length=1)]
    )
    storage_location: Text
    #: Finite by construction: COPPA 312.10, BIPA 15(a).
    retention_days: Annotated[int, Field(ge=1, le=3 * 366)]
    withdrawal_method: Text
    pii_types: Annotated[tuple[Text, ...], Field(min_length=1)] = ("pd:FacialExpression",)
    #: For faces the only one: explicit consent (GDPR 6, 9(2)(a)).
    lawful_basis: Literal["dpv:ExplicitConsent"] = "dpv:ExplicitConsent"
    #: of a controller without a seat in the Union (GDPR 13(1)(a), 27)
    representative: Literal["none"] | Party | None = None
    #: how to reach them, or "none" (GDPR 13(1)(b))
    data_protection_officer: Text | None = None
    transfers: Literal["none"] | Annotated[tuple[Transfer, ...], Field(min_length=1)] | None = None
    rights: Annotated[tuple[Right, ...], Field(min_length=1)] | None = None
    #: where to complain (GDPR 13(2)(d))
    authority: Party | None = None
    #: never: a consent one must give is not free (GDPR 7(4), 13(2)(e))
    data_required: Literal[False] | None = None
    #: what saying no means, in the words of the text (GDPR 13(2)(e))
    refusal: Text | None = None
    #: "none", or what is decided and how, in the words of the text (GDPR 13(2)(f), 22)
    automated_decisions: Text | None = None
    #: the words of the text for each purpose, each right and ``lawful_basis``
    told: Annotated[tuple[Told, ...], BeforeValidator(_told)] | None = None

    @field_validator("purposes", "rights")
    @classmethod
    def _sorted_once(cls, value: tuple[str, ...] | None, info: ValidationInfo) -> object:
        if value is None:
            return None
        if len(set(value)) != len(value):
            raise ValueError(f"one of the {info.field_name} stands twice in the notice")
        return tuple(sorted(value))

    @model_validator(mode="before")
    @classmethod
    def _as_version_1_wrote_it(cls, value: Any) -> Any:
        """Read ``("none",)``, the only way /1 had to say it, as "none" where /2 is written."""
        if not isinstance(value, dict) or value.get("schema_version") == "privemo.notice/1":
            return value
        is_none = value.get("recipients") in (("none",), ["none"])
        return value | {"recipients": "none"} if is_none else value

    @model_validator(mode="after")
    def _keeps_its_schema(self) -> Notice:
        words = isinstance(self.recipients, tuple) and isinstance(self.recipients[0], str)
        if self.schema_version == "privemo.notice/2":
            if words:
                raise ValueError('recipients: name each as a Party, or say "none" (BIPA 15(d))')
            self._check_roles()
            return self
        later = [name for name in _SINCE_2 if getattr(self, name) is not None]
        if later or not words:
            raise ValueError(
                f"{', '.join(later) or 'recipients as records'}: not in privemo.notice/1; "
                "write privemo.notice/2"
            )
        return self

    def _check_roles(self) -> None:
        """Hold each party to its place.

        There is no purpose that sells or discloses: a third party cannot be named as a recipient
        (BIPA 15(c)-(d)).
        """
        held: list[tuple[str, object, tuple[str, ...]]] = [
            ("controller", self.controller, ("controller",)),
            ("representative", self.representative, ("representative",)),
            ("authority", self.authority, ("authority",)),
            *(("recipients", each, ("processor", "authority")) for each in self.recipients),
        ]
        for place, party, kinds in held:
            if isinstance(party, Party) and party.type not in kinds:
                raise ValueError(
                    f"{place}: {party.name} is of type {party.type!r}, want {' or '.join(kinds)}"
                )

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Notice:
        """Return a copy that is validated anew: pydantic's own keeps the bytes of the old text."""
        return Notice.model_validate(self.model_dump() | dict(update or {}))

    @cached_property
    def body(self) -> bytes:
        """The canonical bytes (RFC 8785) that are stored and hashed; silence is left out."""
        return canonical_bytes(self.model_dump(mode="json", exclude_none=True))

    @cached_property
    def hash(self) -> str:
        """SHA-256 of `body` in hexadecimal: how records name this notice."""
        return sha256_hex(self.body)


class ConsentEvent(_Record):
    """One change of state of one person's consent to one purpose (27560 6.3.7).

    ``person`` stands here and in the registry's table of persons, never in the log: the leaf holds
    ``subject`` instead, an HMAC under a key that erasure destroys (GDPR 5(1)(c), 25).
    """

    schema_version: Literal["privemo.consent-event/1"] = "privemo.consent-event/1"
    record_id: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
    person: Annotated[str, Field(repr=False)]
    seq: int
    purpose: Purpose
    status: ConsentStatus
    #: when the state took effect
    at: AwareDatetime
    #: when the registry wrote it; never before an earlier entry's
    recorded_at: AwareDatetime
    #: when it ends; present for every state that permits (DPV guide 8.5.4)
    expires: AwareDatetime | None
    type: Literal["explicit"] = "explicit"
    #: who caused it: the person, or the registry applying a rule
    entity: Literal["data_subject", "registry"]
    role: Role
    #: All that is kept of an age: minors and unknown ages have no record (AADC 3; AI Act 10(5)).
    age: Literal["adult"] = "adult"
    jurisdiction: Jurisdiction
    notice: Hex256
    subject: Hex256
    simulated: bool


class Context(_Record):
    """Where a use would happen."""

    setting: Setting
    jurisdiction: Jurisdiction


class Decision(_Record):
    """The answer to "may this person's face be used for this purpose, here, now?"."""

    permit: bool
    reason: Reason
    person: Annotated[str, Field(repr=False)]
    purpose: Purpose
    at: AwareDatetime
    #: how much of the log the answer saw; -1 when the log could not be read
    log_seq: int

    def model_post_init(self, _context: Any, /) -> None:
        """Hold ``permit`` and ``reason`` together."""
        if self.permit is not (self.reason is Reason.PERMITTED):
            raise ValueError(f"permit={self.permit} contradicts reason {self.reason}")

    def __bool__(self) -> bool:
        # A Decision is truthy as an object: `if registry.decide(...)` would let everyone in.
        raise TypeError("a Decision is neither true nor false: ask decision.permit")


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """One row of a bulk import: the arguments of ``ConsentRegistry.grant``."""

    person: str
    purposes: tuple[Purpose, ...]
    age_band: AgeBand
    jurisdiction: str
    notice: Notice | str
    valid_for: timedelta
    role: Role = Role.SHOPPER
    at: datetime | None = None
    #: set by an importer whose source was a simulation; refused in production
    simulated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """One batch as it was used: who was in it, for what, on the word of which log."""

    seq: int
    run: str
    round: int
    store: str
    batch: int
    purpose: Purpose
    #: the log the admission relied on
    log_seq: int
    at: datetime
    #: person ids in the order recorded; None for a person erased since
    persons: tuple[str | None, ...]
    simulated: bool
