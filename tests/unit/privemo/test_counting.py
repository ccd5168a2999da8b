"""Noised counts of one store: what leaves, whom it is charged to, and when it is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from privemo.budget import Budget, read_releases
from privemo.cli.counting import _exact
from privemo.counting import count_vector, noised_counts
from privemo.countrequest import CountRequest
from privemo.dp import composed
from privemo.dp.tallies import TallyNoise
from privemo.errors import BudgetExhausted, LedgerError, RunError, SettingsError
from privemo.heldoutaccount import HeldOutAccount, budget_of
from privemo.heldoutledger import FILE, HeldOutLedger
from privemo.orders import PrivateRecipe
from privemo.runs import Run
from privemo.store import Store
from privemo_audits.cellcounts import CellCounts
from privemo_audits.errors import PredictionsError
from privemo_consent import Purpose
from tests.support.counted import PLAN, predict, prepared, request


@pytest.fixture(scope="module")
def laid_out(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Read it, do not change it."""
    return prepared(tmp_path_factory.mktemp("counted"))


@pytest.fixture
def run(laid_out: Run, tmp_path: Path) -> Run:
    shutil.copytree(laid_out.folder, tmp_path / "run")
    return Run(tmp_path / "run")


@pytest.fixture
def store(run: Run) -> Iterator[Store]:
    opened = run.store("store-01")
    yield opened
    opened.close()


def change(store: Store, **fields: object) -> Store:
    """The store with other facts in its `store.json`."""
    path = store.folder / "store.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))
    store.close()
    return Store(store.folder)


def measured(store: Store) -> list[str]:
    frame = pd.read_csv(store.folder / "predictions.csv", dtype=str)
    return sorted(set(frame["person"]))


def released(store: Store, run: Run, epsilon: float = 2.0) -> CellCounts:
    data = noised_counts(store, request(run, epsilon), HeldOutAccount(store))
    return CellCounts.model_validate_json(data)


def test_the_file_says_what_noise_there_is_and_the_ledger_the_same(store: Store, run: Run) -> None:
    made = released(store, run)
    (entry,) = HeldOutAccount(store).ledger.entries
    noise = made.noise
    assert noise is not None
    assert (noise.scale, noise.resolution, noise.tables) == (
        entry.scale,
        entry.resolution,
        entry.tables,
    )
    assert entry.noise_multiplier == noise.noise_multiplier
    assert entry.mechanism == noise.mechanism == "discrete_gaussian"
    assert noise.epsilon == 2.0
    assert 1.9 < entry.epsilon_rdp <= 2.0
    assert made.stores == ("store-01",)


def test_what_leaves_is_the_counts_and_noise_of_that_width(store: Store, run: Run) -> None:
    exact = count_vector(store, PLAN)
    made = released(store, run)
    assert made.noise is not None
    off = np.concatenate([made.counts(t).ravel() for t in PLAN.tables]) - exact
    assert 0.7 * made.noise.variance**0.5 < off.std() < 1.4 * made.noise.variance**0.5
    assert exact.sum() == len(PLAN.tables) * len(measured(store))


def test_whoever_withdrew_meanwhile_is_in_no_new_release_and_in_the_old_one_as_it_was(
    store: Store, run: Run
) -> None:
    account = HeldOutAccount(store)
    before, sent = count_vector(store, PLAN), noised_counts(store, request(run), account)
    gone = measured(store)[:3]
    for person in gone:
        store.registry.withdraw(person)
    assert before.sum() - count_vector(store, PLAN).sum() == len(PLAN.tables) * len(gone)
    assert noised_counts(store, request(run), account) == sent
    for person in measured(store)[3:]:
        store.registry.withdraw(person)
    assert count_vector(store, PLAN).sum() == 0


def test_exact_counts_leave_out_whoever_withdrew_meanwhile(store: Store, tmp_path: Path) -> None:
    everybody = measured(store)
    store.registry.withdraw(everybody[0])
    _, told = _exact(store, tmp_path / "counts.json")
    assert told["persons"] == len(everybody) - 1
    for person in everybody[1:]:
        store.registry.withdraw(person)
    with pytest.raises(PredictionsError, match="no faces to count"):
        _exact(store, tmp_path / "none.json")


def test_a_refused_charge_leaves_what_was_paid_for(store: Store, run: Run, tmp_path: Path) -> None:
    account = HeldOutAccount(store, tmp_path / "people.budget", 2.1)
    paid = noised_counts(store, request(run), account)
    with pytest.raises(BudgetExhausted, match=r"people\.budget"):
        noised_counts(store, request(run), account, anew=True)
    (kept,) = (store.folder / "outbox").glob("counts-*")
    assert kept.read_bytes() == paid
    assert noised_counts(store, request(run), account) == paid
    assert len(account.ledger.entries) == 1


def test_asked_again_the_same_bytes_go_out_at_no_cost(store: Store, run: Run) -> None:
    account = HeldOutAccount(store)
    one, two = (noised_counts(store, request(run), account) for _ in range(2))
    assert one == two
    assert len(account.ledger.entries) == 1


def test_what_goes_out_again_does_not_tell_whether_anybody_was_erased(
    store: Store, run: Run
) -> None:
    """Other bytes for other predictions would, however much noise is in each."""
    account = HeldOutAccount(store)
    before = noised_counts(store, request(run), account)
    predict(store, np.random.default_rng(9))
    assert noised_counts(store, request(run), account) == before
    assert noised_counts(store, request(run), account, anew=True) != before
    assert len(account.ledger.entries) == 2


def test_releases_add_up_until_the_budget_is_a_wall(store: Store, run: Run) -> None:
    account = HeldOutAccount(store)
    for epsilon in (3.0, 4.0):
        released(store, run, epsilon)
    spent = composed(account.ledger.releases(), delta=1e-5, accountant="rdp")
    assert spent == pytest.approx(account.ledger.entries[-1].epsilon_rdp)
    assert 4.0 < spent < 7.0  # composed, not added
    before = list((store.folder / "outbox").glob("counts-*"))
    with pytest.raises(BudgetExhausted, match="over the budget of 8") as error:
        released(store, run, 7.5)
    assert "people measured have lost epsilon" in str(error.value)
    assert len(account.ledger.entries) == 2
    assert list((store.folder / "outbox").glob("counts-*")) == before


def test_training_is_charged_to_others_and_earlier_runs_to_everyone(store: Store, run: Run) -> None:
    """The people measured were in no round of this run; whoever they were before, it counts."""
    store.ledger.append(
        store="store-01",
        run_id=run.run_id,
        round=1,
        noise_multiplier=0.7,
        sample_rate=1.0,
        steps=1,
        max_grad_norm=1.0,
        normaliser=1.0,
        delta=1e-5,
        epsilon_rdp=7.9,
        epsilon_prv=7.9,
        update_sha256="0" * 64,
    )
    released(store, run, 5.0)
    earlier = {"noise_multiplier": 1.0, "sample_rate": 1.0, "steps": 1, "discrete": False}
    later = change(store, spent_before=[earlier])
    with pytest.raises(BudgetExhausted, match="over the budget"):
        released(later, run, 6.0)
    later.close()


def test_whoever_may_be_in_several_stores_is_charged_for_each(store: Store, run: Run) -> None:
    later = change(store, max_stores_per_person=3)
    with pytest.raises(BudgetExhausted):
        released(later, run, 5.0)
    released(later, run, 2.0)
    later.close()


def test_people_who_were_trained_on_are_not_measured(store: Store, run: Run) -> None:
    person = min(measured(store))
    store.registry.record_use(
        [person], Purpose.TRAINING, run=run.run_id, round=1, store="store-01", batch=0, log_seq=1
    )
    with pytest.raises(RunError, match="1 of the people measured were trained on"):
        released(store, run)
    assert not (store.folder / FILE).exists()


def test_a_run_without_privacy_has_nothing_to_charge(store: Store, run: Run) -> None:
    later = change(store, epsilon_budget=None)
    with pytest.raises(BudgetExhausted, match="no privacy budget"):
        released(later, run)
    later.close()


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"epsilon": 0.0}, "epsilon above 0"),
        ({"epsilon": float("nan")}, "epsilon above 0"),
        ({"epsilon": None}, "name one"),
        ({"delta": 1e-3}, "promises a delta of 1e-05"),
        ({"delta": 0.0}, "delta lies between"),
        ({"run_id": "another"}, "took part in run"),
    ],
)
def test_requests_that_make_no_sense_cost_nothing(
    store: Store, run: Run, other: dict[str, object], words: str
) -> None:
    with pytest.raises(SettingsError, match=words):
        noised_counts(store, replace(request(run), **other), HeldOutAccount(store))
    assert not (store.folder / FILE).exists()


def test_a_store_without_predictions_says_so_and_one_without_people_does_not(
    store: Store, run: Run
) -> None:
    """That nobody is there is as much of a secret as who is."""
    path = store.folder / "predictions.csv"
    pd.read_csv(path).head(0).to_csv(path, index=False)
    assert released(store, run).noise is not None
    path.unlink()
    with pytest.raises(RunError, match="finish the run"):
        released(store, run, 1.0)


def test_a_damaged_ledger_lets_nothing_out(store: Store, run: Run) -> None:
    released(store, run)
    path = store.folder / FILE
    path.write_bytes(path.read_bytes().replace(b'"tables":2', b'"tables":1'))
    with pytest.raises(LedgerError, match="does not continue the chain"):
        released(store, run, 1.0)
    path.unlink()
    with pytest.raises(LedgerError, match="entries are missing"):
        released(store, run, 1.0)


def test_a_request_comes_back_from_its_own_words() -> None:
    for epsilon in (None, 1.5):
        asked = CountRequest("run-1", PLAN, epsilon, 1e-5)
        assert CountRequest.of(json.loads(json.dumps(asked.content()))) == asked
        assert CountRequest.of(asked.content()).digest() == asked.digest()
    for spoilt in ({}, {**asked.content(), "more": 1}, {**asked.content(), "groups": 3}):
        with pytest.raises(SettingsError, match="A request for counts"):
            CountRequest.of(spoilt)


# -- the lasting account ---------------------------------------------------------------------------


def test_a_lasting_account_is_charged_once_for_stores_alike(run: Run, tmp_path: Path) -> None:
    """Stores count other people; a store that counts twice charges a second time."""
    path = tmp_path / "people.budget"
    for name in ("store-01", "store-02"):
        store = run.store(name)
        noised_counts(store, request(run), HeldOutAccount(store, path))
        store.close()
    ledger = HeldOutLedger(run.folder / "stores" / "store-01" / FILE)
    assert Budget(path).history() == ledger.releases()
    assert not Budget(path).open_reservations()
    store = run.store("store-01")
    noised_counts(store, replace(request(run), delta=9e-6), HeldOutAccount(store, path))
    store.close()
    assert composed(Budget(path).history(), delta=1e-5, accountant="rdp") > 2.5
    assert read_releases(ledger.path) == HeldOutLedger(ledger.path).releases()


def test_an_account_that_holds_no_more_refuses_before_the_ledger(
    run: Run, store: Store, tmp_path: Path
) -> None:
    path = tmp_path / "people.budget"
    with pytest.raises(BudgetExhausted, match=r"people\.budget"):
        noised_counts(store, request(run), HeldOutAccount(store, path, 1.0))
    assert not (store.folder / FILE).exists()
    noised_counts(store, request(run), HeldOutAccount(store, path, 3.0))


def test_the_account_of_the_run_is_found_beside_it(run: Run, store: Store, tmp_path: Path) -> None:
    assert budget_of(store) is None
    facts = json.loads((run.folder / "run.json").read_text())
    facts["budget"] = {"file": "../people.budget", "number": 0}
    (run.folder / "run.json").write_text(json.dumps(facts))
    with pytest.raises(LedgerError, match="is gone"):
        budget_of(store)
    (tmp_path / "people.budget").touch()
    assert budget_of(store) == run.folder / "../people.budget"


def test_whoever_was_measured_in_an_earlier_run_gives_less_to_training(
    store: Store, run: Run
) -> None:
    """A store's folder outlives its runs, and who was held out then may be trained on now."""
    recipe = run.order_for(1).recipe
    assert isinstance(recipe, PrivateRecipe)
    HeldOutAccount(store).ledger.record(
        TallyNoise.of(epsilon=7.9, delta=1e-5, tables=2),
        delta=1e-5,
        store="store-01",
        run_id=run.run_id,
        release_sha256="0" * 64,
    )
    store.outbox.check_budget(recipe)  # of this run: of others than those trained on
    later = change(store, run_id="a-later-run")
    with pytest.raises(BudgetExhausted, match="next round would bring"):
        later.outbox.check_budget(recipe)
    later.close()
