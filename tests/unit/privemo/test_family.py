"""Processes that serve a folder end with whoever started them, or are found: real ones."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from privemo.errors import RunError
from privemo.federation import family
from privemo.federation.family import Family, Member, started, stop_family
from privemo.federation.superlink import stop

PARENT = """\
import os, subprocess, sys
from pathlib import Path
from privemo.federation.family import Family
from privemo.federation.lifeline import LIFELINE

with Family(Path(sys.argv[1]), "chain", print) as family:
    child = subprocess.Popen(
        [sys.executable, "-c", sys.argv[2]],
        env={**os.environ, LIFELINE: str(family.lifeline)},
        pass_fds=(family.lifeline,),
        start_new_session=True,
        stdout=subprocess.PIPE,
    )
    family.add(child.pid)
    print(child.pid, child.stdout.readline().decode().strip(), flush=True)
    child.wait()
"""
DEAF = "import time; print('up', flush=True); time.sleep(300)"
"""A child that does not watch its lifeline."""

HOLDS_ON = """\
import os, sys, time
from privemo.federation.lifeline import hold_on
hold_on()
if (grandchild := os.fork()) == 0:
    time.sleep(300)
print(grandchild, flush=True)
time.sleep(300)
"""
STUBBORN = HOLDS_ON.replace("hold_on()\n", "", 1).replace(
    "import hold_on",
    "import end_group_if_cut, hold_on\nimport signal\n"
    "signal.signal(signal.SIGTERM, lambda *_: (end_group_if_cut(), os._exit(0)))\nhold_on()",
)
"""Ends by itself when it is told to, as Flower's daemons do; its child is deaf to SIGTERM all the same."""

WAITS = """\
import signal, threading
from privemo.federation.lifeline import end_with_parent
end_with_parent(seconds=1)
print('up', flush=True)
threading.Event().wait()
"""
"""Waits for what nobody does any more, and knows nothing of the lifeline that it was given."""
WAITS_DEAF = WAITS.replace(
    "end_with_parent(s", "signal.signal(signal.SIGTERM, signal.SIG_IGN)\nend_with_parent(s"
)


def soon(met: Callable[[], bool], seconds: float = 60) -> bool:
    end = time.monotonic() + seconds
    while not met():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def gone(pid: int) -> bool:
    return started(pid) is None


@pytest.fixture
def parents() -> Iterator[list[subprocess.Popen[str]]]:
    made: list[subprocess.Popen[str]] = []
    yield made
    for one in made:
        one.kill()
        one.wait()
        assert one.stdout is not None
        one.stdout.close()


def serve(
    state: Path, child: str, parents: list[subprocess.Popen[str]]
) -> tuple[subprocess.Popen[str], list[int]]:
    """A process that serves a folder, and the processes that it told of."""
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(state), child], stdout=subprocess.PIPE, text=True
    )
    parents.append(parent)
    assert parent.stdout is not None
    told = parent.stdout.readline().split()
    return parent, [int(word) for word in told if word.isdigit()]


def killed(parent: subprocess.Popen[str]) -> None:
    parent.kill()
    parent.wait()


@pytest.fixture
def orphan(tmp_path: Path, parents: list[subprocess.Popen[str]]) -> Iterator[int]:
    """A process whose parent, which served the folder, was killed by `kill -9`."""
    parent, (pid,) = serve(tmp_path, DEAF, parents)
    killed(parent)
    assert not gone(pid)
    yield pid
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


@pytest.fixture
def stranger() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "300"]) as one:
        yield one
        one.kill()


@pytest.mark.parametrize("child", [HOLDS_ON, STUBBORN], ids=["told", "by itself"])
def test_a_family_ends_with_a_parent_that_is_killed(
    tmp_path: Path, parents: list[subprocess.Popen[str]], child: str
) -> None:
    parent, pids = serve(tmp_path, child, parents)
    assert len(pids) == 2
    killed(parent)
    try:
        assert soon(lambda: all(map(gone, pids)), 15), "before it would be killed"
    finally:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("child", [WAITS, WAITS_DEAF], ids=["told", "deaf"])
def test_a_process_that_waits_without_end_ends_with_its_parent(
    tmp_path: Path, parents: list[subprocess.Popen[str]], child: str
) -> None:
    """As a server's app that Flower starts, in another session, while it waits for half of an answer."""
    parent, (pid,) = serve(tmp_path, child, parents)
    killed(parent)
    try:
        assert soon(lambda: gone(pid), 15)
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def test_the_next_one_ends_what_was_left_over_and_says_so(tmp_path: Path, orphan: int) -> None:
    said: list[str] = []
    with Family(tmp_path, "amber", said.append):
        assert gone(orphan)
    assert said == [f"amber: a killed process had left process {orphan}; it was ended."]
    with Family(tmp_path, "amber", said.append):
        pass
    assert len(said) == 1


def test_stop_ends_what_was_left_over(tmp_path: Path, orphan: int) -> None:
    assert stop_family(tmp_path, "chain")
    assert gone(orphan)
    assert not stop_family(tmp_path, "chain")
    assert not stop_family(tmp_path / "nowhere", "chain")


def test_stop_ends_who_serves_and_two_cannot(
    tmp_path: Path, parents: list[subprocess.Popen[str]]
) -> None:
    parent, (child, _) = serve(tmp_path, HOLDS_ON, parents)
    with (
        pytest.raises(RunError, match=f"chain is being served already, by process {parent.pid}"),
        Family(tmp_path, "chain", print),
    ):
        pass
    assert not gone(child)
    assert stop_family(tmp_path, "chain")
    assert parent.wait(60) == -signal.SIGTERM
    assert soon(lambda: gone(child))


def test_a_stranger_who_got_the_number_is_left_alone(
    tmp_path: Path, stranger: subprocess.Popen[bytes]
) -> None:
    row = {"pid": stranger.pid, "started": "another boot/12345"}
    record = {"schema": "privemo.serving/1", "parent": row, "children": [row]}
    (tmp_path / "serving.json").write_text(json.dumps(record))
    assert not stop_family(tmp_path, "chain")
    (tmp_path / "serving.json").write_text(json.dumps(record))
    with Family(tmp_path, "chain", print):
        assert stranger.poll() is None
    Member(stranger.pid, row["started"]).send(signal.SIGKILL)
    assert stranger.poll() is None


def test_stop_does_not_believe_a_servers_number(
    tmp_path: Path, stranger: subprocess.Popen[bytes]
) -> None:
    """Of a server that was killed; the number is a stranger's now."""
    (tmp_path / "flower").mkdir()
    (tmp_path / "server.pid").write_text(f"{stranger.pid}\n")
    with pytest.raises(RunError, match="nothing to stop"):
        stop(tmp_path)
    assert stranger.poll() is None


def test_who_serves_from_elsewhere_is_not_guessed_at(tmp_path: Path) -> None:
    """A container has numbers of its own, and the lock all the same."""
    with Family(tmp_path, "chain", print):
        (tmp_path / "serving.json").unlink()
        with pytest.raises(RunError, match="stop it there"):
            stop_family(tmp_path, "chain")
        with (
            pytest.raises(RunError, match="not to be seen from here"),
            Family(tmp_path, "b", print),
        ):
            pass


@pytest.mark.parametrize("damage", ["", "{}", '{"schema": "privemo.serving/1", "parent": 3}'])
def test_a_damaged_record_names_nobody(tmp_path: Path, damage: str) -> None:
    (tmp_path / "serving.json").write_text(damage)
    with Family(tmp_path, "chain", print):
        pass
    assert not (tmp_path / "serving.json").exists()


def test_a_process_is_known_by_its_start() -> None:
    mine = Member.of(os.getpid())
    assert mine.alive
    assert mine == Member.of(os.getpid())
    with subprocess.Popen(["sleep", "300"]) as other:
        known = Member.of(other.pid)
        assert known.started != mine.started
        assert known.alive
        other.kill()
        assert soon(lambda: not known.alive), "a zombie is gone"
    assert not Member.of(other.pid).alive


@pytest.mark.skipif(not Path("/bin/ps").exists(), reason="ps")
def test_where_there_is_no_proc_ps_is_asked() -> None:
    with subprocess.Popen(["sleep", "300"]) as one:
        when = family._by_ps(one.pid)
        assert when is not None
        assert when == family._by_ps(one.pid)
        assert str(time.gmtime().tm_year)[:2] in when
        one.kill()
        assert soon(lambda: family._by_ps(one.pid) is None)
