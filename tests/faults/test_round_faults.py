"""A store in a round when its process dies or its disk is full: it may pay for what nobody got, never the
other way round.

| broken off | asked again |
|---|---|
| before the ledger has the update | it trains anew, and pays for that |
| after it, where it adds its whole noise | the same bytes, at no cost |
| after it, where noise is shared | other numbers in another sum, which it pays for as well |
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from privemo import simulation
from privemo.client_app import app as client_app
from privemo.dp import spent
from privemo.errors import LedgerError, RunError
from privemo.flower import Context, Message
from privemo.grid import task_identity
from privemo.ledger import Ledger
from privemo.orders import PrivateRecipe
from privemo.runs import Run
from privemo.secure_protocol import masked_from
from privemo.statements import canonical_hash
from privemo.store import RoundResult
from privemo_audits import build_report
from tests.support.interrupt import Killing, full, killed_at, killed_before
from tests.support.small_runs import App, drive, first_model, three_stores

NAME = "store-02"


def laid_out(folder: Path, *, shared: bool, **changes: Any) -> Run:
    """Three stores with real chance: what is trained twice is never the same."""
    return three_stores(folder, shared=shared, **{"seed": None, "split_seed": 1, **changes})


def copied(run: Run, folder: Path) -> Run:
    shutil.copytree(run.folder, folder)
    return Run(folder)


def ledger(run: Run, name: str = NAME) -> Ledger:
    return Ledger(run.folder / "stores" / name / "ledger.jsonl")


def paid_for(run: Run, name: str = NAME) -> list[str]:
    """Hashes of what a store has paid for."""
    return [entry.update_sha256 for entry in ledger(run, name).entries]


# -- its own noise -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Read it, do not change it."""
    return laid_out(tmp_path_factory.mktemp("local"), shared=False)


def answer(run: Run) -> RoundResult:
    """What a store says in the first round, from a process of its own."""
    store = run.store(NAME)
    try:
        return store.train_round(first_model(run), run.order_for(1))
    finally:
        store.close()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_killed_at_any_moment_of_a_round_a_store_has_paid_for_what_it_sends_next(
    local: Run, tmp_path: Path
) -> None:
    """At every call that changes the disk, and in the middle of each write."""
    kept = set()
    for step in count():
        run = copied(local, tmp_path / f"{step}")
        with killed_at(step) as killed:
            answer(run)
        before = paid_for(run)
        sent = answer(run)
        (entry,) = ledger(run).entries
        assert entry.update_sha256 == sent.update_sha256
        assert before in ([], [sent.update_sha256]), "what is paid for is what is sent"
        recipe = run.order_for(1).recipe
        assert isinstance(recipe, PrivateRecipe)
        assert entry.epsilon_rdp >= spent([recipe.mechanism], delta=entry.delta).rdp
        assert answer(run).update_sha256 == sent.update_sha256
        assert len(ledger(run).entries) == 1
        kept.add(len(before))
        shutil.rmtree(run.folder)
        if not killed.done:
            break
    assert kept == {0, 1}
    assert step > 15


# -- shared noise --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Asked:
    """A store that shared its secrets, and the message that asks it for its numbers."""

    run: Run
    message: Message
    context: Context


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Asked:
    """Read it, do not change it."""
    folder = tmp_path_factory.mktemp("shared")
    run, found = laid_out(folder, shared=True), list[Asked]()

    def app(message: Message, context: Context) -> Message:
        here = str(context.node_config["store-dir"]).endswith(NAME)
        if here and message.metadata.message_type == "train.mask":
            found.append(Asked(copied(run, folder / "asked"), message, context))
            raise KeyboardInterrupt
        return client_app(message, context)

    with pytest.raises(KeyboardInterrupt):
        drive(run, app)
    return found[0]


def ask(asked: Asked, run: Run) -> str | None:
    """Hash of the numbers that a store answers in a process of its own; none where it refuses."""
    node = {"store-dir": str(run.folder / "stores" / NAME)}
    context = Context(1, asked.context.node_id, dict(node), asked.context.state, {})
    with task_identity():
        masked = masked_from(client_app(asked.message, context).content)
    assert (masked.vector is None) == (masked.signed.unverified().update_sha256 is None)
    return masked.signed.unverified().update_sha256


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_killed_at_any_moment_of_a_sum_a_store_has_paid_for_every_number_that_it_sends(
    asked: Asked, tmp_path: Path
) -> None:
    """Though the server asks it for the same thing again: then it makes others, or its keys are used up."""
    kept, refused = set(), []
    for step in count():
        run = copied(asked.run, tmp_path / f"{step}")
        sent = []
        with killed_at(step) as killed:
            sent.append(ask(asked, run))
        before = paid_for(run)
        assert before == sent or killed.done
        kept.add(len(before))
        again = ask(asked, run)
        after = paid_for(run)
        assert after == [*before, *([] if again is None else [again])]
        assert len(set(after)) == len(after), "it never sends the same numbers twice"
        assert not (run.folder / "stores" / NAME / "outbox").exists()
        if again is None:
            refused.append(step)
        shutil.rmtree(run.folder)
        if not killed.done:
            break
    assert kept == {0, 1}
    assert refused == list(range(refused[0], step + 1)), "once they are masked, and from then on"
    assert 10 < refused[0] < step


# -- whole rounds --------------------------------------------------------------------------------------


def dies(file: str | None) -> App:
    """Stores of which one is killed in the first round when it is about to write a file, or once it has
    answered: then nobody gets the answer."""

    def app(message: Message, context: Context) -> Message:
        here = str(context.node_config["store-dir"]).endswith(NAME)
        trains = message.metadata.message_type in ("train", "train.mask")
        if not (here and trains and message.metadata.group_id == "1"):
            return client_app(message, context)
        with killed_before(file) if file else nullcontext(Killing(True)) as killed:
            client_app(message, context)
        assert killed.done
        raise ConnectionError("its process is gone")

    return app


MOMENTS = [
    pytest.param("ledger.jsonl", 0, id="once trained"),
    pytest.param("statements.jsonl", 1, id="once paid"),
    pytest.param(None, 1, id="in upload"),
]


def audited(run: Run) -> None:
    """Nothing counts that nobody paid for, no epsilon is too small, and the chain holds."""
    simulation.finish(run)
    passed = {check.id: check.passed for check in build_report(run.folder).checks}
    for check in (
        *("manifests.verify", "ledger.chain", "ledger.covers_updates", "privacy.within_budget"),
        *("privacy.recomputed_agrees", "lineage.no_violation"),
    ):
        assert passed[check], check
    updates = [
        entry["update_sha256"]
        for manifest in run.manifests()
        for entry in manifest["stores"].values()
        if entry["status"] == "trained"
    ]
    assert len(set(updates)) == len(updates), "none counts twice"


@pytest.mark.parametrize(("file", "paid"), MOMENTS)
def test_a_store_that_dies_in_a_sum_is_left_out_and_takes_part_in_the_next(
    file: str | None, paid: int, tmp_path: Path
) -> None:
    run = laid_out(tmp_path, shared=True)
    drive(run, dies(file))
    first, second = run.manifests()
    assert first["secure_sum"]["summed"] == [name for name in run.stores if name != NAME]
    assert second["secure_sum"]["summed"] == run.stores
    assert [entry.round for entry in ledger(run).entries] == [*[1] * paid, 2]
    audited(run)


@pytest.mark.parametrize(("file", "paid"), MOMENTS)
def test_a_store_that_dies_in_a_round_that_needs_it_pays_once_when_that_is_taken_again(
    file: str | None, paid: int, tmp_path: Path
) -> None:
    run = laid_out(tmp_path, shared=False, quorum=3)
    with pytest.raises(RunError, match="Only 2 of the 3 stores"):
        drive(run, dies(file))
    before = paid_for(run)
    assert len(before) == paid
    drive(run)
    first, second = ledger(run).entries
    assert before in ([], [first.update_sha256])
    for manifest, entry in zip(run.manifests(), (first, second), strict=True):
        assert manifest["stores"][NAME]["update_sha256"] == entry.update_sha256
        assert manifest["round"] == entry.round
    audited(run)


# -- full disks ----------------------------------------------------------------------------------------


def of(path: str) -> Callable[[tuple[Any, ...]], bool]:
    """Whether a call is of an open file, or folder, whose path ends so."""
    return lambda arguments: os.readlink(f"/proc/self/fd/{arguments[0]}").endswith(path)


def onto(path: str) -> Callable[[tuple[Any, ...]], bool]:
    """Whether a call puts a file that was written in the place of one whose path ends so."""
    return lambda arguments: str(arguments[1]).endswith(path)


@pytest.mark.parametrize(
    ("call", "where", "paid"),
    [
        pytest.param("replace", onto(".safetensors"), 0, id="outbox"),
        pytest.param("fsync", of("/outbox"), 0, id="outbox, and it is there"),
        pytest.param("pwrite", of("/ledger.jsonl"), 0, id="ledger"),
        pytest.param("fsync", of("/ledger.jsonl"), 0, id="ledger, and it is taken back"),
        pytest.param("replace", onto("/ledger.head"), 1, id="ledger, and it is there"),
        pytest.param("pwrite", of("/statements.jsonl"), 1, id="statement"),
    ],
)
def test_a_store_whose_disk_is_full_lets_nothing_out_and_goes_on_once_there_is_room(
    local: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    call: str,
    where: Callable[[tuple[Any, ...]], bool],
    paid: int,
) -> None:
    run = copied(local, tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(os, call, full(call, where))
        with pytest.raises((RunError, LedgerError), match="could not be written"):
            answer(run)
    before = paid_for(run)
    assert len(before) == paid
    sent = answer(run).update_sha256
    assert paid_for(run) == [sent]
    assert before in ([], [sent]), "what is paid for is what is sent"


@pytest.mark.parametrize("shared", [False, True], ids=["own noise", "shared noise"])
@pytest.mark.parametrize(
    ("call", "where", "whole", "anew"),
    [
        pytest.param(
            "replace", onto("/round-0001.safetensors"), 0, False, id="model", marks=pytest.mark.slow
        ),
        pytest.param("replace", onto("/rounds/0001.json"), 0, False, id="manifest"),
        pytest.param("fsync", of("/rounds"), 1, False, id="manifest, and it is there"),
        pytest.param("pwrite", of("/ledger-heads.jsonl"), 0, True, id="what stores signed"),
    ],
)
def test_a_server_whose_disk_is_full_ends_the_run_and_it_resumes_in_one_chain(
    shared: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    call: str,
    where: Callable[[tuple[Any, ...]], bool],
    whole: int,
    anew: bool,
) -> None:
    """Where noise is shared, a sum that had not all of its numbers yet is taken anew and paid for."""
    run = laid_out(tmp_path, shared=shared)
    with monkeypatch.context() as patch:
        patch.setattr(os, call, full(call, where))
        with pytest.raises(RunError, match="written"):
            drive(run)
    assert len(run.manifests()) == whole
    before = {name: paid_for(run, name) for name in run.stores}
    assert any(before.values())
    drive(run)
    manifests = run.manifests()
    assert run.history().head == canonical_hash(manifests[-1]), "each follows the one before"
    for name in run.stores:
        paid = paid_for(run, name)
        counted = [manifest["stores"][name]["update_sha256"] for manifest in manifests]
        assert paid[: len(before[name])] == before[name], "what was spent stays spent"
        assert paid[-2:] == counted
        assert len(paid) == (3 if shared and anew else 2)
        assert len(set(paid)) == len(paid)
