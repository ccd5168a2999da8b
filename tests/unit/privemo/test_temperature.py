"""A model is made as sure as it is right: by whom it is told, and what that costs them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from privemo import simulation
from privemo.budget import Budget
from privemo.errors import BudgetExhausted, RunError, SettingsError
from privemo.exporting.heldout import FILE, fit_on_held_out
from privemo.exporting.temperature import (
    TEMPERATURES,
    UNIT,
    calibration_error,
    fit_on_nobody,
    losses_of,
    surer_than_right,
    tempered,
)
from privemo.heldoutaccount import HeldOutAccount
from privemo.heldoutledger import FILE as LEDGER
from privemo.runs import Run
from privemo_audits import build_report
from privemo_consent import Purpose
from tests.support.small_runs import small_run

HASH = "0" * 64
Says = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


def planted(people: int, by: float, seed: int = 0) -> tuple[NDArray[np.float64], ...]:
    """People of whom a model would say the truth by this temperature: said, label and person."""
    rng = np.random.default_rng(seed)
    logits = 2 * rng.standard_normal((people, 4))
    true = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    label = np.array([rng.choice(4, p=p) for p in true])
    return tempered(true, 1 / by), label, np.array([f"p{k}" for k in range(people)])


@pytest.mark.parametrize("by", [0.5946, 1.0, 1.6818, 3.3636])
def test_a_planted_temperature_is_found(by: float) -> None:
    said, label, person = planted(4000, by)
    losses = losses_of(surer_than_right(said, label, person))
    found = TEMPERATURES[int(losses.argmin())]
    assert found == pytest.approx(by, rel=0.1)  # the next one, at most
    error = calibration_error(tempered(said, found), label)
    assert error < 0.03
    assert error <= calibration_error(said, label) + 0.01


def test_nobody_who_does_not_exist_makes_a_model_surer() -> None:
    unsure, sure = planted(1000, 0.5946), planted(1000, 2.0)
    assert fit_on_nobody(*unsure) == 1.0
    assert fit_on_nobody(*sure) == pytest.approx(2.0, rel=0.1)


def test_a_temperature_changes_how_sure_and_never_what() -> None:
    said, _, _ = planted(300, 1.0)
    for temperature in TEMPERATURES:
        after = tempered(said, temperature)
        assert (after.argmax(axis=1) == said.argmax(axis=1)).all()
        np.testing.assert_allclose(after.sum(axis=1), 1)
    np.testing.assert_allclose(tempered(said, 1.0), said)


def test_a_table_of_one_emotion_and_one_of_nobody() -> None:
    said, label, person = planted(200, 1.0)
    one = surer_than_right(said, np.zeros_like(label), person)
    assert -UNIT <= one.min() <= one.max() <= UNIT
    assert fit_on_nobody(said, np.zeros_like(label), person) in TEMPERATURES
    right = np.eye(4)[
        np.zeros(50, dtype=int)
    ]  # certain, and right about everybody: nothing to put right
    assert fit_on_nobody(right, np.zeros(50, dtype=int), person[:50]) == 1.0
    nobody = surer_than_right(said[:0], label[:0], person[:0])
    assert nobody.shape == (0, len(TEMPERATURES))
    assert not losses_of(nobody).any()


def test_what_is_no_number_says_nothing() -> None:
    said, label, person = planted(20, 1.0)
    broken = said.copy()
    broken[3] = np.nan
    assert not surer_than_right(broken, label, person)[np.unique(person).tolist().index("p3")].any()


# -- held-out people -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run; read it, do not change it."""
    made = small_run(
        tmp_path_factory.mktemp("run"), people=160, model="gray-cnn", rounds=1, steps_per_round=1
    )
    simulation.run(made)
    simulation.finish(made)
    return made.folder


@pytest.fixture
def run(whole: Path, tmp_path: Path) -> Run:
    shutil.copytree(whole, tmp_path / "run")
    return Run(tmp_path / "run")


def sure(faces: NDArray[np.uint8]) -> NDArray[np.float32]:
    """A model that always names the emotion that is bright at the top left, and is very sure of it."""
    return np.tile(np.array([0.97, 0.01, 0.01, 0.01], np.float32), (len(faces), 1))


def fit(run: Run, said: Says = sure, epsilon: float = 1.0, **options: object) -> float:
    return fit_on_held_out(run, said, epsilon=epsilon, weights_sha256=HASH, **options)  # type: ignore[arg-type]


def ledgers(run: Run) -> list[tuple[float, ...]]:
    found = []
    for name in run.stores:
        store = run.store(name)
        found.append(tuple(e.noise_multiplier for e in HeldOutAccount(store).ledger.entries))
        store.close()
    return found


def test_held_out_people_are_asked_and_charged_in_every_store(run: Run) -> None:
    before = build_report(run.folder).failed_checks
    found = fit(run, epsilon=2.5)
    assert found > 1.4  # one in four is right, and 0.97 is said
    assert ledgers(run) == [(0.8,), (0.8,)]
    assert json.loads((run.folder / FILE).read_bytes())["temperature"] == found
    assert not list(run.folder.glob("*.unpaid"))
    report = build_report(run.folder)
    held = report.privacy.held_out
    assert held is not None
    assert {m for store in held.stores for m in store.mechanisms} == {"exponential"}
    assert report.failed_checks == before
    assert "privacy.held_out_within_budget" in {check.id for check in report.checks}


def test_asked_again_nothing_is_paid_and_nothing_changes(run: Run) -> None:
    found = fit(run)
    for name in run.stores:  # nor does it tell that everybody is gone
        store = run.store(name)
        for person in store.registry.persons():
            store.registry.withdraw(person)
        store.close()
    assert fit(run) == found
    assert ledgers(run) == [(2.0,), (2.0,)]
    fit(run, epsilon=0.5)
    assert ledgers(run) == [(2.0, 4.0), (2.0, 4.0)]


def test_whoever_withdrew_has_no_word_in_it(run: Run) -> None:
    """Where everybody did, the model is asked about nobody."""
    for name in run.stores:
        store = run.store(name)
        gone = list(store.registry.persons())[:-1]
        for person in gone:
            store.registry.withdraw(person)
        store.close()
    asked: list[int] = []

    def says(faces: NDArray[np.uint8]) -> NDArray[np.float32]:
        asked.append(len(faces))
        return sure(faces)

    assert fit(run, says) in TEMPERATURES
    assert sum(asked) <= 4  # two pictures of one person in each store
    assert len(ledgers(run)[0]) == 1


def test_only_whoever_agreed_to_be_measured_is_asked_and_it_is_written_down(run: Run) -> None:
    store = run.store(run.stores[0])
    before = sum(use.purpose == Purpose.FAIRNESS_AUDIT for use in store.registry.uses())
    persons = np.array(sorted(store.registry.persons()))
    agreed = store.gate.still_permitted(persons, Purpose.FAIRNESS_AUDIT, store.context)
    store.close()
    fit(run)
    store = run.store(run.stores[0])
    uses = [use for use in store.registry.uses() if use.purpose == Purpose.FAIRNESS_AUDIT]
    assert len(uses) == before + 1
    assert set(uses[-1].persons) <= set(persons[agreed].tolist())
    store.close()


def test_an_exhausted_budget_is_a_wall_and_charges_nobody(run: Run) -> None:
    fit(run, epsilon=3.0)
    told = (run.folder / FILE).read_bytes()
    with pytest.raises(BudgetExhausted, match="people measured have lost epsilon"):
        fit(run, epsilon=3.9)
    assert [len(entries) for entries in ledgers(run)] == [1, 1]
    assert (run.folder / FILE).read_bytes() == told


def test_the_lasting_account_is_charged_once_for_all_stores(run: Run, tmp_path: Path) -> None:
    budget = tmp_path / "people.budget"
    fit(run, epsilon=1.0, budget=budget)
    charged = [e for e in Budget(budget).entries if e.kind == "settled"]
    assert len(charged) == 1
    assert charged[0].what == f"temperature of {run.run_id}"
    with pytest.raises(BudgetExhausted, match=r"people\.budget"):
        fit(run, epsilon=2.0, budget=budget, budget_epsilon=2.6)
    assert [len(entries) for entries in ledgers(run)] == [1, 1]
    assert not list(run.folder.glob("*.unpaid"))


def test_what_was_not_paid_for_by_all_is_told_to_nobody(run: Run) -> None:
    """The process dies between two stores: the next one draws and pays anew."""
    fit(run)
    (run.folder / FILE).rename(run.folder / "temperature.unpaid")
    for path in (run.folder / "stores" / run.stores[1]).glob("heldout-ledger*"):
        path.unlink()
    assert fit(run) in TEMPERATURES
    assert [len(entries) for entries in ledgers(run)] == [2, 1]


def test_what_was_paid_for_by_all_is_taken_up_after_a_crash(run: Run) -> None:
    found = fit(run)
    (run.folder / FILE).rename(run.folder / "temperature.unpaid")
    assert fit(run) == found
    assert [len(entries) for entries in ledgers(run)] == [1, 1]
    assert (run.folder / FILE).exists()


def test_people_who_were_trained_on_are_not_asked(run: Run) -> None:
    store = run.store(run.stores[0])
    held = store.held_out_faces(run.run_id)
    store.registry.record_use(
        held.person[:1],
        Purpose.TRAINING,
        run=run.run_id,
        round=1,
        store=run.stores[0],
        batch=0,
        log_seq=1,
    )
    store.close()
    with pytest.raises(RunError, match="trained on as well"):
        fit(run)
    assert ledgers(run) == [(), ()]
    assert not (run.folder / FILE).exists()


def test_a_store_that_is_not_here_cannot_be_asked(run: Run) -> None:
    shutil.rmtree(run.folder / "stores" / run.stores[1])
    with pytest.raises(RunError, match="people who do not exist are asked"):
        fit(run)


def test_an_epsilon_that_is_none_charges_nobody(run: Run) -> None:
    with pytest.raises(SettingsError, match="A choice costs"):
        fit(run, epsilon=0.0)
    assert not (run.folder / "stores" / run.stores[0] / LEDGER).exists()
