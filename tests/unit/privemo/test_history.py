"""What a server remembers of its rounds."""

from __future__ import annotations

from typing import Any

from privemo.history import History
from privemo.statements import LedgerHead, canonical_hash


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
