"""Stores side by side: the model of one after the other, and no process is waited for that is gone."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

import pytest

from privemo import simulation
from privemo.errors import RunError, RunInterrupted, SettingsError
from privemo.flower import ConfigRecord, Context, Message, RecordDict
from privemo.grid import task_identity
from privemo.ledger import Ledger
from privemo.runs import Run
from privemo.worker import Job
from privemo.workers import Workers, _places, side_by_side, threads_each
from tests.support.federated import EXACT
from tests.support.small_runs import small_run


def prepared(folder: Path, **changes: Any) -> Run:
    folder.mkdir()
    usual = {"people": 90, "stores": 3, "model": "gray-cnn", "steps_per_round": 1}
    return small_run(folder, **{**usual, **changes})


def models(run: Run) -> list[tuple[str, dict[str, Any]]]:
    """By round the model, and the update of each store."""
    return [
        (m["model_out"], {name: s["update_sha256"] for name, s in m["stores"].items()})
        for m in run.manifests()
    ]


def children() -> set[int]:
    """Processes that this one started and that are still there."""
    lists = Path(f"/proc/{os.getpid()}/task").glob("*/children")
    return {int(pid) for found in lists for pid in found.read_text().split()}


def alive(pid: int) -> bool:
    """Whether a process is there, and more than what its parent has not asked for yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class Stop:
    """A listener that presses Ctrl-C once so many stores are done, and notes the processes of then."""

    def __init__(self, after: int) -> None:
        self.after, self.before = after, children()
        self.heard: list[tuple[int, int]] = []
        self.at_work: set[int] = set()

    def __call__(self, event: dict[str, Any]) -> None:
        if event["event"] == "store":
            self.heard.append((event["done"], event["of"]))
            if len(self.heard) == self.after:
                self.at_work = children() - self.before
                raise KeyboardInterrupt


def test_a_run_side_by_side_makes_the_model_of_one_after_the_other_and_ctrl_c_ends_its_processes(
    tmp_path: Path,
) -> None:
    """Local noise. A round by two workers, one begun by them, and the rest as without them.

    Nobody withdraws: somebody who did so in what Ctrl-C broke off would be missing when it is done again.
    """
    alone, run = (prepared(tmp_path / name, consents="everyone") for name in ("alone", "run"))
    simulation.run(alone)
    stop = Stop(after=4)
    with pytest.raises(RunInterrupted, match=r"simulate --resume .*/run --workers 2$"):
        simulation.run(run, workers=2, listener=stop)
    assert stop.heard == [(1, 3), (2, 3), (3, 3), (1, 3)]
    assert len(stop.at_work) == 2
    assert children() == stop.before
    assert models(run) == models(alone)[:1]
    simulation.run(run)
    assert models(run) == models(alone)
    assert run.closings().keys() == alone.closings().keys() == set(run.stores)
    for name in run.stores:  # nothing was paid twice
        ledger = Ledger(run.folder / "stores" / name / "ledger.jsonl")
        assert [entry.round for entry in ledger.entries] == [1, 2]


def test_a_secure_sum_side_by_side_is_that_of_one_after_the_other(tmp_path: Path) -> None:
    """Five messages a round, and afterwards what was measured and counted."""
    shared = {
        "people": 180,
        "rounds": 1,
        "privacy": {"epsilon": 8.0, "sample_rate": 0.5, "noise": "distributed"},
        "test_fraction": 0.5,
        "consents": "everyone",
        "counts": EXACT,
    }
    runs = [prepared(tmp_path / str(count), **shared) for count in (1, 2)]
    for run, workers in zip(runs, (1, 2), strict=True):
        simulation.run(run, workers=workers)
    assert models(runs[0])[0][0] == models(runs[1])[0][0]
    joined = [next(run.folder.glob("**/joined.json")).read_bytes() for run in runs]
    assert joined[0].replace(runs[0].run_id.encode(), b"") == joined[1].replace(
        runs[1].run_id.encode(), b""
    )


# -- processes -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def workers() -> Iterator[Workers]:
    """Two processes, and Flower's word for who sends."""
    with task_identity(), Workers(2, threads=1) as some:
        yield some


def job(folder: Path, node: int = 2) -> Job:
    """A message that a store answers which has no files: with an error."""
    message = Message(RecordDict({"config": ConfigRecord({"a": 1})}), node, "train", group_id="1")
    state = RecordDict({"kept": ConfigRecord({"of": folder.name})})
    configuration = {"store-dir": str(folder)}
    return message, Context(
        run_id=1, node_id=node, node_config=configuration, state=state, run_config={}
    )


def stray(folder: Path, name: str) -> None:
    """A package of our name that is none of ours."""
    (folder / name).mkdir(parents=True)
    (folder / name / "__init__.py").write_text("raise SystemExit('a stray package')")


def hanging(folder: Path) -> Path:
    """A store that is being read for ever."""
    folder.mkdir()
    os.mkfifo(folder / "store.json")
    return folder


def test_a_store_that_fails_answers_with_the_kind_of_error_and_its_text_stays_here(
    workers: Workers, tmp_path: Path
) -> None:
    jobs = [job(tmp_path / f"store-{n}", n) for n in range(2, 8)]
    contexts = [context for _, context in jobs]
    before = [context.state for context in contexts]
    answers = list(workers.answers(jobs))
    assert {reply.metadata.src_node_id for reply, _ in answers} == set(range(2, 8))
    for reply, failure in answers:
        assert reply.error.reason == "RunError"
        assert isinstance(failure, RunError)
        assert f"store-{reply.metadata.src_node_id} is no store's folder" in str(failure)
    for context, old in zip(contexts, before, strict=True):  # what a node keeps comes back to it
        assert context.state is not old
        assert context.state["kept"] == old["kept"]


def test_no_more_messages_are_under_way_than_there_are_processes(
    workers: Workers, tmp_path: Path
) -> None:
    drawn: list[int] = []

    def messages() -> Iterator[Job]:
        for number in range(2, 1000):
            drawn.append(number)
            yield job(tmp_path / "none", number)

    answers = workers.answers(messages())
    assert drawn == []
    for done in range(1, 20):
        next(answers)
        assert len(drawn) <= done + 2
    answers.close()  # type: ignore[attr-defined]  # a generator, as every caller may know
    assert len(drawn) <= 21
    reply, _ = next(iter(workers.answers([job(tmp_path / "none", 5000)])))
    assert reply.metadata.src_node_id == 5000  # nothing of what nobody asked for any more


def test_a_process_that_is_killed_is_an_answer_and_another_takes_its_place(
    workers: Workers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """kill -9 while a store trains: that store has failed, the others answer, nobody waits for ever.

    Where the new one is started lies a `privemo` that is none: it is not taken, though this process looks
    into the folder that it stands in, as one of `python -c` or of a notebook does.
    """
    for name in ("privemo", "privemo_consent"):
        stray(tmp_path, name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    stuck, fine = hanging(tmp_path / "store-02"), tmp_path / "store-03"
    jobs = [job(stuck, 2), *(job(fine, number) for number in range(3, 7))]
    answers = workers.answers(jobs)
    others = [next(answers) for _ in range(4)]
    assert {reply.metadata.src_node_id for reply, _ in others} == {3, 4, 5, 6}
    for pid in workers.pids:  # the idle one too
        os.kill(pid, signal.SIGKILL)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)  # dead, and not yet heard of
    reply, failure = next(answers)
    assert (reply.metadata.src_node_id, reply.error.reason) == (
        2,
        "its process was ended by SIGKILL",
    )
    assert "store-02 was ended by SIGKILL; if memory ran out" in str(failure)
    assert next(answers, None) is None
    again = list(workers.answers([job(fine)]))
    assert [r.error.reason for r, _ in again] == ["RunError"]
    assert len(workers.pids) == 2


@pytest.mark.slow
def test_when_whoever_started_them_is_killed_they_stop_in_the_middle_of_their_work(
    tmp_path: Path,
) -> None:
    stuck = hanging(tmp_path / "store-02")
    code = (
        "import sys; from pathlib import Path\n"
        "from tests.unit.privemo.test_workers import job, task_identity, Workers\n"
        "with task_identity(), Workers(1, threads=1) as some:\n"
        "    answers = some.answers([job(Path(sys.argv[1])), job(Path(sys.argv[2]))])\n"
        "    next(answers); print(*some.pids, flush=True); next(answers)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "none"), str(stuck)]
    root = Path(__file__).parents[3]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as one:
        assert one.stdout is not None
        pid = int(one.stdout.readline())
        assert alive(pid)
        one.kill()
    end = time.monotonic() + 30
    while alive(pid):
        assert time.monotonic() < end, "it goes on without anybody"
        time.sleep(0.05)


def test_processes_that_cannot_begin_are_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "numpy.py").write_text("raise ImportError('half installed')")
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.delenv("PYTHONHOME", raising=False)
    with (
        task_identity(),
        Workers(1, threads=1) as some,
        pytest.raises(RunError, match=r"One of 1 worker processes was gone \(exit code 1\)"),
    ):
        list(some.answers([job(tmp_path)]))


def test_a_process_looks_for_our_packages_where_they_are_loaded_from_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And else where this one does, in its order; never in the folder that either stands in."""
    usual = list(dict.fromkeys(place for place in sys.path if place))
    for name in ("privemo", "privemo_consent", "privemo_audits"):
        stray(tmp_path / "first", name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", "elsewhere", *usual, "", "first"])
    assert _places() == [str(tmp_path / "elsewhere"), *usual, str(tmp_path / "first")]
    monkeypatch.setattr(sys, "path", ["", "first", *usual])
    for name in ("privemo", "privemo_consent", "privemo_audits"):
        loaded = importlib.import_module(name).__file__
        found = PathFinder.find_spec(name, _places())
        assert found is not None
        assert found.origin == loaded


# -- how many ------------------------------------------------------------------------------------


def test_threads_are_shared_out_and_one_worker_is_none() -> None:
    import torch

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(4)
        assert [threads_each(count, None) for count in (1, 2, 3, 8)] == [4, 2, 1, 1]
        assert threads_each(2, 3) == 3  # as the run says
    finally:
        torch.set_num_threads(before)
    with side_by_side(1, None) as some:
        assert some is None


def test_there_are_no_more_workers_than_stores(tmp_path: Path) -> None:
    run, stop = prepared(tmp_path / "run", stores=1, rounds=1), Stop(after=1)
    with pytest.raises(RunInterrupted):
        simulation.run(run, workers=9, listener=stop)
    assert stop.at_work == set()


@pytest.mark.parametrize(
    ("workers", "engine", "words"),
    [(0, "inprocess", "0 workers train nothing"), (2, "ray", "Ray has workers of its own")],
)
def test_numbers_of_workers_that_make_no_sense_are_refused(
    workers: int, engine: simulation.Engine, words: str
) -> None:
    with pytest.raises(SettingsError, match=words):
        simulation.check_workers(workers, engine)
