"""Noised counts when disks fail and processes die: a crash may over-count, and lets out nothing unpaid."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from privemo.cli.common import write_new
from privemo.counting import noised_counts
from privemo.errors import LedgerError, PrivemoError
from privemo.heldoutaccount import HeldOutAccount
from privemo.heldoutledger import FILE, HeldOutLedger
from privemo.runs import Run
from privemo.store import Store
from tests.support.counted import prepared, request
from tests.support.interrupt import full, killed_at


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


def count(store: Store, run: Run, out: Path, *, anew: bool = False) -> None:
    """What the command does."""
    budget = run.folder.parent / "people.budget"
    account = HeldOutAccount(store, budget)
    write_new(out, noised_counts(store, request(run), account, anew=anew))


def test_killed_at_any_moment_nothing_leaves_unpaid(laid_out: Run, tmp_path: Path) -> None:
    """At every call that changes the disk, and in the middle of each write; then asked once more."""
    step = 0
    charged = set()
    while True:
        folder = tmp_path / f"{step}"
        folder.mkdir()
        shutil.copytree(laid_out.folder, folder / "run")
        run = Run(folder / "run")
        store, out = run.store("store-01"), folder / "counts.json"
        with killed_at(step) as killed:
            count(store, run, out)
        ledger = store.folder / FILE
        if out.exists() and out.stat().st_size:
            assert ledger.stat().st_size  # it was paid for before there was anything to send
        out.unlink(missing_ok=True)
        count(store, run, out)
        entries = HeldOutLedger(ledger).entries
        assert sha256(out.read_bytes()).hexdigest() == entries[-1].release_sha256
        charged.add(len(entries))
        store.close()
        if not killed.done:
            break
        shutil.rmtree(folder)
        step += 1
    assert step > 15
    assert charged <= {1, 2}
    assert 1 in charged


def test_killed_at_any_moment_of_paying_anew_something_paid_for_is_left(
    laid_out: Run, tmp_path: Path
) -> None:
    """The release of before or the new one: asked again, nobody pays."""
    step = 0
    kept = set()
    while True:
        folder = tmp_path / f"{step}"
        folder.mkdir()
        shutil.copytree(laid_out.folder, folder / "run")
        run = Run(folder / "run")
        store, before, after = run.store("store-01"), folder / "before.json", folder / "after.json"
        count(store, run, before)
        with killed_at(step) as killed:
            count(store, run, folder / "anew.json", anew=True)
        paid = len(HeldOutLedger(store.folder / FILE).entries)
        count(store, run, after)
        entries = HeldOutLedger(store.folder / FILE).entries
        assert len(entries) == paid
        assert sha256(after.read_bytes()).hexdigest() == entries[-1].release_sha256
        assert not list((store.folder / "outbox").glob("*.unpaid"))
        kept.add(before.read_bytes() == after.read_bytes())
        store.close()
        if not killed.done:
            break
        shutil.rmtree(folder)
        step += 1
    assert kept == {True, False}


def of_the_ledger(arguments: tuple[Any, ...]) -> bool:
    return FILE in os.readlink(f"/proc/self/fd/{arguments[0]}")


@pytest.mark.parametrize("call", ["pwrite", "fsync"])
def test_a_full_disk_under_the_ledger_lets_nothing_out(
    store: Store, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    out = tmp_path / "counts.json"
    with monkeypatch.context() as patch:
        patch.setattr(os, call, full(call, of_the_ledger))
        with pytest.raises(LedgerError, match="nothing was released"):
            count(store, run, out)
    assert not out.exists()
    assert HeldOutAccount(store).ledger.entries == ()
    count(store, run, out)
    assert len(HeldOutAccount(store).ledger.entries) == 1


def test_an_entry_that_was_written_and_not_acknowledged_counts(
    store: Store, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Failed, but persisted: nothing was sent, and asking again costs nothing more."""
    out = tmp_path / "counts.json"
    with monkeypatch.context() as patch:
        patch.setattr(
            os, "replace", full("replace", lambda a: str(a[1]).endswith("heldout-ledger.head"))
        )
        with pytest.raises(LedgerError, match="Nothing was released"):
            count(store, run, out)
    assert not out.exists()
    assert len(HeldOutAccount(store).ledger.entries) == 1
    count(store, run, out)
    assert len(HeldOutAccount(store).ledger.entries) == 1


def test_a_full_disk_under_the_outbox_charges_nobody(
    store: Store, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full("replace", lambda a: "counts-" in str(a[1])))
        with pytest.raises(PrivemoError, match="could not be written"):
            count(store, run, tmp_path / "counts.json")
    assert not (store.folder / FILE).exists()
    assert not (tmp_path / "people.budget").exists()


def test_bytes_that_were_changed_in_the_outbox_are_not_sent(
    store: Store, run: Run, tmp_path: Path
) -> None:
    """The ledger does not know them: others are made and paid for."""
    count(store, run, tmp_path / "a.json")
    (kept,) = (store.folder / "outbox").glob("counts-*.json")
    kept.write_bytes(kept.read_bytes().replace(b'"epsilon":2', b'"epsilon":1'))
    count(store, run, tmp_path / "b.json")
    assert (tmp_path / "a.json").read_bytes() != (tmp_path / "b.json").read_bytes()
    assert len(HeldOutAccount(store).ledger.entries) == 2
