"""The report as one frozen object, and its canonical bytes.

Every number that is an estimate stands beside its n and its interval (REQUIREMENTS rows 35-37;
AI Act 13(3)(b), 15(3)). `None` always means "not stated", and a status or a note says why.
Equal runs give equal bytes: the report holds no clock time of its own.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from .frozen import Document, Frozen, Interval, Status
from .report_asked import AskedByGroup
from .report_excluded import DrawnAges
from .report_more import Beside, Looks
from .report_privacy import Privacy


class Counted(Frozen):
    """A count of people and of their faces."""

    persons: int = 0
    faces: int = 0


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


class Minors(Frozen):
    """Who was refused as a child, in the unit of the block this stands in (people or faces).

    `total` is attested + suspected; people of unknown age, treated as children too (UK AADC 3),
    are counted apart in `unknown_age`.
    """

    attested: int
    suspected: int
    unknown_age: int
    total: int


class Tally(Frozen):
    """Asked, admitted and refused by reason, in one unit (people or faces)."""

    asked: int
    admitted: int
    refused: int
    by_reason: dict[str, int]
    minors: Minors


class PurposeExclusions(Frozen):
    """The first admission of one purpose, over one store or all."""

    persons: Tally
    faces: Tally


class StoreExclusions(Frozen):
    """One store's exclusions by purpose, and who withdrew after the first admission."""

    store: str
    purposes: dict[str, PurposeExclusions]
    withdrew_later: Counted


class StoreShare(Frozen):
    """A store's share of the people asked for training, beside its share of those admitted.

    `ratio` is the second over the first: below 1 the store's people count for less than they were. `kept` is
    the share of the store's own people who were admitted; its interval holds for all stores together.
    """

    store: str
    asked: int
    admitted: int
    share_asked: float
    share_admitted: float
    ratio: float
    kept: float
    kept_ci: Interval


class Exclusions(Frozen):
    """Who was left out and why (AI Act 9(9); UK AADC 2).

    The counts at the top are people, over all purposes and stores; `faces` has the same in faces.
    """

    asked: int
    admitted: int
    refused: int
    by_reason: dict[str, int]
    minors: Minors
    faces: Tally
    purposes: dict[str, PurposeExclusions]
    stores: tuple[StoreExclusions, ...]
    shares: tuple[StoreShare, ...] = Field(
        default=(),
        description="What exclusion did to each store's share of the training data.",
    )
    by_group: AskedByGroup | None = Field(
        default=None,
        exclude_if=lambda block: block is None,
        description="What it did to each group's; only there where stores counted at the door.",
    )
    withdrew_later: Counted
    turned_away: dict[str, int] = Field(
        description="People refused a consent record for their age, by rule, as registries count "
        "them."
    )
    notes: tuple[str, ...]


class EmotionScore(Frozen):
    """One emotion, one against the rest: n true faces, and each score with a 95% interval."""

    n: int
    predicted: int
    precision: float | None
    precision_ci: Interval | None
    recall: float | None
    recall_ci: Interval | None
    f1: float | None
    ci: Interval | None = Field(description="The 95% interval of f1.")


class Confusion(Frozen):
    """Faces by true emotion (rows) and by what the model said (columns)."""

    labels: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]


class CalibrationBin(Frozen):
    """Faces whose confidence lies between `low` and `high`: how sure the model was, and how often right.

    Bins that nobody is in are left out. Small ones are `insufficient` and `suppressed` as groups are.
    """

    low: float
    high: float
    status: Status
    n: int | None = None
    persons: int | None = None
    confidence: float | None = None
    accuracy: float | None = None
    ci: Interval | None = Field(default=None, description="The 95% interval of the accuracy.")


class Calibration(Frozen):
    """Whether the model is as sure as it is right.

    `confidence` is the mean probability of what was named, to be held against the accuracy; `error` the
    expected calibration error over ten bins (Guo et al. 2017). `bins` are five, so that more of them hold
    people enough to be shown.
    """

    confidence: float
    error: float
    bins: tuple[CalibrationBin, ...] = ()


class Abstention(Frozen):
    """Faces for which the model chose to name no emotion.

    The scores count what it would have said.
    """

    n: int
    share: float
    ci: Interval
    accuracy_of_answers: float | None


class Performance(Frozen):
    """How well the model tells the emotions apart on held-out faces.

    `calibration` needs probabilities in the predictions, `abstention` a column `abstained`. `chance` is what
    always answering the commonest emotion would reach, and never less than 1 / number of emotions.
    """

    n: int
    persons: int
    accuracy: float
    accuracy_ci: Interval
    accuracy_ci_method: Literal["clopper_pearson", "person_bootstrap", "clopper_pearson_persons"]
    balanced_accuracy: float
    balanced_accuracy_ci: Interval
    f1: dict[str, float | None]
    per_emotion: dict[str, EmotionScore]
    confusion: Confusion
    calibration: Calibration | None
    abstention: Abstention | None
    chance: float
    chance_largest_class: float
    chance_uniform: float
    above_chance: bool


class GroupEmotion(Frozen):
    """One emotion within one group; a hidden or too small cell carries no number."""

    status: Status
    n: int | None = None
    precision: float | None = None
    precision_ci: Interval | None = None
    recall: float | None = None
    recall_ci: Interval | None = None
    f1: float | None = None
    ci: Interval | None = Field(default=None, description="The 95% interval of f1.")
    selection_rate: float | None = Field(
        default=None, description="Share of the group's faces that were said to show it."
    )


class GroupCell(Frozen):
    """One group of one sensitive feature, or of two together (`feature` names both).

    Of two together there is accuracy alone; means over the emotions are not stated where one of these is
    hidden. `insufficient` (fewer people than `min_persons`) keeps n but
    states no score; `suppressed` states nothing at all: the cell could single someone out, or would give
    away one that could.
    """

    feature: str
    crossed: bool = Field(default=False, description="Of two features together.")
    group: str
    status: Status
    n: int | None = None
    persons: int | None = None
    accuracy: float | None = None
    ci: Interval | None = None
    f1: float | None = Field(default=None, description="Mean F1 over the emotions present.")
    f1_ci: Interval | None = None
    balanced_accuracy: float | None = None
    balanced_accuracy_ci: Interval | None = None
    confidence: float | None = None
    calibration_error: float | None = None
    abstained: float | None = None
    reliability: tuple[CalibrationBin, ...] = Field(
        default=(), description="As `performance.calibration.bins`; not of two features together."
    )
    per_emotion: dict[str, GroupEmotion] = Field(default_factory=dict)


class Representation(Frozen):
    """One group's share of the people measured, beside its share among those whom the model is for.

    `ci` holds for all groups of the feature together (Bonferroni). Suppressed where the cell could single
    someone out; `ratio` is share over reference, and null where the reference does not name the group.
    """

    feature: str
    group: str
    status: Status
    persons: int | None = None
    share: float | None = None
    ci: Interval | None = None
    reference: float | None
    ratio: float | None = None


class Gap(Frozen):
    """The largest difference in accuracy between two groups of one feature.

    The interval is adjusted for having looked at `pairs` pairs (Bonferroni). `p` is of a permutation test,
    and `p_adjusted` takes into account that every gap of the report was tested (Holm); `real` says that it
    is at most `group_rules.alpha`.
    """

    feature: str
    crossed: bool = Field(default=False, description="Of two features together.")
    control: str | None = Field(default=None, description="Feature that is held fixed.")
    level: str | None = Field(default=None, description="Where the controlling feature stands.")
    groups_compared: int
    pairs: int
    highest: str | None
    lowest: str | None
    accuracy_gap: float | None
    ci: Interval | None
    p: float | None = None
    p_adjusted: float | None = None
    real: bool


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
