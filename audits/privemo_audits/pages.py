"""The report as three self-contained pages: no request leaves them, nothing in them runs.

One for engineers, which is the entry; one in plain language; one for a regulator. Everything that comes from
data is escaped by Jinja's autoescape; the content security policy allows the one style sheet by its hash and
images in data URIs, and nothing else. Each page is rendered from the same frozen report.
"""

from __future__ import annotations

import base64
import hashlib
from importlib.util import find_spec
from itertools import groupby
from typing import Any

from . import plain, sources
from .articles import by_article
from .errors import MissingExtraError
from .gallery import Plate, plates_of
from .render import TEMPLATES, environment
from .report import Report
from .report_performance import Gap

__all__ = ["render_html", "render_plain", "render_regulator"]

LISTED_VIOLATIONS = 50

PAGES = (
    ("report.html", "For engineers"),
    ("report-plain.html", "In plain language"),
    ("report-regulator.html", "For the regulator"),
)


def render_html(report: Report, *, run_name: str | None = None) -> str:
    """The page for engineers, which names the other two.

    Args:
        report: what to show.
        run_name: how the page calls the run besides its id.

    Raises:
        MissingExtraError: Jinja2 or matplotlib is not installed.
    """
    report = _as_written(report)
    plates, features = _plates(report), _features(report)
    return _page(
        "report.html",
        report,
        run_name,
        plates=plates,
        features=features,
        both=[f for f in features if f["crossed"]],
        controlled=[gap for gap in report.gaps if gap.control is not None],
        tested=sum(gap.p is not None for gap in report.gaps),
        confusion=_confusion(report),
        listed=LISTED_VIOLATIONS,
        articles=by_article(report.checks),
    )


def render_plain(report: Report, *, run_name: str | None = None) -> str:
    """The page for people who shop there, or whose shop it is; as `render_html`."""
    report = _as_written(report)
    return _page(
        "report-plain.html",
        report,
        run_name,
        plates=_plates(report),
        features=plain.features(report),
        shares=plain.shares(report),
        wrong=plain.findings(report.checks, passed=False, required=True),
        warned=plain.findings(report.checks, passed=False, required=False),
        holds=plain.findings(report.checks, passed=True),
        privacy=plain.privacy_words(report.privacy),
        decides=sum(check.required for check in report.checks),
        misused=any(check in plain.MISUSED for check in report.failed_checks),
    )


def render_regulator(report: Report, *, run_name: str | None = None) -> str:
    """The page that holds articles against evidence; as `render_html`."""
    report = _as_written(report)
    plates = _plates(report)
    files = sources.numbered(report)
    return _page(
        "report-regulator.html",
        report,
        run_name,
        plates=plates,
        articles=by_article(report.checks),
        files=files,
        rests_on={c.id: sources.files_of(c.id, files) for c in report.checks},
        shown_at={c.id: sources.shown_at(c.id, plates) for c in report.checks},
        digest=hashlib.sha256(report.to_json()).hexdigest(),
    )


def _as_written(report: Report) -> Report:
    """The report as it is read back, so that whoever has `report.json` makes the very same pages."""
    return Report.from_json(report.to_json())


class _Plates(dict[str, Plate]):
    """Figures by their key; a template may ask for one that the report does not have."""

    def __missing__(self, key: str) -> None:
        return None


def _plates(report: Report) -> _Plates:
    if find_spec("matplotlib") is None:
        raise MissingExtraError.of("matplotlib")
    return _Plates(plates_of(report))


def _page(name: str, report: Report, run_name: str | None, **facts: Any) -> str:
    templates = environment(autoescape=True)
    import markupsafe

    style = (TEMPLATES / "report.css").read_text(encoding="utf-8")
    page: str = templates.get_template(f"{name}.j2").render(
        r=report,
        run_name=run_name,
        style=markupsafe.Markup(style),  # noqa: S704 - our own file, no data in it
        style_hash=base64.b64encode(hashlib.sha256(style.encode()).digest()).decode("ascii"),
        here=name,
        pages=PAGES,
        **facts,
    )
    return page


def _features(report: Report) -> list[dict[str, Any]]:
    """Each feature, and each two, with its cells and its gap."""
    gaps: dict[tuple[str, bool], Gap] = {
        (gap.feature, gap.crossed): gap for gap in report.gaps if gap.control is None
    }
    return [
        {
            "name": feature,
            "cells": list(cells),
            "gap": gaps.get((feature, crossed)),
            "crossed": crossed,
        }
        for (feature, crossed), cells in groupby(
            report.groups, key=lambda c: (c.feature, c.crossed)
        )
    ]


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
