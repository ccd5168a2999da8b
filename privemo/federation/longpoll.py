"""Questions that wait for their answer at the server, and orders that wait for nobody's next look.

Flower's nodes ask their SuperLink for messages at intervals, and its server's app asks for replies: whoever
asks seldom waits, and whoever asks often keeps all of them busy. Here a node's question is held until there
is a message for it, for a second at most (long polling, RFC 6202), and the server's app is told which of its
orders were answered (`privemo.answered`).

| edge case | what happens |
|---|---|
| a node goes away while its question is held | it ends there, and no message is handed to nobody |
| a message came before the question, or two at once | as many questions as messages are not held |
| a message of before a restart of the server | found after a second, for nothing rang |
| a question of a store that was revoked, or of nobody | held, then refused by what lies behind |
| what cannot be read | passed on, to be refused by what lies behind |
| the line is cut without a word, and a message comes within that second | its answer waits in the line, and \
is lost with it |
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

__all__ = ["HELD_S", "LongPoll"]

HELD_S = 1.0
"""Seconds a question is held at most: Flower's clients wait 30, and a server that ends waits for these."""

_ASKED = "/v1/fleet/pull-messages"
_ORDERED, _ANSWERED = "/v1/runtime/push-messages", "/v1/fleet/push-messages"

_Message = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]


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

    async def __call__(self, scope: _Message, receive: _Receive, send: _Send) -> None:
        """Hold a question, note what an order or an answer was about, and pass on."""
        path = str(scope.get("path", "")) if scope["type"] == "http" else ""
        if path == _ASKED:
            await self._hold(scope, receive, send)
        elif path == _ORDERED:
            self._ring(_ordered(await self._followed(scope, receive, send)))
        elif path == _ANSWERED:
            self._answered(_answers(await self._followed(scope, receive, send)))
        else:
            await self._app(scope, receive, send)

    async def _hold(self, scope: _Message, receive: _Receive, send: _Send) -> None:
        message = await receive()  # all of its body: a door stands before this (`Door`)
        node = None if message.get("more_body") else _node(message.get("body", b""))
        if node is not None and not self._due[node] and await self._gone(node, receive):
            return
        if node is not None and self._due[node]:
            self._due[node] -= 1
        first = iter([message])

        async def again() -> _Message:
            return next(first, None) or await receive()

        await self._app(scope, again, send)

    async def _gone(self, node: int, receive: _Receive) -> bool:
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

    async def _followed(self, scope: _Message, receive: _Receive, send: _Send) -> bytes:
        """Pass a request on; its body, where it was taken."""
        parts, status = list[bytes](), 0

        async def heard() -> _Message:
            message = await receive()
            parts.append(message.get("body", b""))
            return message

        async def said(message: _Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        await self._app(scope, heard, said)
        return b"".join(parts) if status == 200 else b""


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
    """Orders that were answered."""
    from flwr.proto.fleet_pb2 import PushMessagesRequest

    sent = PushMessagesRequest.FromString(body).messages_list
    return [str(one.metadata.reply_to_message_id) for one in sent]
