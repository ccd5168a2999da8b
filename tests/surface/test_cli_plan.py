"""`privemo plan` and `privemo budget` as their user meets them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from privemo.budget import Budget
from privemo.ledger import Ledger
from privemo.releases import Mechanism
from tests.surface.test_cli import privemo
from tests.unit.privemo.test_ledger import FIELDS


@pytest.fixture
def budget(tmp_path: Path) -> Budget:
    made = Budget(tmp_path / "people.budget")
    made.reserve(run_id="r", data="", plan=[Mechanism(2.0, 0.1, 50)], epsilon=8.0, delta=1e-5)
    return made


def test_a_plan_says_what_to_take_and_why() -> None:
    done = privemo("plan", "--people", "300", "--epsilon", "8", "--epochs", "10")
    assert done.returncode == 0, done.stderr
    assert "300 people, epsilon 8 at delta 1e-05 (RDP)" in done.stdout
    assert "Recommended: batch 128 (sample rate 0.4267), 23 steps with noise 1.56" in done.stdout
    assert "PLD (dp-accounting) 7." in done.stdout


def test_a_plan_as_json_counts_what_was_spent(budget: Budget) -> None:
    arguments = ("plan", "--people", "300", "--batch", "64", "--epochs", "10", "--json")
    fresh = json.loads(privemo(*arguments).stdout)
    later = json.loads(privemo(*arguments, "--spent", budget.path).stdout)
    assert later["spent_before"] > fresh["spent_before"] == 0
    noise = [each["recommended"]["noise_multiplier"] for each in (fresh, later)]
    assert noise[1] > noise[0]
    assert later["reached"]["rdp"] == pytest.approx(8.0, rel=1e-3)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--people", "300", "--batch", "301"), "more than the 300 of a store"),
        (("--people", "300", "--sample-rate", "1.5"), "at most 1, not 1.5"),
        (("--people", "300000"), "too large for 300,000 people"),
        (("--people", "300", "--spent", "nowhere.budget"), "nowhere.budget cannot be read"),
    ],
)
def test_a_plan_that_cannot_be_is_one_sentence(arguments: tuple[str, ...], says: str) -> None:
    done = privemo("plan", *arguments)
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_what_was_spent_adds_up_over_files(tmp_path: Path, budget: Budget) -> None:
    ledger = tmp_path / "ledger.jsonl"
    Ledger(ledger).append(round=1, **FIELDS)
    done = privemo("budget", budget.path, ledger, "--json")
    assert done.returncode == 0, done.stderr
    alone, other, both = json.loads(done.stdout)["spent"]
    assert both["files"] == sorted([str(budget.path), str(ledger)])
    for bound in ("rdp", "prv"):
        assert max(alone[bound], other[bound]) < both[bound] < alone[bound] + other[bound]
    assert f"{both['rdp']:.3f}" in privemo("budget", budget.path, ledger).stdout


def test_a_run_that_has_not_ended_is_named_until_it_settles(budget: Budget) -> None:
    said = privemo("budget", budget.path)
    assert "not ended: r." in said.stderr + said.stdout
    assert json.loads(privemo("budget", budget.path, "--json").stdout)["unfinished"] == {
        str(budget.path): ["r"]
    }
    budget.settle(0, [])
    assert "not ended" not in (done := privemo("budget", budget.path)).stderr + done.stdout


def test_a_file_of_another_kind_is_no_damaged_budget(tmp_path: Path) -> None:
    path = tmp_path / "faces.npz"
    path.write_bytes(b"PK\x03\x04 no budget")
    done = privemo("budget", path)
    assert done.returncode == 2
    assert "neither a ledger nor a budget" in done.stderr


def test_the_command_under_a_plan_is_one_that_train_understands() -> None:
    done = privemo("plan", "--people", "300", "--epsilon", "8", "--epochs", "10")
    (line,) = (t for t in (done.stdout + done.stderr).splitlines() if "As options:" in t)
    words = line.split("privemo ")[1].split()
    assert words[:5] == ["train", "--rounds", "23", "--steps", "1"]
    known = privemo("train", "--help").stdout
    assert all(word in known for word in words if word.startswith("--"))
