"""`privemo recommend` and `privemo bench recommend`, as they are typed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest

from privemo.cli import main
from privemo.recommend import Recommender, default_policy
from tests.support.recommend import CONTEXT, EVENING, read_as, shelf, shop, taught


def said(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    """Exit code and both outputs of the command, in this process: a dozen of its own would take a minute."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["privemo", *map(str, arguments)])
        with pytest.raises(SystemExit) as done:
            main()
    heard = capsys.readouterr()
    return int(done.value.code or 0), heard.out, heard.err


def privemo(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "privemo", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "COLUMNS": "120"},
    )


def test_check_says_what_a_policy_allows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, told, _ = said(capsys, "recommend", "check", "--json")
    assert code == 0
    assert json.loads(told)["sha256"] == default_policy().sha256
    text = (files("privemo.recommend") / "data/policy.toml").read_text()
    path = tmp_path / "policy.toml"
    path.write_text(text.replace("[limits]", "[limits]\nage_band = '65_plus'"))
    code, _, sentence = said(capsys, "recommend", "check", path)
    assert code == 2
    assert "a policy knows no such word" in " ".join(sentence.split())


def test_status_says_what_was_done_and_what_it_is_worth(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    taught(tmp_path / "r")
    with shop(tmp_path) as registry:
        recommender = Recommender(registry, CONTEXT, tmp_path / "r", seed=1)
        for person in ("ann", "tom"):
            recommender.rank(shelf(), person=person, emotion=read_as("sad"), circumstances=EVENING)
    code, printed, _ = said(capsys, "recommend", "status", tmp_path / "r", "--json")
    assert code == 0
    told = json.loads(printed)
    assert told["reactions"] == 2000
    assert told["evaluation"]["verdict"] == "better"
    assert {"event": "ranked", "reason": "wrong_purpose", "count": 1} in told["events"]
    _, plain, _ = said(capsys, "recommend", "status", tmp_path / "r")
    assert "than the shop's order: better" in plain


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("status", "nowhere"), "no folder of a recommender"),
        (("status", "."), "no folder of a recommender"),
        (("check", "nowhere.toml"), "cannot be read"),
        (("simulate", "--repeats", "2"), "5 at least"),
        (("simulate", "--accuracy", "0.1"), "accuracy"),
        (("simulate", "--effect", "nan"), "effect"),
        (("simulate", "--accuracy", "0.5", "--report", "r.json"), "leave out --accuracy"),
        (("simulate", "--report", "nowhere.json"), "cannot be read"),
        (("simulate", "--group-accuracy", "65_plus"), "want GROUP=X"),
        (("simulate", "--group-accuracy", "65_plus=2"), "accuracy"),
        (("simulate", "--group-accuracy", "poor=0.5"), "got group poor"),
        (("simulate", "--contrary", "poor"), "got group poor"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(
    arguments: tuple[str, ...], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, sentence = said(capsys, "recommend", *arguments)
    assert code == 2
    assert told in sentence
    assert sentence.count("\n") <= 2


def test_simulate_misreads_as_a_report_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    confusion = {
        "labels": ["sad", "happy", "neutral", "surprise"],
        "counts": [[8, 2, 0, 0], [0, 10, 0, 0], [0, 0, 10, 0], [5, 0, 0, 5]],
    }
    path = tmp_path / "report.json"
    path.write_text(json.dumps({"performance": {"confusion": confusion}}))
    done = privemo(
        *(
            "recommend",
            "simulate",
            "--report",
            path,
            "--shoppers",
            "200",
            "--repeats",
            "5",
            "--json",
        )
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["store"]["confusion"][1] == [0.2, 0.8, 0.0, 0.0]
    assert told["untouched"]["identical"] == told["untouched"]["refused"] > 0
    assert len(told["verdicts"]) == len(told["comparisons"]) == 6
    path.write_text('{"performance": {}}')
    code, _, sentence = said(capsys, "recommend", "simulate", "--report", path)
    assert code == 2
    assert "no report with a confusion table" in sentence


@pytest.mark.slow
def test_the_benchmark_meets_its_goals() -> None:
    done = privemo("bench", "recommend", "--json")
    assert done.returncode == 0, done.stderr
    found = {f["figure"]: f for f in map(json.loads, done.stdout.splitlines())}
    assert found["recommend_refused_identical"]["met"] is True
    assert found["recommend_effect_0_most_there_is_to_gain_low"]["met"] is True
