"""The audit's pages as their readers meet them: in a browser, on a phone and on A4, by eye and by ear."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from privemo_audits import Report, build_report, read_beside, write_report
from privemo_consent.keys import SigningKey
from tests.support.audit_runs import RunMaker
from tests.support.browser import A4, PHONE, accessibility_faults, browser, follow
from tests.support.looks import looked_into

POLICY = 'schema = "privemo.policy/1"\n[fairness]\nmost_gap = 0.1\ncontrols = ["store"]\n'
LONG = "a very long name of a group that nobody would give: " + "unbroken" * 12
PAGES = ("report.html", "report-plain.html", "report-regulator.html")
PAPER = {"width": 672, "height": 1000}  # A4 less its margins
ANNA = SigningKey.generate("anna")


@pytest.fixture(scope="module")
def open_page() -> Iterator[Callable[..., Any]]:
    with browser() as chromium:

        def opened(path: Path, **how: Any) -> Any:
            page = chromium.new_page(**how)
            page.goto(path.as_uri())
            return page

        yield opened


def beside(folder: Path) -> list[tuple[Report, tuple[str, ...]]]:
    """Another run's signed report."""
    run = RunMaker(folder / "other", run_id="run-other", trained=6, held_out=30, rounds=1).make()
    write_report(build_report(run.directory), folder / "signed", key=ANNA)
    return read_beside([folder / "signed"], [ANNA.verifying])


@pytest.fixture(scope="module", params=["passed", "failed"])
def report(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One that passed; and one that failed, is not private, has long names. Both hold all there can be."""
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
    looked_into(run.directory, **({"model_sha256": "0" * 64} if options else {}))
    if options:
        run.use(0, [run.people(0, "no")[0]])
    made: Report = build_report(run.directory, policy=folder / "policy.toml", beside=beside(folder))
    assert made.verdict == request.param
    write_report(made, folder / "out", run_dir=run.directory)
    return folder / "out"


SEEN = [
    *(pytest.param(name, PHONE, id=f"{name}-phone") for name in PAGES),
    *(pytest.param(name, A4, id=f"{name}-A4") for name in PAGES[1:]),
    # axe takes seconds for the longest of them.
    pytest.param(PAGES[0], A4, id=f"{PAGES[0]}-A4", marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("name", "size"), SEEN)
def test_axe_finds_nothing_and_nothing_runs_over_the_edge(
    open_page: Callable[..., Any], report: Path, size: dict[str, int], name: str
) -> None:
    # axe is a script, which the page's own policy would not let run.
    page = open_page(report / name, viewport=size, bypass_csp=True)
    page.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
    assert accessibility_faults(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
    if (
        name == "report-plain.html"
    ):  # whoever reads that on a phone does not look for more to the right
        wide = (
            "[...document.querySelectorAll('.scroll')].filter(s => s.scrollWidth > s.clientWidth)"
        )
        assert page.evaluate(f"{wide}.length") == 0
    images = page.evaluate("[...document.images].map(i => [i.naturalWidth, i.alt])")
    assert bool(images) == (name != "report-regulator.html")
    assert all(width > 0 and any(c.isdigit() for c in alt) for width, alt in images)
    page.close()


@pytest.mark.parametrize("name", PAGES)
def test_it_prints_whole_on_a4(open_page: Callable[..., Any], report: Path, name: str) -> None:
    """What is folded on a screen is open on paper, and nothing runs off the sheet."""
    page = open_page(report / name, viewport=PAPER)
    page.emulate_media(media="print")
    assert page.evaluate("document.documentElement.scrollWidth") <= PAPER["width"]
    folded = page.evaluate(
        "[...document.querySelectorAll('details')]"
        ".map(d => d.lastElementChild.getBoundingClientRect().height)"
    )
    assert bool(folded) == (name == "report.html")
    assert all(height > 20 for height in folded)
    assert not page.locator("nav.pages").is_visible()
    page.close()


@pytest.mark.parametrize("name", PAGES)
def test_the_browser_lets_nothing_run_and_asks_nobody(
    open_page: Callable[..., Any], report: Path, name: str
) -> None:
    page = open_page(report / name)
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


def test_readers_find_their_page_from_the_entry(
    open_page: Callable[..., Any], report: Path
) -> None:
    page = open_page(report / "report.html")
    for link, name, heading in (
        ("In plain language", "report-plain.html", "A program that reads faces in shops"),
        ("For the regulator", "report-regulator.html", "Articles against evidence"),
        ("For engineers", "report.html", "Emotion recognition"),
    ):
        follow(page, page.get_by_role("navigation").get_by_role("link", name=link))
        assert page.url.endswith(f"/{name}")
        assert page.get_by_role("heading", level=1).inner_text().startswith(heading)
        current = page.get_by_role("navigation").locator("[aria-current=page]")
        assert current.inner_text() == link
    page.close()


def test_the_regulator_is_led_to_the_figure(open_page: Callable[..., Any], report: Path) -> None:
    page = open_page(report / "report-regulator.html")
    follow(page, page.get_by_role("link", name="Figure 1", exact=True).first)
    assert page.url.endswith("report.html#fig-excluded")
    assert page.locator("#fig-excluded").is_visible()
    page.close()


def test_what_is_folded_opens_by_key(open_page: Callable[..., Any], report: Path) -> None:
    page = open_page(report / "report.html")
    folded = page.locator("details").first
    assert folded.get_attribute("open") is None
    folded.locator("summary").focus()
    page.keyboard.press("Enter")
    assert folded.get_attribute("open") is not None
    page.close()
