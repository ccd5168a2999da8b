"""The largest gap in accuracy between groups: how large, how sure, and whether it is more than chance."""

from __future__ import annotations

from collections.abc import Sequence

from . import intervals as iv
from .permutation import gap_p_value, holm
from .report_performance import Gap

__all__ = ["Judged", "adjusted", "gap_of"]

Judged = dict[str, iv.Sample]
"""Groups that are shown and large enough to judge, with their people."""


def gap_of(
    feature: str,
    judged: Judged,
    *,
    crossed: bool = False,
    control: str | None = None,
    level: str | None = None,
) -> Gap:
    """The largest accuracy gap between groups, with its interval and the p-value of its test.

    Args:
        feature: what the groups are groups of.
        judged: the groups.
        crossed: of two features together.
        control: feature that is held fixed, if any.
        level: where it stands.

    Returns:
        The gap, as if it had been the only one looked at; `adjusted` puts that right.
    """
    groups = len(judged)
    pairs = groups * (groups - 1) // 2
    where = {
        "feature": feature,
        "crossed": crossed,
        "control": control,
        "level": level,
        "groups_compared": groups,
    }
    if not pairs:
        nothing = dict.fromkeys(("highest", "lowest", "accuracy_gap", "ci"))
        return Gap(**where, pairs=0, **nothing, real=False)
    known = {group: sample.accuracy for group, sample in judged.items()}
    high = max(known, key=lambda g: known[g])
    low = min(known, key=lambda g: known[g])
    alpha = iv.ALPHA / pairs  # the pair was picked for being extreme: Bonferroni over all pairs
    ends = ((known[g], judged[g].accuracy_interval(alpha)) for g in (high, low))
    return Gap(
        **where,
        pairs=pairs,
        highest=high,
        lowest=low,
        accuracy_gap=known[high] - known[low],
        ci=iv.difference_interval(*ends),
        p=gap_p_value(list(judged.values())),
        real=False,
    )


def adjusted(gaps: Sequence[Gap], alpha: float = iv.ALPHA) -> list[Gap]:
    """The same gaps, judged together: one of them is called real by chance in alpha of reports at most."""
    tested = [gap for gap in gaps if gap.p is not None]
    found = iter(holm([gap.p for gap in tested if gap.p is not None]))
    out = []
    for gap in gaps:
        if gap.p is not None:
            p = next(found)
            gap = gap.model_copy(update={"p_adjusted": p, "real": p <= alpha})
        out.append(gap)
    return out
