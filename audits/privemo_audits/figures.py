"""Who was left out, for whom it works, and what privacy it cost: as figures, with their numbers in words."""

from __future__ import annotations

from collections.abc import Sequence

from .canvas import ACCENT, ALARM, DASHED, INK, LINE, MUTED, Drawn, canvas, rows, short, wrapped
from .report_asked import AskedByGroup, AskedGroup
from .report_exclusions import Exclusions
from .report_performance import GroupCell, Performance
from .report_privacy import LedgerRound, Privacy, StorePrivacy
from .words import epsilon, interval, percent, reason_words

MOST_ROWS = 40


def group_intervals(feature: str, cells: Sequence[GroupCell], overall: Performance) -> Drawn:
    """The accuracy of each group of one feature with its 95% interval."""
    shown = _few_enough(cells)
    with canvas(0.34 * len(shown) + 0.95) as (figure, done):
        axes = figure.subplots()
        for y, cell in enumerate(shown):
            if cell.accuracy is not None and cell.ci is not None:
                axes.plot([100 * v for v in cell.ci], [y, y], color=ACCENT, linewidth=2)
                axes.plot([100 * cell.accuracy], [y], "o", color=ACCENT, markersize=6)
            else:
                axes.text(2, y, _not_stated(cell), color=MUTED, va="center", fontsize=9)
        axes.axvline(100 * overall.accuracy, color=INK, linewidth=1)
        axes.axvline(100 * overall.chance, color=ALARM, linewidth=1, linestyle=DASHED)
        rows(axes, [short(c.group) for c in shown])
        axes.set_xlim(0, 100)
        axes.set_xlabel("accuracy, %")
        axes.grid(axis="x", color=LINE, linewidth=0.6)
    told = (
        f"{c.group} {_not_stated(c) if c.ci is None else _score(c.accuracy, c.ci)}" for c in shown
    )
    return Drawn(
        done[0],
        f"Accuracy by {feature.replace('_', ' ')} with 95% intervals: {'; '.join(told)}. Everyone "
        f"{percent(overall.accuracy)}; always the commonest emotion {percent(overall.chance)}.",
    )


def _not_stated(cell: GroupCell) -> str:
    return "too few people" if cell.status == "insufficient" else "not shown"


def _score(value: float | None, ci: tuple[float, float]) -> str:
    return f"{percent(value)} ({interval(ci)})"


def exclusion_bars(exclusions: Exclusions) -> Drawn:
    """The people refused, by reason."""
    ordered = sorted(exclusions.by_reason.items(), key=lambda each: (-each[1], each[0]))
    reasons = ordered or [("nobody", 0)]
    with canvas(0.42 * len(reasons) + 0.7) as (figure, done):
        axes = figure.subplots()
        counts = [n for _, n in reasons]
        axes.barh(range(len(reasons)), counts, color=ACCENT, height=0.55)
        for y, n in enumerate(counts):
            axes.text(n, y, f" {n:,}", va="center", color=INK)
        rows(axes, [wrapped(reason_words(r)) for r, _ in reasons])
        axes.set_xlim(0, max(1, *counts) * 1.22)
        axes.set_xlabel("people")
        axes.locator_params(axis="x", nbins=4, integer=True)
    told = "; ".join(f"{n:,} {reason_words(r)}" for r, n in ordered)
    return Drawn(done[0], f"People left out, by reason: {told or 'nobody'}.")


def share_ratios(by_group: AskedByGroup) -> Drawn:
    """Each group's share of the people admitted over its share of those asked, with its interval."""
    shown = ratios_of(by_group)[:MOST_ROWS]
    edge = max(1.25, *(g.ratio_ci[1] for g in shown if g.ratio_ci is not None)) * 1.05
    with canvas(0.34 * len(shown) + 0.95) as (figure, done):
        axes = figure.subplots()
        for y, g in enumerate(shown):
            if g.ratio is not None and g.ratio_ci is not None:
                axes.plot(g.ratio_ci, [y, y], color=ACCENT, linewidth=2)
                axes.plot([g.ratio], [y], "o", color=ACCENT, markersize=6)
        axes.axvline(1, color=INK, linewidth=1)
        rows(axes, [short(g.group) for g in shown])
        axes.set_xlim(0, edge)
        axes.set_xlabel("share after exclusion over share before")
        axes.grid(axis="x", color=LINE, linewidth=0.6)
    told = (
        f"{g.group} {g.ratio:.2f} ({g.ratio_ci[0]:.2f} to {g.ratio_ci[1]:.2f})"
        for g in shown
        if g.ratio is not None and g.ratio_ci is not None
    )
    return Drawn(
        done[0],
        "Share of the people trained on over share of the people asked, by group; below 1 exclusion made the "
        f"group smaller: {'; '.join(told)}.",
    )


def ratios_of(by_group: AskedByGroup) -> list[AskedGroup]:
    """Groups of which the ratio is told."""
    return [g for g in by_group.groups if g.ratio is not None]


_SERIES = (
    ("claimed, RDP", "epsilon_rdp", ACCENT, "o", "-"),
    ("claimed, PRV", "epsilon_prv", MUTED, "s", "-"),
    ("recomputed, RDP", "recomputed_rdp", INK, "x", ":"),
)


def exposed_stores(privacy: Privacy) -> list[StorePrivacy]:
    """The stores of the person most exposed, as far as they released anything."""
    return [s for s in privacy.stores if s.store in privacy.most_exposed_stores and s.rounds]


def epsilon_rounds(privacy: Privacy) -> Drawn:
    """The most exposed stores' epsilon after each release, against the budget."""
    stores = exposed_stores(privacy)
    with canvas(3.2) as (figure, done):
        axes = figure.subplots()
        for name, key, colour, mark, dash in _SERIES:
            for i, store in enumerate(stores):
                known = _known(store.rounds, key)
                axes.plot(
                    [0, *(x for x, _ in known)],
                    [0, *(y for _, y in known)],
                    marker=mark if len(known) <= 40 else None,
                    linestyle=dash,
                    color=colour,
                    markersize=5,
                    label=name if i == 0 else None,
                )
        if privacy.epsilon_budget is not None:
            axes.axhline(privacy.epsilon_budget, color=ALARM, linestyle=DASHED, label="limit")
        axes.set_xlabel("releases so far")
        axes.set_ylabel("epsilon")
        axes.set_ylim(bottom=0)
        axes.locator_params(axis="x", integer=True, nbins=6)
        figure.legend(frameon=False, fontsize=9, loc="outside lower left", ncols=2)
    told = (f"{s.store}, {name}: {_run_of(_known(s.rounds, key))}" for s in stores
            for name, key, *_ in _SERIES)  # fmt: skip
    limit = "none" if privacy.epsilon_budget is None else f"{privacy.epsilon_budget:g}"
    return Drawn(done[0], f"Epsilon after each release. {'; '.join(told)}. Limit: {limit}.")


def _known(rounds: Sequence[LedgerRound], key: str) -> list[tuple[int, float]]:
    points = [(r.seq + 1, getattr(r, key)) for r in rounds]
    return [(x, y) for x, y in points if y is not None]


def _run_of(known: Sequence[tuple[int, float]]) -> str:
    """All values of a few, and first, middle and last of many: an ear cannot follow hundreds."""
    if not known:
        return "not stated"
    told = known if len(known) <= 12 else [known[0], known[len(known) // 2], known[-1]]
    return ", ".join(f"{epsilon(y)} after {x}" for x, y in told)


def _few_enough(cells: Sequence[GroupCell]) -> list[GroupCell]:
    """All cells, or of very many the least and the most accurate."""
    if len(cells) <= MOST_ROWS:
        return list(cells)
    judged = sorted((c for c in cells if c.accuracy is not None), key=lambda c: c.accuracy or 0.0)
    half = MOST_ROWS // 2
    return judged if len(judged) <= MOST_ROWS else judged[:half] + judged[-half:]
