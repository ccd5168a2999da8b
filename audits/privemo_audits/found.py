"""All that is measured of a run, and the checks that judge it: what a report is made of."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .asked import measure_asked
from .askedchecks import shares_checks
from .attempts import measure_attacks
from .cells import measure_groups
from .closing import End, end_of
from .consent_log import read_consent_logs
from .consentchecks import consent_checks
from .excluded import measure_drawn
from .exclusions import measure_exclusions
from .fairness import measure_performance
from .lineage import measure_lineage
from .looks import measure_looks
from .manifests import manifest_faults
from .modelchecks import end_checks, looks_checks, model_checks
from .policy import Policy, controls_of, policy_checks
from .predictions import load_predictions
from .privacy import measure_privacy
from .privacychecks import privacy_checks
from .report import Check, Lineage, Report, Violation
from .report_excluded import DrawnAges
from .report_exclusions import Exclusions
from .report_more import Looks
from .report_performance import Gap, GroupCell, Performance, Representation
from .report_privacy import Privacy
from .representation import measure_representation
from .runfiles import Run

if TYPE_CHECKING:
    from privemo_consent.note import NoteKey


@dataclass(frozen=True)
class Found:
    """What was measured of a run, before anything is judged.

    Attributes:
        drawn: accuracy on drawn people of ages that the rules exclude.
        represented: shares of groups against those that a policy names.
        notes: which groups could not be told of, and why.
        violations: what does not fit in the run's files, each for one of the checks.
        end: what its stores signed at the end.
    """

    looks: Looks | None
    performance: Performance
    groups: list[GroupCell]
    gaps: list[Gap]
    exclusions: Exclusions
    lineage: Lineage
    privacy: Privacy
    drawn: DrawnAges | None
    represented: list[Representation]
    notes: list[str]
    violations: list[Violation]
    end: End


def measure_all(
    run: Run, rules: Policy | None, keys: Iterable[NoteKey], earlier: Report | None
) -> Found:
    """Measure all that the files hold; the first of them that cannot be read is named (`build_report`)."""
    looks = measure_looks(run)
    predictions = load_predictions(run)
    sensitive, labels = run.info.sensitive, run.info.label_names
    performance = measure_performance(predictions, labels)
    controls = () if rules is None else controls_of(rules, sensitive)
    groups, gaps, notes = measure_groups(predictions, sensitive, labels, controls=controls)
    logs = read_consent_logs(run)
    reference = {} if rules is None else rules.representation.reference
    exclusions = measure_exclusions(
        run, [log.turned_away for log in logs.values()], measure_asked(run, reference)
    )
    lineage, breaches, shared = measure_lineage(run, logs, predictions)
    privacy, faults = measure_privacy(run, shared)
    attacked, attempts = measure_attacks(run, keys, earlier)
    end = end_of(run, earlier)
    violations = [*breaches, *faults, *manifest_faults(run), *end.faults]
    return Found(
        looks=looks,
        performance=performance,
        groups=groups,
        gaps=gaps,
        exclusions=exclusions,
        lineage=lineage,
        privacy=privacy.model_copy(update={"attacked": attacked, "attempts": attempts}),
        drawn=measure_drawn(run),
        represented=(
            [] if rules is None else measure_representation(predictions, groups, reference)
        ),
        notes=notes,
        violations=violations,
        end=end,
    )


def checks_of(run: Run, rules: Policy | None, found: Found) -> list[Check]:
    """Judge what was measured: by the rules that hold for every run, and by those of a policy.

    A required check that fails, fails the audit.
    """
    checks = [
        *consent_checks(found.exclusions, found.lineage, found.violations),
        *privacy_checks(run, found.privacy, found.violations),
        *model_checks(run, found.performance, found.violations),
        *end_checks(found.end),
        *looks_checks(found.looks),
        *shares_checks(found.exclusions.by_group),
    ]
    if rules is not None:
        checks += policy_checks(
            rules,
            found.performance,
            found.groups,
            found.gaps,
            found.privacy,
            found.exclusions,
            found.represented,
        )
    return checks
