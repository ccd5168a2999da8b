"""Checks of consent: who was used and by what right, what was kept too long, and that no minor was used."""

from __future__ import annotations

from collections.abc import Sequence

from .checks import first, judge, of_kinds
from .report import Check, Lineage, Violation
from .report_exclusions import Exclusions

__all__ = ["consent_checks"]


def consent_checks(
    exclusions: Exclusions, lineage: Lineage, violations: Sequence[Violation]
) -> list[Check]:
    """Whether everyone who was used, or read, or kept, had agreed to it, and was no minor."""
    return [
        _consent_was_live(lineage, violations),
        _withdrawals(lineage, violations),
        judge(
            "lineage.uses_recorded",
            "Every round that trained recorded whom it used",
            "GDPR 7(1); EU AI Act 12",
            of_kinds(violations, ("uses_not_recorded",)),
            "every trained round of every store has its uses",
        ),
        _logs_are_whole(lineage, violations),
        *_upkeep_checks(lineage, violations),
        _minors(exclusions, violations),
    ]


def _consent_was_live(lineage: Lineage, violations: Sequence[Violation]) -> Check:
    kinds = (
        "no_record",
        "wrong_purpose",
        "no_live_consent",
        "expired",
        "staff",
        "unknown_log_state",
        "foreign_use",
        "read_without_gate",
    )
    return judge(
        "lineage.no_violation",
        "Every face that was used had live consent at that moment",
        "GDPR 7(1); EU AI Act 10(2)",
        of_kinds(violations, kinds),
        f"{lineage.uses:,} uses of {lineage.persons:,} people and "
        f"{lineage.predictions_checked:,} people read for the audit, each looked up in the "
        "consent log of its moment",
    )


def _withdrawals(lineage: Lineage, violations: Sequence[Violation]) -> Check:
    late = lineage.batches_after_withdrawal
    return Check(
        id="lineage.withdrawals_honoured",
        title="Withdrawals acted before the next batch",
        passed=not late and not of_kinds(violations, ("used_after_withdrawal",)),
        required=True,
        evidence=f"{lineage.withdrawals_honoured} of {lineage.withdrawals} withdrawals acted at "
        f"once; {late} batches used someone afterwards",
        clause="GDPR 7(3)",
    )


def _logs_are_whole(lineage: Lineage, violations: Sequence[Violation]) -> Check:
    logs, roots = lineage.consent_logs, of_kinds(violations, ("log_root",))
    faults = {store: facts["fault"] for store, facts in logs.items() if facts["fault"]}
    return Check(
        id="consent_log.verifies",
        title="The consent logs are whole: nothing was changed or removed",
        passed=not faults and not roots,
        required=True,
        evidence=(
            "; ".join(f"{store}: {fault}" for store, fault in sorted(faults.items()))
            or (first(roots) if roots else "")
            or f"{sum(f['entries'] for f in logs.values()):,} entries in {len(logs)} logs verified, "
            "every one under a signed head of its log"
        ),
        clause="GDPR 7(1); RFC 9162; C2SP tlog-checkpoint",
    )


def _upkeep_checks(lineage: Lineage, violations: Sequence[Violation]) -> list[Check]:
    logs = lineage.consent_logs.values()
    return [
        judge(
            "consent.nothing_overdue",
            "Nothing is kept that was due to be destroyed",
            "GDPR 5(1)(e); BIPA 15(a); COPPA 312.10",
            of_kinds(violations, ("overdue",)),
            "nothing was overdue when the run ended",
        ),
        judge(
            "consent.erasures_complete",
            "Whoever asked to be erased is erased",
            "GDPR 17",
            of_kinds(violations, ("erasure_incomplete",)),
            f"{sum(f['erasures'] for f in logs):,} people erased, and none of their keys is left",
        ),
        judge(
            "consent.told_before_reading",
            "People were told before expressions were read",
            "EU AI Act 50(3)",
            of_kinds(violations, ("read_before_told",)),
            "no reading for personalisation came before the notice of it",
        ),
    ]


def _minors(exclusions: Exclusions, violations: Sequence[Violation]) -> Check:
    """A minor has no record, so a use of one shows as a use without a record."""
    unknown = of_kinds(violations, ("no_record",))
    refused = exclusions.minors
    return judge(
        "minors.none_trained",
        "No minor, and nobody of unknown age, was used",
        "EU AI Act 9(9); UK AADC 3, 7, 9, 12",
        unknown,
        f"{refused.attested} people refused as minors by their own answer, {refused.suspected} for "
        f"looking younger than the challenge age, {refused.unknown_age} of unknown age; "
        "only adults have a consent record, and everyone used has one",
    )
