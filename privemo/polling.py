"""Less waiting than Flower's own, and one store's answer at a time.

Flower looks for replies every three seconds, and for parts of a message that are not there yet after one
second, then two, then four. A message is seen before all of its parts have arrived, so whoever looks often
meets that often.

Where a SuperLink of privemo's tells which orders were answered (`privemo.answered`), those are asked for at
once, and once a second a third of the others, for whatever it did not tell.

It reads all replies that have come in one go, whatever is in them:

| edge case | what happens |
|---|---|
| a reply that is no message, or cannot be read | an error of that node; all others are read |
| a reply that names another node or another order than it answers | it is the node's that was asked |
| a reply of which parts stay away | others are read meanwhile; after five minutes an error of that node |
| a reply that is being read when the time is over | waited for, 20 seconds at most |
| a reply that comes while others are asked | its turn comes, at the latest just before the time is over, \
unless others take longer than that to be read |
| the server's SuperLink is gone | Flower tries again, until it is back or the time is over |
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path

import httpx

from privemo.answered import Ear
from privemo.flower import (
    Error,
    ErrorCode,
    FlowerRun,
    Grid,
    Message,
    MessageType,
    Metadata,
    RecordDict,
    inflatable_utils,
)

__all__ = ["PARTS_S", "PollingGrid", "look_again_soon"]

_SHORTEST_S, _LONGEST_S = 0.1, 1.0
_AT_ONCE = 8
"""Replies that are read side by side, and so most that stand in memory, besides those that come slowly."""
_TURNS = 3
"""At a look one of so many silent stores is asked, and without a word of the SuperLink all are once one has
answered: stores of one size train equally long, and each question costs it some 10 ms. The last one is asked
at each look."""
_LAST_S, _QUESTION_S = 0.5, 0.02
"""So long before a message runs out all are asked once more, and so much longer for each that is: to an order
that has run out the SuperLink gives no answer, also one that came in time."""
_LONG_S = 3.0
"""After so long a reply comes slowly, or by halves, seconds: another is read beside it."""
_GRACE_S = 20.0
"""How long what is being read when the time is over is waited for, seconds: it came in time."""
PARTS_S = 300.0
"""How long parts of a reply are waited for, seconds; by itself Flower waits two hours."""


def look_again_soon(longest: float | None = None) -> None:
    """Let Flower look for missing parts of a message after a twentieth of a second first, in this process.

    Its waiting times are defaults of two functions, and nothing else sets them.

    Args:
        longest: seconds after which parts that are missing stay away; Flower's two hours by default.
    """
    for function in (
        inflatable_utils.pull_objects,
        inflatable_utils.pull_and_inflate_object_from_tree,
    ):
        defaults = function.__kwdefaults__
        if defaults is None or "initial_backoff" not in defaults:  # another Flower: it waits longer
            continue
        defaults["initial_backoff"] = _SHORTEST_S / 2
        if longest is not None:
            defaults["max_time"] = longest


class PollingGrid(Grid):
    """Another grid, whose replies are looked for often at first, and later every second or every three.

    Args:
        grid: that carries the messages.
        told: where the SuperLink writes down which orders were answered, if it does.
    """

    def __init__(self, grid: Grid, told: Path | None = None) -> None:
        self._grid, self._told = grid, told

    def set_run(self, run: FlowerRun) -> None:
        """See `Grid`."""
        self._grid.set_run(run)

    @property
    def run(self) -> FlowerRun:
        """See `Grid`."""
        return self._grid.run

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """See `Grid`."""
        return self._grid.create_message(content, message_type, dst_node_id, group_id, ttl)

    def get_node_ids(self) -> Iterable[int]:
        """See `Grid`."""
        return self._grid.get_node_ids()

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """See `Grid`."""
        return self._grid.push_messages(messages)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """See `Grid`."""
        return self._grid.pull_messages(message_ids)

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterator[Message]:
        """Send messages, and give the replies that come within `timeout` seconds; None waits for all.

        Each is given as it comes, and messages are sent when the first one is asked for: replies of many
        stores do not wait in memory for each other.
        """
        sent, ear = list(messages), Ear(self._told)
        ids = list(
            self.push_messages(sent)
        )  # none at all, or None, of what the SuperLink did not take
        asked = {i: m.metadata.dst_node_id for i, m in zip(ids, sent, strict=False) if i}
        ends = time.monotonic() + _patience(timeout, [m.metadata for m in sent])
        del sent
        readers = ThreadPoolExecutor(max(1, len(asked)), thread_name_prefix="privemo-replies")
        try:
            yield from self._replies(asked, ends, readers, ear)
        finally:
            readers.shutdown(wait=False, cancel_futures=True)

    def _replies(
        self, waiting: dict[str, int], ends: float, readers: ThreadPoolExecutor, ear: Ear
    ) -> Iterator[Message]:
        reading = dict[Future[Message | None], tuple[str, float]]()
        turns, stop = _Turns(waiting, ear), ends + _GRACE_S
        to_ask = deque[str]()

        def silent() -> list[str]:
            busy = {i for i, _ in reading.values()}.union(to_ask)
            return [i for i in waiting if i not in busy]

        while waiting:
            looked, before = time.monotonic(), len(waiting)
            last = looked >= ends  # once more through all: what came in time counts
            to_ask.extend(silent() if last else turns.next(silent(), looked))
            until = stop if last else min(turns.due, ends)
            while (to_ask or (reading and time.monotonic() < until)) and time.monotonic() < stop:
                while to_ask and _young(reading) < _AT_ONCE:
                    i = to_ask.popleft()
                    turns.asked(i)
                    future = readers.submit(self._reply, i, waiting[i])
                    reading[future] = (i, time.monotonic())
                yield from _arrived(reading, waiting)
                to_ask.extend(turns.called(silent()))
            if last or not waiting:
                return
            turns.rest(looked, ends, came=len(waiting) < before)

    def _reply(self, asked: str, node: int) -> Message | None:
        """The reply to one message; None while there is none."""
        try:
            found = list(self.pull_messages([asked]))
            if not found:
                return None
            (reply,) = found
            # A store writes these into its reply, and nobody held them against who sent it.
            reply.metadata.__dict__.update(_src_node_id=node, _reply_to_message_id=asked)
        except (OSError, httpx.HTTPError):
            raise  # the line to the SuperLink is broken: nothing that a store sent
        except Exception as error:
            reason = f"its reply cannot be read ({type(error).__name__})"
            return self._error(asked, node, Error(ErrorCode.MESSAGE_UNAVAILABLE, reason))
        return reply

    def _error(self, asked: str, node: int, error: Error) -> Message:
        about = Metadata(
            run_id=self.run.run_id,
            message_id="",
            src_node_id=node,
            dst_node_id=0,
            reply_to_message_id=asked,
            group_id="",
            created_at=time.time(),
            ttl=0.0,
            message_type=MessageType.QUERY,
        )
        # As Flower's own grid makes one.
        return Message(metadata=about, error=error)  # type: ignore[call-overload,no-any-return]


class _Turns:
    """Which orders to ask for, and when to look again.

    Attributes:
        due: when somebody is asked for next who was not heard of.
    """

    def __init__(self, orders: Iterable[str], ear: Ear) -> None:
        self._ear, self._rung = ear, set[str]()
        self._asked = dict.fromkeys(orders, 0.0)
        self._all = False
        self._pause = _LONGEST_S if ear.connected else _SHORTEST_S
        self.due = time.monotonic() + (_LONGEST_S if ear.connected else 0.0)

    def asked(self, order: str) -> None:
        """This one is asked for now."""
        self._asked[order] = time.monotonic()
        self._rung.discard(order)

    def called(self, silent: Iterable[str]) -> list[str]:
        """Those that were answered, as the SuperLink told, and not asked for since."""
        self._rung |= self._ear.heard() & self._asked.keys()
        return [i for i in silent if i in self._rung]

    def next(self, silent: list[str], now: float) -> list[str]:
        """Those, and where it is time, some of the others: all after an answer, else who waited longest."""
        called = self.called(silent)
        if now < self.due:
            return called
        self.due = now + self._pause
        others = [i for i in silent if i not in called]
        others.sort(key=self._asked.__getitem__)
        return called + (others if self._all else others[: math.ceil(len(others) / _TURNS)])

    def rest(self, looked: float, ends: float, *, came: bool) -> None:
        """Wait until it is time, somebody is heard of, or `ends`."""
        if not self._ear.connected:
            self._all = came
            self._pause = _SHORTEST_S if came else min(_LONGEST_S, 1.2 * self._pause)
            self.due = looked + self._pause
        heard = self._ear.wait(max(0.0, min(self.due, ends) - time.monotonic()))
        self._rung |= heard & self._asked.keys()


def _patience(timeout: float | None, orders: Sequence[Metadata]) -> float:
    """Seconds to wait for answers to orders that were sent: less than they live."""
    if timeout is None or not orders:
        return float("inf") if timeout is None else timeout
    lives = min(order.created_at + order.ttl for order in orders) - time.time()
    margin = min(_LAST_S + _QUESTION_S * len(orders), timeout / 4)
    return max(0.0, min(timeout, lives - margin))


def _young(reading: dict[Future[Message | None], tuple[str, float]]) -> int:
    """Readers that have hardly begun: those that wait for parts keep nobody else from being read."""
    now = time.monotonic()
    return sum(now - since < _LONG_S for _, since in reading.values())


def _arrived(
    reading: dict[Future[Message | None], tuple[str, float]], waiting: dict[str, int]
) -> Iterator[Message]:
    """Replies that are whole, taken out of both; waits for one, for a moment."""
    done, _ = wait(reading, timeout=_SHORTEST_S, return_when=FIRST_COMPLETED)
    for future in done:
        i, _since = reading.pop(future)
        reply = future.result()
        if reply is not None:
            del waiting[i]
            yield reply
