"""What exclusion did to groups' shares: told where stores counted, and nobody is given away by it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from privemo_audits import Report, RunFilesError, build_report
from privemo_audits.asked import OTHER_REASONS, ratio_interval
from privemo_audits.groups import NOT_RECORDED
from privemo_audits.pages import render_html, render_plain, render_regulator
from privemo_audits.render import render_markdown
from privemo_audits.report_asked import AskedByGroup, AskedGroup
from tests.support.audit_runs import RunMaker
from tests.unit.audits.test_policy import policy

Groups = dict[str, tuple[int, dict[str, int]]]

EVEN: Groups = {"women": (60, {"refused": 20, "expired": 10}), "men": (60, {"refused": 30})}
UNEVEN: Groups = {"women": (40, {"refused": 60}), "men": (95, {"refused": 5})}


def check(report: Report, name: str) -> Any:
    (one,) = [c for c in report.checks if c.id == name]
    return one


def by_group(report: Report) -> AskedByGroup:
    assert report.exclusions.by_group is not None
    return report.exclusions.by_group


def of(report: Report) -> dict[str, AskedGroup]:
    return {g.group: g for g in by_group(report).groups}


# -- what is told ----------------------------------------------------------------------------------


def test_shares_before_and_after_add_up_over_stores(run: RunMaker) -> None:
    run.count_by_look(0, {"gender": EVEN}, apart={"minor": 7})
    run.count_by_look(1, {"gender": {"women": (20, {}), "men": (10, {"refused": 20})}})
    report = build_report(run.directory)
    assert report.passed
    told = by_group(report)
    assert (told.asked, told.admitted, told.apart) == (237, 150, {"gender": 7})
    women, men = of(report)["women"], of(report)["men"]
    assert (women.asked, women.admitted, men.asked, men.admitted) == (110, 80, 120, 70)
    assert women.share_asked == pytest.approx(110 / 230)
    assert women.share_admitted == pytest.approx(80 / 150)
    assert women.ratio == pytest.approx((80 / 150) / (110 / 230))
    for g in (women, men):
        for value, ci in (
            (g.share_asked, g.share_asked_ci),
            (g.share_admitted, g.share_admitted_ci),
            (g.ratio, g.ratio_ci),
        ):
            assert value is not None
            assert ci is not None
            assert ci[0] < value < ci[1]
    assert women.refused == {"refused": 20, "expired": 10}
    assert Report.from_json(report.to_json()) == report


def test_a_group_that_exclusion_made_smaller_is_a_warning_on_every_page(run: RunMaker) -> None:
    run.count_by_look(0, {"gender": UNEVEN})
    report = build_report(run.directory)
    assert report.passed
    found = check(report, "exclusions.shares_kept")
    assert (found.passed, found.required) == (False, False)
    assert "gender “women”: 50.0% of the people asked, 29.6% of those admitted" in found.evidence
    assert "“men”" not in found.evidence
    plain = render_plain(report)
    assert "Leaving people out made “women” smaller, and by more than luck would." in plain
    assert "Leaving people out made a group of people smaller" in plain
    assert found.evidence in render_regulator(report)
    assert "stores/store-01/asked.json" in render_regulator(report)
    page = render_html(report)
    assert 'id="fig-shares"' in page
    assert "29.6%" in page
    assert "| gender | women | 100 | 40 | 50.0% | 29.6% | 0.59" in render_markdown(report)


def test_what_chance_makes_is_no_warning(run: RunMaker) -> None:
    run.count_by_look(0, {"gender": EVEN})
    assert check(build_report(run.directory), "exclusions.shares_kept").passed


def test_ages_are_told_and_not_judged(run: RunMaker) -> None:
    """Whoever is too young is refused by the rules: that is no unfairness between ages."""
    ages: Groups = {"under_13": (0, {"minor": 40}), "25_34": (80, {"refused": 20})}
    run.count_by_look(0, {"age_band": ages})
    report = build_report(run.directory)
    assert of(report)["under_13"].ratio == 0
    assert by_group(report).judged == ()
    assert not [c for c in report.checks if c.id == "exclusions.shares_kept"]
    assert "Whoever is too young is left out by the rules" in render_plain(report)


def test_where_nobody_counted_the_report_says_so_and_is_as_before(truthful: RunMaker) -> None:
    report = build_report(truthful.directory)
    assert report.exclusions.by_group is None
    assert b"by_group" not in report.to_json()
    assert "no store counted that when people were asked" in render_html(report)


def test_a_store_that_did_not_count_is_named(run: RunMaker) -> None:
    run.count_by_look(0, {"gender": EVEN})
    told = by_group(build_report(run.directory))
    assert told.stores_without == ("store-02",)
    assert any("store-02 counted nobody by look" in note for note in told.notes)
    assert any("store-01 the first round asked about others" in note for note in told.notes)


# -- who is given away -----------------------------------------------------------------------------


def test_a_group_of_few_is_hidden_and_so_is_who_would_give_it_away(run: RunMaker) -> None:
    groups: Groups = {"women": (60, {"refused": 40}), "men": (50, {"refused": 40}), "x": (2, {})}
    run.count_by_look(0, {"gender": groups})
    told = of(build_report(run.directory))
    assert {name: g.status for name, g in told.items()} == {
        "women": "ok",
        "men": "suppressed",
        "x": "suppressed",
    }
    assert told["x"] == AskedGroup(feature="gender", group="x", status="suppressed")


def test_few_refused_hide_a_group_as_few_people_do(run: RunMaker) -> None:
    """58 of 60 admitted tells of two people what they answered."""
    groups: Groups = {
        "women": (58, {"refused": 2}),
        "men": (50, {"refused": 40}),
        "x": (50, {"refused": 9}),
    }
    run.count_by_look(0, {"gender": groups})
    told = of(build_report(run.directory))
    assert told["women"].status == "suppressed"
    assert sorted(g.status for g in told.values()) == ["ok", "suppressed", "suppressed"]


def test_people_of_no_recorded_group_are_told_and_have_no_share(run: RunMaker) -> None:
    run.count_by_look(0, {"gender": {**EVEN, NOT_RECORDED: (10, {"refused": 10})}})
    told = of(build_report(run.directory))
    assert (told[NOT_RECORDED].asked, told[NOT_RECORDED].share_asked) == (20, None)
    assert told["women"].share_asked == 0.5


def test_few_of_no_recorded_group_hide_all_shares(run: RunMaker) -> None:
    run.count_by_look(0, {"gender": {**EVEN, NOT_RECORDED: (3, {})}})
    assert {g.status for g in of(build_report(run.directory)).values()} == {"suppressed"}


def test_reasons_of_few_stand_together(run: RunMaker) -> None:
    groups: Groups = {
        "women": (60, {"refused": 20, "expired": 1, "staff": 6}),
        "men": (60, {"refused": 30, "expired": 8, "staff": 7}),
    }
    run.count_by_look(0, {"gender": groups})
    told = of(build_report(run.directory))
    assert told["women"].refused == {"refused": 20, OTHER_REASONS: 7}
    assert told["men"].refused == {"refused": 30, OTHER_REASONS: 15}


# -- how sure --------------------------------------------------------------------------------------


def test_the_interval_of_a_ratio_misses_no_more_often_than_it_says() -> None:
    """500 gates that admit two of three of each of two groups: the true ratio is 1."""
    rng = np.random.default_rng(5)
    misses = 0
    for _ in range(500):
        row = rng.multinomial(30, [2 / 3, 1 / 3])
        whole = row + rng.multinomial(90, [2 / 3, 1 / 3])
        low, high = ratio_interval(row, whole, 0.05)
        misses += not low <= 1 <= high
    assert misses <= 25


def test_a_ratio_has_its_ends_where_everybody_or_nobody_was_admitted() -> None:
    low, high = ratio_interval(np.array([0, 20]), np.array([30, 30]), 0.05)
    assert low == 0 < high < 1
    low, high = ratio_interval(np.array([20, 0]), np.array([20, 40]), 0.05)
    assert 1 < low <= high == pytest.approx(3)
    assert ratio_interval(np.array([9, 1]), np.array([9, 1]), 0.05) == (1.0, 1.0)


# -- held against a policy -------------------------------------------------------------------------

REFERENCE = """
[representation]
least_trained_ratio = 0.8
[representation.reference.gender]
women = 0.5
men = 0.5
"""
KEPT = "[exclusions]\nleast_share_kept = 0.8\n"


@pytest.mark.parametrize(
    ("groups", "rules", "failed", "words"),
    [
        (UNEVEN, KEPT, {"policy.exclusions_by_group"}, "29.6% of those admitted; the policy asks"),
        (EVEN, KEPT, set(), "of 2 groups none surely kept less than 80%"),
        (UNEVEN, REFERENCE, {"policy.representation_trained"}, "29.6% of the people trained on, 50.0%"),
        (EVEN, REFERENCE, set(), "of 2 groups none is surely under 80%"),
        (None, KEPT, {"policy.exclusions_by_group"}, "no store counted"),
        (None, REFERENCE, {"policy.representation_trained"}, "no store counted"),
        ({"women": (3, {}), "men": (9, {})}, KEPT, {"policy.exclusions_by_group"}, "singling"),
        ({"women": (3, {}), "men": (9, {})}, REFERENCE, {"policy.representation_trained"}, "singling"),
    ],
)  # fmt: skip
def test_a_policy_decides(
    run: RunMaker, tmp_path: Path, groups: Groups | None, rules: str, failed: set[str], words: str
) -> None:
    if groups is not None:
        run.count_by_look(0, {"gender": groups})
    report = build_report(run.directory, policy=policy(tmp_path, rules))
    assert set(report.failed_checks) == failed
    (found,) = [c for c in report.checks if c.id.startswith("policy.")]
    assert words in found.evidence


def test_a_group_that_is_meant_and_was_never_asked_is_missed(run: RunMaker, tmp_path: Path) -> None:
    text = REFERENCE.replace("men = 0.5", "men = 0.4") + "others = 0.2\n"
    run.count_by_look(0, {"gender": EVEN})
    report = build_report(run.directory, policy=policy(tmp_path, text))
    told = check(report, "policy.representation_trained").evidence
    assert "gender “others”: 0.0% of the people trained on, 20.0%" in told


# -- bad files -------------------------------------------------------------------------------------


def test_numbers_that_the_store_did_not_sign_are_named(run: RunMaker) -> None:
    run.count_by_look(0, {"gender": UNEVEN})
    run.count_by_look(0, {"gender": EVEN}, sealed=False)
    report = build_report(run.directory)
    assert "manifests.verify" in report.failed_checks
    assert "signed other numbers of people by look" in check(report, "manifests.verify").evidence


def test_counts_that_are_gone_are_missed(run: RunMaker) -> None:
    run.count_by_look(0, {"gender": UNEVEN})
    run.path(0, "asked.json").unlink()
    report = build_report(run.directory)
    assert "its asked.json is gone" in check(report, "manifests.verify").evidence


def test_counts_that_appeared_afterwards_are_named(run: RunMaker) -> None:
    run.count_by_look(0, {"gender": EVEN}, sealed=False)
    assert "did not sign" in check(build_report(run.directory), "manifests.verify").evidence


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"persons": {"admitted": 1, "refused": {}}}, "do not add up"),
        ({"store": "store-02"}, "is of store 'store-02'"),
        ({"purpose": "fairness_audit"}, "purpose"),
        ({"schema": "privemo.asked/9"}, "schema"),
        ({"persons": {"admitted": -1, "refused": {}}}, "admitted"),
        ({"columns": {"gender": {}}}, "columns.gender"),
    ],
)
def test_counts_that_contradict_themselves_are_refused(
    run: RunMaker, changes: dict[str, Any], words: str
) -> None:
    run.count_by_look(0, {"gender": EVEN}, changes=changes)
    with pytest.raises(RunFilesError, match=words):
        build_report(run.directory)


def test_counts_that_a_store_kept_of_an_earlier_run_are_not_this_ones(run: RunMaker) -> None:
    run.count_by_look(0, {"gender": EVEN}, changes={"run_id": "earlier"})
    assert build_report(run.directory).exclusions.by_group is None


def test_a_torn_file_of_counts_is_named(run: RunMaker) -> None:
    run.count_by_look(0, {"gender": EVEN})
    path = run.path(0, "asked.json")
    path.write_text(path.read_text()[:-30])
    with pytest.raises(RunFilesError, match=r"asked\.json: not valid JSON"):
        build_report(run.directory)
