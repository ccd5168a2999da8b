from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable
from html.parser import HTMLParser

import pytest

from privemo_audits import Report, build_report
from privemo_audits.render import render_html
from tests.support.audit_runs import RunMaker

EVIL = "<script>alert('x')</script>"


@pytest.fixture(scope="module")
def report(truthful: RunMaker) -> Report:
    return build_report(truthful.directory)


@pytest.fixture(scope="module")
def page(report: Report) -> str:
    return render_html(report, run_name="RUN")


class Seen(HTMLParser):
    """Collects tags, and what every image and link points to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.headings: list[int] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag]


def test_the_page_asks_nobody_for_anything(page: str) -> None:
    seen = Seen(page)
    for tag in ("script", "link", "iframe", "object", "embed", "base", "form"):
        assert not seen.all(tag)
    for image in seen.all("img"):
        assert str(image["src"]).startswith("data:image/svg+xml;base64,")
    for link in seen.all("a"):
        assert str(link["href"]).startswith("#")
    assert "style=" not in page
    assert "url(" not in page


def test_the_policy_allows_the_one_style_sheet_and_nothing_else(page: str) -> None:
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)
    assert policy is not None
    style = re.search(r"<style>(.*?)</style>", page, re.DOTALL)
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in policy[1]
    assert "default-src 'none'" in policy[1]
    assert "unsafe" not in policy[1]


def test_the_page_can_be_read_by_ear(page: str) -> None:
    seen = Seen(page)
    assert seen.all("html")[0]["lang"] == "en"
    assert seen.headings[0] == 1
    assert seen.headings.count(1) == 1
    assert all(b - a <= 1 for a, b in zip(seen.headings, seen.headings[1:], strict=False))
    assert all(len(str(image["alt"])) > 20 for image in seen.all("img"))
    assert all(cell.get("scope") in ("col", "row") for cell in seen.all("th"))
    assert len(seen.all("caption")) == len(seen.all("table"))
    for region in seen.all("div"):
        if region.get("class") == "scroll":
            assert region["tabindex"] == "0"
            assert region["aria-label"]


def test_all_figures_are_there(page: str, report: Report) -> None:
    features = {c.feature for c in report.groups if not c.crossed}
    assert len(Seen(page).all("img")) == len(features) + 2  # exclusions, epsilon
    assert 'class="matrix"' in page


def test_figures_do_not_run_either(page: str) -> None:
    for image in Seen(page).all("img"):
        svg = base64.b64decode(str(image["src"]).split(",")[1]).decode()
        assert "<script" not in svg
        assert not re.search(r"(?:href|src)=\"https?:", svg)


def test_the_page_says_what_the_report_says(page: str, report: Report) -> None:
    assert "Audit passed" in page
    assert f"{report.performance.accuracy:.1%}" in page
    assert "Simulated consents." in page
    for check in report.checks:
        assert check.title.replace("'", "&#39;") in page


def test_names_from_data_are_shown_and_never_run(make_run: Callable[..., RunMaker]) -> None:
    evil = make_run(
        trained=6, held_out=40, groups=(EVIL, "$\\frac{", "名前"),
        store_name="<script>st-{:02d}", stores=1, rounds=1,
    )  # fmt: skip
    evil.edit_json("run.json", lambda r: r["data"].update(name=EVIL, origin=EVIL))
    evil.use(0, [evil.people(0, "no")[0]])
    report = build_report(evil.directory)
    assert not report.passed
    page = render_html(report, run_name=EVIL)
    assert not Seen(page).all("script")
    assert "&lt;script&gt;alert" in page
    assert "Audit failed" in page


def test_equal_reports_give_equal_pages(report: Report, page: str) -> None:
    assert render_html(report, run_name="RUN") == page


def test_a_run_without_privacy_says_so_first(make_run: Callable[..., RunMaker]) -> None:
    page = render_html(
        build_report(make_run(private=False, trained=6, held_out=30, rounds=1).directory)
    )
    assert "No privacy guarantee." in page
    assert "no bound" in page
