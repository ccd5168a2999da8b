"""The report as Markdown and as a model card, and the templates that these and the pages are made from."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from . import words
from .articles import by_article
from .errors import MissingExtraError
from .excluded import age_words
from .report import Report
from .words import plain_number, reason_words

TEMPLATES = Path(__file__).parent / "templates"


def render_markdown(report: Report, *, run_name: str | None = None) -> str:
    """The report as Markdown, for a repository or a mail.

    Raises:
        MissingExtraError: Jinja2 is not installed.
    """
    template = environment(autoescape=False).get_template("report.md.j2")
    text = template.render(
        r=report, p=report.performance, run_name=run_name, articles=by_article(report.checks)
    )
    return _tidy(text)


def render_card(report: Report) -> str:
    """A model card in the layout of the Hugging Face Hub (Mitchell et al. 2019, arXiv 1810.03993).

    Raises:
        MissingExtraError: Jinja2 is not installed.
    """
    template = environment(autoescape=False).get_template("card.md.j2")
    return _tidy(template.render(r=report, p=report.performance))


def environment(*, autoescape: bool) -> Any:
    """Jinja's environment, with the filters by which numbers are written.

    Raises:
        MissingExtraError: Jinja2 is not installed.
    """
    try:
        import jinja2
    except ImportError as error:
        raise MissingExtraError.of(error.name) from error
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=autoescape,  # noqa: S701 - Markdown escapes what comes from data by its own filter
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(
        age=age_words,
        pct=words.percent,
        ci=words.interval,
        points=words.points,
        eps=words.epsilon,
        chance=words.chance,
        count=words.count,
        hundred=words.of_a_hundred,
        span=words.span_of_a_hundred,
        group=words.group,
        plain=plain_number,
        words=reason_words,
        md=_markdown,
        ordered=lambda counts: sorted(counts.items(), key=lambda each: (-each[1], each[0])),
    )
    return made


def _markdown(text: object) -> str:
    """Text that Markdown takes for text: names of groups come from data that nobody vouched for."""
    line = " ".join(str(text).split()).replace("&", "&amp;").replace("<", "&lt;")
    escaped = re.sub(r"([\\`*_\[\]|])", r"\\\1", line)
    return re.sub(r"^([#>+-]|\d+[.)])", r"\\\1", escaped)


def _tidy(text: str) -> str:
    """At most one empty line in a row."""
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"
