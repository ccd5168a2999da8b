"""Less waiting than Flower's own, and one store's answer at a time.

Flower looks for replies every three seconds, and for parts of a message that are not there yet after one
second, then two, then four. A message is seen before all of its parts have arrived, so whoever looks often
meets that often.

It reads all replies that have come in one go, whatever is in them:

| edge case | what happens |
|---|---|
| a reply that is no message, or cannot be read | an error of that node; all others are read |
| a reply that names another node or another order than it answers | it is the node's that was asked |
| a reply of which parts stay away | others are read meanwhile; after five minutes an error of that node |
| the server's SuperLink is gone | the error of the connection, as by Flower |
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

import httpx

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
"""Replies that are read side by side, and so most that stand in memory."""
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
    """Another grid, whose replies are looked for often at first and about once a second later.

    Args:
        grid: that carries the messages.
    """

    def __init__(self, grid: Grid) -> None:
        self._grid = grid

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
        sent = list(messages)
        ids = list(
            self.push_messages(sent)
        )  # none at all, or None, of what the SuperLink did not take
        asked = {i: m.metadata.dst_node_id for i, m in zip(ids, sent, strict=False) if i}
        del sent
        ends = time.monotonic() + timeout if timeout is not None else float("inf")
        readers = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="privemo-replies")
        try:
            yield from self._replies(asked, ends, readers)
        finally:
            readers.shutdown(wait=False, cancel_futures=True)

    def _replies(
        self, waiting: dict[str, int], ends: float, readers: ThreadPoolExecutor
    ) -> Iterator[Message]:
        reading: dict[Future[Message | None], str] = {}
        pause = _SHORTEST_S
        while waiting:
            looked = time.monotonic()
            pause = min(_LONGEST_S, 1.2 * pause)
            to_ask = deque(i for i in waiting if i not in reading.values())
            # Once through all; then on with those that take longer, until it is time to look again.
            while to_ask or (reading and time.monotonic() < min(looked + pause, ends)):
                while to_ask and len(reading) < _AT_ONCE:
                    i = to_ask.popleft()
                    reading[readers.submit(self._reply, i, waiting[i])] = i
                done, _ = wait(reading, timeout=_SHORTEST_S, return_when=FIRST_COMPLETED)
                for future in done:
                    i = reading.pop(future)
                    reply = future.result()
                    if reply is not None:
                        del waiting[i]
                        pause = _SHORTEST_S
                        yield reply
                if not done and time.monotonic() >= ends:
                    return
            if not waiting or time.monotonic() >= ends:
                return
            time.sleep(max(0.0, min(looked + pause, ends) - time.monotonic()))

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
