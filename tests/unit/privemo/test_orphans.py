"""Apps that die beside Flower's node: with Flower's own state, store of parts and way to send."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from flwr.app.message import remove_content_from_message
from flwr.common.constant import SubStatus
from flwr.supercore.constant import TaskType
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree
from flwr.supercore.object_store.in_memory_object_store import InMemoryObjectStore
from flwr.supernode import start_client_internal
from flwr.supernode.nodestate.in_memory_nodestate import InMemoryNodeState

from privemo.federation.orphans import go_on_without_dead_apps
from privemo.flower import ArrayRecord, Message, RecordDict
from privemo.grid import task_identity

RUN = 1


@dataclass
class Node:
    """A node that got a message, and what it sends to its server."""

    state: InMemoryNodeState
    parts: InMemoryObjectStore
    message: Message
    task: int
    sent: list[Message] = field(default_factory=list)
    sent_parts: list[str] = field(default_factory=list)

    def take(self) -> None:
        """The app takes its message."""
        assert self.state.get_messages_legacy(run_ids=[RUN], is_reply=False, limit=1)
        self.state.record_message_processing_start(self.message.metadata.message_id)

    def tell(self) -> Callable[[], None]:
        """The app says that there is an answer; what is returned hands over its parts."""
        reply = Message(RecordDict({"a": ArrayRecord([np.ones(3)])}), reply_to=self.message)
        reply.metadata.__dict__["_message_id"] = reply.object_id
        session = self.state.start_session(RUN)
        named = remove_content_from_message(reply)
        named.metadata.__dict__["_message_id"] = reply.object_id
        tree = get_object_tree(reply)
        stored, missing = self.state.store_message_and_object_tree(named, tree, session)
        assert stored
        assert missing

        def hand_over() -> None:
            for name, part in get_all_nested_objects(reply).items():
                assert self.state.store_object(RUN, session, name, part.deflate())

        return hand_over

    def die(self) -> None:
        """The app is killed, and a minute goes by."""
        self.state.task_token_store[self.task].active_until -= timedelta(minutes=2)

    def end(self) -> None:
        """The app ends, and says so."""
        self.state.finish_task(self.task, SubStatus.COMPLETED, "")

    def waiting(self) -> threading.Thread:
        """The node waits for the answer, and sends it."""
        place = SimpleNamespace(_push_messages=start_client_internal._push_messages)
        go_on_without_dead_apps(place)

        def send(message: Message, tree: Any, seconds: float) -> tuple[set[str], str]:
            self.sent.append(message)
            return {tree.object_id, *(child.object_id for child in tree.children)}, "session"

        def push(_run: int, _session: str, name: str, _content: bytes) -> None:
            self.sent_parts.append(name)

        thread = threading.Thread(
            target=place._push_messages,
            kwargs={
                "state": self.state,
                "object_store": self.parts,
                "send": send,
                "push_object": push,
            },
            daemon=True,
        )
        thread.start()
        return thread


@pytest.fixture
def node() -> Iterator[Node]:
    parts = InMemoryObjectStore()
    state = InMemoryNodeState(parts)
    state.set_node_id(7)
    with task_identity():
        message = Message(RecordDict(), dst_node_id=7, message_type="train", group_id="1")
        message.metadata.__dict__.update(_message_id=message.object_id, _run_id=RUN)
        task = state.create_task(TaskType.CLIENT_APP, RUN, fab_hash="0")
        assert task is not None
        assert state.claim_task(task)
        assert state.activate_task(task)
        state.store_message(message)
        yield Node(state, parts, message, task)


def goes_on(thread: threading.Thread) -> bool:
    thread.join(20)
    return not thread.is_alive()


@pytest.mark.parametrize("took", [False, True])
def test_an_app_that_died_before_it_answered_is_an_error_at_the_server(
    node: Node, took: bool
) -> None:
    waiting = node.waiting()
    if took:
        node.take()
    time.sleep(0.7)
    assert waiting.is_alive(), "it may still be at work"
    node.die()
    assert goes_on(waiting)
    (told,) = node.sent
    assert told.has_error()
    assert told.metadata.reply_to_message_id == node.message.metadata.message_id
    assert node.state.msg_store == {}, "no later app is given the message of a dead one"


def test_an_app_that_died_while_it_handed_over_its_answer_stops_no_node(node: Node) -> None:
    node.take()
    node.tell()
    waiting = node.waiting()
    time.sleep(0.7)
    assert waiting.is_alive(), "it may still be at work"
    node.die()
    assert goes_on(waiting)
    assert node.sent_parts == []
    assert node.state.msg_store == {}
    assert len(node.parts) == 0


@pytest.mark.parametrize("ends", [False, True])
def test_an_answer_that_comes_late_is_sent_whole(node: Node, ends: bool) -> None:
    """Also of an app that is gone by the time that the node looks."""
    node.take()
    hand_over = node.tell()
    waiting = node.waiting()
    time.sleep(0.7)
    hand_over()
    if ends:
        node.end()
    assert goes_on(waiting)
    (told,) = node.sent
    assert not told.has_error()
    assert len(node.sent_parts) == 2
    assert node.state.msg_store == {}


def test_what_is_replaced_is_what_flowers_node_calls() -> None:
    """By the names of its arguments, and in its main loop."""
    names = start_client_internal._push_messages.__code__.co_varnames[:4]
    assert names == ("state", "object_store", "send", "push_object")
    assert "_push_messages" in start_client_internal.start_client_internal.__code__.co_names
