"""The stores of a federation, known to its SuperLink before it answers anybody.

Flower's own way is a command for each store once the server is up, a process of some seconds, and a number of
chance for its node. Here a node's number is made of its key, so that a SuperLink that kept nothing knows the
stores of before it ended: their nodes go on under the numbers that they have.

What a SuperLink has to remember it has in memory (`database`): orders and answers are for now, for a run that
was interrupted goes on from its last whole round, and begins no round in the middle. On the disk, in Flower's
database, each part of each message costs some 10 ms: three quarters of what a SuperLink computed in a round.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

__all__ = ["MOST_IN_MEMORY", "database", "know_from_the_start", "number_of", "register"]

MOST_IN_MEMORY = 1 << 30
"""Bytes that the answers of a round may come to, all stores together, which wait until they are read."""

_IN_MEMORY = ":flwr-in-memory:"  # Flower's word for it

_A_PARAMETER = 8  # bytes; a masked number of a secure sum, a float32 is half of it


def database(folder: Path) -> str:
    """Where the SuperLink of a server's folder keeps orders and answers, as Flower's `--database` says it.

    In memory, unless the answers of a round may come to more than `MOST_IN_MEMORY`: then on the disk, where
    they take time and no memory.
    """
    from privemo.runs import Run  # with it comes PyTorch, and a SuperLink needs none

    run = Run(folder)
    answers = len(run.stores) * int(run.facts["model"]["parameters"]) * _A_PARAMETER
    return _IN_MEMORY if answers <= MOST_IN_MEMORY else str(folder / "flower/state.db")


def number_of(key: bytes) -> int:
    """The number of a node, by its key: 64 bits; those that Flower has other uses for do not come up.

    Args:
        key: as a node sends it: PEM, SubjectPublicKeyInfo.
    """
    return int.from_bytes(sha256(b"privemo.node/1\0" + key).digest()[:8], "big") | 1 << 32


def know_from_the_start(place: Any, stores: Callable[[], Mapping[bytes, str]]) -> None:
    """Have a SuperLink know its stores when it begins.

    Args:
        place: the module of Flower's that makes a SuperLink's state.
        stores: keys that may come in, and whose they are.
    """
    make: Callable[..., tuple[Any, Any]] = place.get_objectstore_linkstate_factories

    def made(*given: Any, **named: Any) -> tuple[Any, Any]:
        objects, states = make(*given, **named)
        state = states.state()
        register(state, stores())
        if hasattr(state, "nodes"):
            _in_memory(state)
        return objects, states

    place.get_objectstore_linkstate_factories = made


def _in_memory(state: Any) -> None:
    """Mend two things of Flower's state in memory (1.41).

    It takes two locks in one order where it stores a message, and in the other where parts of one stayed away
    for three minutes: a store that sends half an answer could stop the SuperLink by it. And what is left of a
    run that ended, answers that nobody read, stays until somebody asks about that run.
    """
    store: Callable[..., Any] = state.store_message_and_object_tree
    finish: Callable[..., bool] = state.finish_task

    def stored(*given: Any, **named: Any) -> Any:
        with state._lock_object_push_sessions, state.lock:
            return store(*given, **named)

    def finished(task_id: int, *given: Any, **named: Any) -> bool:
        done = finish(task_id, *given, **named)
        ended = [t.run_id for t in state.get_tasks(task_ids=[task_id])] if done else []
        for run in ended:
            if state._is_finished_run(run):
                state.cleanup_run(run)
        return done

    state.store_message_and_object_tree = stored
    state.finish_task = finished


def register(state: Any, stores: Mapping[bytes, str]) -> None:
    """Enter stores that are not known yet.

    Args:
        state: Flower's, in memory or in a database.
        stores: keys, and whose they are.
    """
    from flwr.common.constant import HEARTBEAT_DEFAULT_INTERVAL, NOOP_ACCOUNT_NAME, NOOP_FLWR_AID

    place = vars(sys.modules[type(state).__module__])
    drawn = place["generate_rand_int_from_bytes"]
    try:
        for key, name in stores.items():
            if state.get_node_id_by_public_key(key) is not None:
                continue  # of a database of before
            place["generate_rand_int_from_bytes"] = lambda *_, key=key, **__: number_of(key)
            node = state.create_node(
                NOOP_FLWR_AID, NOOP_ACCOUNT_NAME, key, HEARTBEAT_DEFAULT_INTERVAL, name=name
            )
            if hasattr(state, "nodes"):
                # Flower takes a node out by comparing this, which it leaves empty until the node was there.
                state.nodes[node].online_until = 0.0
    finally:
        place["generate_rand_int_from_bytes"] = drawn
