"""Checks by article: every clause is found, and each check stands at each of its own."""

from __future__ import annotations

import pytest

from privemo_audits import build_report
from privemo_audits.articles import by_article, clauses_of
from privemo_audits.pages import render_html, render_regulator
from privemo_audits.render import render_markdown
from privemo_audits.report import Check
from tests.support.audit_runs import RunMaker


def check(clause: str, *, passed: bool = True, required: bool = True) -> Check:
    return Check(
        id="a.b",
        title=f"about {clause}",
        passed=passed,
        required=required,
        evidence="",
        clause=clause,
    )


@pytest.mark.parametrize(
    ("clause", "parts"),
    [
        ("GDPR 7(1); EU AI Act 10(2)", [("GDPR", "7(1)"), ("EU AI Act", "10(2)")]),
        ("GDPR 25(1), 32", [("GDPR", "25(1)"), ("GDPR", "32")]),
        ("EU AI Act 10(2)(f)-(g), 10(3)", [("EU AI Act", "10(2)(f)-(g)"), ("EU AI Act", "10(3)")]),
        ("UK AADC 3, 7", [("UK AADC", "3"), ("UK AADC", "7")]),
        ("RFC 9162; C2SP tlog-checkpoint", [("RFC 9162", ""), ("C2SP tlog-checkpoint", "")]),
    ],
)
def test_a_clause_names_its_articles(clause: str, parts: list[tuple[str, str]]) -> None:
    assert clauses_of(clause) == parts


def test_articles_come_in_the_order_of_their_numbers_and_the_great_laws_first() -> None:
    clauses = [
        "RFC 9162",
        "EU AI Act 10(3)",
        "GDPR 32",
        "EU AI Act 10(2)",
        "GDPR 5(2)",
        "BIPA 15(a)",
    ]
    found = [article.name for article in by_article(map(check, clauses))]
    assert found == [
        *("GDPR 5(2)", "GDPR 32", "EU AI Act 10(2)", "EU AI Act 10(3)", "BIPA 15(a)", "RFC 9162")
    ]


def test_only_a_required_check_fails_an_article() -> None:
    (informs,) = by_article([check("GDPR 32", passed=False, required=False)])
    (fails,) = by_article([check("GDPR 32"), check("GDPR 32", passed=False)])
    assert (informs.failed, fails.failed) == (False, True)
    assert len(fails.checks) == 2


def test_every_check_of_a_report_stands_at_each_of_its_clauses(truthful: RunMaker) -> None:
    report = build_report(truthful.directory)
    found = {article.name: {c.id for c in article.checks} for article in by_article(report.checks)}
    for each in report.checks:
        assert clauses_of(each.clause), each.id
        for law, clause in clauses_of(each.clause):
            assert each.id in found[f"{law} {clause}".strip()]
    for text in (render_html(report), render_regulator(report), render_markdown(report)):
        assert all(name in text for name in found)
