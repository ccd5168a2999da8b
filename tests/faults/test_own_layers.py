"""Layers that stay in a store, where a server lies or a round breaks off: nothing of people goes unpaid.

| what happens | the ledger | the next round starts from |
|---|---|---|
| an order for a network that lacks the layers agreed on | nothing: nobody was drawn | - |
| a refusal of whatever kind, after people were drawn | it is paid for, each time | the round before |
| killed, or no room, before the ledger has the round | nothing | the round before |
| killed, or no room, after that | paid for | the round that broke off |
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from privemo import weights as w
from privemo.config import PrivacySettings
from privemo.errors import LedgerError, NoFacesAdmitted, RunError, SettingsError, TooFewPeople
from privemo.models import build_model
from privemo.personal import own_parameters
from privemo.runs import Run
from tests.support.interrupt import Killed, full, killed_at
from tests.support.small_runs import changed, first_model, small_run, used_people

NAME = "store-01"
HEAD = own_parameters(build_model("gray-cnn"), "head")


# -- a server that lies --------------------------------------------------------------------------------

TAME: dict[str, float] = {}
TO_INFINITY = {"lr": 1000.0, "proximal": 100.0, "steps": 12, "noise_multiplier": 2.0}
NOBODY = {"sample_rate": 1e-3, "normaliser": 1e-2, "noise_multiplier": 1e4}
EVERYBODY = {"sample_rate": 0.5, "normaliser": 5.0, "steps": 1}


@pytest.mark.parametrize("number", [1, 2])
def test_an_order_for_a_network_without_the_agreed_layers_draws_nobody(
    number: int, tmp_path: Path
) -> None:
    """The model's name is no part of the agreement; what cannot be kept apart showed after training alone."""
    run = small_run(tmp_path, personal="norm", steps_per_round=1)
    gray = w.from_model(build_model("gray-cnn", channels=1, seed=0))
    store = run.store(NAME)
    try:
        if number > 1:
            assert store.train_round(first_model(run), run.order_for(1)).reason is None
        paid, used = store.ledger.entries, len(list(store.registry.uses()))
        for lever in (TAME, TO_INFINITY, NOBODY, EVERYBODY):
            order = replace(changed(run.order_for(number), **lever), model="gray-cnn")
            answer = store.train_round(gray, order)
            assert (answer.reason, answer.update) == ("recipe_refused", None)
        assert store.ledger.entries == paid
        assert len(list(store.registry.uses())) == used, "nobody was drawn"
        assert "no such layers" in (store.folder / "refusals.jsonl").read_text()
    finally:
        store.close()


@pytest.mark.parametrize("kind", [SettingsError, TooFewPeople, NoFacesAdmitted])
def test_a_refusal_of_any_kind_after_people_were_drawn_is_paid_for(
    kind: type[Exception], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is made of the update later: that it was refused was said with people's gradients known."""

    def refuse(*_: object, **__: object) -> None:
        raise kind("no")

    store = run.store(NAME)
    try:
        for where, paid in (("onto", 0), ("split", 1), ("split", 2), ("onto", 2)):
            with monkeypatch.context() as patch:
                patch.setattr(store.personal, where, refuse)
                answer = store.train_round(first_model(run), run.order_for(1))
            assert answer.update is None
            assert len(store.ledger.entries) == paid
            assert answer.signed.unverified().ledger.entries == paid
        assert len({entry.update_sha256 for entry in store.ledger.entries}) == 2
        assert used_people(store)
    finally:
        store.close()


# -- a round that breaks off ---------------------------------------------------------------------------


def laid_out(folder: Path, **changes: Any) -> Run:
    """Seeded, and nobody withdraws: what is trained twice from the same layers is the same."""
    folder.mkdir(exist_ok=True)
    settings: dict[str, Any] = {
        "rounds": 3,
        "steps_per_round": 1,
        "model": "gray-cnn",
        "personal": "head",
        "privacy": PrivacySettings(epsilon=8.0, sample_rate=0.5),
        "consents": "everyone",
    }
    return small_run(folder, **{**settings, **changes})


def copied(run: Run, folder: Path) -> Run:
    shutil.copytree(run.folder, folder)
    return Run(folder)


def train(run: Run, number: int) -> tuple[str | None, bytes]:
    """Hash of what a store sends in a round, from a process of its own, and the layers it started from."""
    store = run.store(NAME)
    ready, starts = store.ready, list[bytes]()

    def looked_at(weights: w.Weights, *rest: Any) -> Any:
        starts.append(own(weights))
        return ready(weights, *rest)

    store.ready = looked_at  # type: ignore[method-assign]
    try:
        sent = store.train_round(first_model(run), run.order_for(number)).update_sha256
        return sent, starts[-1] if starts else b""
    finally:
        store.close()


def own(weights: w.Weights) -> bytes:
    return w.to_bytes({name: weights[name] for name in HEAD})


def read(run: Run) -> bytes:
    """The layers that people would be measured with."""
    store = run.store(NAME)
    try:
        shared = first_model(run)
        return own(store.personal.onto(shared, model="gray-cnn", run_id=run.run_id))
    finally:
        store.close()


def paid_rounds(run: Run) -> list[int]:
    store = run.store(NAME)
    try:
        return [entry.round for entry in store.ledger.entries]
    finally:
        store.close()


def files(run: Run) -> list[str]:
    folder = run.folder / "stores" / NAME / "personal" / run.run_id
    return sorted(path.name for path in folder.iterdir())


@dataclass(frozen=True)
class Known:
    """A run after its first round, and what follows where the second was trained, and where it was not.

    Attributes:
        run: read it, do not change it.
        second: what the second round sends.
        layers: by the number of rounds trained.
        third: what the third round sends, by the number of rounds trained before.
    """

    run: Run
    second: str | None
    layers: dict[int, bytes]
    third: dict[int, str | None]

    @classmethod
    def of(cls, folder: Path, **changes: Any) -> Known:
        run = laid_out(folder, **changes)
        train(run, 1)
        whole, skipped = copied(run, folder / "whole"), copied(run, folder / "skipped")
        layers, third = {1: read(run)}, dict[int, str | None]()
        second, _ = train(whole, 2)
        layers[2] = read(whole)
        for last, it in ((1, skipped), (2, whole)):
            third[last], start = train(it, 3)
            assert start == layers[last]
        assert len({layers[1], layers[2], own(first_model(run))}) == 3
        assert third[1] != third[2]
        return cls(run, second, layers, third)


@pytest.fixture(scope="module")
def private(tmp_path_factory: pytest.TempPathFactory) -> Known:
    return Known.of(tmp_path_factory.mktemp("private"))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Known:
    settings = {"privacy": None, "plain": {"epochs": 1}}
    return Known.of(tmp_path_factory.mktemp("plain"), **settings)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return laid_out(tmp_path)


def of(path: str) -> Callable[[tuple[Any, ...]], bool]:
    """Whether a call is of an open file whose path ends so."""
    return lambda arguments: os.readlink(f"/proc/self/fd/{arguments[0]}").endswith(path)


def onto(path: str) -> Callable[[tuple[Any, ...]], bool]:
    """Whether a call puts a file in the place of one with that in its path."""
    return lambda arguments: path in str(arguments[1])


def large(arguments: tuple[Any, ...]) -> bool:
    """Whether a call is of an open file larger than a store's own layers: the update, and no other."""
    return os.fstat(arguments[0]).st_size > 100_000


def killed(name: str, wanted: Callable[[tuple[Any, ...]], bool]) -> Callable[..., Any]:
    """A call of `os` before which the process is killed where its arguments are wanted."""
    real = getattr(os, name)

    def dying(*arguments: Any, **named: Any) -> Any:
        if wanted(arguments):
            raise Killed
        return real(*arguments, **named)

    return dying


MOMENTS = [
    pytest.param("replace", onto(".pending"), 1, id="own layers"),
    pytest.param("fsync", large, 1, id="update"),
    pytest.param("replace", onto("/outbox/"), 1, id="update, and it was written"),
    pytest.param("pwrite", of("/ledger.jsonl"), 1, id="ledger"),
    pytest.param("replace", onto("/ledger.head"), 2, id="ledger, and it is there"),
    pytest.param("replace", onto("/0002.safetensors"), 2, id="own layers, once paid"),
    pytest.param("pwrite", of("/statements.jsonl"), 2, id="statement"),
]
"""Call, which of them, and the last round that was paid for."""


@pytest.mark.parametrize("broken", [full, killed], ids=["no room", "killed"])
@pytest.mark.parametrize(("call", "where", "last"), MOMENTS)
def test_a_round_that_breaks_off_counts_if_it_was_paid_for_and_the_next_starts_from_there(
    private: Known,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    call: str,
    where: Callable[[tuple[Any, ...]], bool],
    last: int,
    broken: Callable[..., Any],
) -> None:
    """The next round, not the same again: what it sends would hang on a noised step that nobody paid for."""
    run = copied(private.run, tmp_path / "next")
    with monkeypatch.context() as patch:
        patch.setattr(os, call, broken(call, where))
        with pytest.raises((Killed, RunError, LedgerError)):
            train(run, 2)
    assert paid_rounds(run) == [1, 2][:last]
    assert read(run) == private.layers[last]
    same = copied(run, tmp_path / "same")
    assert train(run, 3) == (private.third[last], private.layers[last])
    assert paid_rounds(run) == [*[1, 2][:last], 3]
    assert files(run) == [f"{last:04d}.safetensors", "0003.safetensors"]
    again, _ = train(same, 2)
    assert again == private.second
    assert paid_rounds(same) == [1, 2]
    assert files(same) == ["0001.safetensors", "0002.safetensors"]
    assert read(same) == private.layers[2]


@pytest.mark.parametrize(
    ("call", "where", "last"), [m for m in MOMENTS if "ledger" not in str(m.id)]
)
def test_without_privacy_a_round_that_breaks_off_counts_if_it_is_in_the_outbox(
    plain: Known,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    call: str,
    where: Callable[[tuple[Any, ...]], bool],
    last: int,
) -> None:
    run = copied(plain.run, tmp_path / "next")
    with monkeypatch.context() as patch:
        patch.setattr(os, call, full(call, where))
        with pytest.raises((RunError, LedgerError)):
            train(run, 2)
    assert read(run) == plain.layers[last]
    assert train(run, 3) == (plain.third[last], plain.layers[last])


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_killed_at_any_moment_the_next_round_starts_from_the_last_that_was_paid_for(
    private: Known, tmp_path: Path
) -> None:
    """At every call that changes the disk, and in the middle of each write."""
    seen = set()
    for step in count():
        run = copied(private.run, tmp_path / f"{step}")
        with killed_at(step) as killing:
            train(run, 2)
        last = len(paid_rounds(run))
        assert read(run) == private.layers[last]
        assert train(run, 3) == (private.third[last], private.layers[last])
        seen.add(last)
        shutil.rmtree(run.folder)
        if not killing.done:
            break
    assert seen == {1, 2}
    assert step > 20


def test_what_was_never_paid_for_is_deleted_before_the_next_round(
    private: Known, tmp_path: Path
) -> None:
    """Whoever reads the disk would have a noised step more than the ledger says."""
    run = copied(private.run, tmp_path / "run")
    folder = run.folder / "stores" / NAME / "personal" / run.run_id
    waiting = folder / f"0002-{'a' * 64}.pending"
    waiting.write_bytes(private.layers[2])
    (folder / f".{waiting.name}.x_y1").write_bytes(private.layers[2][:100])
    assert read(run) == private.layers[1]
    assert waiting.exists(), "it may be about to be paid for by whoever trains"
    assert train(run, 3) == (private.third[1], private.layers[1])
    assert files(run) == ["0001.safetensors", "0003.safetensors"]


def test_layers_of_a_round_that_the_ledger_does_not_know_are_never_read(
    private: Known, tmp_path: Path
) -> None:
    """Older versions put them in their place before the round was paid for."""
    run = copied(private.run, tmp_path / "run")
    folder = run.folder / "stores" / NAME / "personal" / run.run_id
    shutil.copy(folder / "0001.safetensors", folder / "0000.safetensors")
    stray = {name: a + 1 for name, a in w.from_bytes(private.layers[2]).items()}
    w.save_weights(folder / "0002.safetensors", stray)
    assert read(run) == private.layers[1]
    assert train(run, 3) == (private.third[1], private.layers[1])
    assert files(run) == ["0001.safetensors", "0003.safetensors"]
