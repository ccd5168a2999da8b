"""Frozen records after ISO/IEC TS 27560: parties, notices, events, decisions, uses.

Field names follow the W3C Data Privacy Vocabulary's guide to 27560. Every record carries its
``schema_version``; none can be built with an empty mandatory field (27560 6.3.4 to 6.3.7).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, field_validator

from .canonical import canonical_bytes, sha256_hex
from .terms import AgeBand, ConsentStatus, Purpose, Reason, Role, Setting

__all__ = ["JURISDICTION", "ConsentEvent", "Context", "Decision", "Grant", "Notice", "Party", "Use"]

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


class Notice(_Record):
    """What a person was shown, word for word; consent binds to its hash (GDPR 7(1); 27560).

    A later ``version`` of the same ``notice_id`` supersedes this one: whoever consented to this
    one must renew (ISO/IEC 29184 5.5). Versions in several languages share id and version.
    """

    schema_version: Literal["privemo.notice/1"] = "privemo.notice/1"
    notice_id: Text
    version: Annotated[int, Field(ge=1, le=2**31 - 1)]
    language: Language
    text: Text
    controller: Party
    purposes: Annotated[tuple[Purpose, ...], Field(min_length=1)]
    jurisdictions: Annotated[tuple[Jurisdiction, ...], Field(min_length=1)]
    recipients: Annotated[tuple[Text, ...], Field(min_length=1)]
    storage_location: Text
    #: Finite by construction: COPPA 312.10, BIPA 15(a).
    retention_days: Annotated[int, Field(ge=1, le=3 * 366)]
    withdrawal_method: Text
    pii_types: Annotated[tuple[Text, ...], Field(min_length=1)] = ("pd:FacialExpression",)
    #: For faces the only one: explicit consent (GDPR 6, 9(2)(a)).
    lawful_basis: Literal["dpv:ExplicitConsent"] = "dpv:ExplicitConsent"

    @field_validator("purposes")
    @classmethod
    def _sorted_once(cls, value: tuple[Purpose, ...]) -> tuple[Purpose, ...]:
        if len(set(value)) != len(value):
            raise ValueError("a purpose stands twice in the notice")
        return tuple(sorted(value))

    @cached_property
    def body(self) -> bytes:
        """The canonical bytes (RFC 8785) that are stored and hashed."""
        return canonical_bytes(self.model_dump(mode="json"))

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
    person: str
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
    person: str
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
