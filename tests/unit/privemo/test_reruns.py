"""Runs on the same people add up: in one store's folder, and over run folders with one budget file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from privemo import simulation
from privemo.budget import Budget
from privemo.config import PrivacySettings, RunSettings
from privemo.dp import composed
from privemo.errors import BudgetExhausted
from privemo.faces import load_faces
from privemo.files import write_json
from privemo.orders import RoundOrder
from privemo.runs import Run
from privemo.store import Store
from tests.conftest import noise_faces
from tests.support.small_runs import small_run


def join(folder: Path, run_id: str) -> Store:
    """The store's own people let it take part in another run."""
    path = folder / "store.json"
    write_json(path, {**json.loads(path.read_text()), "run_id": run_id})
    return Store(folder)


def test_a_second_run_of_the_same_store_starts_where_the_first_one_ended(tmp_path: Path) -> None:
    run = small_run(tmp_path)
    order = run.order_for(1)
    weights = run.last_whole_round()[1]
    folder = run.folder / "stores" / "store-01"
    store = Store(folder)
    assert store.train_round(weights, order).reason is None
    store.close()
    again = join(folder, "another-run")
    try:
        later = RoundOrder("another-run", 1, order.model, order.recipe, order.threads)
        assert again.train_round(weights, later).reason is None
        first, second = again.ledger.entries
        assert (first.run_id, second.run_id) == (run.run_id, "another-run")
        assert second.epsilon_rdp > first.epsilon_rdp
        # Two rounds of two were planned for; the budget is gone, whatever the run is called.
        third = RoundOrder("another-run", 2, order.model, order.recipe, order.threads)
        assert again.train_round(weights, third).reason == "budget_exhausted"
    finally:
        again.close()


def test_a_store_without_its_ledger_does_not_start_at_nothing(tmp_path: Path) -> None:
    run = small_run(tmp_path)
    folder = run.folder / "stores" / "store-01"
    store = Store(folder)
    weights = run.last_whole_round()[1]
    assert store.train_round(weights, run.order_for(1)).reason is None
    store.close()
    (folder / "ledger.jsonl").unlink()
    again = join(folder, "another-run")
    try:
        with pytest.raises(Exception, match="what was spent stays spent"):
            again.ledger  # noqa: B018
    finally:
        again.close()


def prepared(tmp_path: Path, name: str, epsilon: float, **changes: Any) -> Run:
    data = tmp_path / "faces.npz"
    if not data.exists():
        np.savez(data, **noise_faces(60))
    settings = RunSettings.of(
        **{
            "stores": 2,
            "rounds": 1,
            "steps_per_round": 3,
            "privacy": PrivacySettings(epsilon=epsilon, sample_rate=0.5),
            "declared_people": 10,
            "init": "scratch",
            "threads": 1,
            **changes,
        }
    )
    budget = tmp_path / "people.budget"
    return simulation.prepare(load_faces(data), tmp_path / name, settings, budget=budget)


def test_two_run_folders_with_one_budget_file_compose(tmp_path: Path) -> None:
    first = prepared(tmp_path, "one", epsilon=3.0)
    simulation.run(first)
    simulation.finish(first)
    budget = Budget(tmp_path / "people.budget")
    assert budget.open_reservations() == []
    second = prepared(tmp_path, "two", epsilon=8.0)
    facts = second.facts["privacy"]
    assert len(facts["spent_before"]) == 1
    budget.refresh()
    whole = composed(budget.history(), delta=1e-5, accountant="rdp")
    assert 7.9 < whole <= 8.0
    alone = [composed([m], delta=1e-5, accountant="rdp") for m in budget.history()]
    assert max(alone) < 7.8  # the second alone is less than its 8
    with pytest.raises(BudgetExhausted):
        prepared(tmp_path, "three", epsilon=8.0)
    assert not (tmp_path / "three").exists()
