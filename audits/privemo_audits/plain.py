"""The report for somebody who shops there, or whose shop it is: words of every day, numbers out of a hundred.

Nothing here is computed anew; every number is the report's. A test holds the page free of the words of the
field.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from .gallery import single_features
from .report import Check, Report
from .report_asked import AskedGroup
from .report_performance import Gap, GroupCell
from .report_privacy import Privacy
from .words import group, of_a_hundred

__all__ = [
    "FINDINGS",
    "MISUSED",
    "Feature",
    "features",
    "findings",
    "how_sure",
    "privacy_words",
    "shares",
]

FINDINGS: dict[str, tuple[str, str]] = {
    "lineage.no_violation": (
        "Every picture that was used was of somebody who had agreed to it, at that very moment.",
        "Pictures were used of people who had not agreed to it at that moment.",
    ),
    "lineage.withdrawals_honoured": (
        "Whoever took their agreement back was not used again.",
        "Somebody took their agreement back and was used again all the same.",
    ),
    "lineage.uses_recorded": (
        "It was always written down whose pictures were used.",
        "Pictures were used, and nobody wrote down whose.",
    ),
    "consent_log.verifies": (
        "The record of who agreed to what is whole: nothing in it was changed or taken out.",
        "The record of who agreed to what was changed, or something was taken out of it.",
    ),
    "consent.nothing_overdue": (
        "Nothing was kept longer than people were told.",
        "Something was kept longer than people were told.",
    ),
    "consent.erasures_complete": (
        "Whoever asked to be deleted is deleted.",
        "Somebody asked to be deleted and is not.",
    ),
    "consent.told_before_reading": (
        "People were told that faces are read before any was.",
        "Faces were read before people were told so.",
    ),
    "minors.none_trained": (
        "Nobody recorded as a child was used, and nobody whose age is not known.",
        "Somebody was used of whom nothing shows that they are grown up.",
    ),
    "exclusions.shares_kept": (
        "Leaving people out made no group of people smaller than luck would.",
        "Leaving people out made a group of people smaller among those whom it learned from.",
    ),
    "privacy.within_budget": (
        "The limit on what may be found out about one person was kept.",
        "More may be found out about one person than the limit allows.",
    ),
    "privacy.recomputed_agrees": (
        "What may be found out about one person was worked out in two ways; neither says more than claimed.",
        "More may be found out about one person than was claimed: a second reckoning says so.",
    ),
    "ledger.covers_updates": (
        "Whatever left a shop was entered in the shop's privacy account first.",
        "Something left a shop that its privacy account does not hold.",
    ),
    "privacy.store_sets": (
        "Whoever was used in several shops is counted in each of them.",
        "Somebody was used in more shops than they are counted in.",
    ),
    "ledger.chain": (
        "The shops' privacy accounts are whole: no line was changed or taken out.",
        "A shop's privacy account was changed, or lines are missing.",
    ),
    "privacy.attack_within_claim": (
        "Attackers in a rehearsal found out no more than was promised.",
        "Attackers in a rehearsal found out more than was promised.",
    ),
    "privacy.attack_conclusive": (
        "The attack was sharp enough to find something, had there been something.",
        "The attack was too weak: that it found nothing shows nothing.",
    ),
    "privacy.attacks_whole": (
        "Every rehearsed attack stands in the records as it was made; none was changed or taken out.",
        "A record of a rehearsed attack was changed, or taken out.",
    ),
    "privacy.attacks_signed": (
        "Somebody whose mark is known vouches that no record of a rehearsed attack is missing.",
        "Nobody whose mark is known vouches that no record of a rehearsed attack is missing.",
    ),
    "privacy.attacks_finished": (
        "Every rehearsed attack that was begun was brought to its end.",
        (
            "A rehearsed attack was begun and stopped: nobody knows what it would have found. "
            "The others count in full."
        ),
    ),
    "privacy.held_out_within_budget": (
        "Whoever the program was tested with gave away no more than the limit allows.",
        "What was told of those who were tested may tell more about one of them than the limit allows.",
    ),
    "privacy.noise_unpredictable": (
        "Nobody can undo the protection afterwards.",
        "This was a test run: whoever knows its secret number can undo the protection. Do not give it away.",
    ),
    "data.held_out": (
        "The program was tested with people whom it had never seen.",
        "The program was tested with people whom it had learned from, so it looks better than it is.",
    ),
    "model.provenance": (
        "The program that was tested is the one that was taught.",
        "The program is not the one that the records say was taught.",
    ),
    "manifests.verify": (
        "Each shop signed what it did, and the records fit together.",
        "The shops' signed records do not fit together, or are not theirs.",
    ),
    "manifests.end_signed": (
        "Each shop that took part signed the finished program.",
        "Not every shop that took part signed the finished program.",
    ),
    "run.complete": (
        "The teaching was finished as planned.",
        "The teaching stopped before it was finished as planned.",
    ),
    "accuracy.above_chance": (
        "The program does better than guessing.",
        "The program may do no better than guessing.",
    ),
    "looks.of_this_model": (
        "What was looked into, to see which parts of a face count, is this very program.",
        "Somebody looked into another program than this one, to see which parts of a face count.",
    ),
    "policy.accuracy": (
        "It is right as often as whoever answers for it asked for.",
        "It is right less often than whoever answers for it asked for.",
    ),
    "policy.f1": (
        "It tells each expression apart as well as was asked for.",
        "There is an expression that it tells apart less well than was asked for.",
    ),
    "policy.calibration": (
        "It is about as sure of itself as it is right.",
        "It is more, or less, sure of itself than it is right.",
    ),
    "policy.group_gap": (
        "No group of people is shown to be served worse than was allowed.",
        "A group of people is served worse than was allowed.",
    ),
    "policy.group_accuracy": (
        "No group of people is shown to be served less well than was asked for.",
        "It works less well for a group of people than was asked for.",
    ),
    "policy.epsilon": (
        "No more can be found out about one person than was allowed.",
        "More can be found out about one person than was allowed.",
    ),
    "policy.delta": (
        "The promise of privacy may fail as seldom as was asked for.",
        "The promise of privacy may fail more often than was asked for.",
    ),
    "policy.exclusions": (
        "Not more people were left out than was allowed.",
        "More people were left out than was allowed.",
    ),
    "policy.representation": (
        "No group is shown to be missing among the people it was tested with.",
        "A group is missing, or too small, among the people it was tested with.",
    ),
    "policy.exclusions_by_group": (
        "No group of people was left out so much more than others that it counts for less than was allowed.",
        "A group of people was left out so much more than others that it counts for less than was allowed.",
    ),
    "policy.representation_trained": (
        "No group is shown to be missing among the people it learned from.",
        "A group is missing, or too small, among the people it learned from, or nobody can tell.",
    ),
}
"""Every check in words of every day: what holds, and what is wrong where it does not."""


MISUSED = ("lineage.no_violation", "lineage.withdrawals_honoured", "minors.none_trained")
"""Checks that fail where pictures were used that should not have been."""


class Feature(NamedTuple):
    """One way of telling people apart: its groups, and whether it works less well for one of them."""

    name: str
    cells: Sequence[GroupCell]
    gap: Gap | None
    told: str


def findings(checks: Iterable[Check], *, passed: bool, required: bool | None = None) -> list[str]:
    """What holds, or what is wrong, of the checks that decide (`required`) or of the others."""
    return [
        FINDINGS.get(c.id, (c.title, c.title))[0 if passed else 1]
        for c in checks
        if c.passed == passed and required in (None, c.required)
    ]


def features(report: Report) -> list[Feature]:
    """For whom it works less well, by each thing that is recorded of people."""
    gaps = {g.feature: g for g in report.gaps if g.control is None and not g.crossed}
    return [
        Feature(
            "shop" if name == "store" else group(name),
            cells,
            gaps.get(name),
            _told(gaps.get(name), cells),
        )
        for name, cells in single_features(report).items()
    ]


def shares(report: Report) -> list[tuple[str, str, list[AskedGroup]]]:
    """By each thing that was counted: its name, what leaving people out did, and its groups."""
    asked = report.exclusions.by_group
    if asked is None:
        return []
    by_feature: dict[str, list[AskedGroup]] = {}
    for g in asked.groups:
        if g.share_admitted is not None or g.status != "ok":
            by_feature.setdefault(g.feature, []).append(g)
    return [
        (group(name), _shifted(groups, name in asked.judged), groups)
        for name, groups in by_feature.items()
    ]


def _shifted(groups: Sequence[AskedGroup], judged: bool) -> str:
    if not judged:
        return "Whoever is too young is left out by the rules, so older people count for more."
    if all(g.ratio_ci is None for g in groups):
        return "Too few people to tell without picking somebody out."
    fewer = [group(g.group) for g in groups if g.ratio_ci is not None and g.ratio_ci[1] < 1]
    if fewer:
        named = " and ".join(f"“{name}”" for name in fewer)
        return f"Leaving people out made {named} smaller, and by more than luck would."
    return "It changed no group by more than luck would, which does not prove that it changed none."


def _told(gap: Gap | None, cells: Sequence[GroupCell]) -> str:
    if gap is None or gap.accuracy_gap is None:
        return "Too few people to compare."
    right = {c.group: of_a_hundred(c.accuracy) for c in cells}
    best, worst = right.get(gap.highest or "", ""), right.get(gap.lowest or "", "")
    high, low = group(gap.highest or ""), group(gap.lowest or "")
    seen = f"It names {best} pictures rightly for “{high}”, and {worst} for “{low}”. "
    if gap.real:
        return f"It works less well for “{low}”. {seen}That is more than luck would make."
    return f"{seen}Luck alone could make that difference, which does not prove that there is none."


def how_sure(epsilon: float, *, at_least: bool = False) -> str:
    """How sure somebody can become who bet evenly before: by e^epsilon to 1.

    Args:
        epsilon: of the promise, or of an attack.
        at_least: round down, as what was reached; up by default, as what is promised.
    """
    share = 1 / (1 + math.exp(-epsilon))
    if share > 0.9999:
        return "all but certain"
    digits = 2 if share >= 0.99 else 0
    rounded = math.floor if at_least else math.ceil
    return f"{rounded(share * 10 ** (2 + digits)) / 10**digits:.{digits}f}% sure"


_UNPROTECTED = (
    "No protection is built into this program, or none that can be reckoned. What it learned from one "
    "person's pictures may be found out again."
)
_STRANGER = (
    "The program was taught in a way that hides each single person behind chance. This is what that is "
    "worth. Say a stranger knows everybody else's pictures, and would bet evenly on whether yours were among "
    "those that it learned from. However cleverly they study the program, the most that they can become is"
)
_SCALE = "At 50% they would know nothing; at 100%, everything."


def privacy_words(v: Privacy) -> list[str]:
    """What could be found out about one person, in sentences."""
    if not v.private or v.epsilon_max_person is None:
        return [_UNPROTECTED]
    epsilon = v.epsilon_max_person
    out = [f"{_STRANGER} {how_sure(epsilon)} of it. {_SCALE}", _how_strong(epsilon)]
    if v.delta:
        out.append(f"The promise may fail, with a chance of 1 in {1 / v.delta:,.0f} at most.")
    if v.epsilon_budget is not None:
        kept = "was kept" if epsilon <= v.epsilon_budget else "was not kept"
        out.append(f"The limit that was set beforehand, {how_sure(v.epsilon_budget)}, {kept}.")
    return [*out, _attacked(v)]


def _how_strong(epsilon: float) -> str:
    share = 1 / (1 + math.exp(-epsilon))
    if share <= 0.75:
        return "That is a strong promise: a stranger stays in doubt, whatever they do."
    if share <= 0.95:
        return "That is a middling promise: a stranger may come to a good guess and no further."
    return (
        "That is a weak promise: at the very worst it leaves a stranger hardly any doubt. The worst takes "
        "somebody who knows all others and sees every step; most who could look at the program know far less."
    )


def _attacked(v: Privacy) -> str:
    if v.attacked is None:
        return "Nobody has tried yet to break this promise."
    a = v.attacked
    return (
        "Attackers tried to break it, in a rehearsal with made-up people. The best of them could become "
        f"{how_sure(a.epsilon_at_least, at_least=True)}, where the promise was "
        f"{how_sure(a.epsilon_claimed)} at most."
    )
