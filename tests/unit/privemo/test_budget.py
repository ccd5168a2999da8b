"""The lasting account of a group of people: runs add up, whatever folder they stand in."""

from __future__ import annotations

from pathlib import Path

import pytest

from privemo.budget import Budget, Reservation, read_releases
from privemo.dp import calibrate_noise, composed
from privemo.errors import BudgetExhausted, LedgerError, SettingsError
from privemo.ledger import Ledger
from privemo.releases import Mechanism, Stated
from tests.unit.privemo.test_ledger import FIELDS

DELTA = 1e-5
TABLE = "f" * 64
SMALL = Mechanism(4.0, 0.2, 10)


@pytest.fixture
def budget(tmp_path: Path) -> Budget:
    return Budget(tmp_path / "people.budget")


def reserve(
    budget: Budget, *plan: Mechanism, run_id: str = "run-1", epsilon: float = 8.0, shares: int = 1
) -> Reservation:
    return budget.reserve(
        run_id=run_id,
        data=TABLE,
        plan=plan,
        epsilon=epsilon,
        delta=DELTA,
        compositions=shares,
    )


def test_a_plan_is_charged_before_anything_is_trained(budget: Budget) -> None:
    held = reserve(budget, SMALL)
    assert held == Reservation(0, ())
    again = Budget(budget.path)
    assert again.history() == [SMALL]
    (entry,) = again.entries
    assert (entry.kind, entry.what, entry.data) == ("reserved", "run-1", TABLE)


def test_a_second_run_starts_where_the_first_one_ended(budget: Budget) -> None:
    """The trap: a run folder of its own starts at nothing."""
    arguments = {"delta": DELTA, "sample_rate": 0.2, "steps": 40}
    first = calibrate_noise(epsilon=3.0, **arguments)  # type: ignore[arg-type]
    reserve(budget, Mechanism(first, 0.2, 40), epsilon=3.0)
    second = calibrate_noise(epsilon=8.0, past=budget.history(), **arguments)  # type: ignore[arg-type]
    assert second > 1.03 * calibrate_noise(epsilon=8.0, **arguments)  # type: ignore[arg-type]
    held = reserve(budget, Mechanism(second, 0.2, 40), run_id="run-2")
    assert held.before == (Mechanism(first, 0.2, 40),)
    whole = composed(budget.history(), delta=DELTA, accountant="rdp")
    assert 7.9 < whole <= 8.0


def test_what_does_not_fit_is_refused_and_nothing_written(budget: Budget) -> None:
    reserve(budget, Mechanism(1.0, 0.2, 40), epsilon=12.0)
    before = budget.path.read_bytes()
    with pytest.raises(
        BudgetExhausted, match=r"people\.budget: these people have lost epsilon 10\.1"
    ):
        reserve(budget, SMALL, run_id="run-2")
    assert budget.path.read_bytes() == before
    with pytest.raises(BudgetExhausted):
        calibrate_noise(epsilon=7.0, delta=DELTA, sample_rate=0.2, steps=40, past=budget.history())


def test_somebody_in_two_stores_of_a_run_is_charged_for_both(budget: Budget) -> None:
    reserve(budget, SMALL, shares=2)
    assert budget.history() == [Mechanism(4.0, 0.2, 20)]


def test_a_run_that_is_repeated_is_charged_again(budget: Budget) -> None:
    assert [reserve(budget, SMALL).number for _ in range(2)] == [0, 1]
    assert composed(budget.history(), delta=DELTA, accountant="rdp") == composed(
        [Mechanism(4.0, 0.2, 20)], delta=DELTA, accountant="rdp"
    )


@pytest.mark.parametrize("steps", [0, 3, 25])
def test_what_was_released_takes_the_place_of_what_was_reserved(budget: Budget, steps: int) -> None:
    number = reserve(budget, SMALL).number
    other = reserve(budget, Mechanism(9.0, 0.2, 1), run_id="run-2").number
    released = [Mechanism(4.0, 0.2, steps)]
    budget.settle(number, released)
    assert set(budget.history()) == {Mechanism(9.0, 0.2, 1), *(released if steps else ())}
    assert [e.seq for e in budget.open_reservations()] == [other]


def test_settling_twice_is_free_and_never_lowers_what_was_said(budget: Budget) -> None:
    number = reserve(budget, SMALL).number
    budget.settle(number, [SMALL])
    size = budget.path.stat().st_size
    budget.settle(number, [SMALL])
    assert budget.path.stat().st_size == size
    budget.settle(number, [])
    assert budget.history() == [SMALL]


def test_a_copy_of_a_run_is_charged_on_top(budget: Budget) -> None:
    number = reserve(budget, SMALL).number
    budget.settle(number, [SMALL], updates="a" * 64)
    budget.settle(number, [SMALL], updates="b" * 64)  # as many steps, but other updates left
    budget.settle(number, [SMALL], updates="b" * 64)
    assert budget.history() == [SMALL, SMALL]


@pytest.mark.parametrize("number", [-1, 1, 7])
def test_only_a_reservation_is_settled(budget: Budget, number: int) -> None:
    reserve(budget, SMALL)
    budget.settle(0, [])
    with pytest.raises(SettingsError, match="no reservation"):
        budget.settle(number, [])


def test_a_release_of_another_kind_is_charged_too(budget: Budget) -> None:
    budget.state("people asked", Stated(0.5), epsilon=1.0, delta=DELTA)
    with pytest.raises(BudgetExhausted):
        budget.state("people asked", Stated(0.6), epsilon=1.0, delta=DELTA)
    assert budget.history() == [Stated(0.5)]
    noise = calibrate_noise(
        epsilon=1.0, delta=DELTA, sample_rate=0.2, steps=10, past=budget.history()
    )
    alone = calibrate_noise(epsilon=0.5, delta=DELTA, sample_rate=0.2, steps=10)
    assert noise == pytest.approx(alone, rel=1e-3)


def test_a_plan_without_a_step_reserves_nothing(budget: Budget) -> None:
    with pytest.raises(SettingsError, match="without a step"):
        reserve(budget, Mechanism(1.0, 0.1, 0))
    assert budget.entries == ()


def test_ledgers_and_budgets_are_read_alike(tmp_path: Path, budget: Budget) -> None:
    reserve(budget, SMALL)
    Ledger(tmp_path / "l.jsonl").append(round=1, **FIELDS)
    assert read_releases(budget.path) == [SMALL]
    assert read_releases(tmp_path / "l.jsonl") == [Mechanism(1.1, 0.25, 12)]


@pytest.mark.parametrize("content", [None, b"", b"{}\n", b"pixels\n"])
def test_what_is_no_account_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "x"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(LedgerError, match="x"):
        read_releases(path)
    assert path.exists() == (content is not None)


def test_a_ledger_is_no_budget(tmp_path: Path) -> None:
    Ledger(tmp_path / "l.jsonl").append(round=1, **FIELDS)
    with pytest.raises(LedgerError, match="entry 0 is unreadable"):
        Budget(tmp_path / "l.jsonl")
