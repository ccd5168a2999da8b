"""A store that takes part in one run after another: its people are the same, and what they lost is lost."""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from privemo.budget import Budget
from privemo.config import PrivacySettings, RunSettings
from privemo.dp import Mechanism, composed
from privemo.dp.choice import Choice
from privemo.errors import BudgetExhausted, LedgerError, SettingsError
from privemo.federation.identity import StoreCard, enroll
from privemo.federation.invitation import Invitation, join
from privemo.federation.server import init_federation
from privemo.heldoutaccount import HeldOutAccount
from privemo.orders import RoundOrder
from privemo.releases import merged
from privemo.runs import Run
from privemo.store import Store
from privemo_consent import ConsentRegistry
from tests.support.consent import PARTY

BUDGET = 8.0


class Joining:
    """One store, which is invited to run after run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "amber"
        cards = [enroll(folder / name, name) for name in ("amber", "birch")]
        ConsentRegistry.create(
            self.folder / "consent.sqlite", mode="production", controller=PARTY
        ).close()
        privacy = PrivacySettings(epsilon=BUDGET, sample_rate=0.5, max_stores_per_person=2)
        settings = RunSettings.of(
            stores=2,
            rounds=4,
            steps_per_round=2,
            privacy=privacy,
            declared_people=10,
            model="gray-cnn",
            init="scratch",
        )
        chain = init_federation(folder / "chain", cards, settings, hosts=["a.example"])
        self._invitation = Invitation.read(chain.folder / "invitations" / "amber.json")
        self._order = Run(chain.folder).order_for(1)

    def invitation(self, **changes: Any) -> Invitation:
        """To a run that differs in what it agrees to."""
        agreement = self._invitation.agreement.model_copy(update=changes)
        return self._invitation.model_copy(update={"agreement": agreement})

    def join(self, run_id: str, stores: int = 1) -> Store:
        """Agree that a person of this run is in so many stores at most."""
        join(self.folder, self.invitation(run_id=run_id, max_stores_per_person=stores))
        return Store(self.folder)

    def order(self, run_id: str) -> RoundOrder:
        return replace(self._order, run_id=run_id)


@pytest.fixture
def joining(tmp_path: Path) -> Joining:
    return Joining(tmp_path)


def train(store: Store, order: RoundOrder, rounds: int) -> list[Mechanism]:
    """So many rounds, or what the budget holds of them."""
    done: list[Mechanism] = []
    for _ in range(rounds):
        try:
            store.outbox.check_budget(order.recipe)  # type: ignore[arg-type]  # a private one
        except BudgetExhausted:
            break
        store.outbox.account(order, secrets.token_hex(32))
        done.append(order.recipe.mechanism)  # type: ignore[union-attr]
    return done


def measure(store: Store, order: RoundOrder, releases: int) -> list[Mechanism]:
    """So many choices by the people measured, or what their budget holds of them."""
    account, choice = HeldOutAccount(store), Choice.of(0.7)
    done: list[Mechanism] = []
    for _ in range(releases):
        try:
            account.check(choice.mechanism, store.config.delta)
        except BudgetExhausted:
            break
        account.charge(choice, order.run_id, secrets.token_hex(32))
        done.append(choice.mechanism)
    return done


def lost(history: Sequence[Mechanism]) -> float:
    return composed(history, delta=1e-5, accountant="rdp")


# -- in how many stores a person could be --------------------------------------------------------------


@pytest.mark.parametrize("spend", [train, measure])
@pytest.mark.parametrize("numbers", [(2, 1), (2, 1, 3), (1, 2, 1), (3, 2, 1), (2, 1, 1)])
def test_somebody_who_was_in_two_stores_has_lost_it_in_both_whatever_later_runs_say(
    joining: Joining, spend: Any, numbers: tuple[int, ...]
) -> None:
    """Each other store releases what this one does, and the person was in all that were agreed on."""
    everywhere: list[Mechanism] = []
    for number, stores in enumerate(numbers):
        store = joining.join(f"run-{number}", stores)
        last = number == len(numbers) - 1
        done = spend(store, joining.order(f"run-{number}"), 1000 if last else 2)
        everywhere += [m.times(stores) for m in done]
        store.close()
        assert lost(everywhere) <= BUDGET
    assert lost(everywhere) > BUDGET / 2, "they may still give what is left"


def test_whoever_was_measured_in_two_stores_may_be_trained_on_in_one_and_has_lost_both(
    joining: Joining,
) -> None:
    first = joining.join("first", 2)
    everywhere = [m.times(2) for m in measure(first, joining.order("first"), 3)]
    first.close()
    second = joining.join("second", 1)
    everywhere += train(second, joining.order("second"), 1000)
    second.close()
    assert lost(everywhere) <= BUDGET


def test_what_a_run_releases_after_the_next_one_was_joined_counts_as_its_own(
    joining: Joining,
) -> None:
    """A round was under way when the store agreed to the next run."""
    under_way = joining.join("first", 2)
    later = joining.join("second", 1)
    done = train(under_way, joining.order("first"), 2)
    under_way.close()
    everywhere = [m.times(2) for m in done] + train(later, joining.order("second"), 1000)
    later.close()
    assert lost(everywhere) <= BUDGET


def test_a_run_that_is_joined_again_counts_for_the_most_stores_it_ever_said(
    joining: Joining,
) -> None:
    joining.join("first", 2).close()
    again = joining.join("first", 1)
    assert again.config.stores_in("first") == 2
    again.close()
    third = joining.join("third", 1)
    counted = [third.config.stores_in(run_id) for run_id in ("first", "third", "nobody's")]
    third.close()
    assert counted == [2, 1, 2], "an entry of a run that nobody wrote down counts as the worst"


def test_a_store_whose_file_is_older_than_this_has_its_run_of_before_in_it(
    joining: Joining,
) -> None:
    joining.join("first", 2).close()
    path = joining.folder / "store.json"
    content = json.loads(path.read_text())
    del content["stores_by_run"]
    path.write_text(json.dumps(content))
    second = joining.join("second", 1)
    assert second.config.stores_by_run == {"first": 2, "second": 1}
    second.close()


def test_a_lasting_budget_takes_a_second_release_of_a_run_that_now_says_fewer_stores(
    joining: Joining, tmp_path: Path
) -> None:
    """Charged once for two stores, it looked as if the second one had been paid for."""
    choice = Choice.of(0.7)
    for stores in (2, 1):
        store = joining.join("first", stores)
        account = HeldOutAccount(store, tmp_path / "budget.jsonl")
        account.charge(choice, "first", secrets.token_hex(32))
        store.close()
    charged, _ = merged(Budget(tmp_path / "budget.jsonl").history())
    assert sum(one.steps for one in charged) >= 3


# -- what delta they were promised ---------------------------------------------------------------------


def told(joining: Joining, **changes: Any) -> str:
    """Why an invitation is not agreed to; nothing was written."""
    path = joining.folder / "store.json"
    before = path.read_bytes() if path.exists() else None
    with pytest.raises(SettingsError) as refused:
        join(joining.folder, joining.invitation(**changes))
    assert (path.read_bytes() if path.exists() else None) == before
    return str(refused.value)


@pytest.mark.parametrize("delta", [0.99, 0.1])  # 10 people in the one store that is known
def test_a_delta_that_promises_nothing_is_not_agreed_to(joining: Joining, delta: float) -> None:
    """The server draws up no such run, and may write another delta into its invitation afterwards."""
    said = told(joining, delta=delta)
    assert f"Delta {delta:g} is too large for 10 people" in said
    assert "drawn up with `--delta`" in said


def test_a_delta_is_held_against_the_people_of_all_stores_of_a_roster(joining: Joining) -> None:
    card = StoreCard.read(joining.folder / "card.json")
    roster = {"amber": card.signing_key, "birch": "1" * 64, "cedar": "2" * 64}
    changes = {"roster": roster, "max_stores_per_person": 1}
    assert "too large for 30 people" in told(joining, delta=0.04, **changes)
    join(joining.folder, joining.invitation(delta=0.03, **changes))


@pytest.mark.parametrize("spend", [train, measure])
def test_the_same_people_are_promised_no_larger_delta_later(joining: Joining, spend: Any) -> None:
    """At a larger one the same ledger costs less, and so its people would give many more rounds."""
    first = joining.join("first")
    assert spend(first, joining.order("first"), 1)
    first.close()
    said = told(joining, run_id="second", delta=2e-5)
    assert "a delta of 2e-05" in said
    assert "were promised 1e-05" in said
    assert "`--delta 1e-05`" in said
    joining.join("second").close()
    join(joining.folder, joining.invitation(run_id="third", delta=1e-6))
    (joining.folder / "store.json").unlink()  # the ledger knows it by itself
    assert "were promised 1e-05" in told(joining, run_id="fourth", delta=2e-5)


def test_a_store_whose_people_lost_nothing_may_agree_to_another_delta(joining: Joining) -> None:
    joining.join("first").close()
    config = join(joining.folder, joining.invitation(run_id="second", delta=2e-5))
    assert config.delta == 2e-5


def test_a_store_with_a_damaged_ledger_agrees_to_nothing(joining: Joining) -> None:
    first = joining.join("first")
    train(first, joining.order("first"), 2)
    first.close()
    (joining.folder / "ledger.head").unlink()
    with pytest.raises(LedgerError, match=r"ledger\.head is gone"):
        join(joining.folder, joining.invitation(run_id="second"))
