"""Less waiting than Flower's own.

Flower looks for replies every three seconds, and for parts of a message that are not there yet after one
second, then two, then four. A message is seen before all of its parts have arrived, so whoever looks often
meets that often.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

from privemo.flower import FlowerRun, Grid, Message, RecordDict, inflatable_utils

__all__ = ["PollingGrid", "look_again_soon"]

_SHORTEST_S, _LONGEST_S = 0.1, 1.0


def look_again_soon() -> None:
    """Let Flower look for missing parts of a message after a twentieth of a second first, in this process.

    Its waiting times are defaults of two functions, and nothing else sets them.
    """
    for function in (
        inflatable_utils.pull_objects,
        inflatable_utils.pull_and_inflate_object_from_tree,
    ):
        defaults = function.__kwdefaults__
        if defaults is None or "initial_backoff" not in defaults:  # another Flower: it waits longer
            continue
        defaults["initial_backoff"] = _SHORTEST_S / 2


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
        waiting = set(self.push_messages(messages))
        ends = None if timeout is None else time.monotonic() + timeout
        pause = _SHORTEST_S
        while waiting:
            replies = list(self.pull_messages(waiting))
            waiting -= {reply.metadata.reply_to_message_id for reply in replies}
            pause = _SHORTEST_S if replies else min(_LONGEST_S, 1.2 * pause)
            while replies:
                yield replies.pop(0)
            if not waiting or (ends is not None and time.monotonic() >= ends):
                break
            time.sleep(pause)
