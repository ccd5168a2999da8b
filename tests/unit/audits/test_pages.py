"""The three pages: self-contained, safe, readable by ear, and saying what the report says in their words."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import pytest

from privemo_audits import Report, build_report
from privemo_audits.articles import SUBJECTS, by_article
from privemo_audits.gallery import plates_of
from privemo_audits.pages import render_html, render_plain, render_regulator
from privemo_audits.plain import FINDINGS, how_sure, privacy_words
from privemo_audits.sources import RESTS_ON, files_of, numbered
from tests.support.audit_runs import RunMaker
from tests.support.looks import looked_into

EVIL = "<script>alert('x')</script>"


RENDER = {
    "report.html": render_html,
    "report-plain.html": render_plain,
    "report-regulator.html": render_regulator,
}
AUDITS = Path(build_report.__code__.co_filename).parent


@pytest.fixture(scope="module")
def report(truthful: RunMaker) -> Report:
    return build_report(truthful.directory)


@pytest.fixture(scope="module")
def pages(report: Report) -> dict[str, str]:
    return {name: render(report, run_name="RUN") for name, render in RENDER.items()}


@pytest.fixture(scope="module", params=RENDER)
def page(request: pytest.FixtureRequest, pages: dict[str, str]) -> str:
    """Each of the three."""
    return pages[request.param]


def words_of(page: str) -> str:
    """What a reader sees, without tags and style."""
    body = re.sub(r"<style>.*?</style>|<title>.*?</title>", "", page, flags=re.DOTALL)
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", body)).split())


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
        target, _, _ = str(link["href"]).partition("#")
        assert target in ("", *RENDER), "a page links to itself and to the pages beside it"
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


def test_all_figures_are_there_by_number_with_their_numbers_in_words(
    pages: dict[str, str], report: Report
) -> None:
    page = pages["report.html"]
    plates = plates_of(report)
    features = {c.feature for c in report.groups if not c.crossed}
    assert {
        *("excluded", "reliability", "confusion", "tradeoff", "epsilon"),
        *(f"groups:{f}" for f in features),
        *(f"reliability:{f}" for f in features),
    } == set(plates)
    assert [plate.number for plate in plates.values()] == list(range(1, len(plates) + 1))
    shown = [int(n) for n in re.findall(r"<b>Figure (\d+)\.</b>", page)]
    assert shown == sorted(shown)
    assert len(shown) == len(plates)
    alts = {str(image["alt"]) for image in Seen(page).all("img")}
    for plate in plates.values():
        assert f'id="{plate.id}"' in page
        if plate.draw is not None:
            assert plate.drawn.alt in alts
            assert re.search(r"\d", plate.drawn.alt)
    cell = next(c for c in report.groups if c.status == "ok")
    assert f"{cell.group} {cell.accuracy:.1%}" in plates[f"groups:{cell.feature}"].drawn.alt


def test_figures_do_not_run_either(page: str) -> None:
    for image in Seen(page).all("img"):
        svg = base64.b64decode(str(image["src"]).split(",")[1]).decode()
        assert "<script" not in svg
        assert not re.search(r"(?:href|src)=\"https?:", svg)


def test_the_page_for_engineers_says_what_the_report_says(
    pages: dict[str, str], report: Report
) -> None:
    page = pages["report.html"]
    assert "Audit passed" in page
    assert f"{report.performance.accuracy:.1%}" in page
    assert "Simulated consents." in page
    for check in report.checks:
        assert check.title.replace("'", "&#39;") in page


def test_each_page_names_the_other_two_and_every_link_arrives(pages: dict[str, str]) -> None:
    places = {
        name: {str(a["id"]) for _, a in Seen(text).tags if a.get("id")}
        for name, text in pages.items()
    }
    for name, text in pages.items():
        links = [str(a["href"]) for a in Seen(text).all("a")]
        assert set(RENDER) <= set(links)
        (current,) = (a for a in Seen(text).all("a") if a.get("aria-current"))
        assert current["href"] == name
        for link in links:
            target, _, place = link.partition("#")
            assert not place or place in places[target or name], f"{name}: {link}"


def test_a_bin_that_is_not_shown_is_not_drawn(report: Report) -> None:
    from privemo_audits.diagrams import reliability, sure_of

    (everyone,) = sure_of(report)
    hidden = everyone.bins[0].model_copy(
        update={"status": "suppressed", "accuracy": None, "confidence": None, "ci": None}
    )
    drawn = reliability("everyone", [everyone._replace(bins=(hidden,))])
    nothing = reliability("everyone", [everyone._replace(bins=())])
    assert drawn == nothing
    assert drawn != reliability("everyone", [everyone])


# -- in plain language ---------------------------------------------------------------------------

JARGON = [
    "epsilon",
    "delta",
    "accountant",
    "ledger",
    "lineage",
    "manifest",
    "precision",
    "recall",
    "f1",
    "balanced",
    "calibration",
    "bootstrap",
    "interval",
    "differential",
    "merkle",
    "sha-256",
    "hash",
    "pseudonym",
    "aggregation",
    "gradient",
    "noise",
    "rdp",
    "pld",
    "prv",
    "policy",
    "dataset",
    "subsampled",
    "held-out",
    "sensitive",
    "percentile",
    "p-value",
    "metric",
    "inference",
]


_CHECKING = (
    "askedchecks",
    "checks",
    "policy",
    "consentchecks",
    "privacychecks",
    "attackchecks",
    "modelchecks",
)


def every_check() -> set[str]:
    """The id of every check that the audit can make, as its source names them."""
    source = "".join((AUDITS / f"{name}.py").read_text() for name in _CHECKING)
    kinds = "lineage|consent_log|consent|minors|privacy|ledger|data|model|manifests|run|accuracy|exclusions"
    found = set(re.findall(rf'"((?:{kinds}|looks|policy)\.[a-z_0-9]+)"', source))
    found.discard("model.safetensors")
    assert len(found) > 25
    return found


def test_every_check_has_words_of_every_day_files_and_a_place() -> None:
    assert every_check() == set(FINDINGS) == set(RESTS_ON)
    assert len({words for pair in FINDINGS.values() for words in pair}) == 2 * len(FINDINGS)


def test_the_plain_page_is_free_of_the_words_of_the_field(pages: dict[str, str]) -> None:
    told = words_of(pages["report-plain.html"]).lower()
    told += " ".join(words for pair in FINDINGS.values() for words in pair).lower()
    assert [word for word in JARGON if re.search(rf"\b{re.escape(word)}\b", told)] == []
    assert not re.search(r"\b[a-z]+_[a-z]+\b", told), "no name of a column or a check"


def test_the_plain_page_tells_who_how_well_for_whom_and_what_it_gives_away(
    pages: dict[str, str], report: Report
) -> None:
    told = words_of(pages["report-plain.html"])
    p, x = report.performance, report.exclusions
    assert f"named the right expression for {p.accuracy * 100:.0f} of 100 pictures" in told
    assert f"Of {x.asked} people, {x.refused} were left out" in told
    assert f"{x.minors.attested} said that they are younger" in told
    assert how_sure(report.privacy.epsilon_max_person or 0) in told
    assert "Luck alone could make that difference" in told
    assert "Nothing that has to hold was found wrong." in told
    assert "This was a rehearsal." in told


def test_the_plain_page_says_for_whom_it_works_less_well_and_what_is_wrong(
    make_run: Callable[..., RunMaker],
) -> None:
    bad = make_run(accuracy=lambda person: 0.95 if person["gender"] == "men" else 0.4)
    bad.use(0, [bad.people(0, "no")[0]])
    report = build_report(bad.directory)
    told = words_of(render_plain(report))
    assert "It works less well for “women”." in told
    assert "more than luck would make" in told
    assert FINDINGS["lineage.no_violation"][1] in told
    assert FINDINGS["lineage.no_violation"][0] not in told
    assert "pictures were used that should not have been" in told
    assert "nothing was learned from their faces" not in told


@pytest.mark.parametrize(
    ("epsilon", "promised", "reached"),
    [
        (0.0, "50% sure", "50% sure"),
        (1.0, "74% sure", "73% sure"),
        (3.0, "96% sure", "95% sure"),
        (8.0, "99.97% sure", "99.96% sure"),
        (20.0, "all but certain", "all but certain"),
    ],
)
def test_a_promise_is_rounded_up_and_what_was_reached_down(
    epsilon: float, promised: str, reached: str
) -> None:
    assert (how_sure(epsilon), how_sure(epsilon, at_least=True)) == (promised, reached)


def test_a_promise_is_called_as_strong_as_it_is(report: Report) -> None:
    def told(**changes: object) -> str:
        return " ".join(privacy_words(report.privacy.model_copy(update=changes)))

    assert "a strong promise" in told(epsilon_max_person=0.5)
    assert "a middling promise" in told(epsilon_max_person=2.0)
    assert "a weak promise" in told(epsilon_max_person=8.0)
    assert "was not kept" in told(epsilon_max_person=9.0)
    for nothing in ({"private": False}, {"epsilon_max_person": None}):
        assert "No protection is built into this program" in told(**nothing)
    assert "Nobody has tried yet" in told()


# -- for the regulator ---------------------------------------------------------------------------


def test_every_article_stands_with_its_checks_files_hashes_and_verdict(
    pages: dict[str, str], report: Report
) -> None:
    page = pages["report-regulator.html"]
    told = words_of(page)
    files = numbered(report)
    for file in files:
        assert file.digest in page
        assert f"F{file.number} {file.name}" in told
    assert {f.name for f in files} > set(report.evidence.files)
    for article in by_article(report.checks):
        part = page.split(f'<h3 id="{article.place}">')[1].split("</table>")[0]
        assert article.subject in unescape(part)
        for check in article.checks:
            assert check.title in unescape(part)
            assert check.evidence in unescape(part)
            assert f"</span>{files_of(check.id, files)}</td>" in part
            assert files_of(check.id, files) != "none", check.id
    assert hashlib.sha256(report.to_json()).hexdigest() in page


def test_a_clause_whose_check_fails_says_so(make_run: Callable[..., RunMaker]) -> None:
    bad = make_run(trained=6, held_out=30, rounds=1)
    bad.use(0, [bad.people(0, "no")[0]])
    page = render_regulator(build_report(bad.directory))
    part = page.split('<h3 id="a-gdpr-7-1">')[1].split("</table>")[0]
    assert "✗ a check fails" in part
    assert "✗ fails" in part


def test_every_clause_has_words_to_find_it_by(make_run: Callable[..., RunMaker]) -> None:
    run = make_run(trained=6, held_out=30, rounds=1)
    looked_into(run.directory)
    policy = run.directory / "policy.toml"
    policy.write_text(
        'schema = "privemo.policy/1"\n[performance]\nleast_accuracy = 0.1\n[fairness]\nmost_gap = 1.0\n'
        "[privacy]\nmost_epsilon = 50\n[exclusions]\nmost_refused = 1.0\n"
    )
    report = build_report(run.directory, policy=policy)
    for article in by_article(report.checks):
        assert article.name in SUBJECTS
    policy_file = numbered(report)[-1]
    assert policy_file.digest == hashlib.sha256(policy.read_bytes()).hexdigest()
    assert f"F{policy_file.number}" in files_of("policy.epsilon", numbered(report))


def test_neighbouring_files_are_named_as_a_range(report: Report) -> None:
    names = {f.number: f.name for f in numbered(report)}
    said = files_of("manifests.verify", numbered(report))
    assert re.fullmatch(r"F\d+( to F\d+)?(, F\d+( to F\d+)?)*", said)
    first = next(number for number, name in names.items() if name == "rounds/0001.json")
    assert f"F{first} to F" in said


# -- what comes from data ------------------------------------------------------------------------


def test_names_from_data_are_shown_and_never_run(make_run: Callable[..., RunMaker]) -> None:
    evil = make_run(
        trained=6, held_out=40, groups=(EVIL, "$\\frac{", "名前"),
        store_name="<script>st-{:02d}", stores=1, rounds=1,
    )  # fmt: skip
    evil.edit_json("run.json", lambda r: r["data"].update(name=EVIL, origin=EVIL))
    evil.use(0, [evil.people(0, "no")[0]])
    report = build_report(evil.directory)
    assert not report.passed
    for render in RENDER.values():
        page = render(report, run_name=EVIL)
        assert not Seen(page).all("script")
        assert "&lt;script&gt;alert" in page
        assert "Audit failed" in page


@pytest.mark.parametrize("name", RENDER)
def test_equal_reports_give_equal_pages(report: Report, pages: dict[str, str], name: str) -> None:
    assert RENDER[name](Report.from_json(report.to_json()), run_name="RUN") == pages[name]


def test_a_run_without_privacy_says_so_first(make_run: Callable[..., RunMaker]) -> None:
    page = render_html(
        build_report(make_run(private=False, trained=6, held_out=30, rounds=1).directory)
    )
    assert "No privacy guarantee." in page
    assert "no bound" in page
