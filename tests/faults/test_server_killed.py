"""A server that dies while it writes down a round: at every call that changes its disk, and in each write.

Whatever is on the disk then, the run that goes on ends in the model of one that was never broken off, in one
chain of manifests, and each store has paid once for what counted.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import pytest

from privemo import weights as w
from privemo.ledger import Ledger
from privemo.runs import Run
from privemo.statements import canonical_hash
from privemo.strategy import StoreAveraging
from tests.support.interrupt import Killed, Killing, killed_at
from tests.support.small_runs import drive, three_stores

Step = Callable[..., Any]


def laid_out(folder: Path, *, shared: bool) -> Run:
    """Three seeded stores; the server keeps momentum and an average besides the model."""
    return three_stores(folder, shared=shared, server_momentum=0.9, ema=0.5)


@contextmanager
def dying(monkeypatch: pytest.MonkeyPatch, step: int | None) -> Iterator[Killing]:
    """The first round that is put together meets a kill at that point of its writes; None: before any."""
    real: Step = StoreAveraging._step
    killing = Killing()

    def broken(strategy: StoreAveraging, *given: Any) -> Any:
        if step is None:
            raise Killed
        with killed_at(step) as killed:
            done = real(strategy, *given)
        killing.done = killed.done
        if killed.done:
            raise Killed
        return done

    with monkeypatch.context() as patched:
        patched.setattr(StoreAveraging, "_step", broken)
        with suppress(Killed):
            yield killing


def model_of(run: Run) -> list[str]:
    """What the run ended in, and that its parts agree."""
    manifests = run.manifests()
    assert [m["round"] for m in manifests] == [1, 2]
    for before, after in pairwise(manifests):
        assert after["prev"] == canonical_hash(before), "one chain"
        assert after["model_in"] == before["model_out"]
    finished = w.sha256(run.finish())
    assert finished == manifests[-1]["model_average"]
    assert not list(run.folder.glob("**/*.tmp"))
    return [str(m[what]) for m in manifests for what in ("model_out", "server_state")]


def paid(run: Run, name: str) -> list[int]:
    return [e.round for e in Ledger(run.folder / "stores" / name / "ledger.jsonl").entries]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("shared", [False, True], ids=["local", "shared"])
def test_killed_at_any_moment_of_writing_down_a_round_the_run_ends_as_if_nothing_had_been(
    shared: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh = laid_out(tmp_path, shared=shared)
    twin = Run(Path(shutil.copytree(fresh.folder, tmp_path / "twin")))
    drive(twin)
    expected = model_of(twin)
    with dying(monkeypatch, None):
        drive(fresh)  # all stores have answered, and nothing of the round is written
    assert fresh.manifests() == []
    whole = set()
    for step in count():
        run = Run(Path(shutil.copytree(fresh.folder, tmp_path / f"{step}")))
        with dying(monkeypatch, step) as killed:
            drive(run)
        whole.add(len(run.manifests()))
        drive(run)
        assert model_of(run) == expected, step
        for name in run.stores:
            rounds = paid(run, name)
            assert set(rounds) == {1, 2}
            if not shared:  # where noise is shared, each sum that was tried is paid for
                assert rounds == [1, 2]
        shutil.rmtree(run.folder)
        if not killed.done:
            break
    assert whole >= {0, 1}, "before and after the round counted"
    assert step > 5
