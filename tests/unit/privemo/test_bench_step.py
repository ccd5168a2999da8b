"""The benchmark of a step: every contender steps, and figures follow from times."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

from privemo.bench import step as bench
from privemo.bench.step import CONTENDERS, PLAIN
from privemo.training import private


@pytest.mark.filterwarnings("ignore:Full backward hook is firing")
@pytest.mark.parametrize("name", CONTENDERS)
def test_every_contender_takes_steps(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "_IN_PARTS", 4)  # two parts, as a large batch has
    step = bench._contender(name, 8)
    step()
    step()


@pytest.mark.parametrize("who", ["1", "4", "1_to_7"])
def test_parts_hold_every_picture_once_and_whole_people(
    who: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(private, "IMAGES_AT_ONCE", 20)
    x = torch.arange(64.0).view(-1, 1, 1, 1)
    parts = list(bench._parts(x, torch.zeros(64, dtype=torch.int64), who))
    assert torch.equal(torch.cat([part.images for part in parts]), x)
    assert all(8 <= len(part.images) <= 20 for part in parts[:-1])
    if who == "4":
        assert all(bool((part.counts == 4).all()) for part in parts)
    if who == "1_to_7":
        counts = torch.cat([part.counts for part in parts])
        assert counts.unique().numel() >= 5
        assert int(counts.max()) <= 7


def test_a_contender_runs_beside_the_plain_step_in_a_process_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bench, "CONTENDERS", {PLAIN: "", "ours_4": ""})
    found = {f["figure"]: f for f in bench.figures(batches=(8,), rounds=1, processes=1)}
    assert list(found) == [
        "plain_8_ms",
        "plain_8_cpu_ms",
        "plain_8_memory",
        "ours_4_8_time",
        "ours_4_8_cpu",
        "ours_4_8_memory",
    ]
    assert all(f["value"] > 0 for f in found.values())
    assert found["ours_4_8_time"]["goal"] == "<= 1.15"
    assert found["ours_4_8_memory"]["goal"] == "<= 1.5"
    assert found["ours_4_8_cpu"]["met"] is None


def test_a_peak_is_the_middle_one_of_several_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    peaks = iter([5.0, 1.0, 2.0])

    class Canned(bench._Running):
        def step(self) -> tuple[float, float]:
            return 1.0, 2.0

        def peak(self) -> float:
            return next(peaks)

    @contextmanager
    def running(name: str, batch: int) -> Iterator[bench._Running]:
        yield Canned(name, None)  # type: ignore[arg-type]  # never asked

    monkeypatch.setattr(bench, "_running", running)
    own, others, peak = bench._measured("ours_1", 8, rounds=2, processes=3)
    assert (own, others, peak) == ([(1.0, 2.0)] * 6, [], 2.0)


def test_goals_are_for_ours_in_float32_alone() -> None:
    own, others = [(1.2, 1.0), (1.1, 1.0), (9.0, 1.0)], [(1.0, 1.0)] * 3
    met = {
        name: [f["met"] for f in bench._against(name, own, others, 1.4)]
        for name in ("ours_1_256", "ours_4_bfloat16_256", "opacus_hooks_256")
    }
    assert met["ours_1_256"] == [False, None, True]  # the median of the ratios is 1.2
    assert met["ours_4_bfloat16_256"] == met["opacus_hooks_256"] == [None] * 3
