"""Other runs beside this one: nobody's claim is drawn that an auditor who is known did not sign."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest

from privemo_audits import (
    Report,
    ReportChangedError,
    ReportError,
    build_report,
    read_beside,
    read_report,
    write_report,
)
from privemo_audits.beside import MOST_BESIDE
from privemo_audits.gallery import plates_of
from privemo_audits.pages import render_html, render_regulator
from privemo_consent.keys import SigningKey
from tests.support.audit_runs import RunMaker

ANNA, EVE = SigningKey.generate("anna"), SigningKey.generate("eve")


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Signed reports: of a run with little noise, of one with much, and of one that is not private."""
    folder = tmp_path_factory.mktemp("others")
    kinds: dict[str, dict[str, object]] = {
        "little": {"noise": 1.2, "budget": 50.0},
        "much": {"noise": 6.0},
        "none": {"private": False},
    }
    for name, options in kinds.items():
        run = RunMaker(folder / f"run-{name}", run_id=f"run-{name}", trained=10, **options).make()  # type: ignore[arg-type]
        write_report(build_report(run.directory), folder / name, key=ANNA)
    return {name: folder / name for name in kinds}


@pytest.fixture(scope="module")
def report(truthful: RunMaker, others: dict[str, Path]) -> Report:
    paths = [others["none"], others["little"] / "report.json", others["much"]]
    return build_report(truthful.directory, beside=read_beside(paths, [ANNA.verifying]))


def test_they_stand_in_the_report_in_the_order_of_epsilon(
    report: Report, others: dict[str, Path]
) -> None:
    assert [b.run_id for b in report.beside] == ["run-much", "run-little", "run-none"]
    for b in report.beside:
        file = others[b.run_id.removeprefix("run-")] / "report.json"
        theirs = read_report(file)
        assert b.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
        assert (b.epsilon, b.accuracy) == (
            theirs.privacy.epsilon_max_person,
            theirs.performance.accuracy,
        )
        assert (b.accuracy_ci, b.signed_by) == (theirs.performance.accuracy_ci, ("anna",))
    assert report.beside[-1].epsilon is None


def test_the_order_of_naming_does_not_matter(
    report: Report, truthful: RunMaker, others: dict[str, Path]
) -> None:
    again = read_beside(list(others.values()), [ANNA.verifying])
    assert build_report(truthful.directory, beside=again).to_json() == report.to_json()
    assert Report.from_json(report.to_json()).beside == report.beside


def test_the_figure_tells_all_numbers_and_the_page_has_them_in_a_table(report: Report) -> None:
    alt = plates_of(report)["tradeoff"].drawn.alt
    page, law = render_html(report), render_regulator(report)
    own = report.privacy.epsilon_max_person
    assert f"this run at epsilon {own:.3f}: {report.performance.accuracy:.1%}" in alt
    for b in report.beside:
        where = "without a bound" if b.epsilon is None else f"at epsilon {b.epsilon:.3f}"
        assert f"{b.run_id}, {where}: {b.accuracy:.1%}" in alt
        assert b.sha256 in page
        assert b.sha256 in law
    assert "signed by anna" in page


def test_without_others_this_run_stands_alone_and_how_to_add_some_is_said(
    truthful: RunMaker,
) -> None:
    report = build_report(truthful.directory)
    assert report.beside == ()
    assert "--beside REPORT --key KEY" in render_html(report)
    assert "this run at epsilon" in plates_of(report)["tradeoff"].drawn.alt


def test_what_makes_runs_incomparable_is_said(truthful: RunMaker, others: dict[str, Path]) -> None:
    theirs = read_report(others["much"])
    data = theirs.data.model_copy(update={"digest": "0" * 64})
    privacy = theirs.privacy.model_copy(update={"delta": 1e-6, "accountant": "prv"})
    run = theirs.run.model_copy(update={"challenge_age": 30.0, "label_names": ("a", "b")})
    other = theirs.model_copy(update={"data": data, "privacy": privacy, "run": run})
    (same,) = build_report(truthful.directory, beside=[(theirs, ("anna",))]).beside
    (found,) = build_report(truthful.directory, beside=[(other, ("anna",))]).beside
    assert (same.comparable, same.differs) == (True, ())
    assert not found.comparable
    assert [words.split(",")[0] for words in found.differs] == [
        "other data",
        "other emotions",
        "another challenge age",
        "epsilon at another delta",
        "epsilon by another accountant",
    ]


# -- refused -------------------------------------------------------------------------------------


@pytest.fixture
def signed(others: dict[str, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(others["much"], tmp_path / "other"))


def test_a_better_accuracy_written_in_afterwards_is_refused(signed: Path) -> None:
    made = read_report(signed)
    better = made.performance.model_copy(update={"accuracy": 0.99})
    file = signed / "report.json"
    file.write_bytes(made.model_copy(update={"performance": better}).to_json())
    with pytest.raises(ReportChangedError, match="not the report that was signed"):
        read_beside([signed], [ANNA.verifying])


def test_a_report_with_an_edited_page_is_refused(signed: Path) -> None:
    (signed / "report.html").write_text("99%")
    with pytest.raises(ReportChangedError, match=r"report\.html is not the page"):
        read_beside([signed], [ANNA.verifying])


def test_one_signed_by_somebody_unknown_is_refused(signed: Path) -> None:
    with pytest.raises(ReportChangedError, match="no key that is known has signed"):
        read_beside([signed], [EVE.verifying])


def test_one_without_a_signature_is_refused(signed: Path) -> None:
    (signed / "report.sig").unlink()
    with pytest.raises(ReportError, match=r"report\.sig cannot be read"):
        read_beside([signed], [ANNA.verifying])


def test_a_run_does_not_stand_beside_itself_nor_one_twice(
    truthful: RunMaker, others: dict[str, Path], report: Report
) -> None:
    with pytest.raises(ReportError, match="beside itself"):
        build_report(truthful.directory, beside=[(report, ("anna",))])
    twice = read_beside([others["much"], others["much"]], [ANNA.verifying])
    with pytest.raises(ReportError, match="twice"):
        build_report(truthful.directory, beside=twice)


def test_more_than_can_be_told_apart_are_refused(signed: Path) -> None:
    with pytest.raises(ReportError, match="could not be told apart"):
        read_beside([signed] * (MOST_BESIDE + 1), [ANNA.verifying])
