"""A store that answers too late, and is there all the while, holds nobody up: real stores, one slow."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterable
from pathlib import Path

import pytest

from privemo import patience
from privemo.client_app import _tell_if_late
from privemo.client_app import app as client_app
from privemo.errors import RunError, SettingsError
from privemo.flower import Context, Message, RecordDict
from privemo.grid import InProcessGrid, task_identity
from privemo.ledger import Ledger
from privemo.patience import checked
from privemo.polling import PollingGrid
from privemo.server_app import app as server_app
from tests.support.federated import Federated

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


@pytest.mark.parametrize(
    ("shared", "kind"),
    [
        (False, "train"),
        pytest.param(True, "train.mask", marks=pytest.mark.slow),
    ],
)
def test_a_store_that_is_too_late_is_left_out_and_has_paid(
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
    if shared:
        assert first["stores"][slow]["reason"] == "silent"
    else:
        assert slow not in first["stores"], "it stated nothing in time"
    others = [entry["status"] for name, entry in first["stores"].items() if name != slow]
    assert others == ["trained"] * 2
    assert second["stores"][slow]["status"] == "trained", "it is back, and what it paid is no fault"
    rounds = [entry.round for entry in Ledger(federated.stores / slow / "ledger.jsonl").entries]
    assert rounds == [1, 2]
    assert set(grid.terms.values()) >= {2.0}
    assert grid.terms[kind] == 2.0, "a message that nobody waits for is not delivered"


def test_with_too_few_in_time_the_run_ends_and_stores_say_that_they_were_too_late(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(patience, "_LEAST_S", 0.0)
    federated = Federated(tmp_path, None, shared=False, rounds=1, quorum=3)
    waits(federated, 1e-4)
    slow = federated.names[SLOW]
    with (
        caplog.at_level(logging.WARNING, "privemo.client_app"),
        pytest.raises(RunError, match=rf"Only 2 of the 3 .*\({slow}: no answer\)"),
    ):
        drive(federated, SlowGrid(federated, "train"))
    said = [r.getMessage() for r in caplog.records if r.name == "privemo.client_app"]
    assert len(said) == 3
    assert all("Round 1: this store answers" in text and "paid for" in text for text in said)


def test_a_store_that_is_in_time_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    with task_identity():
        _tell_if_late(Message(RecordDict(), 2, "train", group_id="1", ttl=60))
        late = Message(RecordDict(), 2, "query.close", group_id="1", ttl=1e-9)
        time.sleep(0.01)
        _tell_if_late(late)  # it trained nothing, and paid nothing
    assert not caplog.records


@pytest.mark.parametrize("seconds", [0, -1, 9.9, float("nan"), float("inf"), 1e9])
def test_a_wait_that_no_round_can_have_is_refused(seconds: float) -> None:
    with pytest.raises(SettingsError, match="10 to 604800 seconds"):
        checked(seconds)
