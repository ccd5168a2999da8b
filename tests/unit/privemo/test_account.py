"""Runs on the same people add up in their budget file, whatever becomes of each run."""

from __future__ import annotations

import fcntl
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from privemo import simulation
from privemo.budget import Budget
from privemo.config import PrivacySettings
from privemo.dp import composed
from privemo.errors import BudgetExhausted, LedgerError, RunError, SettingsError
from privemo.faces import load_faces
from privemo.releases import Mechanism
from privemo.runs import Run
from privemo_audits import build_report
from tests.support.small_runs import small_run

ONE_ROUND = {"stores": 1, "rounds": 1, "steps_per_round": 2}


@pytest.fixture
def budget(tmp_path: Path) -> Path:
    return tmp_path / "people.budget"


def prepared(folder: Path, budget: Path, epsilon: float = 8.0, **changes: Any) -> Run:
    folder.mkdir()
    privacy = PrivacySettings(epsilon=epsilon, sample_rate=0.5)
    return small_run(folder, budget=budget, **{**ONE_ROUND, "privacy": privacy, **changes})


def finished(run: Run) -> Run:
    simulation.run(run)
    simulation.finish(run)
    return run


def test_a_second_run_gets_what_the_first_left(tmp_path: Path, budget: Path) -> None:
    first = finished(prepared(tmp_path / "a", budget, epsilon=4.0))
    second = finished(prepared(tmp_path / "b", budget, epsilon=8.0))
    noise = [run.facts["privacy"]["noise_multiplier"] for run in (first, second)]
    alone = prepared(tmp_path / "c", tmp_path / "another.budget").facts["privacy"]
    assert noise[1] > alone["noise_multiplier"]
    together = composed(Budget(budget).history(), delta=1e-5, accountant="rdp")
    assert 7.9 < together <= 8.0
    assert second.facts["privacy"]["spent_before"] == [
        {"noise_multiplier": noise[0], "sample_rate": 0.5, "steps": 2, "discrete": False}
    ]
    assert build_report(second.folder).passed
    with pytest.raises(BudgetExhausted):
        prepared(tmp_path / "d", budget, epsilon=7.0)


def test_the_stores_wall_counts_what_was_spent_before(tmp_path: Path, budget: Path) -> None:
    finished(prepared(tmp_path / "a", budget, epsilon=4.0))
    run = prepared(tmp_path / "b", budget)
    path = run.folder / "stores" / "store-01" / "store.json"
    content = json.loads(path.read_text())
    assert content["spent_before"] == run.facts["privacy"]["spent_before"]
    noise = run.facts["privacy"]["noise_multiplier"]
    alone = composed([Mechanism(noise, 0.5, 2)], delta=1e-5, accountant="rdp")
    content["epsilon_budget"] = (alone + 8.0) / 2  # this run alone would fit, both together do not
    path.write_text(json.dumps(content))
    with pytest.raises(RunError, match="budget_exhausted"):
        simulation.run(run)


def test_a_run_is_charged_in_full_before_it_trains_and_settled_when_it_ends(
    tmp_path: Path, budget: Path
) -> None:
    run = prepared(tmp_path / "a", budget)
    (held,) = Budget(budget).open_reservations()
    assert [r.steps for r in held.releases] == [2]
    assert run.facts["budget"] == {"file": "../../people.budget", "number": 0}
    finished(run)
    simulation.finish(run)  # once more: nothing happens
    after = Budget(budget)
    assert after.open_reservations() == []
    assert [e.kind for e in after.entries] == ["reserved", "settled"]
    assert after.history() == run.store("store-01").ledger.releases()


def test_a_run_that_is_not_laid_out_costs_nothing(tmp_path: Path, budget: Path) -> None:
    run = prepared(tmp_path / "a", tmp_path / "unused.budget")
    table = load_faces(tmp_path / "a" / "faces.npz")

    def stop(event: dict[str, object]) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulation.prepare(table, tmp_path / "never", run.settings, budget=budget, listener=stop)
    assert not (tmp_path / "never").exists()
    assert Budget(budget).history() == []


def test_a_copy_of_a_run_cannot_train_for_nothing(tmp_path: Path, budget: Path) -> None:
    run = prepared(tmp_path / "a", budget, seed=None)
    late, beside = (
        Path(shutil.copytree(run.folder, tmp_path / "a" / n)) for n in ("late", "beside")
    )
    simulation.run(Run(beside))
    finished(run)
    with pytest.raises(BudgetExhausted, match="copy of a run that did"):
        simulation.run(Run(late))
    simulation.finish(Run(beside))  # trained at the same time, unseeded: other updates
    both = [r for name in (run, Run(beside)) for r in name.store("store-01").ledger.releases()]
    assert Budget(budget).history() == both


def test_a_run_that_fails_before_anything_left_costs_nothing(tmp_path: Path, budget: Path) -> None:
    run = prepared(tmp_path / "a", budget, declared_people=500)
    assert Budget(budget).history() != []
    with pytest.raises(RunError, match="too_few_people"):
        simulation.run(run)
    assert Budget(budget).history() == []
    with pytest.raises(
        BudgetExhausted
    ):  # it was given back: this folder has nothing to spend any more
        simulation.run(run)


def test_a_run_that_went_to_infinity_is_not_given_back(tmp_path: Path, budget: Path) -> None:
    run = prepared(tmp_path / "a", budget, lr=1000.0, proximal=100.0, steps_per_round=12)
    with pytest.raises(RunError, match="recipe_refused"):
        simulation.run(run)
    assert all(run.store(name).ledger.entries for name in run.stores)
    assert len(Budget(budget).open_reservations()) == len(Budget(budget).history()) == 1


def test_a_second_process_does_not_give_back_what_the_first_is_about_to_spend(
    tmp_path: Path, budget: Path
) -> None:
    run = prepared(tmp_path / "a", budget)
    with (run.folder / ".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(RunError, match="by another process"):
            simulation.run(run)
    assert [entry.what for entry in Budget(budget).open_reservations()] == [run.run_id]


def test_ctrl_c_just_after_a_run_stands_leaves_it_charged(
    tmp_path: Path, budget: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.rename

    def interrupted(self: Path, to: Path) -> Path:
        rename(self, to)
        if "preparing" in self.name:
            raise KeyboardInterrupt
        return to

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepared(tmp_path / "a", budget)
    (held,) = Budget(budget).open_reservations()
    assert [r.steps for r in held.releases] == [2]


def test_a_budget_that_is_gone_at_the_end_is_said_and_stays_charged(
    tmp_path: Path, budget: Path
) -> None:
    run = prepared(tmp_path / "a", budget)
    simulation.run(run)
    budget.rename(tmp_path / "elsewhere")
    said: list[dict[str, object]] = []
    simulation.finish(run, listener=said.append)
    (note,) = (e for e in said if e["event"] == "note")
    assert "is gone" in str(note["text"])
    assert not budget.exists()


def test_a_damaged_budget_stops_a_run_before_it_is_laid_out(tmp_path: Path, budget: Path) -> None:
    prepared(tmp_path / "a", budget)
    budget.write_text(budget.read_text().replace('"steps":2', '"steps":1'))
    with pytest.raises(LedgerError):
        prepared(tmp_path / "b", budget)
    assert not (tmp_path / "b" / "run").exists()


def test_a_run_without_privacy_has_no_place_in_a_budget(tmp_path: Path, budget: Path) -> None:
    with pytest.raises(SettingsError, match="without privacy"):
        small_run(tmp_path, budget=budget, **ONE_ROUND | {"privacy": None, "plain": {}})
    assert not budget.exists()


def test_delta_must_promise_something_to_so_many_people(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"Delta 0\.1 is too large for 20 people"):
        small_run(tmp_path, privacy={"epsilon": 8.0, "delta": 0.1, "sample_rate": 0.5})
