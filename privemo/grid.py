"""A Flower `Grid` in one process: the same apps, without Ray's start and without a network.

Every message still passes through Flower's records, and a store's failure is an error reply, as it
would be from another machine. Stores run one after the other, each step on all cores; or side by side, in
worker processes (`privemo.workers`), which is faster where networks are small and stores many.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from privemo.flower import (
    ClientApp,
    Context,
    Error,
    ErrorCode,
    FlowerRun,
    Grid,
    Message,
    MessageType,
    RecordDict,
    ServerApp,
    TaskIdentity,
)

if TYPE_CHECKING:
    from privemo.workers import Workers

__all__ = ["InProcessGrid", "answered", "failed", "task_identity"]

_SERVER_NODE = 1
_CLIENT_RAISED = ErrorCode.CLIENT_APP_RAISED_EXCEPTION


class InProcessGrid(Grid):
    """Delivers each message to a `ClientApp` in this process.

    Args:
        client_app: the app of the stores.
        node_configs: for each store its node configuration.
        on_reply: called with (replies so far, messages of this call) as stores finish training.
        workers: processes that answer instead, several at once, and for privemo's own app alone. Replies then
            come in the order in which stores are done.
    """

    def __init__(
        self,
        client_app: ClientApp,
        node_configs: list[dict[str, str | int]],
        *,
        on_reply: Callable[[int, int], None] | None = None,
        workers: Workers | None = None,
    ) -> None:
        self._client_app = client_app
        self._workers = workers
        self._run = FlowerRun.create_empty(run_id=1)
        self._on_reply = on_reply
        self.failures: list[BaseException] = []
        """What went wrong in stores, in full, for whoever sits at this machine."""
        self._inbox: dict[str, Message] = {}
        self._contexts = {
            _SERVER_NODE + 1 + index: Context(
                run_id=1,
                node_id=_SERVER_NODE + 1 + index,
                node_config=dict(config),
                state=RecordDict(),
                run_config={},
            )
            for index, config in enumerate(node_configs)
        }

    def serve(self, server_app: ServerApp, *, run_dir: str) -> None:
        """Run `server_app` on this grid until it returns."""
        context = Context(
            run_id=1,
            node_id=_SERVER_NODE,
            node_config={},
            state=RecordDict(),
            run_config={"run-dir": run_dir},
        )
        with task_identity():
            server_app(self, context)

    def set_run(self, run: FlowerRun) -> None:
        """Take over the run's details."""
        self._run = run

    @property
    def run(self) -> FlowerRun:
        """The run's details."""
        return self._run

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """Make a message; part of Flower's interface."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """Ids of the stores, in their order."""
        return list(self._contexts)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Deliver messages and keep the replies for `pull_messages`."""
        ids = []
        for reply in self._deliver(list(messages)):
            ids.append(reply.metadata.reply_to_message_id)
            self._inbox[ids[-1]] = reply
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Replies to the messages with these ids, once each."""
        return [self._inbox.pop(i) for i in message_ids if i in self._inbox]

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Deliver messages as replies are asked for: none of them waits in memory.

        `timeout` is moot: delivery is a call.
        """
        return self._deliver(list(messages))

    def _deliver(self, messages: list[Message]) -> Iterator[Message]:
        answers = self._answers(self._asked(messages))
        for done, (reply, failure) in enumerate(answers, start=1):
            if failure is not None:
                self.failures.append(failure)
            reply.metadata.__dict__["_message_id"] = str(uuid.uuid4())
            if self._on_reply and reply.metadata.message_type.startswith(MessageType.TRAIN):
                self._on_reply(done, len(messages))
            yield reply

    def _asked(self, messages: list[Message]) -> Iterator[tuple[Message, Context]]:
        """Each message, named, with the context of its node."""
        for message in messages:
            message.metadata.__dict__["_message_id"] = str(uuid.uuid4())
            yield message, self._contexts[message.metadata.dst_node_id]

    def _answers(
        self, asked: Iterator[tuple[Message, Context]]
    ) -> Iterator[tuple[Message, BaseException | None]]:
        if self._workers is not None:
            return self._workers.answers(asked)
        return (answered(self._client_app, *one) for one in asked)


def answered(
    client_app: ClientApp, message: Message, context: Context
) -> tuple[Message, BaseException | None]:
    """What an app replies; a store that fails replies with an error, and what went wrong stands beside it."""
    try:
        return client_app(message, context), None
    except Exception as error:
        # With the error's text, as on Flower's own engines.
        return failed(message, str(error)), error.__cause__ or error


def failed(message: Message, reason: str) -> Message:
    """The reply of a store that failed."""
    return Message(Error(code=_CLIENT_RAISED, reason=reason), reply_to=message)


@contextmanager
def task_identity() -> Iterator[None]:
    """Flower's messages read who sends them from a process-wide identity; set it, and put it back."""
    names = ("_task_id", "_run_id", "_node_id")
    before = {name: getattr(TaskIdentity, name) for name in names}
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, _SERVER_NODE
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(TaskIdentity, name, value)
