"""Less waiting than Flower's own, and nothing lost by it."""

from __future__ import annotations

import time
from collections.abc import Iterable

import pytest

from privemo.flower import FlowerRun, Grid, Message, RecordDict, inflatable_utils
from privemo.grid import task_identity
from privemo.polling import PollingGrid, look_again_soon


class SlowGrid(Grid):
    """Hands out each reply when it was asked for so many times."""

    def __init__(self, asks: dict[int, int]) -> None:
        self.asks, self.sent, self.pulls = asks, dict[str, Message](), 0
        self.the_run = FlowerRun.create_empty(run_id=3)

    def set_run(self, run: FlowerRun) -> None:
        self.the_run = run

    @property
    def run(self) -> FlowerRun:
        return self.the_run

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str,
        ttl: float | None = None,
    ) -> Message:  # fmt: skip
        return Message(content, dst_node_id, message_type, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        return list(self.asks)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        for message in messages:
            name = f"m{message.metadata.dst_node_id}"
            message.metadata.__dict__["_message_id"] = name
            self.sent[name] = message
        return list(self.sent)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        self.pulls += 1
        ready = [i for i in message_ids if self.asks[int(i[1:])] <= self.pulls]
        return [Message(RecordDict(), reply_to=self.sent.pop(i)) for i in ready]

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        raise AssertionError("this is the one that waits")


def replies_of(grid: SlowGrid, timeout: float | None) -> tuple[list[int], float]:
    polling = PollingGrid(grid)
    with task_identity():
        messages = [
            polling.create_message(RecordDict(), "train", n, "1") for n in polling.get_node_ids()
        ]
        began = time.monotonic()
        found = list(polling.send_and_receive(messages, timeout=timeout))
    return sorted(m.metadata.src_node_id for m in found), time.monotonic() - began


def test_all_replies_come_once_whenever_they_are_there() -> None:
    found, seconds = replies_of(SlowGrid({1: 1, 2: 3, 3: 2}), None)
    assert found == [1, 2, 3]
    assert seconds < 2.9, "Flower's own grid sleeps three seconds at a time"


def test_a_store_that_stays_silent_is_not_waited_for_beyond_the_timeout() -> None:
    found, seconds = replies_of(SlowGrid({1: 1, 2: 10**9}), 0.3)
    assert found == [1]
    assert 0.3 <= seconds < 2.9


def test_all_else_is_the_other_grids() -> None:
    grid = SlowGrid({4: 1})
    polling = PollingGrid(grid)
    assert polling.run is grid.the_run
    other = FlowerRun.create_empty(run_id=9)
    polling.set_run(other)
    assert grid.the_run is other


def test_missing_parts_of_a_message_are_looked_for_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    functions = (
        inflatable_utils.pull_objects,
        inflatable_utils.pull_and_inflate_object_from_tree,
    )
    before = [dict(f.__kwdefaults__ or {}) for f in functions]
    try:
        look_again_soon()
        tries = []

        def pull(name: str) -> bytes:
            tries.append(name)
            if len(tries) < 3:
                raise inflatable_utils.ObjectUnavailableError(name)
            return b"part"

        began = time.monotonic()
        assert inflatable_utils.pull_objects(["x"], pull) == {"x": b"part"}
        assert time.monotonic() - began < 1.5, "by itself Flower waits one second, then two"
        for function, old in zip(functions, before, strict=True):
            now = dict(function.__kwdefaults__ or {})
            assert now.pop("initial_backoff") < old.pop("initial_backoff")
            assert now == old
    finally:
        for function, old in zip(functions, before, strict=True):
            function.__kwdefaults__ = old
