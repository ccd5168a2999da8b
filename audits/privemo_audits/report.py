"""The report as one frozen object, and its canonical bytes.

Its larger parts are in the modules `report_*`. Every number that is an estimate stands beside its n and its
interval (REQUIREMENTS rows 35-37; AI Act 13(3)(b), 15(3)). `None` always means "not stated", and a
status or a note says why. Equal runs give equal bytes: the report holds no clock time of its own.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from .frozen import Document, Frozen
from .report_excluded import DrawnAges
from .report_exclusions import Exclusions
from .report_more import Beside, Looks
from .report_performance import Gap, GroupCell, Performance, Representation
from .report_privacy import Privacy


class RunFacts(Frozen):
    """What was run, as its own `run.json` states it."""

    run_id: str
    created: datetime
    engine: str
    simulated: bool = Field(description="Consents are simulated: no real person gave them.")
    stores: tuple[str, ...]
    rounds_planned: int
    rounds_found: int
    label_names: tuple[str, ...]
    sensitive: tuple[str, ...]
    setting: str
    jurisdiction: str
    challenge_age: float
    model: dict[str, Any]
    versions: dict[str, str]


class DataFacts(Frozen):
    """What data it was trained on."""

    name: str
    digest: str
    faces: int
    persons: int
    origin: str


class Violation(Frozen):
    """One breach, named by where it happened and by the person's pseudonym where there is one."""

    kind: str
    store: str
    round: int | None
    person: str | None
    detail: str


class Lineage(Frozen):
    """Every recorded use of a face, held against the consent log of its moment (GDPR 7(1))."""

    uses: int
    persons: int
    uses_by_purpose: dict[str, int]
    violations: int
    violation_list: tuple[Violation, ...] = Field(description="The first 1,000.")
    violations_by_kind: dict[str, int]
    withdrawals: int
    withdrawals_honoured: int
    batches_after_withdrawal: int
    batches_after_withdrawal_max: int = Field(description="The worst for any one person.")
    persons_in_registries: int
    predictions_checked: int
    consent_logs: dict[str, dict[str, Any]]


class Check(Frozen):
    """One thing that was checked, with its evidence and the clause it serves."""

    id: str
    title: str
    passed: bool
    required: bool
    evidence: str
    clause: str


class PolicyFacts(Frozen):
    """The policy that the run was held against: its content, and the hash of its file."""

    sha256: str
    rules: dict[str, Any]


class Evidence(Frozen):
    """What the report was made from and with, so that someone else can repeat it."""

    files: dict[str, str]
    tools: dict[str, str]


class Report(Document):
    """The whole audit. `to_json` gives its canonical bytes."""

    schema_: Literal["privemo.report/3"] = Field(default="privemo.report/3", alias="schema")
    passed: bool
    verdict: Literal["passed", "failed"]
    failed_checks: tuple[str, ...]
    summary: tuple[str, ...]
    run: RunFacts
    data: DataFacts
    exclusions: Exclusions
    performance: Performance
    groups: tuple[GroupCell, ...]
    gaps: tuple[Gap, ...]
    representation: tuple[Representation, ...] = Field(
        default=(), description="Only where a policy holds a reference."
    )
    excluded: DrawnAges | None = Field(
        default=None, description="Null where nobody ran `privemo excluded`."
    )
    group_rules: dict[str, Any]
    privacy: Privacy
    lineage: Lineage
    checks: tuple[Check, ...]
    policy: PolicyFacts | None
    looks: Looks | None = Field(
        default=None, description="Null where nobody ran `privemo explain`."
    )
    beside: tuple[Beside, ...] = Field(
        default=(), description="Signed reports of other runs that were named with `--beside`."
    )
    limits: tuple[str, ...]
    evidence: Evidence

    @classmethod
    def from_json(cls, raw: bytes | str) -> Report:
        """Read a report back.

        Raises:
            pydantic.ValidationError: the bytes are no report of this schema.
        """
        return cls.model_validate_json(raw)
