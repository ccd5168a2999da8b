"""What a store writes down of a round before it answers."""

from __future__ import annotations

import json

import pytest

from privemo.errors import LedgerError, RunError
from privemo.records import state
from privemo.runs import Run
from privemo.statements import canonical_hash
from privemo.store import Store
from privemo.storeconfig import KEY_FILE
from tests.support.small_runs import first_model


def stated(run: Run, store: Store, round_: int = 1) -> dict[str, object]:
    signed = state(
        store.folder,
        "store-01",
        run.order_for(round_),
        "1" * 64,
        consent_log_root=store.registry.log_root(),
        ledger=store.ledger,
        reason="no_faces",
    )
    return {**signed.facts(), "text": signed.text}


def kept(store: Store) -> list[dict[str, object]]:
    lines = (store.folder / "statements.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_what_is_sent_was_written_down_with_what_is_not(run: Run, store: Store) -> None:
    store.train_round(first_model(run), run.order_for(1))
    sent = stated(run, store)
    last = kept(store)[-1]
    assert last["statement"] == sent["statement"]
    assert last["signature"] == sent["signature"]
    details = last["details"]
    assert isinstance(details, dict)
    assert canonical_hash(details) == sent["statement"]["details"]  # type: ignore[index]
    lines = (store.folder / "admissions.jsonl").read_text().splitlines()
    assert details["admission"] == json.loads(lines[-1])


def test_a_round_whose_gate_was_not_asked_has_no_admission(run: Run, store: Store) -> None:
    store.train_round(first_model(run), run.order_for(1))
    stated(run, store, round_=2)
    details = kept(store)[-1]["details"]
    assert isinstance(details, dict)
    assert details["admission"] is None


def test_a_torn_line_of_a_crash_is_passed_over(run: Run, store: Store) -> None:
    store.train_round(first_model(run), run.order_for(1))
    with (store.folder / "admissions.jsonl").open("a") as file:
        file.write('{"schema": "privemo.adm')
    stated(run, store)
    details = kept(store)[-1]["details"]
    assert isinstance(details, dict)
    assert details["admission"]["round"] == 1


def test_what_cannot_be_written_down_is_not_sent(run: Run, store: Store) -> None:
    (store.folder / "statements.jsonl").mkdir()
    with pytest.raises(LedgerError, match=r"statements\.jsonl"):
        store.train_round(first_model(run), run.order_for(1))
    # The update was paid for and stays in the outbox: the next try sends it at no cost.
    (store.folder / "statements.jsonl").rmdir()
    again = store.train_round(first_model(run), run.order_for(1))
    assert [e.update_sha256 for e in store.ledger.entries] == [again.update_sha256]


def test_a_store_without_its_key_says_what_to_do(run: Run, store: Store) -> None:
    (store.folder / KEY_FILE).unlink()
    with pytest.raises(RunError, match="Restore it: the others know the store by it"):
        store.train_round(first_model(run), run.order_for(1))
