"""Questions that are held until there is an answer: nobody waits longer, and no message goes to nobody."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import pytest
from flwr.proto.fleet_pb2 import PullMessagesRequest, PushMessagesRequest
from flwr.proto.message_pb2 import Message, Metadata
from flwr.proto.node_pb2 import Node
from flwr.proto.runtime_pb2 import PushAppMessagesRequest
from flwr.supercore.protobuf.client import ProtobufClient
from flwr.superlink.main import create_app

from privemo.federation import doorkeeper
from privemo.federation.longpoll import HELD_S, LongPoll

ASK, ORDER, ANSWER = (
    "/v1/fleet/pull-messages",
    "/v1/runtime/push-messages",
    "/v1/fleet/push-messages",
)


class SuperLink:
    """What lies behind: it remembers whole requests, and answers them with a status."""

    def __init__(self, status: int = 200) -> None:
        self.status = status
        self.seen = list[tuple[str, bytes, float]]()

    async def __call__(
        self, scope: dict[str, Any], receive: Callable[[], Awaitable[Any]], send: Any
    ) -> None:
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        self.seen.append((scope["path"], body, time.monotonic()))
        await send({"type": "http.response.start", "status": self.status, "headers": []})
        await send({"type": "http.response.body", "body": b"done"})


class Client:
    """Makes requests as a server hands them on; it may hang up."""

    def __init__(self, app: LongPoll) -> None:
        self.app = app
        self.answers = list[int]()

    async def post(self, path: str, *parts: bytes, hangs_up_after: float | None = None) -> None:
        bodies = iter(
            [
                {"type": "http.request", "body": part, "more_body": number < len(parts)}
                for number, part in enumerate(parts, start=1)
            ]
        )

        async def receive() -> dict[str, Any]:
            found = next(bodies, None)
            if found is None:
                await asyncio.sleep(3600 if hangs_up_after is None else hangs_up_after)
                return {"type": "http.disconnect"}
            return found

        async def send(message: Any) -> None:
            if "status" in message:
                self.answers.append(message["status"])

        scope = {"type": "http", "path": path, "headers": []}
        await self.app(scope, receive, send)


def question(node: int) -> bytes:
    return PullMessagesRequest(node=Node(node_id=node)).SerializeToString()


def orders(*nodes: int) -> bytes:
    sent = [Message(metadata=Metadata(dst_node_id=node)) for node in nodes]
    return PushAppMessagesRequest(messages_list=sent).SerializeToString()


def answer(*orders: str) -> bytes:
    sent = [Message(metadata=Metadata(reply_to_message_id=one)) for one in orders]
    return PushMessagesRequest(messages_list=sent).SerializeToString()


def told() -> tuple[list[str], Callable[[Iterable[str]], None]]:
    heard = list[str]()
    return heard, heard.extend


def nobody(_: Iterable[str]) -> None:
    """Nobody listens."""


def run(check: Callable[[SuperLink, Client], Awaitable[None]], held: float = 20.0) -> None:
    behind = SuperLink()
    asyncio.run(asyncio.wait_for(check(behind, Client(LongPoll(behind, nobody, held))), 60))


def test_a_question_is_held_until_there_is_a_message_for_that_node() -> None:
    async def check(behind: SuperLink, client: Client) -> None:
        one, two = (asyncio.ensure_future(client.post(ASK, question(node))) for node in (1, 2))
        await asyncio.sleep(0.1)
        assert not behind.seen, "nobody has anything for them"
        await client.post(ORDER, orders(7, 1))
        await asyncio.wait_for(one, 5)
        assert [(path, body) for path, body, _ in behind.seen] == [
            (ORDER, orders(7, 1)),
            (ASK, question(1)),
        ]
        assert not two.done(), "the message was another node's"
        await client.post(ORDER, orders(2))
        await asyncio.wait_for(two, 5)

    run(check)


def test_it_is_passed_on_in_the_end() -> None:
    async def check(behind: SuperLink, client: Client) -> None:
        began = time.monotonic()
        await client.post(ASK, question(1))
        assert 0.3 <= time.monotonic() - began < 10
        assert [path for path, *_ in behind.seen] == [ASK]

    run(check, held=0.3)


def test_as_many_questions_are_not_held_as_messages_came_before() -> None:
    async def check(behind: SuperLink, client: Client) -> None:
        await client.post(ORDER, orders(1, 1))
        await client.post(ASK, question(1))
        await client.post(ASK, question(1))
        third = asyncio.ensure_future(client.post(ASK, question(1)))
        await asyncio.sleep(0.1)
        assert not third.done()
        assert len(behind.seen) == 3
        third.cancel()

    run(check)


def test_two_lines_of_one_node_get_one_message_each() -> None:
    async def check(behind: SuperLink, client: Client) -> None:
        lines = [asyncio.ensure_future(client.post(ASK, question(1))) for _ in range(2)]
        await asyncio.sleep(0.1)
        await client.post(ORDER, orders(1, 1))
        await asyncio.wait_for(asyncio.gather(*lines), 5)
        third = asyncio.ensure_future(client.post(ASK, question(1)))
        await asyncio.sleep(0.1)
        assert not third.done()
        third.cancel()
        assert len(behind.seen) == 3

    run(check)


def test_no_message_is_handed_to_a_node_that_went_away() -> None:
    """Flower forgets a message once it was handed out: the next question would find nothing."""

    async def check(behind: SuperLink, client: Client) -> None:
        gone = asyncio.ensure_future(client.post(ASK, question(1), hangs_up_after=0.1))
        await asyncio.wait_for(gone, 5)
        assert not behind.seen
        assert not client.answers
        await client.post(ORDER, orders(1))
        await client.post(ASK, question(1))
        assert [path for path, *_ in behind.seen] == [ORDER, ASK]

    run(check)


def test_a_message_and_a_node_that_goes_away_at_once_leave_the_message_where_it_is() -> None:
    async def check(behind: SuperLink, client: Client) -> None:
        gone = asyncio.ensure_future(client.post(ASK, question(1), hangs_up_after=0.05))
        await asyncio.sleep(0)
        client.app._ring([1])
        await asyncio.sleep(0.2)
        await asyncio.wait_for(gone, 5)
        again = len(behind.seen)
        await asyncio.wait_for(client.post(ASK, question(1)), 5) if not again else None
        assert [path for path, *_ in behind.seen] == [ASK]

    run(check)


def test_nothing_is_left_of_questions_that_were_answered() -> None:
    async def check(behind: SuperLink, client: Client) -> None:
        await asyncio.gather(*(client.post(ASK, question(node)) for node in range(50)))
        assert not client.app._bells

    run(check, held=0.1)


@pytest.mark.parametrize("body", [b"\xff", b"", b"\x0a\xff\xff"])
def test_what_cannot_be_read_is_passed_on_and_refused_behind(body: bytes) -> None:
    async def check(behind: SuperLink, client: Client) -> None:
        await client.post(ASK, body)
        assert [(path, seen) for path, seen, _ in behind.seen] == [(ASK, body)]

    run(check, held=0.1)


def test_answers_are_told_when_they_were_taken() -> None:
    heard, tell = told()
    behind = SuperLink()
    client = Client(LongPoll(behind, tell))

    async def check() -> None:
        whole = answer("a" * 64, "b" * 64)
        await client.post(ANSWER, whole[:10], whole[10:])
        assert behind.seen[0][1] == whole
        behind.status = 401
        await client.post(ANSWER, answer("c" * 64))
        await client.post("/v1/fleet/push-object", b"\xff")

    asyncio.run(check())
    assert heard == ["a" * 64, "b" * 64]


def test_an_order_that_was_refused_rings_for_nobody() -> None:
    async def check(behind: SuperLink, client: Client) -> None:
        behind.status = 401
        held = asyncio.ensure_future(client.post(ASK, question(1)))
        await client.post(ORDER, orders(1))
        await asyncio.sleep(0.1)
        assert not held.done()
        held.cancel()

    run(check)


def test_all_else_passes_untouched() -> None:
    async def check(behind: SuperLink, client: Client) -> None:
        for path in ("/", "/v1/fleet/pull-object", "/v1/control/list-runs"):
            await client.post(path, b"x")
        assert [(path, body) for path, body, _ in behind.seen] == [
            ("/", b"x"),
            ("/v1/fleet/pull-object", b"x"),
            ("/v1/control/list-runs", b"x"),
        ]

    run(check)


def test_the_paths_are_flowers_and_its_clients_wait_longer() -> None:
    assert {ASK, ORDER, ANSWER} <= set(create_app().openapi()["paths"])
    waits = (ProtobufClient.__init__.__kwdefaults__ or {})["timeout"]
    assert waits > HELD_S * 5


def test_the_superlink_has_it_behind_the_door() -> None:
    assert {"LongPoll", "Answered"} <= set(doorkeeper.main.__code__.co_names)
