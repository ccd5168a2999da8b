"""What exclusion did to shares of groups, judged: by chance alone, and by what a policy asks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from .report import Check
from .report_asked import AskedByGroup, AskedGroup

__all__ = ["policy_shares", "shares_checks"]

_CLAUSE = "EU AI Act 10(2)(f)-(g), 10(3)"
_NOBODY = "no store counted whom it asked by look (asked.json): nobody can tell. Runs with --sensitive count"


def shares_checks(by_group: AskedByGroup | None) -> list[Check]:
    """Whether exclusion made a group smaller by more than chance; nothing where nobody counted."""
    if by_group is None or not by_group.judged:
        return []
    groups = _judged(by_group)
    fell = [g for g in groups if g.ratio_ci is not None and g.ratio_ci[1] < 1]
    told = f"of {len(groups)} groups none lost a part of its share by more than chance would make"
    if not groups:
        told = "no group can be shown without singling someone out: none can be judged"
    if fell:
        told = "; ".join(map(_moved, fell))
    return [
        Check(
            id="exclusions.shares_kept",
            title="Exclusion made no group of people smaller among those trained on",
            passed=bool(groups) and not fell,
            required=False,
            evidence=told + _of_ages(by_group),
            clause=_CLAUSE,
        )
    ]


def policy_shares(
    by_group: AskedByGroup | None, *, least_kept: float | None, least_trained: float | None
) -> Iterator[Check]:
    """A required check for each of two rules.

    Args:
        by_group: what stores counted.
        least_kept: of a group's share of the admitted, over its share of the asked.
        least_trained: of its share of the admitted, over that of the reference.
    """
    if least_kept is not None:
        passed, told = _kept(by_group, least_kept)
        title = "Exclusion is not shown to have made a group smaller than the policy allows"
        yield _check("policy.exclusions_by_group", title, passed, told)
    if least_trained is not None:
        passed, told = _trained(by_group, least_trained)
        title = "No group is shown to be under-represented among the people trained on"
        yield _check("policy.representation_trained", title, passed, told)


def _check(name: str, title: str, passed: bool, told: str) -> Check:
    return Check(id=name, title=title, passed=passed, required=True, evidence=told, clause=_CLAUSE)


def _kept(by_group: AskedByGroup | None, least: float) -> tuple[bool, str]:
    groups = _judged(by_group)
    if by_group is None or not groups:
        return False, _NOBODY if by_group is None else _blind(by_group, by_group.judged)
    few = [g for g in groups if g.ratio_ci is not None and g.ratio_ci[1] < least]
    blind = _unseen(by_group.judged, groups)
    told = f"of {len(groups)} groups none surely kept less than {least:.0%} of its share"
    if few:
        told = "; ".join(map(_moved, few)) + f"; the policy asks for {least:.0%}"
    elif blind:
        told = _blind(by_group, blind)
    return not few and not blind, told + _of_ages(by_group)


def _trained(by_group: AskedByGroup | None, least: float) -> tuple[bool, str]:
    if by_group is None:
        return False, _NOBODY
    named = [g for g in by_group.groups if g.reference is not None]
    judged = [g for g in named if g.share_admitted_ci is not None]
    few = [
        g for g in judged
        if g.share_admitted_ci is not None and g.share_admitted_ci[1] < least * (g.reference or 0)
    ]  # fmt: skip
    blind = _unseen(sorted({g.feature for g in named}), judged)
    told = f"of {len(judged)} groups none is surely under {least:.0%} of its share in the reference"
    if not named:
        told = "no column that the reference names was counted when people were asked"
    elif few:
        told = "; ".join(map(_short_of, few)) + f"; the policy asks for {least:.0%} of that"
    elif blind:
        told = _blind(by_group, blind)
    elif len(named) > len(judged):
        told += f"; {len(named) - len(judged)} are too small to show"
    return bool(named) and not few and not blind, told


def _judged(by_group: AskedByGroup | None) -> list[AskedGroup]:
    if by_group is None:
        return []
    return [g for g in by_group.groups if g.feature in by_group.judged and g.ratio_ci is not None]


def _unseen(features: Sequence[str], groups: Sequence[AskedGroup]) -> list[str]:
    return [f for f in features if f not in {g.feature for g in groups}]


def _blind(by_group: AskedByGroup, features: Sequence[str]) -> str:
    what = ", ".join(features) or "any column but age"
    return f"no share of {what} can be shown without singling someone out: none can be judged"


def _moved(g: AskedGroup) -> str:
    return (
        f"{g.feature} “{g.group}”: {g.share_asked:.1%} of the people asked, {g.share_admitted:.1%} of those "
        f"admitted"
    )


def _short_of(g: AskedGroup) -> str:
    return (
        f"{g.feature} “{g.group}”: {g.share_admitted:.1%} of the people trained on, {g.reference:.1%} of "
        "those whom the model is for"
    )


def _of_ages(by_group: AskedByGroup) -> str:
    ages = list(
        dict.fromkeys(g.feature for g in by_group.groups if g.feature not in by_group.judged)
    )
    return f"; {', '.join(ages)} is not judged: the rules go by age" if ages else ""
