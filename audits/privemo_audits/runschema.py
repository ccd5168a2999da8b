"""What the files of a run have to hold, each as a frozen model: `runfiles` validates them by these.

Models of what one module alone understands (attacks, looks, counts) stand there, on the same `Part`.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Hex = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
# A store's name becomes a folder: it may not climb out of the run.
StoreName = Annotated[str, Field(pattern=r"^[^./\\\x00-\x1f][^/\\\x00-\x1f]{0,99}$")]


class Part(BaseModel):
    """Unknown keys are let by: a later version of the run may say more."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class DataInfo(Part):
    """`run.json: data`."""

    name: str = "unnamed"
    digest: str = ""
    faces: int = Field(ge=0)
    persons: int = Field(ge=0)
    origin: str = "not stated"


class Earlier(Part):
    """A release on the same people before the run: of the Gaussian mechanism, or as stated."""

    noise_multiplier: float | None = Field(default=None, gt=0)
    sample_rate: float | None = Field(default=None, gt=0, le=1)
    steps: int | None = Field(default=None, ge=0)
    discrete: bool = False
    epsilon: float | None = Field(default=None, ge=0)
    delta: float = Field(default=0.0, ge=0, lt=1)

    @model_validator(mode="after")
    def _of_one_kind(self) -> Earlier:
        gaussian = (self.noise_multiplier, self.sample_rate, self.steps)
        if (None in gaussian) == (self.epsilon is None) or (
            self.epsilon is not None and gaussian != (None, None, None)
        ):
            raise ValueError("either noise_multiplier, sample_rate and steps, or epsilon")
        return self


class PrivacyInfo(Part):
    """`run.json: privacy`, the plan that the ledger is held against."""

    private: bool
    unit: str | None = None
    epsilon_budget: float | None = Field(default=None, gt=0)
    delta: float | None = Field(default=None, gt=0, lt=1)
    accountant: Literal["rdp", "prv"] = "rdp"
    neighbouring: str | None = None
    sampler: str | None = None
    noise_multiplier: float | None = None
    steps_at_each_rate: tuple[tuple[float, int], ...] = ()
    max_grad_norm: float | None = None
    normaliser: float | None = None
    noise_source: str | None = None
    max_stores_per_person: int = Field(default=1, ge=1)
    spent_before: tuple[Earlier, ...] = ()


class ContextInfo(Part):
    """`run.json: context`."""

    setting: str = "retail"
    jurisdiction: str = "not stated"


class RunInfo(Part):
    """`run.json`."""

    schema_: Literal["privemo.run/1"] = Field(alias="schema")
    run_id: str
    created: datetime
    engine: str = "not stated"
    simulated: bool
    data: DataInfo
    stores: tuple[StoreName, ...] = Field(min_length=1)
    rounds: int = Field(ge=0)
    sensitive: tuple[str, ...] = ()
    label_names: tuple[str, ...] = Field(min_length=2)
    privacy: PrivacyInfo
    roster: dict[StoreName, Hex]
    store_sets: tuple[tuple[StoreName, ...], ...] = ()
    closes: bool = False
    challenge_age: float = 25.0
    context: ContextInfo = ContextInfo()
    model: dict[str, Any] = Field(default_factory=dict)
    versions: dict[str, str] = Field(default_factory=dict)


class LedgerHead(Part):
    """How far a store's ledger went."""

    entries: int = Field(ge=0)
    hash: Hex


class Statement(Part):
    """`rounds/NNNN.json: stores.NAME.statement`: what the store signed."""

    schema_: Literal["privemo.statement/1"] = Field(alias="schema")
    run_id: str
    round: int = Field(ge=1)
    store: str
    model_in: Hex
    history: Hex
    status: str
    reason: str | None = None
    update_sha256: Hex | None = None
    consent_log_root: Hex
    ledger: LedgerHead
    epsilon: float | None = Field(default=None, ge=0)
    details: Hex
    versions: dict[str, str]

    @model_validator(mode="after")
    def _trained_or_not(self) -> Statement:
        if (self.status == "trained") != (self.update_sha256 is not None):
            raise ValueError(
                "a store that trained names its update, and one that did not names none"
            )
        return self


class SignedStatement(Part):
    """A line of `statements.jsonl`, as far as it was sent."""

    statement: Statement
    signature: str = Field(pattern=r"^[0-9a-f]{128}$")


class StoreRound(Part):
    """What one store did in one round."""

    statement: Statement | None = None
    signature: str | None = Field(default=None, pattern=r"^[0-9a-f]{128}$")
    status: str
    reason: str | None = None
    update_sha256: str | None = None
    consent_log_root: str | None = None
    consent_log_seq: int | None = None


class SecureSum(Part):
    """`rounds/NNNN.json: secure_sum`, where stores share the noise."""

    enough: int = Field(ge=1)
    summed: tuple[StoreName, ...]


class RoundInfo(Part):
    """`rounds/NNNN.json`."""

    schema_: Literal["privemo.round/2"] = Field(alias="schema")
    run_id: str
    prev: Hex
    round: int = Field(ge=1)
    started: datetime | None = None
    finished: datetime | None = None
    model_in: str | None = None
    model_out: str | None = None
    model_average: str | None = None
    secure_sum: SecureSum | None = None
    stores: dict[StoreName, StoreRound]


class LedgerEntry(Part):
    """One line of `ledger.jsonl`: one release of a noised update."""

    schema_: Literal["privemo.ledger/1"] = Field(alias="schema")
    seq: int
    store: str
    run_id: str
    round: int
    mechanism: str
    unit: str
    noise_multiplier: float = Field(ge=0)
    sample_rate: float = Field(gt=0, le=1)
    steps: int = Field(ge=0)
    noise_stores: int = Field(1, ge=1)
    max_grad_norm: float | None = None
    delta: float = Field(gt=0, lt=1)
    epsilon_rdp: float | None = None
    epsilon_prv: float | None = None
    update_sha256: str | None = None
    prev: Hex
    hash: Hex


class Counts(Part):
    """Faces and persons."""

    faces: int = Field(ge=0)
    persons: int = Field(ge=0)


class Refused(Part):
    """Faces and persons by reason."""

    faces: dict[str, Annotated[int, Field(ge=0)]] = Field(default_factory=dict)
    persons: dict[str, Annotated[int, Field(ge=0)]] = Field(default_factory=dict)


class Admission(Part):
    """One line of `admissions.jsonl`: one time the gate was asked."""

    schema_: Literal["privemo.admission/1"] = Field(alias="schema")
    at: datetime
    run_id: str
    round: int = Field(ge=0)
    purpose: str
    log_seq: int = Field(ge=0)
    asked: Counts
    admitted: Counts
    refused: Refused

    @model_validator(mode="after")
    def _no_more_than_asked(self) -> Admission:
        if self.admitted.faces > self.asked.faces or self.admitted.persons > self.asked.persons:
            raise ValueError("more were admitted than asked")
        return self


class Details(Part):
    """What a store kept to itself of a round; its statement holds the hash."""

    schema_: Literal["privemo.details/1"] = Field(alias="schema")
    nonce: Hex
    admission: Admission | None
    asked: Hex | None = None
