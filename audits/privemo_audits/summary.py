"""The summary in plain words, and what the report does not show."""

from __future__ import annotations

from collections.abc import Sequence

from .report import Check, Lineage
from .report_exclusions import Exclusions
from .report_more import Looks
from .report_performance import Gap, GroupCell, Performance
from .report_privacy import Privacy
from .runfiles import Run

REASON_WORDS = {
    "no_record": "had never been asked",
    "not_given": "had not answered yet",
    "refused": "said no",
    "withdrawn": "took their consent back",
    "expired": "had a consent that ran out",
    "wrong_purpose": "had agreed to something else only",
    "minor": "said they are under 18",
    "below_consent_age": "are below the age of consent",
    "unknown_age": "gave no age",
    "suspected_minor": "looked too young",
    "staff": "work or study there",
    "wrong_context": "were in a place where reading emotions is not allowed",
    "notice_changed": "had agreed to an older notice",
    "simulated_in_production": "had a simulated consent only",
    "clock_backwards": "came while the clock was wrong",
    "other_reasons": "had other reasons, each of a few people",
    "registry_unreadable": "came while the consent registry could not be read",
}


def reason_words(reason: str) -> str:
    """A refusal reason in plain words, after "people who ..."."""
    return REASON_WORDS.get(reason, reason.replace("_", " "))


def plain_number(value: float | None) -> str:
    """A small number without an exponent: 0.00001, not 1e-05."""
    return "\N{EN DASH}" if value is None else f"{value:.12f}".rstrip("0").rstrip(".")


def make_summary(
    run: Run,
    exclusions: Exclusions,
    performance: Performance,
    groups: Sequence[GroupCell],
    gaps: Sequence[Gap],
    privacy: Privacy,
    lineage: Lineage,
    checks: Sequence[Check],
) -> list[str]:
    """Six to ten sentences that a store manager understands; every number with its doubt."""
    out = [_verdict(checks)]
    if run.info.simulated:
        out.append(
            "All consents in this run are simulated: no real person gave them, so this report "
            "shows how the system behaves, not that anyone agreed."
        )
    out += [
        _who(exclusions),
        _minors(exclusions),
        _consent(lineage),
        _accuracy(performance),
        _hardest(performance),
        _fairness(groups, gaps),
        _privacy(privacy),
    ]
    if privacy.private and privacy.noise_source != "os_entropy":
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
            f"{_points(judged[0].accuracy_gap)} points, by {judged[0].feature}. That does not prove "
            "there is none." + tail
        )
    gap = real[0]
    low, high = gap.ci or (0.0, 1.0)
    told = (
        f"It does not work equally well for everyone: by {gap.feature}, “{gap.highest}” is "
        f"{_points(gap.accuracy_gap)} points ahead of “{gap.lowest}” "
    )
    if low > 0:
        return told + f"(between {_points(low)} and {_points(high)})." + tail
    # The test takes all groups together and finds more than the interval of its two does.
    return (
        f"{told}in these numbers. Chance alone would hardly make such differences between groups; how far "
        f"apart the two really are is uncertain: up to {_points(high)} points.{tail}"
    )


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


def _of_attacks(privacy: Privacy) -> str:
    if privacy.attempts is not None and privacy.attacked is None:
        return (
            "Epsilon is an upper bound from the mechanism as recorded; attacks were begun, but nothing "
            "of what they found is there, so no lower bound is stated."
        )
    if privacy.attacked is None:
        return (
            "Epsilon is an upper bound from the mechanism as recorded; no attack was made "
            "(`privemo attack`), so no lower bound is stated."
        )
    if privacy.attacked.on_model is not None:
        return (
            "Attacks were made on the mechanism, rehearsed with people who do not exist, and on the very "
            "model with the drawn people it was made of. They bound from below what such attacks find; a "
            "better one may find more. Bounds from single steps assume that noise is Gaussian."
        )
    return (
        "Attacks were made on the mechanism, rehearsed with people who do not exist, and not on the model of "
        "this run or on anybody in it. They bound from below what such attacks find; a better one may find "
        "more. Bounds from single steps assume that noise is Gaussian."
    )


def _of_looks(looks: Looks | None) -> str:
    if looks is None:
        return "Nobody asked where in a face the model looks (`privemo explain`), so that is not stated."
    return (
        "Where the model looks was measured on people who do not exist. It says which parts of a picture "
        "move its answer, and not why; another method may weigh them differently."
    )


def make_limits(
    run: Run,
    privacy: Privacy,
    lineage: Lineage,
    exclusions: Exclusions,
    looks: Looks | None,
    notes: Sequence[str],
) -> list[str]:
    """What this report does not show."""
    logs = lineage.consent_logs.values()
    erased, uses = sum(f["erasures"] for f in logs), sum(f["erased_uses"] for f in logs)
    out = []
    if run.info.simulated:
        out.append(
            "SIMULATED CONSENTS. Every consent in this run was written by a program. Nothing "
            "here is evidence that a real person agreed to anything."
        )
    out += [
        (
            "Ages estimated from a face are estimates: adults are refused for looking young, and "
            "nobody can promise that no minor looks older than the challenge age. Only the "
            "records can be checked."
        ),
        (
            "Accuracy holds for faces like the held-out ones. It says how often the label was "
            "named, not what anybody felt."
        ),
        (
            "People who did not agree to the fairness audit are not measured; the model may work "
            "differently for them."
        ),
        (
            "Groups are as the data records them. People are compared by one feature and by two "
            "together; what only three together would show is not looked for."
        ),
        (
            "Withdrawal and erasure stop what is read and remove what is kept. What a model learned of "
            "somebody before stays in it; epsilon bounds it."
        ),
        (
            "Lineage holds the uses that stores recorded against their consent logs. A face used "
            "without being recorded would not show, except where a whole round has no record."
        ),
        (
            "People are told apart by pseudonym. A person who goes by different pseudonyms in "
            "two stores counts as two, and their privacy loss would add up."
        ),
        _of_attacks(privacy),
        _of_looks(looks),
    ]
    if not privacy.private:
        out.append("There is no privacy guarantee: the run was not private.")
    if erased:
        who = "1 person was" if erased == 1 else f"{erased:,} people were"
        out.append(
            f"{who} erased since; {uses:,} recorded uses are theirs, and cannot be looked up."
        )
    return [*out, *notes]
