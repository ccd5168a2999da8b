"""What becomes of the stores' updates: the threat is that some of them were made up."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from privemo import spool as spool_module
from privemo import weights as w
from privemo.aggregation import Aggregator, Mean, Robust, aggregator
from privemo.config import RunSettings
from privemo.errors import RunError
from privemo.spool import Spool

SIZES = {f"s{i}": float(i + 1) for i in range(9)}
KINDS = ("trimmed_mean", "median", "krum")


def updates(stores: int, seed: int = 0) -> list[w.Weights]:
    rng = np.random.default_rng(seed)
    return [
        {
            "a": rng.normal(0, 1, (4, 5)).astype(np.float32),
            "b": rng.normal(0, 1, 7).astype(np.float32),
        }
        for _ in range(stores)
    ]


def together(
    by: Callable[[Spool], Aggregator], made: list[w.Weights], exposed: int = 0
) -> w.Weights:
    with Spool(made[0]) as spool:
        aggregate = by(spool)
        for number, update in enumerate(made):
            aggregate.take(f"s{number}", spool.add(update))
        return aggregate.result(exposed)


def robust(kind: str, malicious: int) -> Callable[[Spool], Aggregator]:
    return lambda spool: Robust(spool, kind, malicious)


def flat(update: w.Weights) -> np.ndarray:
    return np.concatenate([update["a"].ravel(), update["b"].ravel()])


def test_a_mean_weighs_by_public_sizes() -> None:
    made = updates(3)
    expected = sum((i + 1) * flat(u).astype(np.float64) for i, u in enumerate(made)) / 6
    found = together(lambda spool: Mean(spool, SIZES), made)
    assert np.allclose(flat(found), expected, atol=1e-6)
    assert found["a"].dtype == np.float32


def test_people_count_alike_where_all_stores_declare_one_number() -> None:
    """A step is a sum over people by what the store declared: with numbers of their own it were the same."""
    rng = np.random.default_rng(1)
    sums = [rng.normal(size=(n, 27)).sum(0) for n in (1, 5, 30)]

    def mean(declared: tuple[int, int, int]) -> np.ndarray:
        made = [
            {
                "a": (s[:20] / d).reshape(4, 5).astype(np.float32),
                "b": (s[20:] / d).astype(np.float32),
            }
            for s, d in zip(sums, declared, strict=True)
        ]
        sizes = {f"s{i}": float(d) for i, d in enumerate(declared)}
        return flat(together(lambda spool: Mean(spool, sizes), made))

    assert np.allclose(mean((12, 12, 12)), sum(sums) / 36, atol=1e-5)
    assert np.allclose(mean((2, 6, 28)), sum(sums) / 36, atol=1e-5)


@pytest.mark.parametrize(("stores", "bad"), [(3, 1), (5, 2), (9, 4), (9, 1), (10, 3), (4, 1)])
def test_a_trimmed_mean_leaves_out_so_many_at_either_end(stores: int, bad: int) -> None:
    made = updates(stores)
    ordered = np.sort(np.stack([flat(u) for u in made]), axis=0)
    expected = ordered[bad : stores - bad].mean(axis=0)
    assert np.allclose(flat(together(robust("trimmed_mean", bad), made)), expected, atol=1e-6)


def test_a_median_is_that_of_each_parameter() -> None:
    made = updates(6)
    expected = np.median(np.stack([flat(u) for u in made]), axis=0)
    found = together(robust("median", 2), made)
    assert np.allclose(flat(found), expected)
    assert found["a"].dtype == np.float32


def test_krum_averages_those_that_lie_together() -> None:
    near = updates(6)
    for update in near:
        for array in update.values():
            array *= np.float32(0.1)
    far = [{key: array + 5 for key, array in u.items()} for u in updates(2, seed=1)]
    found = together(robust("krum", 2), [far[0], *near, far[1]])
    assert np.allclose(flat(found), np.mean([flat(u) for u in near], axis=0), atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@given(
    value=st.sampled_from([1e3, -1e3, 1e10, -1e10, 0.0]),
    bad=st.integers(1, 3),
    seed=st.integers(0, 1000),
)
def test_poisoned_stores_cannot_drag_the_result_out_of_what_honest_ones_say(
    kind: str, value: float, bad: int, seed: int
) -> None:
    honest = updates(9 - bad, seed)
    poison = {key: np.full_like(array, value) for key, array in honest[0].items()}
    found = flat(together(robust(kind, bad), [*honest, *[poison] * bad]))
    spread = np.stack([flat(u) for u in honest])
    if (
        kind == "krum"
    ):  # equal lies lie close together: a share of the mean can be theirs, if they are small
        assert abs(value) <= 1e3 or np.abs(found).max() <= np.abs(spread).max()
    else:
        assert (found >= spread.min(axis=0) - 1e-5).all()
        assert (found <= spread.max(axis=0) + 1e-5).all()


@pytest.mark.parametrize(
    ("kind", "stores"), [("trimmed_mean", 4), ("median", 4), ("krum", 6), ("krum", 1)]
)
def test_of_too_few_stores_nothing_is_said(kind: str, stores: int) -> None:
    with pytest.raises(RunError, match=f"{stores} stores answered, of whom 2 may be poisoned"):
        together(robust(kind, 2), updates(stores))


@pytest.mark.parametrize(("kind", "stores"), [("trimmed_mean", 4), ("median", 4), ("krum", 6)])
def test_who_was_exposed_is_not_looked_for_among_the_others(kind: str, stores: int) -> None:
    """Or three who send an old answer stop a chain of ten, where three whose lie is not found do not."""
    honest = updates(stores - 1)
    poison = {key: np.full_like(array, 1e6) for key, array in honest[0].items()}
    found = flat(together(robust(kind, 2), [*honest, poison], exposed=1))
    spread = np.stack([flat(u) for u in honest])
    assert (found >= spread.min(axis=0) - 1e-5).all()
    assert (found <= spread.max(axis=0) + 1e-5).all()


def test_where_enough_answered_all_are_looked_for_whoever_was_exposed() -> None:
    """Somebody honest may have been left out by mistake: that costs no protection that can be had."""
    made = updates(5)
    assert np.array_equal(
        flat(together(robust("trimmed_mean", 2), made, exposed=2)),
        flat(together(robust("trimmed_mean", 2), made)),
    )


@pytest.mark.parametrize("kind", KINDS)
def test_when_all_poisoned_stores_are_exposed_one_answer_is_enough(kind: str) -> None:
    (only,) = made = updates(1)
    assert np.allclose(flat(together(robust(kind, 2), made, exposed=2)), flat(only))


@pytest.mark.parametrize(
    ("kind", "stores"), [("trimmed_mean", 2), ("median", 2), ("krum", 4), ("krum", 1)]
)
def test_exposed_stores_make_up_for_no_more_than_themselves(kind: str, stores: int) -> None:
    with pytest.raises(RunError, match=f"{stores} stores answered, of whom 1 may be poisoned"):
        together(robust(kind, 2), updates(stores), exposed=1)


def test_a_run_says_how_its_updates_are_put_together() -> None:
    chosen = RunSettings.of(stores=9, aggregation="krum", malicious_stores=2)
    with Spool(updates(1)[0]) as spool:
        assert isinstance(aggregator(RunSettings(), SIZES, spool), Mean)
        assert isinstance(aggregator(chosen, SIZES, spool), Robust)


@pytest.mark.parametrize("kind", KINDS)
def test_blocks_of_parameters_come_to_the_same_as_all_at_once(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = updates(7)
    whole = together(robust(kind, 2), made)
    monkeypatch.setattr(spool_module, "BLOCK_BYTES", 7 * 4 * 3)  # three parameters at a time
    found = together(robust(kind, 2), made)
    assert {key: array.shape for key, array in found.items()} == {"a": (4, 5), "b": (7,)}
    assert np.array_equal(flat(found), flat(whole))


@pytest.mark.parametrize("kind", KINDS)
def test_memory_does_not_grow_with_the_number_of_stores(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool_module, "BLOCK_BYTES", 1 << 18)
    one = {"a": np.ones(250_000, np.float32)}  # 1 MB
    peaks = []
    for stores in (10, 40):
        with Spool(one) as spool:
            together_ = Robust(spool, kind, 2)
            for number in range(stores):
                row = spool.add({"a": one["a"] * np.float32(number)})
                together_.take(f"s{number}", row)
            tracemalloc.start()
            together_.result()
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
    assert peaks[1] < 8e6, "40 updates are 40 MB"
    assert peaks[1] < 1.5 * peaks[0]


def test_an_update_comes_back_as_it_was_and_a_full_disk_is_said(tmp_path: Path) -> None:
    first, second = updates(2)
    with Spool(first, tmp_path) as spool:
        rows = [spool.add(first), spool.add(second)]
        assert not list(tmp_path.iterdir()), "it has no name"
        for row, update in zip(rows, (first, second), strict=True):
            found = spool.read(row)
            assert all(np.array_equal(found[key], update[key]) for key in update)
    with pytest.raises(RunError, match="cannot be kept in"):
        Spool(first, tmp_path / "gone")
    code = (
        "import numpy as np; from privemo.spool import Spool\n"
        "one = {'a': np.ones(100_000, np.float32)}\n"
        "Spool(one).add(one)"
    )
    done = subprocess.run(
        ["prlimit", "--fsize=65536", sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert "RunError: The updates of a round take 0.4 MB for each store" in done.stderr
