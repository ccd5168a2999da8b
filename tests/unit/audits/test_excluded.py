"""Accuracy at excluded ages, from a file alone: known answers, like held against like, and files that lie."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from privemo_audits import Report, RunFilesError, build_report
from privemo_audits.excluded import ExcludedInfo, age_words, compare_ages
from privemo_audits.pages import render_html
from privemo_audits.render import render_markdown
from tests.support.audit_runs import LABELS, RUN_ID, RunMaker

AGES = {
    "under_13": (0.5, 13.0),
    "13_to_17": (13.0, 18.0),
    "adults_under_challenge_age": (18.0, 25.0),
    "adults_near_challenge_age": (25.0, 35.0),
    "admitted": (25.0, 90.0),
}


def drawn(
    *, people: int = 200, wrong: dict[str, int] | None = None, model: str = "0" * 64
) -> dict[str, Any]:
    """A file in which the first so many people of each band are named wrongly."""
    label = (np.arange(people) % 4).tolist()
    mistakes = {"admitted": 20, **(wrong or {})}
    return {
        "schema": "privemo.excluded/1",
        "run_id": RUN_ID,
        "made": "2026-11-29T12:00:00Z",
        "people_exist": False,
        "model_sha256": model,
        "challenge_age": 25.0,
        "seed": 1,
        "people": people,
        "label_names": list(LABELS),
        "label": label,
        "ages": [
            {
                "band": band,
                "from": low,
                "below": high,
                "age": [(low + high) / 2] * people,
                "prediction": [
                    (true + (at < mistakes.get(band, 20))) % 4 for at, true in enumerate(label)
                ],
            }
            for band, (low, high) in AGES.items()
        ],
        "versions": {"privemo": "0.1.0"},
    }


def compared(content: dict[str, Any]) -> dict[str, Any]:
    return {age.band: age for age in compare_ages(ExcludedInfo.model_validate(content)).ages}


# -- numbers ---------------------------------------------------------------------------------------


def test_accuracy_gap_and_errors_are_those_that_were_planted() -> None:
    ages = compared(drawn(wrong={"under_13": 60}))
    child, admitted = ages["under_13"], ages["admitted"]
    assert (child.n, child.right, child.accuracy) == (200, 140, 0.7)
    assert child.gap == pytest.approx(0.2)
    assert (child.lost, child.won) == (40, 0)
    assert child.real
    assert child.gap_ci[0] > 0.1
    assert child.per_emotion["happy"].taken_for == {"sad": 15}
    assert admitted.accuracy == 0.9
    assert admitted.gap is None
    assert not ages["13_to_17"].real
    assert ages["13_to_17"].gap == 0


def test_intervals_are_those_of_clopper_and_pearson() -> None:
    low, high = compared(drawn(people=20, wrong={"under_13": 0}))["under_13"].ci
    assert high == 1.0
    assert low == pytest.approx(0.025 ** (1 / 20))


def test_rules_follow_from_the_band() -> None:
    rules = {band: age.rule for band, age in compared(drawn()).items()}
    assert rules == {
        "under_13": "refused",
        "13_to_17": "refused",
        "adults_under_challenge_age": "refused_if_estimated_younger",
        "adults_near_challenge_age": "refused_by_error",
        "admitted": "admitted",
    }


def by_chance(rng: np.random.Generator, chance: dict[str, float]) -> dict[str, Any]:
    """Answers of a model that is right with so much chance; people are easy or hard at every age."""
    content = drawn()
    label = np.array(content["label"])
    luck = rng.random(len(label))
    for band in content["ages"]:
        wrong = 0.7 * luck + 0.3 * rng.random(len(label)) > chance.get(band["band"], 0.7)
        band["prediction"] = ((label + wrong) % 4).tolist()
    return content


def test_where_ages_do_not_differ_a_gap_is_called_real_as_rarely_as_it_says() -> None:
    rng = np.random.default_rng(2)
    alarms = missed = 0
    for _ in range(200):
        ages = compared(by_chance(rng, {}))
        others = [age for band, age in ages.items() if band != "admitted"]
        alarms += any(age.real for age in others)
        missed += any(not age.gap_ci[0] <= 0 <= age.gap_ci[1] for age in others)
    assert alarms <= 200 * 0.05
    assert missed <= 200 * 0.05


def test_a_gap_of_ten_points_is_found_in_two_hundred_people() -> None:
    """Unpaired it would take a thousand: the same people at each age are what makes it seen."""
    rng = np.random.default_rng(3)
    found = sum(compared(by_chance(rng, {"under_13": 0.58}))["under_13"].real for _ in range(50))
    assert found >= 45


def test_words_for_ages() -> None:
    assert [age_words(age) for age in compared(drawn()).values()] == [
        "under 13",
        "13 to 17",
        "18 to 24",
        "25 to 34",
        "25 and over",
    ]


# -- in a report -----------------------------------------------------------------------------------


def written(run: RunMaker, **changes: Any) -> dict[str, Any]:
    model = hashlib.sha256((run.directory / "model.safetensors").read_bytes()).hexdigest()
    return drawn(model=model, **changes)


def audited(run: RunMaker, content: dict[str, Any]) -> Report:
    (run.directory / "excluded.json").write_text(json.dumps(content))
    return build_report(run.directory)


def test_the_report_tells_it_and_the_verdict_does_not_hang_on_it(run: RunMaker) -> None:
    before = build_report(run.directory)
    report = audited(run, written(run, wrong={"under_13": 190}))
    assert report.excluded is not None
    assert report.excluded.people_exist is False
    assert report.passed == before.passed
    assert "excluded.json" in report.evidence.files
    assert any("drawn minors worse" in sentence for sentence in report.summary)
    page, text = render_html(report), render_markdown(report)
    for words in ("5.0%", "under 13", "stays excluded", "People who do not exist".lower()):
        assert words in page.lower()
        assert words in text.lower() or words == "5.0%"
    assert Report.from_json(report.to_json()) == report


def test_good_accuracy_lifts_nothing(run: RunMaker) -> None:
    report = audited(run, written(run, wrong={"under_13": 0, "13_to_17": 0}))
    assert any("minors stay excluded" in sentence for sentence in report.summary)
    assert report.exclusions == build_report(run.directory).exclusions


def test_where_nobody_asked_the_report_says_so(run: RunMaker) -> None:
    report = build_report(run.directory)
    assert report.excluded is None
    assert any("privemo excluded" in limit for limit in report.limits)
    assert "Nobody asked." in render_html(report)
    assert "At ages that the rules exclude" not in render_markdown(report)


def they_exist(content: dict[str, Any]) -> None:
    content["people_exist"] = True


def other_run(content: dict[str, Any]) -> None:
    content["run_id"] = "another"


def other_model(content: dict[str, Any]) -> None:
    content["model_sha256"] = "1" * 64


def other_challenge_age(content: dict[str, Any]) -> None:
    content["challenge_age"] = 30


def an_adult_among_children(content: dict[str, Any]) -> None:
    content["ages"][0]["age"][3] = 40.0


def a_child_among_adults(content: dict[str, Any]) -> None:
    content["ages"][-1]["age"][3] = 12.0


def not_an_age(content: dict[str, Any]) -> None:
    content["ages"][0]["age"][3] = float("nan")


def somebody_left_out(content: dict[str, Any]) -> None:
    content["ages"][1]["prediction"].pop()


def an_emotion_without_a_name(content: dict[str, Any]) -> None:
    content["ages"][1]["prediction"][0] = 4


def nobody_to_compare_with(content: dict[str, Any]) -> None:
    content["ages"].pop()


def one_band_twice(content: dict[str, Any]) -> None:
    content["ages"].append(content["ages"][0])


def a_band_of_its_own(content: dict[str, Any]) -> None:
    content["ages"][0]["band"] = "toddlers"


def a_key_too_many(content: dict[str, Any]) -> None:
    content["pictures"] = []


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (they_exist, "people_exist"),
        (other_run, "is of run another"),
        (other_model, "is of model 1111"),
        (other_challenge_age, "is of challenge age 30"),
        (an_adult_among_children, "of another age"),
        (a_child_among_adults, "of another age"),
        (not_an_age, "excluded.json"),
        (somebody_left_out, "each of the 200 people once"),
        (an_emotion_without_a_name, "emotion without a name"),
        (nobody_to_compare_with, "each band is due once"),
        (one_band_twice, "each band is due once"),
        (a_band_of_its_own, "no band is called 'toddlers'"),
        (a_key_too_many, "pictures"),
    ],
)
def test_a_file_that_is_not_what_it_says_is_named(
    run: RunMaker, spoil: Callable[[dict[str, Any]], None], words: str
) -> None:
    content = written(run)
    spoil(content)
    with pytest.raises(RunFilesError, match=words) as error:
        audited(run, content)
    assert "excluded.json" in str(error.value)


def test_a_torn_file_is_named(run: RunMaker) -> None:
    (run.directory / "excluded.json").write_text(json.dumps(written(run))[:-20])
    with pytest.raises(RunFilesError, match=r"excluded\.json"):
        build_report(run.directory)
