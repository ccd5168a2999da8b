"""`privemo plan` and `privemo budget` as their user meets them."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import numpy as np
import pytest

from privemo.budget import Budget, read_releases, unfinished
from privemo.errors import BudgetExhausted
from privemo.ledger import Ledger
from privemo.releases import Mechanism, Stated, merged
from tests.conftest import noise_faces
from tests.surface.test_cli import privemo
from tests.surface.test_docs import DOCS
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
        (("--people", "300", "--epochs", "1e9"), "ask for fewer epochs"),
        (("--people", "300", "--sample-rate", "1e-9"), "or a larger batch"),
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


def commands(done: CompletedProcess[str]) -> dict[str, list[str]]:
    """What stands under a plan: the words of each command, by what it trains."""
    lines = (line.partition(": ") for line in done.stderr.splitlines() if ": privemo " in line)
    return {name: shlex.split(words)[1:] for name, _, words in lines}


def noise_of(words: list[str], tmp_path: Path) -> float:
    """Type a command in, and read off the noise of the run that it made."""
    np.savez(tmp_path / "faces.npz", **noise_faces(60))
    places = iter([tmp_path / "faces.npz", tmp_path / "run"])
    typed = [next(places) if word == "..." else word for word in words]
    done = privemo(*typed, "--init", "scratch", "--model", "gray-cnn", "--seed", "3")
    assert done.returncode == 0, done.stderr
    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    return float(facts["privacy"]["noise_multiplier"])


@pytest.mark.parametrize(
    "asked",
    [
        ("--epsilon", "7.1234567", "--delta", "1.23456789e-5", "--batch", "7"),
        ("--accountant", "prv", "--images-per-person", "2"),
        ("--stores", "2", "--stores-per-person", "2", "--batch", "5"),
        ("--spent", "people.budget", "--epsilon", "9"),
    ],
)
def test_the_command_under_a_plan_trains_with_the_noise_of_the_plan(
    asked: tuple[str, ...], budget: Budget, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ("plan", "--people", "20", "--epochs", "1", *asked)
    planned = json.loads(privemo(*arguments, "--json").stdout)
    done = privemo(*arguments)
    assert done.returncode == 0, done.stderr
    printed = commands(done)["As options"]
    assert noise_of(printed, tmp_path) == planned["recommended"]["noise_multiplier"]
    assert ("--budget" in printed) == ("--spent" in asked)
    if "--spent" in asked:  # and the run was charged
        assert len(Budget(budget.path).entries) > len(budget.entries)


def test_the_recipe_comes_first_and_its_command_is_the_recipes() -> None:
    arguments = ("plan", "--people", "1500", "--batch", "128")
    planned = json.loads(privemo(*arguments, "--json").stdout)
    recipe, epsilon = planned["recipe"], planned["recipe_reached"]["rdp"]
    assert (recipe["batch"], recipe["sample_rate"], recipe["steps"]) == (750, 0.5, 15)
    done = privemo(*arguments)
    title, best = "By the recipe, where no option says otherwise", "Recommended: "
    assert done.stdout.index(title) < done.stdout.index(best)
    row = done.stdout[done.stdout.index(title) :].split("->")[1].split("\n")[0]
    for cell in ("750", "15", f"{recipe['noise_multiplier']:.3f}", f"{recipe['signal']:.0%}"):
        assert f" {cell} " in row
    assert f"of the recipe, with all before: RDP (Opacus) {epsilon:.4f}" in done.stdout
    words = commands(done)["By the recipe"]
    assert words[:3] == ["train", "--epsilon", "8"]
    assert words[5:7] == ["--declared-people", "1500"]
    assert "--rounds" not in words


def test_where_no_budget_holds_what_was_spent_no_command_is_printed(
    tmp_path: Path, budget: Budget
) -> None:
    ledger = tmp_path / "ledger.jsonl"
    Ledger(ledger).append(round=1, **FIELDS)
    arguments = ("plan", "--people", "20", "--epochs", "1", "--epsilon", "20")
    for spent, why in (
        (("--spent", ledger), "ledger.jsonl is a ledger"),
        (("--spent", budget.path, "--spent", ledger), "are several files"),
    ):
        done = privemo(*arguments, *spent)
        assert done.returncode == 0, done.stderr
        assert not commands(done)
        said = " ".join(done.stderr.split())
        assert why in said
        assert "carry what stands there into one budget file first" in said


def test_ledgers_are_carried_into_one_budget_as_the_docs_say(
    tmp_path: Path, budget: Budget
) -> None:
    text = (DOCS / "how-to" / "budget.md").read_text()
    (code,) = (b for b in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "def carry" in b)
    named: dict[str, Any] = {}
    exec(code, named)  # noqa: S102 - our own page
    budget.state("a count", Stated(0.5, 1e-7), epsilon=20, delta=1e-5)
    ledger, into = tmp_path / "ledger.jsonl", tmp_path / "all.budget"
    Ledger(ledger).append(round=1, **FIELDS)
    with pytest.raises(BudgetExhausted):
        named["carry"]([budget.path, ledger], into, epsilon=1)
    assert not Budget(into).entries
    named["carry"]([budget.path, ledger], into, epsilon=20)
    both = [*read_releases(budget.path), *read_releases(ledger)]
    assert merged(read_releases(into)) == merged(both)
    assert unfinished(into) == []


def test_a_bound_over_the_budget_is_explained() -> None:
    done = privemo("plan", "--people", "20", "--epochs", "2")
    said = done.stdout.split("RDP (dp-accounting) ")[-1].split(",")[0]
    assert (float(said) > 8) == ("too much" in done.stderr)
    assert "up to 0.3% too much" in privemo("plan", "--people", "1500", "--batch", "128").stderr
