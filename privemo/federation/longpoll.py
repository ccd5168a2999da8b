"""Questions that wait for their answer at the server, and orders that wait for nobody's next look.

Flower's nodes ask their SuperLink for messages at intervals, and its server's app asks for replies: whoever
asks seldom waits, and whoever asks often keeps all of them busy. Here a node's question is held until there
is a message for it, for a second at most (long polling, RFC 6202), and the server's app is told which of its
orders were answered (`privemo.answered`).

| edge case | what happens |
|---|---|
| a node goes away while its question is held | it ends there, and no message is handed to nobody |
| a message came before the question, or two at once | as many questions as messages are not held |
| a message that nothing rang for, of before a restart | found after a second |
| a question that is longer than one is, or one of many of one node at once | passed on, and not held |
| a stranger asks with a store's number | refused behind; the store's own next question is not held for it |
| a question of a store that was revoked, or of nobody | held, then refused by what lies behind |
| what cannot be read | passed on, to be refused by what lies behind |
| the line is cut without a word, and a message comes within that second | it waits in the line, and is lost \
with it |
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from privemo.federation.asgi import again

if TYPE_CHECKING:
    from starlette.types import Message, Receive, Scope, Send

__all__ = ["HELD_S", "LongPoll"]

HELD_S = 1.0
"""Seconds a question is held at most: Flower's clients wait 30, and a server that ends waits for these."""

_LONGEST, _AT_ONCE = 4096, 4
"""Bytes of a question that is held at most, and how many of one node are: an honest one is some 12 bytes."""

_ASKED = "/v1/fleet/pull-messages"
_ORDERED, _ANSWERED = "/v1/runtime/push-messages", "/v1/fleet/push-messages"


class LongPoll:
    """ASGI middleware: a node's question is answered when there is something to say.

    Args:
        app: what lies behind.
        answered: told the ids of orders that were answered, which the sender may have made up.
        held: how long a question is held at most, seconds.
    """

    def __init__(
        self, app: Any, answered: Callable[[Iterable[str]], None], held: float = HELD_S
    ) -> None:
        self._app, self._answered, self._held = app, answered, held
        self._due = Counter[int]()
        self._bells: dict[int, set[asyncio.Event]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hold a question, note what an order or an answer was about, and pass on."""
        path = str(scope.get("path", "")) if scope["type"] == "http" else ""
        if path == _ASKED:
            await self._hold(scope, receive, send)
        elif path == _ORDERED:
            body, taken = await self._followed(scope, receive, send)
            self._ring(_ordered(body) if taken else [])
        elif path == _ANSWERED:
            body, taken = await self._followed(scope, receive, send)
            self._answered(_answers(body) if taken else [])
        else:
            await self._app(scope, receive, send)

    async def _hold(self, scope: Scope, receive: Receive, send: Send) -> None:
        message = await receive()  # all of its body: a door stands before this (`Door`)
        node = self._asks(message)
        if node is not None and not self._due[node] and await self._gone(node, receive):
            return
        _, taken = await self._followed(scope, again(message, receive), send)
        if node is not None and taken and self._due[node]:  # who asked had the key to that number
            self._due[node] -= 1

    def _asks(self, message: Message) -> int | None:
        """Whose question may be held."""
        body = message.get("body", b"")
        if message.get("more_body") or len(body) > _LONGEST:
            return None
        node = _node(body)
        return None if node is None or len(self._bells.get(node, ())) >= _AT_ONCE else node

    async def _gone(self, node: int, receive: Receive) -> bool:
        """Wait until there is a message for a node, for a while; whether it went away meanwhile."""
        bell = asyncio.Event()
        bells = self._bells.setdefault(node, set())
        bells.add(bell)
        waits = [asyncio.ensure_future(one) for one in (bell.wait(), receive())]
        try:
            await asyncio.wait(waits, timeout=self._held, return_when=asyncio.FIRST_COMPLETED)
            return waits[1].done()  # after a request's body there is nothing but its end
        finally:
            for one in waits:
                one.cancel()
            bells.discard(bell)
            if not bells:
                self._bells.pop(node, None)

    def _ring(self, nodes: Iterable[int]) -> None:
        for node in nodes:
            self._due[node] += 1
            for bell in self._bells.get(node, ()):
                bell.set()

    async def _followed(self, scope: Scope, receive: Receive, send: Send) -> tuple[bytes, bool]:
        """Pass a request on; its body, and whether it was taken."""
        parts, status = list[bytes](), 0

        async def heard() -> Message:
            message = await receive()
            parts.append(message.get("body", b""))
            return message

        async def said(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        await self._app(scope, heard, said)
        return b"".join(parts), status == 200


def _node(body: bytes) -> int | None:
    """Who asks, as it says itself; None where that cannot be read."""
    from flwr.proto.fleet_pb2 import PullMessagesRequest
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        return int(PullMessagesRequest.FromString(body).node.node_id)
    except DecodeError:
        return None


def _ordered(body: bytes) -> list[int]:
    """Nodes that messages were sent to."""
    from flwr.proto.runtime_pb2 import PushAppMessagesRequest

    sent = PushAppMessagesRequest.FromString(body).messages_list
    return [int(one.metadata.dst_node_id) for one in sent]


def _answers(body: bytes) -> list[str]:
    """The order that was answered: of several Flower takes the first."""
    from flwr.proto.fleet_pb2 import PushMessagesRequest

    sent = PushMessagesRequest.FromString(body).messages_list[:1]
    return [str(one.metadata.reply_to_message_id) for one in sent]
