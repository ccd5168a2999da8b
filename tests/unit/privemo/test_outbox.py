"""What leaves a store: in the ledger before it is sent, sent again for free, and never past the budget."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from privemo import weights as w
from privemo.errors import LedgerError
from privemo.orders import order_digest
from privemo.runs import Run
from privemo.store import Store
from tests.support.small_runs import changed, first_model, used_people


def test_an_update_is_in_the_ledger_before_it_is_returned(run: Run, store: Store) -> None:
    result = store.train_round(first_model(run), run.order_for(1))
    assert result.reason is None
    entries = store.ledger.entries
    assert [e.update_sha256 for e in entries] == [result.update_sha256]
    assert entries[0].noise_multiplier == run.facts["privacy"]["noise_multiplier"]
    assert 0 < entries[0].epsilon_prv <= entries[0].epsilon_rdp < 8


def test_epsilon_in_the_ledger_grows_over_rounds(run: Run, store: Store) -> None:
    for number in (1, 2):
        assert store.train_round(first_model(run), run.order_for(number)).reason is None
    first, second = store.ledger.entries
    assert second.epsilon_rdp > first.epsilon_rdp
    assert 7.9 < second.epsilon_rdp <= 8.0


def test_a_repeated_order_gets_the_same_bytes_and_costs_nothing(run: Run, store: Store) -> None:
    first = store.train_round(first_model(run), run.order_for(1))
    again = store.train_round(first_model(run), run.order_for(1))
    assert again.update_sha256 == first.update_sha256
    assert len(store.ledger.entries) == 1


def test_the_same_round_on_another_model_is_a_new_release(run: Run, store: Store) -> None:
    first = store.train_round(first_model(run), run.order_for(1))
    other = {name: a + np.float32(0.01) for name, a in first_model(run).items()}
    second = store.train_round(other, run.order_for(1))
    assert second.update_sha256 != first.update_sha256
    assert len(store.ledger.entries) == 2


def test_a_crash_between_outbox_and_ledger_is_accounted_before_the_resend(
    run: Run, store: Store
) -> None:
    first = store.train_round(first_model(run), run.order_for(1))
    for name in ("ledger.jsonl", "ledger.head"):  # as if the process had died before the entry
        (store.folder / name).unlink()
    again = store.train_round(first_model(run), run.order_for(1))
    assert again.update_sha256 == first.update_sha256
    assert [e.update_sha256 for e in store.ledger.entries] == [first.update_sha256]


def test_an_altered_outbox_is_not_sent(run: Run, store: Store) -> None:
    first = store.train_round(first_model(run), run.order_for(1))
    (path,) = (store.folder / "outbox").glob("*.safetensors")
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    again = store.train_round(first_model(run), run.order_for(1))
    assert again.update_sha256 == first.update_sha256  # trained again; seeded, so the same


def test_the_budget_is_a_wall(run: Run, store: Store) -> None:
    for number in (1, 2):
        assert store.train_round(first_model(run), run.order_for(number)).reason is None
    refused = store.train_round(first_model(run), run.order_for(3))
    assert refused.reason == "budget_exhausted"
    assert refused.update is None
    assert len(store.ledger.entries) == 2


@pytest.mark.parametrize(
    "greed",
    [{"noise_multiplier": 0.3}, {"steps": 300}],
)
def test_a_server_that_asks_for_more_than_agreed_meets_the_wall(
    run: Run, store: Store, greed: dict[str, float]
) -> None:
    refused = store.train_round(first_model(run), changed(run.order_for(1), **greed))
    assert refused.reason == "budget_exhausted"
    assert store.ledger.entries == ()
    assert used_people(store) == set()


def test_a_release_is_booked_as_what_it_was_and_not_as_the_next_order_says(
    run: Run, store: Store
) -> None:
    """The ledger fails once; then the server asks again, more cheaply."""
    path = store.folder / "ledger.jsonl"
    path.mkdir()  # a ledger that cannot be opened
    with pytest.raises(LedgerError):
        store.train_round(first_model(run), run.order_for(1))
    path.rmdir()
    cheap = changed(run.order_for(1), noise_multiplier=1000.0, steps=1)
    result = store.train_round(first_model(run), cheap)
    (entry,) = store.ledger.entries
    assert (entry.noise_multiplier, entry.steps) == (1000.0, 1)
    assert entry.update_sha256 == result.update_sha256
    names = {p.name for p in (store.folder / "outbox").glob("*.safetensors")}
    assert len(names) <= 2
    honest = store.train_round(first_model(run), run.order_for(1))
    assert honest.update_sha256 != result.update_sha256


def test_what_was_not_yet_released_is_not_released_after_a_withdrawal(
    run: Run, store: Store
) -> None:
    first = store.train_round(first_model(run), run.order_for(1))
    for name in ("ledger.jsonl", "ledger.head"):  # it never left
        (store.folder / name).unlink()
    someone = min(used_people(store))
    store.registry.withdraw(someone)
    again = store.train_round(first_model(run), run.order_for(1))
    assert again.update_sha256 != first.update_sha256


def test_seeded_noise_is_never_the_same_under_two_orders(run: Run, store: Store) -> None:
    """Equal noise would cancel out in the difference of two updates."""
    order, model = run.order_for(1), w.sha256(first_model(run))
    others = [
        changed(order, sample_rate=1e-6),
        changed(order, lr=0.5),
        dataclasses.replace(order, round=2),
        dataclasses.replace(order, run_id="other"),
    ]
    names = [order_digest(o, model) for o in (order, *others)] + [order_digest(order, "0" * 64)]
    draws = [store._randomness(name).noise.draw(16).numpy().tobytes() for name in names]
    assert len(set(draws)) == len(draws)
    assert order_digest(dataclasses.replace(order, threads=7), model) == names[0]


def test_a_damaged_ledger_stops_the_store(run: Run, store: Store) -> None:
    store.train_round(first_model(run), run.order_for(1))
    path = store.folder / "ledger.jsonl"
    path.write_text(path.read_text().replace('"steps":3', '"steps":1'))
    with pytest.raises(LedgerError, match="entry 0"):
        store.train_round(first_model(run), run.order_for(2))
