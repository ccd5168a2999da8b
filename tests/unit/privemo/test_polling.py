"""Less waiting than Flower's own, and nothing lost by it."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from threading import Event, Timer

import httpx
import pytest

from privemo import polling as polling_module
from privemo.answered import Answered
from privemo.flower import FlowerRun, Grid, Message, RecordDict, inflatable_utils
from privemo.grid import task_identity
from privemo.polling import PollingGrid, look_again_soon
from privemo.replies import read_reply


class SlowGrid(Grid):
    """Hands out each reply when it was asked for so many times."""

    def __init__(self, asks: dict[int, int]) -> None:
        self.asks, self.sent = asks, dict[str, Message]()
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
        (name,) = message_ids
        node = int(name[1:])
        self.asks[node] -= 1
        if self.asks[node] > 0:
            return []
        return [Message(RecordDict(), reply_to=self.sent.pop(name))]

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


class Asked(SlowGrid):
    """Remembers who was asked when; each store answers from its time on, in seconds."""

    def __init__(self, ready: dict[int, float], *, takes: float = 0.0) -> None:
        super().__init__(dict.fromkeys(ready, 0))
        self.ready, self.takes = ready, takes
        self.questions = list[tuple[float, int]]()
        self.began = time.monotonic()

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        (name,) = message_ids
        node, now = int(name[1:]), time.monotonic() - self.began
        self.questions.append((now, node))
        time.sleep(self.takes)
        order = self.sent[name].metadata
        if time.time() > order.created_at + order.ttl:  # as Flower's SuperLink does
            raise AttributeError("unavailable")
        return [] if now < self.ready[node] else [Message(RecordDict(), reply_to=self.sent[name])]


def test_silent_stores_take_turns_and_once_one_has_answered_all_are_asked() -> None:
    grid = Asked({1: 1.0, 2: 1.0, 3: 1.0})
    found, _ = replies_of(grid, None)
    assert found == [1, 2, 3]
    before = [node for now, node in grid.questions if now < 1.0]
    assert before == ([1, 2, 3] * 9)[: len(before)], "one at a look"
    (first, one), *others = [(now, node) for now, node in grid.questions if now >= 1.0]
    assert sorted(node for _, node in others) == sorted({1, 2, 3} - {one})
    assert all(now - first < 0.6 for now, _ in others), "both at the next look"


def test_the_last_store_is_asked_at_every_look() -> None:
    grid = Asked({1: 0.0, 2: 0.0, 3: 7.0})
    found, _ = replies_of(grid, None)
    assert found == [1, 2, 3]
    asked = [now for now, node in grid.questions if node == 3]
    assert max(b - a for a, b in itertools.pairwise(asked)) < 1.9, (
        "Flower looks every three seconds"
    )


class Told(Asked):
    """Writes down which orders were answered, as a SuperLink of privemo's does; of some it does not."""

    def __init__(self, ready: dict[int, float], path: Path, *, untold: int = 0) -> None:
        super().__init__(ready)
        self.tells, self.untold = Answered(path), untold

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        self.began = time.monotonic()
        for node, at in self.ready.items():
            if node != self.untold:
                self.tell_at(at, f"{node:x}")
        for message in messages:
            self.sent[f"{message.metadata.dst_node_id:x}"] = message
        return list(self.sent)

    def tell_at(self, seconds: float, *names: str) -> None:
        timer = Timer(seconds, self.tells.tell, (list(names),))
        timer.daemon = True
        timer.start()

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        (name,) = message_ids
        self.questions.append((time.monotonic() - self.began, int(name, 16)))
        ready = self.questions[-1][0] >= self.ready[int(name, 16)]
        return [Message(RecordDict(), reply_to=self.sent[name])] if ready else []


def told_replies(grid: Told, path: Path, timeout: float) -> list[tuple[float, int]]:
    """When whose reply came."""
    with task_identity():
        orders = [Message(RecordDict(), dst_node_id=n, message_type="train") for n in grid.ready]
        return [
            (time.monotonic() - grid.began, reply.metadata.src_node_id)
            for reply in PollingGrid(grid, path).send_and_receive(orders, timeout=timeout)
        ]


def test_who_has_answered_is_asked_at_once_and_nobody_else(tmp_path: Path) -> None:
    grid = Told({1: 0.3, 2: 0.6, 3: 0.6, 4: 0.9}, tmp_path / "told")
    found = told_replies(grid, tmp_path / "told", 30)
    assert sorted(node for _, node in found) == [1, 2, 3, 4]
    for at, node in found:
        assert at - grid.ready[node] < 0.9
    assert len(grid.questions) <= 7, "one each, and a turn's look in between"


def test_an_answer_that_nobody_told_of_is_found_all_the_same(tmp_path: Path) -> None:
    grid = Told({1: 0.2, 2: 0.2, 3: 0.2}, tmp_path / "told", untold=3)
    found = {node: at for at, node in told_replies(grid, tmp_path / "told", 30)}
    assert set(found) == {1, 2, 3}
    assert found[3] < 5, "once a second one of them is asked"


def test_an_answer_that_is_told_while_it_is_asked_for_is_asked_for_again(tmp_path: Path) -> None:
    """The question was on its way when it came, and found nothing."""
    path = tmp_path / "told"

    class Late(Told):
        def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
            found = super().pull_messages(message_ids)
            if not found:
                self.ready = dict.fromkeys(self.ready, 0.0)
                self.tells.tell(["1"])
                time.sleep(0.3)
            return found

    grid = Late({1: 99.0, 2: 99.0}, path)
    told_replies(grid, path, 6)
    times = [at for at, node in grid.questions if node == 1]
    assert times[1] - times[0] < 0.9


def test_what_a_store_tells_of_others_costs_a_question_each(tmp_path: Path) -> None:
    path = tmp_path / "told"
    grid = Told({1: 2.0, 2: 2.0}, path)
    for at in (0.2, 0.4):
        grid.tell_at(at, "1", "2", "1", "77")
    found = told_replies(grid, path, 30)
    assert sorted(node for _, node in found) == [1, 2]
    assert 2 <= len([1 for at, _ in grid.questions if at < 0.9]) <= 4


def test_nobody_is_forgotten_where_questions_take_longer_than_the_pause(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(polling_module, "_LONGEST_S", 0.3)
    grid = Asked({1: 9.0, 2: 9.0, 3: 0.0}, takes=0.5)
    replies_of(grid, 6.0)
    for node in (1, 2):
        asked = [now for now, who in grid.questions if who == node]
        assert max(b - a for a, b in itertools.pairwise(asked)) < 2.5


def test_what_came_just_before_the_order_ran_out_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """An order lives as long as it is waited for, and an answer to one that ran out is none to Flower."""
    monkeypatch.setattr(polling_module, "_SHORTEST_S", 10.0)  # one look at once, and then the last
    monkeypatch.setattr(polling_module, "_LONGEST_S", 60.0)
    grid = Asked({1: 2.5, 2: 99.0, 3: 2.5})
    polling = PollingGrid(grid)
    with task_identity():
        orders = [
            Message(RecordDict(), dst_node_id=n, message_type="train", ttl=4.0) for n in (1, 2, 3)
        ]
        found = list(polling.send_and_receive(orders, timeout=4.0))
    good = sorted(m.metadata.src_node_id for m in found if not m.has_error())
    assert good == [1, 3]
    assert [m for m in found if m.has_error()] == [], "nobody was asked when it was too late"


class HostileGrid(SlowGrid):
    """Node 1 answers at once; node 2 as it likes."""

    def __init__(self, answer: Callable[[Message], Iterable[Message]]) -> None:
        super().__init__({1: 1, 2: 1})
        self.answer = answer

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        (name,) = message_ids
        return self.answer(self.sent[name]) if name == "m2" else super().pull_messages([name])


def fails(error: Exception) -> Callable[[Message], Iterable[Message]]:
    def answer(_: Message) -> Iterable[Message]:
        raise error

    return answer


def no_message(_: Message) -> Iterable[Message]:
    return [RecordDict()]  # type: ignore[list-item]  # whatever a store pushed


def messages_of(polling: PollingGrid) -> list[Message]:
    return [polling.create_message(RecordDict(), "train", n, "1") for n in polling.get_node_ids()]


@pytest.mark.parametrize(
    "answer",
    [
        fails(AttributeError("'RecordDict' object has no attribute 'metadata'")),
        fails(RecursionError()),
        fails(MemoryError()),
        no_message,
    ],
)
def test_a_reply_that_cannot_be_read_is_that_nodes_failure_and_loses_no_other(
    answer: Callable[[Message], Iterable[Message]],
) -> None:
    """Flower makes objects of what a store pushed before anybody looks at it."""
    polling = PollingGrid(HostileGrid(answer))
    with task_identity():
        replies = list(polling.send_and_receive(messages_of(polling), timeout=20))
    found = {reply.metadata.src_node_id: reply for reply in replies}
    assert set(found) == {1, 2}
    assert not found[1].has_error()
    assert "cannot be read" in read_reply(found[2]).failure  # type: ignore[operator]


def test_a_reply_is_of_the_node_that_was_asked_whatever_it_says_itself() -> None:
    def lies(order: Message) -> Iterable[Message]:
        reply = Message(RecordDict(), reply_to=order)
        reply.metadata.__dict__.update(_src_node_id=1, _reply_to_message_id="m1")
        return [reply]

    polling = PollingGrid(HostileGrid(lies))
    with task_identity():
        replies = list(polling.send_and_receive(messages_of(polling), timeout=20))
    assert sorted(r.metadata.src_node_id for r in replies) == [1, 2]
    assert {r.metadata.reply_to_message_id for r in replies} == {"m1", "m2"}


def test_half_replies_keep_nobody_else_waiting_nor_the_round_beyond_its_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One part every three minutes would renew Flower's patience with them; the others have answered."""
    monkeypatch.setattr(polling_module, "_LONG_S", 0.2)
    monkeypatch.setattr(polling_module, "_GRACE_S", 0.5)
    over = Event()

    class Halves(SlowGrid):
        def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
            (name,) = message_ids
            if int(name[1:]) > 12:
                return super().pull_messages([name])
            over.wait(60)
            return []

    polling = PollingGrid(Halves(dict.fromkeys(range(1, 16), 1)))
    began = time.monotonic()
    with task_identity():
        replies = list(polling.send_and_receive(messages_of(polling), timeout=5))
    assert sorted(r.metadata.src_node_id for r in replies) == [13, 14, 15]
    assert 5 <= time.monotonic() - began < 30
    over.set()


def test_a_reply_that_came_in_time_counts_though_reading_it_takes_longer() -> None:
    def slowly(order: Message) -> Iterable[Message]:
        time.sleep(2)
        return [Message(RecordDict(), reply_to=order)]

    polling = PollingGrid(HostileGrid(slowly))
    with task_identity():
        replies = list(polling.send_and_receive(messages_of(polling), timeout=1))
    assert sorted(r.metadata.src_node_id for r in replies) == [1, 2]


@pytest.mark.parametrize("error", [httpx.ConnectError("refused"), ConnectionResetError()])
def test_a_line_that_broke_is_no_stores_failure(error: Exception) -> None:
    polling = PollingGrid(HostileGrid(fails(error)))
    with task_identity(), pytest.raises(type(error)):
        list(polling.send_and_receive(messages_of(polling), timeout=20))


def test_replies_of_many_stores_do_not_stand_in_memory_together() -> None:
    class Counting(SlowGrid):
        read = 0

        def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
            self.read += 1
            return super().pull_messages(message_ids)

    grid = Counting(dict.fromkeys(range(1, 101), 1))
    polling = PollingGrid(grid)
    with task_identity():
        for number, _ in enumerate(polling.send_and_receive(messages_of(polling)), start=1):
            assert grid.read <= number + 8
    assert grid.read == 100


def test_parts_that_stay_away_are_given_up_where_a_server_reads() -> None:
    functions = (
        inflatable_utils.pull_objects,
        inflatable_utils.pull_and_inflate_object_from_tree,
    )
    before = [dict(f.__kwdefaults__ or {}) for f in functions]

    def never(name: str) -> bytes:
        raise inflatable_utils.ObjectUnavailableError(name)

    try:
        look_again_soon(0.2)
        began = time.monotonic()
        with pytest.raises(inflatable_utils.ObjectPullError):
            inflatable_utils.pull_objects(["x"], never)
        assert time.monotonic() - began < 5, "by itself Flower waits two hours"
    finally:
        for function, old in zip(functions, before, strict=True):
            function.__kwdefaults__ = old


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
