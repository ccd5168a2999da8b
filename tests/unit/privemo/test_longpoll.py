"""Questions that are held until there is an answer: nobody waits longer, and no message goes to nobody."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import uvicorn
from flwr.proto.fleet_pb2 import PullMessagesRequest, PushMessagesRequest
from flwr.proto.message_pb2 import Message, Metadata
from flwr.proto.node_pb2 import Node
from flwr.proto.runtime_pb2 import PushAppMessagesRequest
from flwr.supercore.protobuf.client import ProtobufClient
from flwr.superlink.main import create_app

from privemo.federation import doorkeeper
from privemo.federation.longpoll import HELD_S, LongPoll
from tests.support.doorkept import begun

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
        both = asyncio.Event()
        question_of_1 = iter([{"type": "http.request", "body": question(1), "more_body": False}])

        async def receive() -> dict[str, Any]:
            found = next(question_of_1, None)
            if found is None:
                await both.wait()
                return {"type": "http.disconnect"}
            return found

        async def send(_: Any) -> None:
            raise AssertionError("nobody is there to be answered")

        scope = {"type": "http", "path": ASK, "headers": []}
        held = asyncio.ensure_future(client.app(scope, receive, send))
        await asyncio.sleep(0.1)
        client.app._ring([1])  # in the same step of the loop
        both.set()
        await asyncio.wait_for(held, 5)
        assert not behind.seen
        await asyncio.wait_for(client.post(ASK, question(1)), 5)
        assert [path for path, *_ in behind.seen] == [ASK]

    run(check)


def test_a_stranger_who_asks_in_a_stores_name_does_not_make_it_wait() -> None:
    async def check(behind: SuperLink, client: Client) -> None:
        await client.post(ORDER, orders(1))
        behind.status = 401
        await client.post(ASK, question(1))
        behind.status = 200
        await asyncio.wait_for(client.post(ASK, question(1)), 5)
        held = asyncio.ensure_future(client.post(ASK, question(1)))
        await asyncio.sleep(0.1)
        assert not held.done()
        held.cancel()

    run(check)


def test_what_is_no_nodes_question_is_not_held() -> None:
    async def check(behind: SuperLink, client: Client) -> None:
        await asyncio.wait_for(client.post(ASK, question(1) * 2000), 5)
        held = [asyncio.ensure_future(client.post(ASK, question(1))) for _ in range(4)]
        await asyncio.sleep(0.1)
        await asyncio.wait_for(client.post(ASK, question(1)), 5)
        assert not any(one.done() for one in held)
        for one in held:
            one.cancel()

    run(check)


@pytest.mark.parametrize("parser", ["h11", "httptools"])
def test_a_real_server_notices_a_node_that_hung_up(parser: str) -> None:
    """What a server's `receive` says after a request's body, this all hangs on."""
    behind = SuperLink()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        app = LongPoll(behind, nobody, held=30)
        door = doorkeeper.Door(app, print, SimpleNamespace(is_known=lambda _: True))  # type: ignore[arg-type]
        server = uvicorn.Server(
            uvicorn.Config(door, http=parser, lifespan="off", ws="none", log_level="error")  # type: ignore[arg-type]
        )
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        try:
            body = question(1)
            head = f"POST {ASK} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
            with socket.create_connection(("127.0.0.1", port), timeout=20) as gone:
                gone.sendall(head + body)
                until(lambda: bool(app._bells))
            until(lambda: not app._bells)
            assert not behind.seen
            with socket.create_connection(("127.0.0.1", port), timeout=20) as there:
                there.sendall(head + body)
                until(lambda: bool(app._bells))
                order = (
                    f"POST {ORDER} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(orders(1))}\r\n\r\n"
                )
                with socket.create_connection(("127.0.0.1", port), timeout=20) as app_:
                    app_.sendall(order.encode() + orders(1))
                    assert b"200" in app_.recv(1000)
                assert b"200" in there.recv(1000)
            assert [path for path, *_ in behind.seen] == [ORDER, ASK]
        finally:
            server.should_exit = True
            thread.join(30)


def until(met: Callable[[], bool]) -> None:
    ends = time.monotonic() + 20
    while not met():
        assert time.monotonic() < ends
        time.sleep(0.01)


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
    assert heard == ["a" * 64], "of several Flower takes the first"


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


def test_the_superlink_has_it_behind_the_door(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In front of it, anybody's questions would be held."""
    layers = begun(monkeypatch, tmp_path / "nodes").layers
    assert [layer.cls for layer in layers[:2]] == [doorkeeper.Door, LongPoll]
