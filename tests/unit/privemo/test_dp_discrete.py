"""Discrete Gaussian noise: the exact distribution, its sum, and numbers that no float could hold."""

from __future__ import annotations

import hashlib
import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from privemo.dp import DiscreteGaussian
from privemo.dp.discrete import WIDEST
from privemo.errors import SettingsError


def key(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()


def probabilities(scale: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    values = np.arange(-10 * scale, 10 * scale + 1)
    weights = np.exp(-(values**2) / (2 * scale**2))
    return values, weights / weights.sum()


def fits(drawn: NDArray[np.int64], values: NDArray[np.int64], p: NDArray[np.float64]) -> float:
    """The p-value of a chi-square test, rare values put together."""
    seen = np.bincount(drawn - values[0], minlength=len(values)).astype(float)
    common = p * len(drawn) > 20
    rare = 1 - p[common].sum()
    expected = [*p[common], rare] if rare * len(drawn) > 1 else p[common] / p[common].sum()
    counts = [*seen[common], seen[~common].sum()][: len(expected)]
    total = sum(counts)
    return float(stats.chisquare(counts, [e * total / sum(expected) for e in expected]).pvalue)


@pytest.mark.parametrize("scale", [1, 2, 3, 8, 50])
def test_each_integer_comes_as_often_as_it_should(scale: int) -> None:
    drawn = DiscreteGaussian(scale, key(f"often {scale}")).draw(300_000)
    assert drawn.dtype == np.int64
    assert fits(drawn, *probabilities(scale)) > 1e-4


def test_the_test_would_see_a_wrong_scale_and_a_doubled_zero() -> None:
    values, p = probabilities(8)
    drawn = DiscreteGaussian(8, key("seen")).draw(300_000)
    assert fits(drawn[: len(drawn)] + (np.abs(drawn) > 16), values, p) < 1e-9
    zeros = np.zeros(len(drawn) // 40, np.int64)
    assert fits(np.concatenate([drawn, zeros]), values, p) < 1e-9


@pytest.mark.parametrize("scale", [1000, 130_000, WIDEST])
def test_wide_noise_has_the_moments_of_a_gaussian(scale: int) -> None:
    drawn = DiscreteGaussian(scale, key(f"wide {scale}")).draw(200_000) / scale
    assert abs(drawn.mean()) < 5 / math.sqrt(len(drawn))
    assert drawn.std() == pytest.approx(1.0, abs=5 / math.sqrt(2 * len(drawn)))
    assert stats.kstest(drawn, "norm").pvalue > 1e-4


def test_the_largest_scale_overflows_nowhere() -> None:
    """The numbers of the last trial: twice the square of the scale, by 13 scales and by 30 trials."""
    assert 2 * WIDEST**2 * 13 * 30 < 2**64


def test_a_sum_of_shares_is_noise_of_the_joint_variance() -> None:
    """What secure aggregation adds up: five stores of scale 9 are one of scale 9 sqrt(5)."""
    shares = [DiscreteGaussian(9, key(f"share {n}")).draw(200_000) for n in range(5)]
    values = np.arange(-250, 251)
    weights = np.exp(-(values**2) / (2 * 5 * 9**2))
    assert fits(np.sum(shares, axis=0), values, weights / weights.sum()) > 1e-4


def test_one_stream_goes_on_and_other_keys_say_something_else() -> None:
    stream = DiscreteGaussian(100, key("a"))
    first, second = stream.draw(50), stream.draw(50)
    assert first.tolist() != second.tolist()
    assert first.tolist() == DiscreteGaussian(100, key("a")).draw(50).tolist()
    assert first.tolist() != DiscreteGaussian(100, key("b")).draw(50).tolist()
    assert DiscreteGaussian(100).draw(50).tolist() != DiscreteGaussian(100).draw(50).tolist()
    assert len(DiscreteGaussian(3).draw(0)) == 0


@pytest.mark.parametrize("scale", [0, -1, WIDEST + 1])
def test_an_impossible_scale_is_refused(scale: int) -> None:
    with pytest.raises(SettingsError, match="scale of discrete noise"):
        DiscreteGaussian(scale)
