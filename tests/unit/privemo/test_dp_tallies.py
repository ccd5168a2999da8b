"""Noise for many counts at once: what it costs, what it looks like, and what does not fit."""

from __future__ import annotations

import math

import numpy as np
import pytest

from privemo.dp import composed
from privemo.dp.tallies import TallyNoise
from privemo.errors import SettingsError


def one(**changes: object) -> TallyNoise:
    said = {"epsilon": 2.0, "delta": 1e-5, "tables": 4, **changes}
    return TallyNoise.of(**said)  # type: ignore[arg-type]  # values of the right kind


@pytest.mark.parametrize("tables", [1, 4, 11])
@pytest.mark.parametrize("stores", [1, 2, 7])
@pytest.mark.parametrize("epsilon", [0.1, 2.0, 8.0])
def test_it_costs_what_was_asked_and_hardly_less(epsilon: float, stores: int, tables: int) -> None:
    noise = one(epsilon=epsilon, noise_stores=stores, tables=tables)
    cost = composed([noise.mechanism], delta=1e-5, accountant="rdp")
    assert 0.96 * epsilon < cost <= epsilon


def test_so_many_shares_make_the_noise_whole() -> None:
    """Variances of shares add up, and a person moves sqrt(tables) in units of the resolution."""
    noise = one(noise_stores=5)
    whole = math.sqrt(5) * noise.scale / (noise.resolution * math.sqrt(4))
    assert noise.noise_multiplier == pytest.approx(whole, rel=1e-12)
    assert noise.scale >= 64  # wide enough for the proof of sums


def test_each_number_has_noise_of_its_own_and_of_the_stated_width() -> None:
    noise = one()
    counts = np.full(40_000, 7, np.int64)
    drawn = noise.noised(counts) - 7 * noise.resolution
    assert drawn.std() == pytest.approx(noise.scale, rel=0.03)
    assert abs(drawn.mean()) < 5 * noise.scale / math.sqrt(len(drawn))
    assert abs(np.corrcoef(drawn[:-1], drawn[1:])[0, 1]) < 0.03


def test_no_two_releases_share_their_noise() -> None:
    noise, counts = one(), np.zeros(1000, np.int64)
    assert not np.array_equal(noise.noised(counts), noise.noised(counts))


def test_whole_people_are_the_nearest_ones() -> None:
    noise = TallyNoise(tables=1, resolution=4, scale=64)
    numbers = np.array([-6, -5, -2, -1, 0, 1, 2, 3, 4, 9], np.int64)
    assert noise.rounded(numbers).tolist() == [-1, -1, 0, 0, 0, 0, 1, 1, 1, 2]


@pytest.mark.parametrize("count", [-1, 2**31])
def test_counts_that_no_sum_could_hold_are_refused(count: int) -> None:
    with pytest.raises(SettingsError, match="does not fit a sum"):
        one().noised(np.array([count], np.int64))


def test_as_many_people_as_are_let_in_fit_32_bits() -> None:
    noise, stores = one(noise_stores=3), 3
    most = noise.most_people(stores)
    total = sum(noise.noised(np.full(200, most, np.int64), stores=stores) for _ in range(stores))
    assert np.abs(total).max() < 2**31


@pytest.mark.parametrize("epsilon", [0.0, -1.0, float("nan"), float("inf")])
def test_an_epsilon_that_is_none_is_refused(epsilon: float) -> None:
    with pytest.raises(SettingsError):
        one(epsilon=epsilon)


def test_noise_beyond_what_is_drawn_is_refused() -> None:
    with pytest.raises(SettingsError, match="ask for more epsilon"):
        TallyNoise(tables=1, resolution=1, scale=2**21)
    with pytest.raises(SettingsError):
        TallyNoise(tables=0, resolution=1, scale=1)
