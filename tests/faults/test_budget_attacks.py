"""The budget file as a threat model: two runs at once, a cut, a change, a crash, a run too many."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path
from typing import Any

import pytest

from privemo.budget import Budget, BudgetEntry
from privemo.dp import Mechanism, calibrate_noise, composed
from privemo.errors import BudgetExhausted, LedgerError

DELTA = 1e-5
STEPS, RATE = 20, 0.2


def take(path: Path, noise: float, start: Any, answers: Any) -> None:
    budget = Budget(path)
    start.wait(120)
    try:
        budget.reserve(
            run_id="r",
            data="",
            plan=[Mechanism(noise, RATE, STEPS)],
            epsilon=8.0,
            delta=DELTA,
        )
    except BudgetExhausted:
        answers.put("refused")
    else:
        answers.put("granted")


def test_two_runs_at_once_cannot_both_take_what_is_left(tmp_path: Path) -> None:
    """Both were planned while the file was empty, each for all of the budget."""
    path = tmp_path / "people.budget"
    noise = calibrate_noise(epsilon=8.0, delta=DELTA, sample_rate=RATE, steps=STEPS)
    context = multiprocessing.get_context("spawn")
    answers: Any = context.Queue()
    start = context.Barrier(2)  # both have read the empty file
    runs = [context.Process(target=take, args=(path, noise, start, answers)) for _ in range(2)]
    for run in runs:
        run.start()
    got = sorted(answers.get(timeout=120) for _ in runs)
    for run in runs:
        run.join(60)
        assert run.exitcode == 0
    assert got == ["granted", "refused"]
    assert composed(Budget(path).history(), delta=DELTA, accountant="rdp") <= 8.0


def test_a_budget_that_was_open_for_long_is_read_again_before_it_grants(tmp_path: Path) -> None:
    noise = calibrate_noise(epsilon=8.0, delta=DELTA, sample_rate=RATE, steps=STEPS)
    first, second = (Budget(tmp_path / "people.budget") for _ in range(2))
    plan: Any = {"run_id": "r", "data": "", "plan": [Mechanism(noise, RATE, STEPS)]}
    first.reserve(**plan, epsilon=8.0, delta=DELTA)
    with pytest.raises(BudgetExhausted):
        second.reserve(**plan, epsilon=8.0, delta=DELTA)


def filled(path: Path) -> Budget:
    budget = Budget(path)
    for number in range(3):
        budget.reserve(
            run_id=f"run-{number}",
            data="",
            plan=[Mechanism(10.0, RATE, STEPS)],
            epsilon=8.0,
            delta=DELTA,
        )
    budget.settle(1, [Mechanism(10.0, RATE, 5)])
    return budget


def forge(lines: list[str], number: int, **change: Any) -> None:
    lines[number] = json.dumps({**json.loads(lines[number]), **change})


def rehash(lines: list[str], number: int, **change: Any) -> None:
    entry = BudgetEntry.model_validate({**json.loads(lines[number]), **change})
    entry = entry.model_copy(update={"hash": entry.computed_hash()})
    lines[number] = json.dumps(entry.model_dump(mode="json", by_alias=True))


ATTACKS = {
    "more noise claimed": lambda lines: forge(
        lines, 0, releases=[{"noise_multiplier": 99.0, "sample_rate": RATE, "steps": STEPS}]
    ),
    "a reservation is taken out": lambda lines: lines.pop(1),
    "a settlement is made up": lambda lines: lines.append(lines[3]),
    "a settlement is for another run": lambda lines: forge(lines, 3, settles=0),
    "more noise claimed, and hashed again": lambda lines: rehash(
        lines, 0, releases=[{"noise_multiplier": 99.0, "sample_rate": RATE, "steps": STEPS}]
    ),
    "fewer steps settled, and hashed again": lambda lines: rehash(lines, 3, releases=[]),
    "runs change places": lambda lines: lines.insert(0, lines.pop(1)),
    "the last run is cut off": lambda lines: lines.pop(),
    "everything is cut off": lambda lines: lines.clear(),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_budget_that_was_changed_opens_for_nobody(tmp_path: Path, attack: str) -> None:
    path = filled(tmp_path / "people.budget").path
    lines = path.read_text().splitlines()
    ATTACKS[attack](lines)
    path.write_text("".join(f"{line}\n" for line in lines))
    with pytest.raises(LedgerError, match=r"entry \d|entries are missing"):
        Budget(path)


def test_a_budget_that_was_deleted_is_not_given_back(tmp_path: Path) -> None:
    path = filled(tmp_path / "people.budget").path
    path.unlink()
    with pytest.raises(LedgerError, match="what was spent stays spent"):
        Budget(path)


def test_a_crash_in_a_run_leaves_its_reservation_standing(tmp_path: Path) -> None:
    """Nobody knows what it released before it died, so all of it counts."""
    path = tmp_path / "people.budget"
    before = composed(filled(path).history(), delta=DELTA, accountant="rdp")
    Budget(path).reserve(
        run_id="dies", data="", plan=[Mechanism(10.0, RATE, STEPS)], epsilon=8.0, delta=DELTA
    )
    again = Budget(path)
    assert [e.what for e in again.open_reservations()] == ["run-0", "run-2", "dies"]
    assert composed(again.history(), delta=DELTA, accountant="rdp") > before


def test_a_torn_reservation_was_never_granted(tmp_path: Path) -> None:
    path = filled(tmp_path / "people.budget").path
    whole = path.read_bytes()
    path.write_bytes(whole + whole.splitlines()[0][:57])
    assert len(Budget(path).entries) == 4
    assert path.read_bytes() == whole


def test_a_budget_and_a_ledger_of_one_name_keep_apart(tmp_path: Path) -> None:
    """Each has a head file; one may not vouch for the other."""
    from privemo.ledger import Ledger
    from tests.unit.privemo.test_ledger import FIELDS

    Ledger(tmp_path / "people.jsonl").append(round=1, **FIELDS)
    filled(tmp_path / "people.budget")
    assert len(Ledger(tmp_path / "people.jsonl").entries) == 1
    assert len(Budget(tmp_path / "people.budget").entries) == 4
