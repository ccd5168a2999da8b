"""Stores that differ: everybody is in one of them, none is empty, and they differ as much as was asked."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from privemo.config import RunSettings
from privemo.errors import DataError, SettingsError
from privemo.faces import FaceTable, load_faces
from privemo.skew import shared_out
from tests.conftest import noise_faces


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> FaceTable:
    path = tmp_path_factory.mktemp("skew") / "faces.npz"
    np.savez(path, **noise_faces(400, 2))
    return load_faces(path)


def parts(
    table: FaceTable,
    stores: int = 5,
    *,
    rows: np.ndarray | None = None,
    seed: int = 0,
    **skew: Any,
) -> list[np.ndarray]:
    rows = np.arange(len(table), dtype=np.int64) if rows is None else rows
    return shared_out(table, rows, stores, seed=seed, settings=RunSettings.of(**skew))


def unlike(table: FaceTable, shares: list[np.ndarray]) -> float:
    """How far stores' shares of the emotions are from those of all, on average (total variation)."""
    every = np.bincount(table.label, minlength=4) / len(table)
    mine = [np.bincount(table.label[rows], minlength=4) / len(rows) for rows in shares]
    return float(np.mean([np.abs(m - every).sum() / 2 for m in mine]))


@given(
    stores=st.integers(1, 12),
    seed=st.integers(0, 10**6),
    label_skew=st.sampled_from([None, 0.01, 0.3, 10.0]),
    size_skew=st.sampled_from([None, 0.01, 1.0]),
)
def test_everybody_is_in_one_store_and_none_is_empty(
    table: FaceTable, stores: int, seed: int, label_skew: float | None, size_skew: float | None
) -> None:
    shares = parts(table, stores, seed=seed, label_skew=label_skew, size_skew=size_skew)
    assert sorted(np.concatenate(shares).tolist()) == list(range(len(table)))
    assert all(len(rows) for rows in shares)
    people = [set(table.person[rows]) for rows in shares]
    assert sum(map(len, people)) == len(set().union(*people))


def test_without_a_skew_stores_are_shared_out_as_ever(table: FaceTable) -> None:
    rows = np.arange(len(table), dtype=np.int64)
    for ours, theirs in zip(parts(table), table.partition(rows, 5, seed=0), strict=True):
        assert np.array_equal(ours, theirs)


def test_the_smaller_the_concentration_the_more_stores_differ(table: FaceTable) -> None:
    alike, some, much = (
        np.mean([unlike(table, parts(table, seed=s, label_skew=c)) for s in range(5)])
        for c in (1000.0, 1.0, 0.05)
    )
    assert alike < 0.08 < some < much
    assert much > 0.4


def test_sizes_differ_where_asked_and_emotions_then_do_not(table: FaceTable) -> None:
    shares = parts(table, size_skew=0.5)
    sizes = sorted(len(rows) for rows in shares)
    assert sizes[-1] > 2 * sizes[0]
    even = sorted(len(rows) for rows in parts(table, label_skew=1000.0))
    assert even[-1] < 1.2 * even[0]
    assert unlike(table, [rows for rows in shares if len(rows) > 80]) < 0.15


def test_the_same_seed_shares_out_the_same(table: FaceTable) -> None:
    one, two, other = (parts(table, seed=s, label_skew=0.5) for s in (3, 3, 4))
    assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_what_is_held_out_is_shared_as_what_is_trained_on(table: FaceTable) -> None:
    """A store whose shoppers are mostly happy is measured on such shoppers."""
    first = np.random.default_rng(0).permutation(400) < 200
    train, test = (
        parts(table, rows=np.flatnonzero(np.repeat(chosen, 2)), label_skew=0.2, seed=4)
        for chosen in (first, ~first)
    )
    for here, there in zip(train, test, strict=True):
        one, two = (
            np.bincount(table.label[rows], minlength=4) / len(rows) for rows in (here, there)
        )
        assert np.abs(one - two).sum() < 0.2


def test_a_column_is_shared_out_in_place_of_emotions(table: FaceTable) -> None:
    shares = parts(table, label_skew=0.05, skew_column="age_band")
    bands = table.column("age_band")
    most = [max(np.mean(bands[rows] == band) for band in np.unique(bands)) for rows in shares]
    even = max(np.mean(bands == band) for band in np.unique(bands))
    assert np.mean(most) > even + 0.1


def test_a_column_that_is_not_there_is_named(table: FaceTable) -> None:
    with pytest.raises(DataError, match="no column 'culture'"):
        parts(table, label_skew=1.0, skew_column="culture")
    with pytest.raises(SettingsError, match="set label_skew too"):
        RunSettings.of(skew_column="age_band")


def test_more_stores_than_people_are_refused(table: FaceTable) -> None:
    with pytest.raises(SettingsError, match="4 people cannot be shared among 5 stores"):
        parts(table, rows=np.arange(8, dtype=np.int64), label_skew=1.0)


@pytest.mark.parametrize("setting", ["label_skew", "size_skew"])
def test_a_concentration_is_above_zero(setting: str) -> None:
    with pytest.raises(SettingsError, match=setting):
        RunSettings.of(**{setting: 0.0})
