"""A store's daemons: Flower's own, with less waiting and no task for strangers."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from flwr.supercore.constant import TaskType
from flwr.supercore.superexec.executor import ExecutionSpec, LaunchResultStatus
from flwr.supernode import fleet_http_connection

from privemo.bench.deployed import laid_out
from privemo.config import PrivacySettings, RunSettings
from privemo.errors import RunError
from privemo.federation import daemons, supernode
from privemo.federation.authority import issue


class Clock:
    """Stands for `time`: nobody waits."""

    def __init__(self) -> None:
        self.now, self.slept = 0.0, list[float]()

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def test_a_node_looks_often_after_a_message_and_seldom_at_rest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(daemons, "time", fake := Clock())
    clock, slept = daemons.Attentive(), fake.slept
    for _ in range(3):
        clock.sleep(3)  # Flower's pause between two looks
    assert slept == pytest.approx([1.0, 1.0, 1.0], rel=0.02)
    clock.stir()
    clock.sleep(0.5)  # Flower's pause while an app is at work
    clock.sleep(3)
    assert slept[-1] == 0.1
    for _ in range(60):  # the first minute
        clock.sleep(3)
    assert slept[4] < slept[8] < 1.0 < slept[-1] < 1.4
    for _ in range(1000):
        clock.sleep(3)
    assert slept[-1] == 3
    assert clock.monotonic() == fake.now


def test_a_question_that_was_held_was_waiting_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemons, "time", fake := Clock())
    clock = daemons.Attentive()
    clock.stir()
    clock.sleep(0.5)
    for _ in range(30):  # a server holds each question for a second
        fake.now += 1.0
        clock.sleep(3)
    assert max(fake.slept) < 0.2, "hardly any of them beside it"
    for _ in range(1000):
        fake.now += 1.0
        clock.sleep(3)
    assert fake.slept[-1] == 2, "at rest it asks every three seconds, held or not"


def test_what_an_app_hands_over_is_noticed_at_once() -> None:
    clock = daemons.Attentive()
    threading.Timer(0.1, clock.stir).start()
    began = time.monotonic()
    clock.sleep(0.99)
    assert time.monotonic() - began < 0.9
    began = time.monotonic()
    clock.sleep(0.2)
    assert time.monotonic() - began >= 0.19, "it was noticed once"


def test_each_part_of_an_answer_stirs_a_node_also_one_that_fails() -> None:
    class State:
        def store_message_and_object_tree(self, message: str, *, tree: str) -> tuple[str, str]:
            return message, tree

        def store_object(self) -> None:
            raise KeyError("no such session")

    stirred = list[int]()
    daemons.stir_when_stored(State, lambda: stirred.append(1))
    assert State().store_message_and_object_tree("a", tree="b") == ("a", "b")
    with pytest.raises(KeyError):
        State().store_object()
    assert len(stirred) == 2


def test_a_nodes_state_has_what_stirs_it() -> None:
    from flwr.supernode.nodestate.in_memory_nodestate import InMemoryNodeState
    from flwr.supernode.servicer.runtime import runtime_handlers

    for name in ("store_message_and_object_tree", "store_object"):
        assert callable(getattr(InMemoryNodeState, name))
        assert name in Path(runtime_handlers.__file__).read_text()
    assert {"stir_when_stored", "InMemoryNodeState"} <= {
        *daemons._supernode.__code__.co_names,
        *daemons._supernode.__code__.co_varnames,
    }


def spec(kind: TaskType, **changes: Any) -> ExecutionSpec:
    facts: dict[str, Any] = {
        "task_type": kind,
        "runtime_api_address": "127.0.0.1:1",
        "token": "t",
        "insecure": True,
        "root_certificates_path": None,
        "runtime_dependency_install": True,
        "parent_pid": None,
        "suppress_output": False,
        "task_id": 1,
    }
    return ExecutionSpec(**{**facts, **changes})


def test_an_app_runs_in_a_fork_that_installs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flwr.supernode.runtime import run_clientapp

    told = tmp_path / "told"

    def app(**given: Any) -> None:
        told.write_text(f"{os.getpid()} {given['runtime_dependency_install']} {given['token']}")
        raise SystemExit(0)

    monkeypatch.setattr(run_clientapp, "run_clientapp", app)
    forks = daemons.Forks()
    assert forks.launch(spec(TaskType.CLIENT_APP)).status == LaunchResultStatus.ACCEPTED
    end = time.monotonic() + 20
    while not told.exists() or not told.read_text():
        assert time.monotonic() < end
        time.sleep(0.01)
    pid, installs, token = told.read_text().split()
    assert int(pid) != os.getpid()
    assert (installs, token) == ("False", "t")
    while time.monotonic() < end:  # no zombie stays
        forks.reconcile()
        if not Path(f"/proc/{pid}").exists():
            break
        time.sleep(0.01)
    assert not Path(f"/proc/{pid}").exists()
    forks.reconcile()  # nobody is left to wait for
    forks.close()


def test_no_fork_has_to_import_anything_for_a_round_its_end_or_what_is_measured_then(
    tmp_path: Path,
) -> None:
    """PyTorch's optimizers load its compiler at their first step, which took as long as a small round."""
    settings = RunSettings.of(
        stores=3, rounds=1, steps_per_round=1, declared_people=10, consents="everyone",
        init="scratch", model="gray-cnn", seed=0,
        privacy=PrivacySettings(noise="distributed", may_drop=0.4, sample_rate=0.5),
    )  # fmt: skip
    chain, _ = laid_out(tmp_path, settings, 30)
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from privemo.federation.daemons import import_what_forks_need\n"
        "import_what_forks_need()\n"
        "from flwr.superlink.main import create_app\n"  # a server's, and a fork has none
        "import privemo.server_app\n"
        "from privemo.grid import InProcessGrid\n"
        "before = set(sys.modules)\n"
        "from privemo.client_app import app\n"
        "from flwr.supernode.runtime import run_clientapp\n"
        "chain = Path(sys.argv[1])\n"
        "stores = [{'store-dir': str(p)} for p in sorted((chain.parent / 'stores').iterdir())]\n"
        "InProcessGrid(app, stores).serve(privemo.server_app.app, run_dir=str(chain))\n"
        "print(*sorted(set(sys.modules) - before))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(chain)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    late = set(done.stdout.split())
    assert not late & {
        "flwr.supernode.runtime.run_clientapp",
        "pandas",
        "privemo_consent.witnessing",
        "torch._dynamo",
    }
    assert len(late) < 40, late  # the compiler alone is two hundred


def test_a_store_runs_no_other_tasks() -> None:
    forks = daemons.Forks()
    for kind in set(TaskType) - {TaskType.CLIENT_APP}:
        assert forks.launch(spec(kind)).status == LaunchResultStatus.FAILED
    assert forks.get_eligible_capacity({TaskType.CLIENT_APP}) == ({TaskType.CLIENT_APP}, set())


def test_there_are_two_daemons(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["pytest"])
    with pytest.raises(SystemExit, match="neither supernode nor superexec"):
        daemons.main(["superlink"])


def test_no_app_that_a_server_sends_is_installed_or_imported() -> None:
    """Else whoever runs the server would run code of their own beside people's faces and keys."""
    from flwr.supernode.runtime import run_clientapp

    from privemo.client_app import app

    flower = dict(vars(run_clientapp))
    daemons._only_our_app(flower)
    assert flower["install_from_fab"](b"no zip at all", skip_prompt=True) is None
    load = flower["get_load_client_app_fn"](default_app_ref="", app_path=None, multi_app=True)
    assert load("mallory/steal", "1.0.0", "0" * 64) is app
    # Both are what Flower's runner really calls.
    source = Path(run_clientapp.__file__).read_text()
    assert "install_from_fab(fab.content" in source
    assert "get_load_client_app_fn(" in source


def test_whose_port_it_is_is_known() -> None:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
        assert supernode._listener(port) is None
        one.listen()
        assert supernode._listener(port) == os.getuid()


def https_error(answer: Callable[[socket.socket], None]) -> Exception:
    """What a node meets whose server answers a connection so."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            one, _ = listening.accept()
            with one:
                answer(one)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            with pytest.raises(httpx.TransportError) as met:
                httpx.get(f"https://127.0.0.1:{listening.getsockname()[1]}", timeout=20)
        finally:
            thread.join()
    return met.value


def hang_up(one: socket.socket) -> None:
    one.recv(65_536)  # the line is cut in the middle of a handshake


def untrusted(folder: Path) -> Callable[[socket.socket], None]:
    made = issue(["127.0.0.1"])
    for name, content in (("server.pem", made.server), ("server.key", made.server_key)):
        (folder / name).write_bytes(content)

    def answer(one: socket.socket) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "server.pem", folder / "server.key")
        with suppress(ssl.SSLError), context.wrap_socket(one, server_side=True) as secured:
            secured.recv(1)

    return answer


def test_a_line_that_is_cut_is_tried_again_and_a_stranger_is_not(tmp_path: Path) -> None:
    """Flower takes both for a server that is not to be trusted, and its node ends."""
    place = SimpleNamespace(
        make_simple_http_retry_invoker=fleet_http_connection.make_simple_http_retry_invoker
    )
    cut, stranger = https_error(hang_up), https_error(untrusted(tmp_path))
    flowers = place.make_simple_http_retry_invoker().should_giveup
    assert flowers(cut)
    daemons.try_cut_lines_again(place)
    ours = place.make_simple_http_retry_invoker().should_giveup
    assert not ours(cut)
    assert ours(stranger)
    plain = https_error(
        lambda one: (one.recv(65_536), one.sendall(b"HTTP/1.1 200 OK\r\n\r\n"), None)[-1]
    )
    assert ours(plain), "a server without TLS"
    assert not ours(httpx.ConnectError("[Errno 111] Connection refused"))


def test_a_daemon_that_gives_up_is_gone_whatever_its_threads_wait_for(tmp_path: Path) -> None:
    script = (
        "import sys, threading\n"
        "from privemo.federation import daemons\n"
        "def ends():\n"
        "    threading.Thread(target=threading.Event().wait).start()\n"
        "    sys.exit(3)\n"
        "daemons._supernode = ends\n"
        "daemons.main(['supernode'])\n"
    )
    done = subprocess.run([sys.executable, "-c", script], timeout=60, check=False)
    assert done.returncode == 3


@pytest.mark.parametrize(
    ("log", "told"),
    [
        (
            "[code: 305] certificate verify failed\n",
            "The SuperNode did not start. It is another's.",
        ),
        ("address already in use\n", r"did not start .*address already in use"),
    ],
)
def test_a_node_that_is_turned_away_before_it_has_a_port_is_told_why(
    tmp_path: Path, log: str, told: str
) -> None:
    """It may be turned away sooner than anybody looks whether its port is open."""
    path = tmp_path / "supernode.log"
    path.write_text(f"error: {log}")
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait(60)
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    with pytest.raises(RunError, match=told):
        supernode._wait_until_ours(child, port, path, lambda: "It is another's.")


@pytest.mark.parametrize("taken", [0, 2, 3])
def test_a_store_whose_port_was_taken_meanwhile_tries_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taken: int
) -> None:
    log, tried = tmp_path / "flower" / "supernode.log", []
    log.parent.mkdir()
    log.write_text("of another day: address already in use\n")

    def node(folder: Path, say: Callable[[str], None]) -> None:
        tried.append(folder)
        if len(tried) <= taken:
            with log.open("a") as more:
                more.write("[Errno 98] error while attempting to bind: address already in use\n")
            raise RunError("The SuperNode ended by itself.")

    monkeypatch.setattr(supernode, "_serve_store", node)
    if taken == 3:
        with pytest.raises(RunError, match="ended by itself"):
            supernode.serve_store(tmp_path, print)
    else:
        supernode.serve_store(tmp_path, print)
    assert len(tried) == min(taken + 1, 3)


@pytest.mark.parametrize("seconds", [0, 60, 3600])
def test_a_store_whose_node_was_killed_waits_until_the_server_has_missed_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: int
) -> None:
    """Flower's server lets none in that it takes for one that is there: for a minute, if it was killed."""
    log, now, said = tmp_path / "flower" / "supernode.log", [0.0], list[str]()
    log.parent.mkdir()

    def node(folder: Path, say: Callable[[str], None]) -> None:
        if now[0] < seconds:
            with log.open("a") as more:
                more.write("[code: 2004] Failed to activate SuperNode.\n")
            raise RunError("The SuperNode ended by itself.")

    monkeypatch.setattr(supernode, "_serve_store", node)
    monkeypatch.setattr(supernode.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(supernode.time, "sleep", lambda wait: now.append(now.pop() + wait))
    if seconds == 3600:  # another machine serves the store
        with pytest.raises(RunError, match="ended by itself"):
            supernode.serve_store(tmp_path, said.append)
        assert 60 < now[0] < 120
    else:
        supernode.serve_store(tmp_path, said.append)
        assert now == [seconds]
        assert bool(said) == bool(seconds)


def test_a_store_that_ends_for_another_reason_does_not_try_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, tried = tmp_path / "flower" / "supernode.log", []
    log.parent.mkdir()
    log.write_text("of another day: address already in use\n")

    def node(folder: Path, say: Callable[[str], None]) -> None:
        tried.append(folder)
        raise RunError("The SuperNode ended by itself.")

    monkeypatch.setattr(supernode, "_serve_store", node)
    with pytest.raises(RunError):
        supernode.serve_store(tmp_path, print)
    assert len(tried) == 1
