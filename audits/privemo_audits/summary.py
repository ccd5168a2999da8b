"""The summary in plain words; every number with its doubt."""

from __future__ import annotations

from collections.abc import Sequence

from .found import Found
from .report import Check, Lineage
from .report_exclusions import Exclusions
from .report_performance import Gap, GroupCell, Performance
from .report_privacy import Privacy
from .runfiles import Run
from .words import plain_number, reason_words


def make_summary(run: Run, found: Found, checks: Sequence[Check]) -> list[str]:
    """Six to ten sentences that a store manager understands; every number with its doubt."""
    out = [_verdict(checks)]
    if run.info.simulated:
        out.append(
            "All consents in this run are simulated: no real person gave them, so this report "
            "shows how the system behaves, not that anyone agreed."
        )
    out += [
        _who(found.exclusions),
        _minors(found.exclusions),
        _consent(found.lineage),
        _accuracy(found.performance),
        _hardest(found.performance),
        _fairness(found.groups, found.gaps),
        _privacy(found.privacy),
    ]
    if found.privacy.private and found.privacy.noise_source != "os_entropy":
        out.append(
            "The noise of this run can be reproduced from a seed, so this model must not be "
            "released."
        )
    return out


def _verdict(checks: Sequence[Check]) -> str:
    failed = [c for c in checks if c.required and not c.passed]
    required = sum(c.required for c in checks)
    if failed:
        titles = "; ".join(c.title[0].lower() + c.title[1:] for c in failed)
        return (
            f"The audit failed: {len(failed)} of {required} required checks did not hold. "
            f"These should be true and are not: {titles}."
        )
    return f"The audit passed: all {required} required checks hold."


def _who(x: Exclusions) -> str:
    if not x.asked:
        return "Nobody was asked."
    top = next(iter(x.by_reason.items()), None)
    most = f" The commonest reason: {top[1]:,} {reason_words(top[0])}." if top is not None else ""
    return (
        f"Of {x.asked:,} people asked about, {x.admitted:,} were let in and {x.refused:,} "
        f"({x.refused / x.asked:.0%}) were left out.{most}"
    )


def _minors(x: Exclusions) -> str:
    m = x.minors
    if not m.total + m.unknown_age:
        return "Nobody was left out as a minor: check that ages were asked for at all."
    parts = [
        f"{_people(m.attested)} who said they are under 18" if m.attested else "",
        f"{_people(m.suspected)} who looked too young" if m.suspected else "",
        f"{_people(m.unknown_age)} who gave no age" if m.unknown_age else "",
    ]
    said = " and ".join(", ".join(p for p in parts if p).rsplit(", ", 1))
    guess = (
        " An age guessed from a face is an estimate: adults are among those left out."
        if m.suspected
        else ""
    )
    return f"Nobody recorded as a minor, or of unknown age, was used: left out were {said}.{guess}"


def _people(n: int) -> str:
    return "1 person" if n == 1 else f"{n:,} people"


def _consent(lineage: Lineage) -> str:
    if lineage.violations:
        people = "breach" if lineage.violations == 1 else "breaches"
        return (
            f"We looked up {lineage.uses:,} uses of faces in the consent records and elsewhere, "
            f"and found {lineage.violations:,} {people}; each is listed by pseudonym below."
        )
    late = (
        f" All {lineage.withdrawals:,} withdrawals took effect before the next batch."
        if lineage.withdrawals
        else ""
    )
    return (
        f"Each of the {lineage.uses:,} times that somebody's faces were used, their consent was live at "
        f"that moment.{late}"
    )


def _accuracy(p: Performance) -> str:
    low, high = p.accuracy_ci
    better = (
        "clearly better than guessing" if p.above_chance else "not clearly better than guessing"
    )
    return (
        f"On {p.n:,} faces of {p.persons:,} people it had not seen, the model named the right "
        f"emotion {p.accuracy:.0%} of the time (we are 95% sure it is between {low:.0%} and "
        f"{high:.0%}), which is {better} ({p.chance:.0%})."
    )


def _hardest(p: Performance) -> str:
    known = {k: e for k, e in p.per_emotion.items() if e.recall is not None}
    name = min(known, key=lambda k: known[k].recall or 0.0)
    score = known[name]
    low, high = score.recall_ci or (0.0, 1.0)
    return (
        f"It finds “{name}” worst: {score.recall:.0%} of those {score.n:,} faces "
        f"(between {low:.0%} and {high:.0%})."
    )


def _fairness(groups: Sequence[GroupCell], gaps: Sequence[Gap]) -> str:
    small = sum(c.status != "ok" for c in groups)
    tail = f" {small} of {len(groups)} groups are too small to judge." if small else ""
    judged = sorted(
        (g for g in gaps if g.accuracy_gap is not None), key=lambda g: -(g.accuracy_gap or 0.0)
    )
    if not judged:
        return "No two groups are large enough to compare how well it works for each." + tail
    real = [g for g in judged if g.real]
    if not real:
        return (
            "No difference between groups is larger than chance could make; the largest seen is "
            f"{_points(judged[0].accuracy_gap)} points, by {_named(judged[0])}. That does not prove "
            "there is none." + tail
        )
    gap = real[0]
    low, high = gap.ci or (0.0, 1.0)
    told = (
        f"It does not work equally well for everyone: by {_named(gap)}, “{gap.highest}” is "
        f"{_points(gap.accuracy_gap)} points ahead of “{gap.lowest}” "
    )
    if low > 0:
        return told + f"(between {_points(low)} and {_points(high)})." + tail
    # The test takes all groups together and finds more than the interval of its two does.
    return (
        f"{told}in these numbers. Chance alone would hardly make such differences between groups; how far "
        f"apart the two really are is uncertain: up to {_points(high)} points.{tail}"
    )


def _named(gap: Gap) -> str:
    """What a gap is between, as people say it and not as a column is called."""
    return gap.feature.replace("_", " ")


def _points(value: float | None) -> str:
    return f"{100 * (value or 0.0):.0f}"


def _privacy(p: Privacy) -> str:
    if not p.private:
        return (
            "This model was trained without privacy protection: there is no privacy guarantee, "
            "and what it learnt from one person may be found out again."
        )
    if p.epsilon_max_person is None:
        return "The privacy loss is unbounded: there is no privacy guarantee."
    budget = f", against a limit of {p.epsilon_budget:g}" if p.epsilon_budget is not None else ""
    again = p.recomputed["pld"]
    confirmed = (
        "" if again is None else f"; a second, independent calculation says at most {again:.2f}"
    )
    return (
        f"The most that anyone's privacy was touched is epsilon {p.epsilon_max_person:.2f}{budget} "
        f"(smaller is safer; delta {plain_number(p.delta)}){confirmed}.{_found_out(p)}"
    )


def _found_out(p: Privacy) -> str:
    if p.attacked is None:
        return ""
    a = p.attacked
    if a.within:
        return (
            f" In a rehearsal attackers showed an epsilon of {a.epsilon_at_least:.2f} at least, where "
            f"{a.epsilon_claimed:.2f} was calculated: the two do not contradict each other."
        )
    return (
        f" But in a rehearsal attackers showed an epsilon of {a.epsilon_at_least:.2f} at least, where "
        f"{a.epsilon_claimed:.2f} was calculated: something is not as it was accounted."
    )
