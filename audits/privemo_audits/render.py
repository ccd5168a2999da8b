"""The report as one self-contained page: no request leaves it, nothing in it runs.

Everything that comes from data is escaped by Jinja's autoescape; the content security policy allows
the one style sheet by its hash and images in data URIs, and nothing else.
"""

from __future__ import annotations

import base64
import hashlib
import re
from itertools import groupby
from pathlib import Path
from typing import Any

from .articles import by_article
from .errors import MissingExtraError
from .excluded import age_words
from .report import Gap, GroupCell, Report
from .summary import plain_number, reason_words

TEMPLATES = Path(__file__).parent / "templates"
LISTED_VIOLATIONS = 50
_NONE = "\N{EN DASH}"


def render_html(report: Report, *, run_name: str | None = None) -> str:
    """Render the page.

    Args:
        report: what to show.
        run_name: how the page calls the run besides its id.

    Raises:
        MissingExtraError: Jinja2 or matplotlib is not installed.
    """
    try:
        import markupsafe

        from . import figures
    except ImportError as error:
        raise MissingExtraError.of(error.name) from error
    features = _features(report, figures)
    style = (TEMPLATES / "report.css").read_text(encoding="utf-8")
    template = _environment(autoescape=True).get_template("report.html.j2")
    page: str = template.render(
        r=report,
        run_name=run_name,
        style=markupsafe.Markup(style),  # noqa: S704 - our own file, no data in it
        style_hash=base64.b64encode(hashlib.sha256(style.encode()).digest()).decode("ascii"),
        features=features,
        both=[f for f in features if f["crossed"]],
        controlled=[gap for gap in report.gaps if gap.control is not None],
        tested=sum(gap.p is not None for gap in report.gaps),
        confusion=_confusion(report),
        exclusion_figure=figures.exclusion_bars(report.exclusions),
        epsilon_figure=figures.epsilon_rounds(report.privacy) if report.privacy.private else None,
        listed=LISTED_VIOLATIONS,
        articles=by_article(report.checks),
    )
    return page


def render_markdown(report: Report, *, run_name: str | None = None) -> str:
    """The report as Markdown, for a repository or a mail.

    Raises:
        MissingExtraError: Jinja2 is not installed.
    """
    template = _environment(autoescape=False).get_template("report.md.j2")
    text = template.render(
        r=report, p=report.performance, run_name=run_name, articles=by_article(report.checks)
    )
    return _tidy(text)


def render_card(report: Report) -> str:
    """A model card in the layout of the Hugging Face Hub (Mitchell et al. 2019, arXiv 1810.03993).

    Raises:
        MissingExtraError: Jinja2 is not installed.
    """
    template = _environment(autoescape=False).get_template("card.md.j2")
    return _tidy(template.render(r=report, p=report.performance))


def _environment(*, autoescape: bool) -> Any:
    try:
        import jinja2
    except ImportError as error:
        raise MissingExtraError.of(error.name) from error
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=autoescape,  # noqa: S701 - Markdown escapes what comes from data by its own filter
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        age=age_words,
        pct=_percent,
        ci=_interval,
        points=_points,
        eps=_epsilon,
        chance=_chance,
        count=_count,
        plain=plain_number,
        words=reason_words,
        md=_markdown,
    )
    return environment


def _markdown(text: object) -> str:
    """Text that Markdown takes for text: names of groups come from data that nobody vouched for."""
    line = " ".join(str(text).split()).replace("&", "&amp;").replace("<", "&lt;")
    escaped = re.sub(r"([\\`*_\[\]|])", r"\\\1", line)
    return re.sub(r"^([#>+-]|\d+[.)])", r"\\\1", escaped)


def _tidy(text: str) -> str:
    """At most one empty line in a row."""
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def _features(report: Report, figures: Any) -> list[dict[str, Any]]:
    """Each feature, and each two, with its cells, its figure and its gap."""
    gaps: dict[tuple[str, bool], Gap] = {
        (gap.feature, gap.crossed): gap for gap in report.gaps if gap.control is None
    }
    out = []
    for (feature, crossed), cells in groupby(report.groups, key=lambda c: (c.feature, c.crossed)):
        rows: list[GroupCell] = list(cells)
        out.append(
            {
                "name": feature,
                "cells": rows,
                "gap": gaps.get((feature, crossed)),
                "crossed": crossed,
                "figure": figures.group_intervals(rows, report.performance)
                if not crossed
                else None,
            }
        )
    return out


def _confusion(report: Report) -> list[dict[str, Any]]:
    """Rows of the confusion table with a shade (0-9) for each share of its row."""
    table = report.performance.confusion
    rows = []
    for name, counts in zip(table.labels, table.counts, strict=True):
        total = sum(counts)
        cells = [
            {
                "n": n,
                "share": n / total if total else None,
                "shade": min(9, int(10 * n / total)) if total else 0,
            }
            for n in counts
        ]
        rows.append({"name": name, "cells": cells, "total": total})
    return rows


def _percent(value: float | None, digits: int = 1) -> str:
    return _NONE if value is None else f"{value:.{digits}%}"


def _interval(value: tuple[float, float] | None, digits: int = 1) -> str:
    return _NONE if value is None else f"{value[0]:.{digits}%} to {value[1]:.{digits}%}"


def _points(value: tuple[float, float] | None) -> str:
    return _NONE if value is None else f"{100 * value[0]:.1f} to {100 * value[1]:.1f} points"


def _epsilon(value: float | None) -> str:
    return _NONE if value is None else f"{value:.3f}"


def _chance(value: float | None) -> str:
    """A p-value; below a thousandth it says so."""
    if value is None:
        return _NONE
    return f"{value:.3f}" if value >= 0.001 else "below 0.001"


def _count(value: int | None) -> str:
    return _NONE if value is None else f"{value:,}"
