"""Figures of the report as SVG images in data URIs: no request leaves the page, no script can run.

An image, not inline SVG: the page's content security policy forbids the style attributes that
matplotlib writes, and names of groups come from data that nobody vouched for. The numbers stand in
a table beside every figure, so the figure's own text is for the eye.
"""

from __future__ import annotations

import base64
import io
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from .report import Exclusions, GroupCell, Performance
from .report_privacy import Privacy
from .summary import reason_words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, MUTED, LINE, ACCENT, ALARM = "#1f2933", "#52606d", "#cbd2d9", "#0b5c8a", "#a61b1b"
WIDTH = 4.0  # inches: legible at phone width, where an image can only shrink
MOST_ROWS = 40
MOST_NAME = 20

_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "privemo",
    "text.parse_math": False,  # a `$` in a group's name is a dollar
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": LINE,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": MUTED,
    "ytick.color": INK,
    "axes.axisbelow": True,
}


def group_intervals(cells: Sequence[GroupCell], overall: Performance) -> str:
    """Draw the accuracy of each group of one feature with its 95% interval."""
    shown = _few_enough(cells)
    with _figure(0.34 * len(shown) + 0.95) as (axes, done):
        for y, cell in enumerate(shown):
            if cell.accuracy is not None and cell.ci is not None:
                axes.plot([100 * v for v in cell.ci], [y, y], color=ACCENT, linewidth=2)
                axes.plot([100 * cell.accuracy], [y], "o", color=ACCENT, markersize=6)
            else:
                words = "too few people" if cell.status == "insufficient" else "not shown"
                axes.text(2, y, words, color=MUTED, va="center", fontsize=9)
        axes.axvline(100 * overall.accuracy, color=INK, linewidth=1)
        axes.axvline(100 * overall.chance, color=ALARM, linewidth=1, linestyle=(0, (4, 3)))
        _rows(axes, [_short(c.group) for c in shown])
        axes.set_xlim(0, 100)
        axes.set_xlabel("accuracy, %")
        axes.grid(axis="x", color=LINE, linewidth=0.6)
    return done[0]


def exclusion_bars(exclusions: Exclusions) -> str:
    """Draw the people refused, by reason."""
    reasons = list(exclusions.by_reason.items()) or [("nobody", 0)]
    with _figure(0.42 * len(reasons) + 0.7) as (axes, done):
        counts = [n for _, n in reasons]
        axes.barh(range(len(reasons)), counts, color=ACCENT, height=0.55)
        for y, n in enumerate(counts):
            axes.text(n, y, f" {n:,}", va="center", color=INK)
        _rows(axes, [_wrapped(reason_words(r)) for r, _ in reasons])
        axes.set_xlim(0, max(1, *counts) * 1.22)
        axes.set_xlabel("people")
        axes.locator_params(axis="x", nbins=4, integer=True)
    return done[0]


def epsilon_rounds(privacy: Privacy) -> str | None:
    """Draw the most exposed store's epsilon after each release, against the budget.

    None when there is nothing to draw.
    """
    stores = [s for s in privacy.stores if s.store in privacy.most_exposed_stores and s.rounds]
    if not stores:
        return None
    with _figure(3.2) as (axes, done):
        series = (
            ("claimed, RDP", "epsilon_rdp", ACCENT, "o", "-"),
            ("claimed, PRV", "epsilon_prv", MUTED, "s", "-"),
            ("recomputed, RDP", "recomputed_rdp", INK, "x", ":"),
        )
        for name, key, colour, mark, dash in series:
            for i, store in enumerate(stores):
                points = [(r.seq + 1, getattr(r, key)) for r in store.rounds]
                known = [(x, y) for x, y in points if y is not None]
                axes.plot(
                    [0, *(x for x, _ in known)],
                    [0, *(y for _, y in known)],
                    marker=mark,
                    linestyle=dash,
                    color=colour,
                    markersize=5,
                    label=name if i == 0 else None,
                )
        if privacy.epsilon_budget is not None:
            axes.axhline(privacy.epsilon_budget, color=ALARM, linestyle=(0, (4, 3)), label="limit")
        axes.set_xlabel("releases so far")
        axes.set_ylabel("epsilon")
        axes.set_ylim(bottom=0)
        axes.locator_params(axis="x", integer=True, nbins=6)
        axes.figure.legend(frameon=False, fontsize=9, loc="outside lower left", ncols=2)
    return done[0]


@contextmanager
def _figure(height: float) -> Iterator[tuple[Axes, list[str]]]:
    """Yield axes to draw on and a list that holds the data URI afterwards."""
    import matplotlib as mpl
    from matplotlib.figure import Figure as MplFigure

    done: list[str] = []
    with mpl.rc_context(_STYLE):
        # No pyplot: it keeps figures alive and picks a backend that may want a screen.
        figure = MplFigure(figsize=(WIDTH, height), layout="constrained")
        yield figure.subplots(), done
        done.append(_data_uri(figure))


def _data_uri(figure: Figure) -> str:
    stream = io.StringIO()
    with warnings.catch_warnings():
        # A name in a script that the measuring font lacks: the reader's own font will draw it.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure.savefig(
            stream, format="svg", transparent=True, metadata={"Date": None, "Creator": None}
        )
    svg = stream.getvalue().replace("'DejaVu Sans'", "system-ui, 'Segoe UI', Helvetica, Arial")
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode("ascii")


def _rows(axes: Axes, names: Sequence[str]) -> None:
    """Label rows from the top down, without tick marks."""
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(names) - 0.4, -0.6)


def _few_enough(cells: Sequence[GroupCell]) -> list[GroupCell]:
    """All cells, or of very many the least and the most accurate."""
    if len(cells) <= MOST_ROWS:
        return list(cells)
    judged = sorted((c for c in cells if c.accuracy is not None), key=lambda c: c.accuracy or 0.0)
    half = MOST_ROWS // 2
    return judged if len(judged) <= MOST_ROWS else judged[:half] + judged[-half:]


def _short(name: str) -> str:
    return name if len(name) <= MOST_NAME else name[: MOST_NAME - 1] + "…"


def _wrapped(words: str) -> str:
    from textwrap import fill

    return fill(words, 24)
