"""What an audit is held against besides the promises of the run itself: thresholds that somebody answers for.

A policy is a file of its own (TOML), written before the figures are known and kept with the report, which
holds its content and its hash. Whatever it does not name is not asked. A threshold that is not met fails the
audit.
"""

from __future__ import annotations

import hashlib
import math
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError, model_validator

from .askedchecks import policy_shares
from .errors import PolicyError
from .frozen import Frozen
from .report import Check
from .report_exclusions import Exclusions
from .report_performance import Gap, GroupCell, Performance, Representation
from .report_privacy import Privacy

__all__ = ["Policy", "controls_of", "load_policy", "policy_checks"]

SCHEMA = "privemo.policy/1"

Share = Annotated[float, Field(gt=0, le=1)]

ROUNDED = 0.01
"""Shares of a published table are rounded, and need not add up to 1 to the last digit."""


class PerformanceRules(Frozen):
    """For everyone together.

    Attributes:
        least_accuracy: share of faces that are read rightly.
        least_f1: of each emotion.
        most_calibration_error: see `privemo_audits.calibration`.
    """

    least_accuracy: float | None = Field(None, ge=0, le=1)
    least_f1: float | None = Field(None, ge=0, le=1)
    most_calibration_error: float | None = Field(None, ge=0, le=1)


class FairnessRules(Frozen):
    """Between groups.

    Attributes:
        most_gap: largest difference in accuracy between two groups; one that chance could have made
            (`Gap.real` is false) does not count, however large.
        least_group_accuracy: of each group that is large enough to judge. A group fails whose whole interval
            lies below.
        controls: columns to hold fixed: gaps are also looked for where each of their values stands.
    """

    most_gap: float | None = Field(None, ge=0, le=1)
    least_group_accuracy: float | None = Field(None, ge=0, le=1)
    controls: tuple[str, ...] = ()


class PrivacyRules(Frozen):
    """For the person most exposed.

    Attributes:
        most_epsilon: whatever budget the run had.
        most_delta: likewise.
    """

    most_epsilon: float | None = Field(None, gt=0)
    most_delta: float | None = Field(None, gt=0, lt=1)


class ExclusionRules(Frozen):
    """Who was left out.

    Attributes:
        most_refused: share of the people asked who were not admitted.
        least_share_kept: of each group's share of the people trained on, over its share of those asked. A
            group fails whose whole interval lies below. Ages are not judged, for the rules go by them.
    """

    most_refused: float | None = Field(None, ge=0, le=1)
    least_share_kept: float | None = Field(None, gt=0, le=1)


class RepresentationRules(Frozen):
    """Who was measured and who was trained on, against whom the model is for.

    Attributes:
        reference: by feature the share of each of its groups among those whom the model is for; together 1.
        least_ratio: of a group's share over that of the reference. A group fails whose whole interval lies
            below.
    """

    reference: dict[str, dict[str, Share]] = Field(default_factory=dict)
    least_ratio: float | None = Field(None, gt=0, le=1)
    least_trained_ratio: float | None = Field(None, gt=0, le=1)

    @model_validator(mode="after")
    def _whole(self) -> RepresentationRules:
        for feature, shares in self.reference.items():
            total = math.fsum(shares.values())
            if abs(total - 1) > ROUNDED:
                raise ValueError(f"the shares of {feature} add up to {total:g}, and 1 is due")
        asked = {"least_ratio": self.least_ratio, "least_trained_ratio": self.least_trained_ratio}
        if not self.reference and (named := [name for name, least in asked.items() if least]):
            raise ValueError(f"{named[0]} is of a reference: add [representation.reference.COLUMN]")
        return self


class Policy(Frozen):
    """Everything that a report is held against."""

    schema_: str = Field(SCHEMA, alias="schema", pattern=f"^{SCHEMA}$")
    performance: PerformanceRules = PerformanceRules()
    fairness: FairnessRules = FairnessRules()
    privacy: PrivacyRules = PrivacyRules()
    exclusions: ExclusionRules = ExclusionRules()
    representation: RepresentationRules = RepresentationRules()


def load_policy(path: Path | str) -> tuple[Policy, str]:
    """Read a policy.

    Returns:
        The policy, and the SHA-256 of the file, hex.

    Raises:
        PolicyError: the file cannot be read, is no TOML, or asks for what there is not.
    """
    try:
        raw = Path(path).read_bytes()
        content: dict[str, Any] = tomllib.loads(raw.decode())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise PolicyError(f"{path} cannot be read ({why})", "A policy is a TOML file.") from error
    if "schema" not in content:
        raise PolicyError(f"{path} names no schema", f'Begin it with: schema = "{SCHEMA}"')
    try:
        return Policy.model_validate(content), hashlib.sha256(raw).hexdigest()
    except ValidationError as error:
        told = "; ".join(_wrong(e["loc"], e["type"], e["msg"], e["input"]) for e in error.errors())
        raise PolicyError(f"{path}: {told}", "Mend the policy.") from error


def _wrong(where: tuple[int | str, ...], kind: str, what: str, given: object) -> str:
    """What is wrong with one value of a policy; for a name that there is not, those that there are."""
    named = ".".join(map(str, where))
    if kind != "extra_forbidden":
        return f"{named}: {what} (got {given!r})"
    fields = Policy.model_fields
    for part in where[:-1]:  # only rules, which are models of their own, forbid names
        fields = type(fields[str(part)].default).model_fields
    known = sorted(field.alias or name for name, field in fields.items())
    return f"{named} is no rule; there are: {', '.join(known)}"


def controls_of(policy: Policy, features: Sequence[str]) -> tuple[str, ...]:
    """The columns that a policy holds fixed.

    Raises:
        PolicyError: the predictions have no such column.
    """
    known = (*features, "store")
    if unknown := [name for name in policy.fairness.controls if name not in known]:
        raise PolicyError(
            f"fairness.controls names {', '.join(unknown)}, and the predictions have {', '.join(known)}",
            "Name one of these, or run with --sensitive and that column.",
        )
    return policy.fairness.controls


def policy_checks(
    policy: Policy,
    performance: Performance,
    groups: Sequence[GroupCell],
    gaps: Sequence[Gap],
    privacy: Privacy,
    exclusions: Exclusions,
    representation: Sequence[Representation] = (),
) -> list[Check]:
    """A required check for each rule of a policy."""
    return [
        *_performance(policy.performance, performance),
        *_fairness(policy.fairness, groups, gaps),
        *_privacy(policy.privacy, privacy),
        *_exclusions(policy.exclusions, exclusions),
        *_representation(policy.representation, representation),
        *policy_shares(
            exclusions.by_group,
            least_kept=policy.exclusions.least_share_kept,
            least_trained=policy.representation.least_trained_ratio,
        ),
    ]


def _check(name: str, title: str, clause: str, passed: bool, evidence: str) -> Check:
    return Check(
        id=name,
        title=title,
        passed=passed,
        required=True,
        evidence=evidence,
        clause=clause,
    )


def _performance(rules: PerformanceRules, p: Performance) -> Iterator[Check]:
    clause = "EU AI Act 15(1), 15(3)"
    if (least := rules.least_accuracy) is not None:
        low, high = p.accuracy_ci
        told = (
            f"accuracy {p.accuracy:.1%} ({low:.1%} to {high:.1%}); the policy asks for {least:.1%}"
        )
        title = "The model is as accurate as the policy asks"
        yield _check("policy.accuracy", title, clause, p.accuracy >= least, told)
    if (least := rules.least_f1) is not None:
        scores = {name: 0.0 if f1 is None else f1 for name, f1 in p.f1.items()}
        worst = min(scores, key=lambda name: scores[name])
        told = f"the lowest F1 is {scores[worst]:.2f}, of {worst}; the policy asks for {least:.2f}"
        title = "Each emotion is told apart as well as the policy asks"
        yield _check("policy.f1", title, clause, scores[worst] >= least, told)
    if (most := rules.most_calibration_error) is not None:
        title = "The model is as sure as it is right"
        if p.calibration is None:
            told = "the predictions hold no probabilities, so nobody knows how sure the model was"
            yield _check("policy.calibration", title, clause, False, told)
        else:
            told = (
                f"expected calibration error {p.calibration.error:.3f} (mean confidence "
                f"{p.calibration.confidence:.1%}, accuracy {p.accuracy:.1%}); the policy allows {most:.3f}"
            )
            yield _check("policy.calibration", title, clause, p.calibration.error <= most, told)


def _fairness(
    rules: FairnessRules, groups: Sequence[GroupCell], gaps: Sequence[Gap]
) -> Iterator[Check]:
    clause = "EU AI Act 10(2)(f)-(g), 13(3)(b)"
    if (most := rules.most_gap) is not None:
        tested = [gap for gap in gaps if gap.accuracy_gap is not None]
        over = [g for g in tested if g.real and (g.accuracy_gap or 0) > most]
        title = "No group is shown to be further behind than the policy allows"
        told = f"{len(tested)} largest gaps tested, none both more than chance and over {most:.1%}"
        if tested:
            widest = max(tested, key=lambda g: g.accuracy_gap or 0.0)
            told += f"; the widest: {_gap_words(widest)}"
        else:
            told = "no two groups were large enough to compare"
        if over:
            told = "; ".join(map(_gap_words, over)) + f"; the policy allows {most:.1%}"
        yield _check("policy.group_gap", title, clause, not over, told)
    if (least := rules.least_group_accuracy) is not None:
        judged = [c for c in groups if c.ci is not None]
        below = [c for c in judged if c.ci is not None and c.ci[1] < least]
        title = "The model works for each group as well as the policy asks"
        told = f"of {len(judged)} groups none is surely below {least:.1%}"
        if below:
            named = (f"{c.feature} “{c.group}”: {c.accuracy:.1%}" for c in below)
            told = "; ".join(named) + f"; the policy asks for {least:.1%}"
        yield _check("policy.group_accuracy", title, clause, not below, told)


def _gap_words(gap: Gap) -> str:
    where = f", where {gap.control} is “{gap.level}”" if gap.control else ""
    return (
        f"by {gap.feature}{where} “{gap.highest}” is {100 * (gap.accuracy_gap or 0):.1f} points ahead of "
        f"“{gap.lowest}” (p {gap.p_adjusted:.3f})"
    )


def _privacy(rules: PrivacyRules, p: Privacy) -> Iterator[Check]:
    clause = "GDPR 5(1)(c), 35(7)"
    if (most := rules.most_epsilon) is not None:
        spent = p.epsilon_max_person
        told = "there is no bound" if spent is None else f"epsilon {spent:.2f}"
        title = "Nobody lost more privacy than the policy allows"
        passed = spent is not None and spent <= most
        yield _check("policy.epsilon", title, clause, passed, f"{told}; the policy allows {most:g}")
    if (most := rules.most_delta) is not None:
        told = "no delta is stated" if p.delta is None else f"delta {p.delta:g}"
        title = "The bound may fail as seldom as the policy asks"
        passed = p.delta is not None and p.delta <= most
        yield _check("policy.delta", title, clause, passed, f"{told}; the policy allows {most:g}")


def _exclusions(rules: ExclusionRules, e: Exclusions) -> Iterator[Check]:
    if (most := rules.most_refused) is not None:
        share = e.refused / e.asked if e.asked else 0.0
        told = f"{e.refused:,} of {e.asked:,} people were refused ({share:.1%}); the policy allows {most:.1%}"
        title = "Not more people were left out than the policy allows"
        yield _check("policy.exclusions", title, "EU AI Act 9(9), 10(3)", share <= most, told)


def _representation(
    rules: RepresentationRules, groups: Sequence[Representation]
) -> Iterator[Check]:
    if (least := rules.least_ratio) is None:
        return
    named = [g for g in groups if g.reference is not None]
    judged = [(g, g.reference, g.ci) for g in named if g.reference and g.ci is not None]
    few = [(g, meant) for g, meant, ci in judged if ci[1] < least * meant]
    title = "No group is shown to be under-represented among the people measured"
    told = f"of {len(judged)} groups none is surely under {least:.0%} of its share in the reference"
    blind = sorted({g.feature for g in named} - {g.feature for g, _, _ in judged})
    if blind:
        told = f"no share of {', '.join(blind)} can be shown without singling someone out: none can be judged"
    elif judged:
        lowest, meant, _ = min(judged, key=lambda each: each[0].ratio or 0.0)
        told += f"; the lowest, {_share_words(lowest, meant)}, may be chance"
    if len(named) > len(judged):
        told += f"; {len(named) - len(judged)} are too small to show"
    if few:
        told = "; ".join(_share_words(g, meant) for g, meant in few)
        told += f"; the policy asks for {least:.0%} of that"
    passed = not few and not blind
    yield _check("policy.representation", title, "EU AI Act 10(2)(f)-(g), 10(3)", passed, told)


def _share_words(g: Representation, meant: float) -> str:
    return (
        f"{g.feature} “{g.group}”: {g.share:.1%} of the people measured, {meant:.1%} of those whom the model "
        "is for"
    )
