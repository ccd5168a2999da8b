"""The audit's page as its readers meet it: in a browser, on a phone and on A4, by eye and by ear."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from privemo_audits import Report, build_report, write_report
from tests.support.audit_runs import RunMaker
from tests.support.browser import A4, PHONE, accessibility_faults, browser

POLICY = 'schema = "privemo.policy/1"\n[fairness]\nmost_gap = 0.1\ncontrols = ["store"]\n'
LONG = "a very long name of a group that nobody would give: " + "unbroken" * 12


@pytest.fixture(scope="module")
def open_page() -> Iterator[Callable[..., Any]]:
    with browser() as chromium:

        def opened(path: Path, **how: Any) -> Any:
            page = chromium.new_page(**how)
            page.goto(path.as_uri())
            return page

        yield opened


@pytest.fixture(scope="module", params=["passed", "failed"])
def report(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One that passed, and one that failed, is not private, and has long names."""
    folder = tmp_path_factory.mktemp(request.param)
    (folder / "policy.toml").write_text(POLICY)
    options: dict[str, Any] = {}
    if request.param == "failed":
        options = {
            "accuracy": lambda person: 0.95 if person["gender"] == "men" else 0.4,
            "groups": ("men", LONG),
            "private": False,
        }
    run = RunMaker(folder / "RUN", **options).make()
    made: Report = build_report(run.directory, policy=folder / "policy.toml")
    assert made.verdict == request.param
    write_report(made, folder / "out", run_dir=run.directory)
    return folder / "out" / "report.html"


@pytest.mark.parametrize("size", [PHONE, A4], ids=["phone", "A4"])
def test_axe_finds_nothing_and_nothing_runs_over_the_edge(
    open_page: Callable[..., Any], report: Path, size: dict[str, int]
) -> None:
    # axe is a script, which the page's own policy would not let run.
    page = open_page(report, viewport=size, bypass_csp=True)
    page.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
    assert accessibility_faults(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
    images = page.evaluate("[...document.images].map(i => [i.naturalWidth, i.alt.length])")
    assert images
    assert all(width > 0 and words > 20 for width, words in images)
    page.close()


def test_the_browser_lets_nothing_run_and_asks_nobody(
    open_page: Callable[..., Any], report: Path
) -> None:
    page = open_page(report)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.reload()
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    page.evaluate(
        "const s = document.createElement('script'); s.textContent = 'window.ran = true';"
        "document.body.append(s)"
    )
    assert page.evaluate("window.ran") is None
    page.close()


def test_what_is_folded_opens_by_key(open_page: Callable[..., Any], report: Path) -> None:
    page = open_page(report)
    folded = page.locator("details").first
    assert folded.get_attribute("open") is None
    folded.locator("summary").focus()
    page.keyboard.press("Enter")
    assert folded.get_attribute("open") is not None
    page.close()
