"""What a server remembers of its rounds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from privemo.errors import RunError, UpdateRejected
from privemo.history import History
from privemo.statements import LedgerHead, Statement, canonical_hash


def said(entries: int, status: str = "trained") -> dict[str, Any]:
    return {"status": status, "ledger": {"entries": entries, "hash": f"{entries:064x}"}}


def manifest(**stores: int | None) -> dict[str, Any]:
    told = {name: {"statement": None if n is None else said(n)} for name, n in stores.items()}
    return {"round": 1, "stores": told}


def test_the_last_manifest_is_the_head() -> None:
    history = History()
    history.take(manifest(a=1))
    assert history.head == canonical_hash(manifest(a=1))
    history.take(manifest(a=2))
    assert history.head == canonical_hash(manifest(a=2))


def test_a_store_that_said_nothing_is_remembered_as_it_was() -> None:
    history = History()
    history.take(manifest(a=1, b=4))
    history.take(manifest(a=2, b=None))
    history.take(manifest(a=3))
    gone = {"b": {"statement": said(0, "refused")}, "a": {"statement": said(7, "refused")}}
    history.take({"round": 4, "stores": gone})  # one lost its disk, one made up a ledger
    assert history.ledgers == {
        "a": LedgerHead(entries=3, hash=f"{3:064x}"),
        "b": LedgerHead(entries=4, hash=f"{4:064x}"),
    }


def statement(store: str, entries: int, status: str = "trained", **changes: Any) -> Statement:
    facts: dict[str, Any] = {
        "run_id": "r",
        "round": 1,
        "store": store,
        "order": "0" * 64,
        "model_in": "0" * 64,
        "history": "0" * 64,
        "status": status,
        "reason": None if status == "trained" else "no_faces",
        "update_sha256": "0" * 64 if status == "trained" else None,
        "consent_log_root": "0" * 64,
        "ledger": {"entries": entries, "hash": f"{entries:064x}"},
        "details": "0" * 64,
        "versions": {},
    }
    return Statement(**{**facts, **changes})


def test_what_was_heard_in_a_round_that_failed_is_written_down_and_held_against_the_store() -> None:
    kept: list[dict[str, LedgerHead]] = []
    history = History(keep=lambda heard: kept.append(dict(heard)))
    history.take(manifest(a=1, b=1))
    history.hear([statement("a", 2), statement("b", 0, "refused")])
    history.hear([statement("a", 2)])
    assert kept == [{"a": LedgerHead(entries=2, hash=f"{2:064x}")}]
    assert history.known()["a"].entries == 2
    assert history.known()["b"].entries == 1, "one that refused may have lost some"
    with pytest.raises(UpdateRejected, match="had 2 entries when it last took part"):
        history.check(statement("a", 1), private=True)
    forked = statement("a", 2, ledger={"entries": 2, "hash": "f" * 64})
    with pytest.raises(UpdateRejected, match="they are gone"):
        history.check(forked, private=True)


def test_what_could_not_be_written_down_is_not_taken_for_heard() -> None:
    full = [RunError("no space")]
    kept: list[dict[str, LedgerHead]] = []

    def keep(further: Mapping[str, LedgerHead]) -> None:
        if full:
            raise full.pop()
        kept.append(dict(further))

    history = History(keep=keep)
    with pytest.raises(RunError, match="no space"):
        history.hear([statement("a", 2)])
    assert history.known() == {}
    history.hear([statement("a", 2)])
    assert list(kept[0]) == ["a"]


def test_what_was_sent_for_a_round_that_failed_may_be_sent_again_for_nothing() -> None:
    history = History()
    history.take(manifest(a=1))
    history.hear([statement("a", 2)])
    history.check(statement("a", 2), private=True)
    history.take(manifest(a=2))
    with pytest.raises(UpdateRejected, match="no entry for this round"):
        history.check(statement("a", 2), private=True)


def test_hearing_nothing_new_writes_nothing() -> None:
    kept: list[object] = []
    history = History(keep=kept.append)
    history.take(manifest(a=3))
    history.hear([statement("a", 3), statement("a", 2)])
    assert kept == []
    assert history.known() == history.ledgers
