"""Thresholds somebody answers for: read strictly, held against the figures, and kept in the report."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from privemo_audits import PolicyError, Report, build_report, load_policy
from tests.support.audit_runs import RunMaker

HEAD = 'schema = "privemo.policy/1"\n'


def policy(folder: Path, text: str) -> Path:
    path = folder / "policy.toml"
    path.write_text(HEAD + text)
    return path


def report(run: RunMaker, folder: Path, text: str) -> Report:
    return build_report(run.directory, policy=policy(folder, text))


def outcomes(made: Report) -> dict[str, bool]:
    return {c.id: c.passed for c in made.checks if c.id.startswith("policy.")}


EASY = """
[performance]
least_accuracy = 0.01
least_f1 = 0.0
most_calibration_error = 1.0
[fairness]
most_gap = 1.0
least_group_accuracy = 0.0
[privacy]
most_epsilon = 1000.0
most_delta = 0.5
[exclusions]
most_refused = 1.0
"""
HARD = """
[performance]
least_accuracy = 1.0
least_f1 = 1.0
most_calibration_error = 0.0
[privacy]
most_epsilon = 0.001
most_delta = 1e-12
[exclusions]
most_refused = 0.0
"""


def test_a_policy_that_is_met_passes_and_stands_in_the_report(
    truthful: RunMaker, tmp_path: Path
) -> None:
    made = report(truthful, tmp_path, EASY)
    assert made.passed
    assert all(outcomes(made).values())
    assert len(outcomes(made)) == 8
    assert made.policy is not None
    assert made.policy.rules["performance"]["least_accuracy"] == 0.01
    assert made.policy.sha256 == hashlib.sha256((tmp_path / "policy.toml").read_bytes()).hexdigest()
    assert Report.from_json(made.to_json()) == made


def test_each_rule_that_is_not_met_fails_the_audit_by_name(
    truthful: RunMaker, tmp_path: Path
) -> None:
    made = report(truthful, tmp_path, HARD)
    assert not made.passed
    assert not any(outcomes(made).values())
    assert set(outcomes(made)) <= set(made.failed_checks)
    for check in made.checks:
        if check.id.startswith("policy."):
            assert "the policy" in check.evidence


def test_what_a_policy_does_not_name_is_not_asked(truthful: RunMaker, tmp_path: Path) -> None:
    made = report(truthful, tmp_path, "[privacy]\nmost_epsilon = 100\n")
    assert outcomes(made) == {"policy.epsilon": True}
    assert build_report(truthful.directory).policy is None


def test_a_gap_that_is_planted_fails_and_the_groups_are_named(
    make_run: Callable[..., RunMaker], tmp_path: Path
) -> None:
    run = make_run(accuracy=lambda person: 0.95 if person["gender"] == "men" else 0.4)
    made = report(run, tmp_path, "[fairness]\nmost_gap = 0.1\nleast_group_accuracy = 0.6\n")
    found = {c.id: c for c in made.checks}
    assert not found["policy.group_gap"].passed
    assert "by gender “men” is" in found["policy.group_gap"].evidence
    assert not found["policy.group_accuracy"].passed
    assert "gender “women”" in found["policy.group_accuracy"].evidence


def test_a_gap_that_chance_could_make_does_not_fail(truthful: RunMaker, tmp_path: Path) -> None:
    made = report(truthful, tmp_path, "[fairness]\nmost_gap = 0.0\n")
    assert any((gap.accuracy_gap or 0) > 0 for gap in made.gaps)
    assert outcomes(made) == {"policy.group_gap": True}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[fairness\n", "cannot be read"),
        ("[performance]\nleast_acuracy = 0.5\n", r"least_acuracy is no rule; there are: least_acc"),
        ("[performence]\n", "performence is no rule; there are: exclusions, fairness"),
        ("[performance]\nleast_accuracy = 50\n", "least_accuracy.*less than or equal to 1"),
        ("[privacy]\nmost_epsilon = nan\n", "most_epsilon"),
        ("[privacy]\nmost_epsilon = -1\n", "greater than 0"),
    ],
)
def test_a_policy_that_asks_for_nonsense_is_refused(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(PolicyError, match=says):
        load_policy(policy(tmp_path, text))


def test_a_policy_without_a_schema_or_a_file_is_refused(tmp_path: Path) -> None:
    bare = tmp_path / "bare.toml"
    bare.write_text("[privacy]\nmost_epsilon = 8\n")
    with pytest.raises(PolicyError, match="names no schema"):
        load_policy(bare)
    with pytest.raises(PolicyError, match="cannot be read"):
        load_policy(tmp_path / "nowhere.toml")
    bare.write_text('schema = "privemo.policy/9"\n')
    with pytest.raises(PolicyError, match="schema"):
        load_policy(bare)


def test_a_control_that_the_predictions_do_not_have_is_named(
    truthful: RunMaker, tmp_path: Path
) -> None:
    with pytest.raises(PolicyError, match=r"fairness\.controls names weather, and .* gender"):
        report(truthful, tmp_path, '[fairness]\ncontrols = ["weather"]\n')
    held = report(truthful, tmp_path, '[fairness]\ncontrols = ["store"]\n')
    assert {gap.control for gap in held.gaps} == {None, "store"}
