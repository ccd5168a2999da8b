"""Following a run: from its folder alone, read only, with nothing in it that is not public."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from privemo.cli import app
from privemo.errors import RunError
from privemo.exporters import registry_of
from privemo.watching import Watch

STORES = ("amber", "birch")


def manifest(number: int, **stores: dict[str, Any]) -> dict[str, Any]:
    return {
        "schema": "privemo.round/2",
        "run_id": "r1",
        "round": number,
        "started": f"2026-11-29T10:{number:02d}:00Z",
        "finished": f"2026-11-29T10:{number:02d}:30.5Z",
        "stores": stores,
    }


def trained(epsilon: float) -> dict[str, Any]:
    return {"status": "trained", "reason": None, "statement": {"epsilon": epsilon}}


REFUSED = {"status": "refused", "reason": "budget_exhausted", "statement": None}


def put(folder: Path, content: dict[str, Any]) -> None:
    path = folder / "rounds" / f"{content['round']:04d}.json"
    path.parent.mkdir(exist_ok=True)
    draft = path.with_suffix(".draft")
    draft.write_text(json.dumps(content))
    draft.rename(path)  # whole or not at all, as a run writes it


@pytest.fixture
def run(tmp_path: Path) -> Path:
    facts = {
        "schema": "privemo.run/1",
        "run_id": "r1",
        "rounds": 3,
        "stores": list(STORES),
        "privacy": {"private": True, "epsilon_budget": 8.0},
    }
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "run.json").write_text(json.dumps(facts))
    return folder


def test_before_the_first_round_nothing_is_known(run: Path) -> None:
    now = Watch(run).progress()
    assert (now.whole, now.planned, now.seconds, now.seconds_left) == (0, 3, None, None)
    assert [(s.name, s.status, s.epsilon) for s in now.stores] == [
        ("amber", None, None),
        ("birch", None, None),
    ]


def test_a_store_that_refused_keeps_what_it_spent(run: Path) -> None:
    put(run, manifest(1, amber=trained(2.0), birch=trained(3.5)))
    put(run, manifest(2, amber=trained(4.0), birch=REFUSED))
    now = Watch(run).progress()
    assert (now.whole, now.seconds, now.seconds_left, now.budget) == (2, 30.5, 30.5, 8.0)
    amber, birch = now.stores
    assert (amber.status, amber.rounds, amber.epsilon) == ("trained", 2, 4.0)
    assert (birch.status, birch.reason, birch.rounds) == ("refused", "budget_exhausted", 1)
    assert birch.epsilon == 3.5


def test_each_round_is_told_once(run: Path) -> None:
    watch = Watch(run)
    assert list(watch.events()) == []
    put(run, manifest(1, amber=trained(2.0), birch=REFUSED))
    (event,) = watch.events()
    assert event == {
        "event": "round",
        "run_id": "r1",
        "round": 1,
        "of": 3,
        "finished": "2026-11-29T10:01:30.5Z",
        "seconds": 30.5,
        "stores": {
            "amber": {"status": "trained", "reason": None, "epsilon": 2.0},
            "birch": {"status": "refused", "reason": "budget_exhausted", "epsilon": None},
        },
    }
    assert list(watch.events()) == []


@pytest.mark.parametrize("broken", ['{"schema": "privemo.run/1"}', "{", '{"schema": "x"}'])
def test_what_is_no_run_is_said(tmp_path: Path, broken: str) -> None:
    (tmp_path / "run.json").write_text(broken)
    with pytest.raises(RunError):
        Watch(tmp_path).progress()
    with pytest.raises(RunError, match="does not exist"):
        Watch(tmp_path / "nowhere")


def test_prometheus_reads_the_folder_whenever_it_asks(run: Path) -> None:
    registry = registry_of(Watch(run))
    assert registry.get_sample_value("privemo_rounds_whole") == 0
    put(run, manifest(1, amber=trained(2.0), birch=REFUSED))
    asked = registry.get_sample_value
    assert asked("privemo_rounds_whole") == 1
    assert asked("privemo_round_seconds") == 30.5
    assert asked("privemo_epsilon_budget") == 8.0
    assert asked("privemo_store_epsilon", {"store": "amber"}) == 2.0
    assert asked("privemo_store_epsilon", {"store": "birch"}) is None
    assert asked("privemo_store_trained", {"store": "birch"}) == 0
    assert asked("privemo_store_rounds", {"store": "amber"}) == 1


# -- the command ---------------------------------------------------------------------------------


def whole(run: Path) -> None:
    for number, epsilon in enumerate((2.0, 4.0, 6.0), start=1):
        put(run, manifest(number, amber=trained(epsilon), birch=REFUSED))


def test_the_command_ends_with_the_run_and_shows_how_it_stands(run: Path) -> None:
    whole(run)
    before = sorted((p, p.stat().st_mtime_ns) for p in run.rglob("*"))
    done = CliRunner().invoke(app, ["watch", str(run)])
    assert done.exit_code == 0, done.output
    for words in ("round 3 of 3, all rounds are whole", "6.00 of 8", "refused: budget_exhausted"):
        assert words in done.stdout
    assert sorted((p, p.stat().st_mtime_ns) for p in run.rglob("*")) == before


def test_once_says_how_it_stands_and_ends(run: Path) -> None:
    put(run, manifest(1, amber=trained(2.0), birch=trained(2.0)))
    done = CliRunner().invoke(app, ["watch", str(run), "--once"])
    assert done.exit_code == 0
    assert "round 1 of 3, about 1 minute left, 30.5 s a round" in done.stdout
    assert done.stdout.endswith("\n"), "a log goes on in a line of its own"


def test_json_is_a_line_for_each_round(run: Path) -> None:
    whole(run)
    done = CliRunner().invoke(app, ["watch", str(run), "--json"])
    assert [json.loads(line)["round"] for line in done.stdout.splitlines()] == [1, 2, 3]


def test_tensorboard_has_a_step_for_each_round(run: Path, tmp_path: Path) -> None:
    from tensorboardX.proto.event_pb2 import Event

    whole(run)
    logs = tmp_path / "logs"
    done = CliRunner().invoke(app, ["watch", str(run), "--once", "--tensorboard", str(logs)])
    assert done.exit_code == 0, done.output
    (path,) = logs.iterdir()
    data, at, found = path.read_bytes(), 0, {}
    while at < len(data):  # TFRecord: length, its checksum, the event, its checksum
        size = int.from_bytes(data[at : at + 8], "little")
        event = Event.FromString(data[at + 12 : at + 12 + size])
        found |= {(event.step, v.tag): v.simple_value for v in event.summary.value}
        at += 16 + size
    assert [found[n, "epsilon/amber"] for n in (1, 2, 3)] == [2.0, 4.0, 6.0]
    assert [found[n, "round/stores_trained"] for n in (1, 2, 3)] == [1.0, 1.0, 1.0]
    assert found[1, "round/seconds"] == 30.5
    assert not any("birch" in tag for _, tag in found)


def test_metrics_are_served_while_it_watches_and_no_longer(run: Path) -> None:
    put(run, manifest(1, amber=trained(2.0), birch=REFUSED))
    command = [sys.executable, "-m", "privemo", "watch", str(run), "--metrics", "0", "--json"]
    piped = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **piped) as process:  # type: ignore[call-overload]
        try:
            said = process.stderr.readline()
            address = re.search(r"http://127\.0\.0\.1:(\d+)/metrics", said)
            assert address, said
            with closing(HTTPConnection("127.0.0.1", int(address[1]), timeout=10)) as asked:
                asked.request("GET", "/metrics")
                told = asked.getresponse().read().decode()
            assert 'privemo_store_epsilon{store="amber"} 2.0' in told
            for number in (2, 3):
                put(run, manifest(number, amber=trained(4.0), birch=REFUSED))
            assert process.wait(30) == 0
            with socket.socket() as one:
                assert one.connect_ex(("127.0.0.1", int(address[1]))) != 0
        finally:
            process.kill()


def test_a_port_that_is_taken_is_said(run: Path) -> None:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        one.listen()
        port = str(one.getsockname()[1])
        done = subprocess.run(
            [sys.executable, "-m", "privemo", "watch", str(run), "--metrics", port],
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
    assert done.returncode == 2
    assert "choose another port" in done.stderr
