"""The stores of a federation, known to a SuperLink before it answers anybody, and again after a restart."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from flwr.common.constant import HEARTBEAT_DEFAULT_INTERVAL, NOOP_FLWR_AID, SUPERLINK_NODE_ID
from flwr.supercore.constant import FLWR_IN_MEMORY_DB_NAME, NOOP_FEDERATION_ID, TaskType
from flwr.superlink import main as superlink
from flwr.superlink.config_loader import get_federation_manager, get_objectstore_linkstate_factories
from hypothesis import given
from hypothesis import strategies as st

from privemo.federation import doorkeeper
from privemo.federation.keys import Keys, revoke
from privemo.federation.nodes import database, know_from_the_start, number_of, register
from tests.unit.privemo.test_doorkeeper import new_key

# Of Flower's own migrations of its database.
pytestmark = pytest.mark.filterwarnings("ignore:No path_separator found:DeprecationWarning")

STORES = {b"key of amber": "amber", b"key of birch": "birch"}


@pytest.fixture(params=["memory", "disk"])
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """What Flower's `--database` says."""
    return FLWR_IN_MEMORY_DB_NAME if request.param == "memory" else str(tmp_path / "state.db")


patched = "get_objectstore_linkstate_factories", superlink.get_objectstore_linkstate_factories


def state_of(kept: str) -> Any:
    _, states = get_objectstore_linkstate_factories(
        kept, get_federation_manager(is_simulation=False)
    )
    return states.state()


def test_each_store_is_known_and_comes_online_with_its_first_sign_of_life(kept: str) -> None:
    state = state_of(kept)
    register(state, STORES)
    found = {name: state.get_node_id_by_public_key(key) for key, name in STORES.items()}
    assert found == {name: number_of(key) for key, name in STORES.items()}
    told = {one.name: one for one in state.get_node_info(node_ids=list(found.values()))}
    assert {name: told[name].status for name in found} == dict.fromkeys(found, "registered")
    assert state.activate_node(found["amber"], HEARTBEAT_DEFAULT_INTERVAL)
    assert state.acknowledge_node_heartbeat(found["birch"], HEARTBEAT_DEFAULT_INTERVAL)


def test_after_a_restart_without_a_memory_a_node_goes_on_under_its_number() -> None:
    """It asks on with the number that the server of before gave it, and does not introduce itself again."""
    before, after = (state_of(FLWR_IN_MEMORY_DB_NAME) for _ in range(2))
    for state in (before, after):
        register(state, STORES)
    node = before.get_node_id_by_public_key(b"key of amber")
    assert after.get_node_id_by_public_key(b"key of amber") == node
    assert after.acknowledge_node_heartbeat(node, HEARTBEAT_DEFAULT_INTERVAL)


def test_a_database_of_before_keeps_its_numbers(tmp_path: Path) -> None:
    kept = str(tmp_path / "state.db")
    first = state_of(kept)
    drawn = first.create_node(NOOP_FLWR_AID, "none", b"key of amber", HEARTBEAT_DEFAULT_INTERVAL)
    again = state_of(kept)
    register(again, STORES)
    assert again.get_node_id_by_public_key(b"key of amber") == drawn
    assert again.get_node_id_by_public_key(b"key of birch") == number_of(b"key of birch")


def test_flowers_own_numbers_are_drawn_as_before(kept: str) -> None:
    state = state_of(kept)
    register(state, STORES)
    others = {
        state.create_node(NOOP_FLWR_AID, "none", bytes([i]), HEARTBEAT_DEFAULT_INTERVAL)
        for i in range(20)
    }
    assert len(others) == 20
    assert not others & set(map(number_of, STORES))


def test_a_store_that_was_never_there_can_be_taken_out(kept: str) -> None:
    """Flower compares when it was last there, which it does not know."""
    state = state_of(kept)
    register(state, STORES)
    doorkeeper._unregister(state, b"key of amber")
    assert state.get_node_id_by_public_key(b"key of amber") is None
    doorkeeper._unregister(state, b"key of amber")
    assert state.get_node_id_by_public_key(b"key of birch") is not None


@given(st.binary(max_size=200))
def test_a_number_is_flowers_kind_of_number_and_none_that_it_uses_itself(key: bytes) -> None:
    assert number_of(key) == number_of(key)
    assert 0 < number_of(key) < 1 << 64
    assert number_of(key) not in {0, SUPERLINK_NODE_ID}
    assert number_of(key + b"x") != number_of(key)


def test_a_superlink_knows_them_when_its_app_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(superlink, *patched)
    know_from_the_start(superlink, lambda: STORES)
    app = superlink.create_app()
    state = app.state.linkstate_factory.state()
    assert state.get_node_id_by_public_key(b"key of birch") == number_of(b"key of birch")


def test_who_was_revoked_is_not_among_them(tmp_path: Path) -> None:
    amber, _ = (new_key(tmp_path, name) for name in ("amber", "birch"))
    revoke(tmp_path, "birch")
    assert Keys(tmp_path / "nodes").let_in() == {amber: "amber"}


@pytest.mark.parametrize(
    ("stores", "parameters", "on_disk"),
    [(3, 1_477_000, False), (90, 1_477_000, False), (200, 1_477_000, True), (1000, 74_000, False)],
)
def test_what_may_come_to_much_is_kept_on_the_disk(
    stores: int, parameters: int, on_disk: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Of:
        def __init__(self, folder: Path) -> None:
            self.stores = [f"store-{i}" for i in range(stores)]
            self.facts = {"model": {"parameters": parameters}}

    monkeypatch.setattr("privemo.runs.Run", Of)
    found = database(tmp_path)
    assert found == (str(tmp_path / "flower" / "state.db") if on_disk else FLWR_IN_MEMORY_DB_NAME)


def test_a_store_that_sends_half_an_answer_stops_no_superlink(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Flower takes its locks in one order to store a message, in the other to clear away half of one."""
    monkeypatch.setattr(superlink, *patched)
    know_from_the_start(superlink, lambda: STORES)
    state = superlink.create_app().state.linkstate_factory.state()
    order = list[str]()

    class Lock:
        def __init__(self, name: str) -> None:
            self.name, self.lock = name, threading.RLock()

        def __enter__(self) -> None:
            self.lock.acquire()
            order.append(self.name)

        def __exit__(self, *_: object) -> None:
            self.lock.release()

    state.lock, state._lock_object_push_sessions = Lock("state"), Lock("parts")
    with pytest.raises(AttributeError):
        state.store_message_and_object_tree(None, None, "session")
    assert order[:2] == ["parts", "state"]


def test_what_nobody_read_goes_with_its_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(superlink, *patched)
    know_from_the_start(superlink, lambda: STORES)
    state = superlink.create_app().state.linkstate_factory.state()
    cleaned = list[int]()
    monkeypatch.setattr(state, "cleanup_run", cleaned.append)
    run = state.create_run(
        "", "", "0" * 64, {}, NOOP_FEDERATION_ID, None, NOOP_FLWR_AID, TaskType.SERVER_APP
    )
    (task,) = state.get_tasks(run_ids=[run])
    other = state.create_task(task_type=TaskType.SERVER_APP, run_id=run, fab_hash="0" * 64)
    assert state.claim_task(task.task_id)
    assert state.activate_task(task.task_id)
    state.finish_task(other, "failed", "") if other else None
    assert cleaned == []
    assert state.finish_task(task.task_id, "completed", "")
    assert cleaned == [run]


def test_a_superlink_has_no_pytorch_in_it() -> None:
    script = "import sys, privemo.federation.doorkeeper; print(*sorted(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert not {"torch", "opacus", "pandas"} & set(done.stdout.split())


def test_the_doorkeeper_has_them_known() -> None:
    assert "know_from_the_start" in doorkeeper.main.__code__.co_names
