"""The report as Markdown, and the model card: the figures of the report, and text from data stays text."""

from __future__ import annotations

from collections.abc import Callable

import markdown
import pytest
import yaml

from privemo_audits import Report, build_report
from privemo_audits.render import render_card, render_markdown
from tests.support.audit_runs import RunMaker
from tests.support.looks import looked_into

EVIL = "<script>alert(1)</script> | **bold** [x](http://evil.example) `code`"


@pytest.fixture(scope="module")
def report(truthful: RunMaker) -> Report:
    return build_report(truthful.directory)


def html(text: str) -> str:
    return markdown.markdown(text, extensions=["tables"])


def test_the_figures_are_those_of_the_report(report: Report) -> None:
    text = render_markdown(report, run_name="RUN")
    assert text.startswith("# Audit passed: RUN\n")
    assert f"{report.performance.accuracy:.1%}" in text
    page = html(text)
    assert page.count("<table>") == 7
    for check in report.checks:
        assert check.title.replace("'", "'") in page
    for limit in report.limits:
        assert limit[:40] in page.replace("&amp;", "&")
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert all(row.rstrip().endswith("|") for row in rows)


def test_looks_and_other_runs_stand_in_tables_too(run: RunMaker, report: Report) -> None:
    looked_into(run.directory)
    elsewhere = report.run.model_copy(update={"run_id": "run-9"})
    other = report.model_copy(update={"run": elsewhere})
    made = build_report(run.directory, beside=[(other, ("anna",))])
    page = html(render_markdown(made))
    assert page.count("<table>") == 9
    assert "30.0% (28.0% to 32.0%)" in page
    assert "too few faces" in page
    assert made.beside[0].sha256 in page
    assert "Nobody asked" in render_markdown(report)


def test_names_from_data_stay_text(make_run: Callable[..., RunMaker]) -> None:
    made = build_report(make_run(groups=(EVIL, "men\n# heading")).directory)
    for text in (render_markdown(made), render_card(made).split("\n---\n", 1)[1]):
        page = html(text)
        for tag in ("<script", "<strong>bold", "<a ", "<code>code", "<h1>heading"):
            assert tag not in page, tag
        assert "bold" in page


def test_the_card_is_read_by_the_hub(report: Report) -> None:
    """YAML front matter with a model index, then Markdown."""
    text = render_card(report)
    _, front, body = text.split("---\n", 2)
    facts = yaml.safe_load(front)
    (model,) = facts["model-index"]
    (result,) = model["results"]
    metrics = {m.get("name", m["type"]): m["value"] for m in result["metrics"]}
    assert metrics["accuracy"] == pytest.approx(report.performance.accuracy, abs=1e-4)
    assert metrics["F1 sad"] == pytest.approx(report.performance.f1["sad"], abs=1e-4)
    for title in ("What it is for", "What it is not for", "Privacy", "How well it works", "Limits"):
        assert f"\n## {title}\n" in body
    assert "Simulated consents" in body


def test_the_card_says_what_is_wrong(report: Report) -> None:
    bad = report.model_copy(
        update={
            "verdict": "failed",
            "lineage": report.lineage.model_copy(update={"violations": 3}),
            "privacy": report.privacy.model_copy(update={"private": False}),
        }
    )
    text = render_card(bad)
    assert "Audit: **failed**" in text
    assert "**3 breaches of consent were found.**" in text
    assert "None. What the model learnt from one person may be found out again." in text
    seeded = report.privacy.model_copy(update={"noise_source": "seeded"})
    assert "Do not release" in render_card(report.model_copy(update={"privacy": seeded}))


def test_equal_reports_give_equal_texts(report: Report) -> None:
    again = Report.from_json(report.to_json())
    assert render_card(again) == render_card(report)
    assert render_markdown(again) == render_markdown(report)
