"""Messages whose app died, by `kill -9` or for want of memory: a node goes on without it.

Flower's node takes one message at a time, and waits for its answer. Of an app that died it learns after a
minute without a sign of life, and answers with an error in its place. Two cases that leaves out, and the node
would be there, and never answer again, until somebody started it anew (flwr 1.41):

| the app died | Flower | here |
|---|---|---|
| before it took its message | waits for an answer without end | answers with an error, as otherwise |
| while it handed over its answer | waits for parts without end | gives that answer up |

What the store has paid for stays paid for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from privemo.errors import RunError

__all__ = ["go_on_without_dead_apps"]


def go_on_without_dead_apps(place: Any) -> None:
    """Let a node wait for no app that is not there any more.

    Args:
        place: the module of Flower's that is the main loop of a node.
    """
    push: Callable[..., None] = place._push_messages

    def patient(*, state: Any, object_store: Any, **others: Any) -> None:
        push(state=_Messages(state), object_store=_Parts(state, object_store), **others)

    place._push_messages = patient


class _Messages:
    """Stands for a node's state."""

    def __init__(self, state: Any) -> None:
        self._state = state

    def __getattr__(self, name: str) -> Any:
        return getattr(self._state, name)

    def get_messages_legacy(self, *, is_reply: bool) -> Sequence[Any]:
        """Answers; errors in their place where no app is at work that could give one."""
        found: Sequence[Any] = self._state.get_messages_legacy(is_reply=is_reply)
        if found or _at_work(self._state):
            return found
        for message in self._state.get_messages_legacy(is_reply=False):
            self._state.record_message_processing_start(message.metadata.message_id)
        # Of what has no answer; one that came just before its app ended stays.
        self._state._on_task_tokens_expired(self._state.get_tasks())
        answers: Sequence[Any] = self._state.get_messages_legacy(is_reply=is_reply)
        return answers


class _Parts:
    """Stands for where a node keeps the parts of messages."""

    def __init__(self, state: Any, store: Any) -> None:
        self._state, self._store = state, store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def get(self, part: str) -> bytes | None:
        """One part; empty where it is still to come.

        Raises:
            RunError: nobody is there from whom it could come.
        """
        content: bytes | None = self._store.get(part)
        if content == b"" and not _at_work(self._state):
            content = self._store.get(part)  # it may have come just before its app ended
            if content == b"":
                raise RunError("The app ended before it had handed over its whole answer.")
        return content


def _at_work(state: Any) -> bool:
    """Whether there is an app that may still answer; one without a sign of life counts for a minute."""
    from flwr.common.constant import Status

    unfinished = (Status.PENDING, Status.STARTING, Status.RUNNING)
    return bool(state.get_tasks(statuses=unfinished, limit=1))
