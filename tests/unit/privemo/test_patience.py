"""A store that answers too late, and is there all the while, holds up nobody: real stores, one of them slow."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from privemo import patience
from privemo.client_app import app as client_app
from privemo.errors import RunError, SettingsError
from privemo.flower import Context, Message, RecordDict
from privemo.grid import InProcessGrid, task_identity
from privemo.ledger import Ledger
from privemo.patience import IN_ALL_S, ROUND_TIMEOUT_S, checked, round_timeout
from privemo.polling import PollingGrid
from privemo.server_app import app as server_app
from tests.support.federated import Federated
from tests.support.small_runs import small_run

SLOW = 2
"""The store that is slow, of three."""


class SlowGrid(InProcessGrid):
    """A store's answers to some kind of message of round 1 come much later than they are waited for."""

    def __init__(self, federated: Federated, kind: str) -> None:
        folders = [federated.stores / name for name in federated.names]
        super().__init__(client_app, [{"store-dir": str(folder)} for folder in folders])
        self.kind, self.slow = kind, sorted(self.get_node_ids())[SLOW]
        self.held: list[Message] = []
        self.terms: dict[str, float] = {}

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        sent = list(messages)
        for message in sent:
            self.terms.setdefault(message.metadata.message_type, message.metadata.ttl)
        ids = list(super().push_messages(sent))
        for name in ids:
            found = self._inbox[name].metadata
            if (found.src_node_id, found.message_type, found.group_id) == (
                self.slow,
                self.kind,
                "1",
            ):
                self.held.append(self._inbox.pop(name))
        return ids


def drive(federated: Federated, grid: InProcessGrid) -> float:
    """What is missing of the rounds; seconds that it took."""
    began = time.monotonic()
    context = Context(
        run_id=1,
        node_id=1,
        node_config={},
        state=RecordDict(),
        run_config={"run-dir": str(federated.chain)},
    )
    with task_identity():
        server_app(PollingGrid(grid), context)
    return time.monotonic() - began


def waits(federated: Federated, seconds: object) -> None:
    path = federated.chain / "server.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "round_timeout": seconds}))


@pytest.mark.parametrize(("shared", "kind"), [(False, "train"), (True, "train.mask")])
def test_a_store_that_is_too_late_is_left_out_named_and_has_paid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared: bool, kind: str
) -> None:
    monkeypatch.setattr(patience, "_LEAST_S", 0.1)
    federated = Federated(tmp_path, None, shared=shared, rounds=2)
    waits(federated, 2.0)
    grid = SlowGrid(federated, kind)
    drive(federated, grid)
    assert len(grid.held) == 1
    first, second = federated.run.manifests()
    slow = federated.names[SLOW]
    assert first["stores"][slow]["status"] == "failed"
    assert first["stores"][slow]["reason"] in ("no answer", "silent")
    others = [entry["status"] for name, entry in first["stores"].items() if name != slow]
    assert others == ["trained"] * 2
    assert second["stores"][slow]["status"] == "trained", "it is back, and what it paid is no fault"
    rounds = [entry.round for entry in Ledger(federated.stores / slow / "ledger.jsonl").entries]
    assert rounds == [1, 2]
    assert set(grid.terms.values()) >= {2.0}
    assert grid.terms[kind] == 2.0, "a message that nobody waits for is not delivered"


def test_with_too_few_in_time_the_run_ends_and_says_who_was_silent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "_LEAST_S", 0.1)
    federated = Federated(tmp_path, None, shared=False, rounds=1, quorum=3)
    waits(federated, 1.0)
    grid = SlowGrid(federated, "train")
    with pytest.raises(RunError, match=rf"Only 2 of the 3 .* {federated.names[SLOW]}: no answer"):
        drive(federated, grid)


def test_a_store_says_in_its_log_that_it_was_too_late(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    federated = Federated(tmp_path, None, shared=False, rounds=1)
    monkeypatch.setattr(patience, "_LEAST_S", 0.0)
    waits(federated, 1e-4)
    with caplog.at_level(logging.WARNING, "privemo.client_app"):
        federated.drive()
    said = [r.getMessage() for r in caplog.records if r.name == "privemo.client_app"]
    assert len(said) == 3
    assert all("Round 1: this store answers" in text and "paid for" in text for text in said)
    caplog.clear()
    again = Federated(in_folder(tmp_path / "again"), None, shared=False, rounds=1)
    with caplog.at_level(logging.WARNING, "privemo.client_app"):
        again.drive()
    assert not [r for r in caplog.records if r.name == "privemo.client_app"]


def in_folder(folder: Path) -> Path:
    folder.mkdir()
    return folder


def test_how_long_a_round_waits_is_the_servers_own(tmp_path: Path) -> None:
    federated = Federated(tmp_path, None, rounds=1)
    run = federated.run
    assert round_timeout(run) == ROUND_TIMEOUT_S
    before = (federated.chain / "run.json").read_bytes()
    waits(federated, 90)
    assert round_timeout(run) == 90
    assert (federated.chain / "run.json").read_bytes() == before
    assert b"round_timeout" not in before
    wrong: list[Any] = ["90", True, None, 0, -3, 1e12]
    for value in wrong:
        waits(federated, value)
        with pytest.raises(RunError, match=r"server.json: .*round_timeout"):
            round_timeout(run)
    path = federated.chain / "server.json"
    content = json.loads(path.read_text())
    del content["round_timeout"]  # of a server that was drawn up before there was one
    path.write_text(json.dumps(content))
    assert round_timeout(run) == ROUND_TIMEOUT_S


def test_stores_of_a_simulation_take_turns_and_nobody_is_late(tmp_path: Path) -> None:
    assert round_timeout(small_run(tmp_path, model="gray-cnn")) == IN_ALL_S


@pytest.mark.parametrize("seconds", [0, -1, 9.9, float("nan"), float("inf"), 1e9])
def test_a_wait_that_no_round_can_have_is_refused(seconds: float) -> None:
    with pytest.raises(SettingsError, match="10 to 604800 seconds"):
        checked(seconds)
