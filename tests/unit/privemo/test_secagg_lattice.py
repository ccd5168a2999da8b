"""Gradients as whole numbers: what rounding costs, what fits 32 bits, and noise that is whole in the sum."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from privemo.dp import DiscreteGaussian
from privemo.errors import SettingsError
from privemo.secagg import Lattice

USUAL = {"noise_multiplier": 1.6, "noise_stores": 10, "max_grad_norm": 1.0, "people": 2048.0}


def lattice(parameters: int = 100, **changed: float) -> Lattice:
    return Lattice.of(parameters=parameters, **{**USUAL, **changed})  # type: ignore[arg-type]


def test_rounding_costs_one_percent_of_noise_with_the_default_network() -> None:
    fine = lattice(1_403_544)
    assert fine.resolution == 2**18
    alone = 1.6 * 2**18 / math.sqrt(10)
    assert alone < fine.share < 1.011 * alone


@given(
    st.lists(st.floats(-50, 50, width=32), min_size=100, max_size=100),
    st.floats(0.01, 30),
)
def test_what_is_rounded_comes_back_to_half_a_step(values: list[float], clip: float) -> None:
    fine, total = lattice(max_grad_norm=clip), np.array(values)
    back = fine.decode((fine.encode(total) & 0xFFFFFFFF).astype(np.uint32))
    assert np.abs(back - total).max() <= 0.5 * clip / fine.resolution + 1e-9


@given(
    st.lists(st.floats(-3, 3), min_size=100, max_size=100),
    st.lists(st.floats(-1, 1), min_size=100, max_size=100),
)
def test_a_person_moves_the_sum_no_further_than_reckoned(
    others: list[float], person: list[float]
) -> None:
    one = np.array(person)
    one /= max(1.0, float(np.linalg.norm(one)))
    fine, before = lattice(), np.array(others)
    moved = (fine.encode(before + one) - fine.encode(before)).astype(float)
    assert np.linalg.norm(moved) <= fine.resolution + math.sqrt(100) + 1e-6


def test_shares_of_as_many_stores_as_it_takes_are_all_of_the_noise() -> None:
    fine = lattice(noise_stores=4)
    reach = fine.resolution + 2 * math.sqrt(100)
    assert fine.share * math.sqrt(4) >= 1.6 * reach
    drawn = np.sum([DiscreteGaussian(fine.share).draw(50_000) for _ in range(4)], axis=0)
    assert drawn.std() == pytest.approx(1.6 * reach, rel=0.02)


@pytest.mark.parametrize(
    "large", [{"people": 200_000.0}, {"noise_multiplier": 400.0}, {"noise_multiplier": 3000.0}]
)
def test_larger_steps_and_more_noise_make_it_coarser(large: dict[str, float]) -> None:
    coarse = lattice(1_403_544, **large)
    assert coarse.resolution < 2**18
    people, noise = large.get("people", 2048.0), large.get("noise_multiplier", 1.6)
    reach = coarse.resolution + 2 * math.sqrt(1_403_544)
    assert 2 * people * coarse.resolution + 14.2 * noise * reach < 2**31
    assert coarse.share * math.sqrt(10) >= noise * reach


@pytest.mark.parametrize(
    "impossible",
    [{"people": 1e9}, {"noise_multiplier": 1e9}, {"noise_multiplier": 0.2, "noise_stores": 10**12}],
)
def test_what_does_not_fit_is_refused(impossible: dict[str, float]) -> None:
    with pytest.raises(SettingsError, match="do not fit 32 bits"):
        lattice(1_403_544, **impossible)


@pytest.mark.parametrize(
    "broken", [np.zeros(99), np.full(100, np.nan), np.full(100, np.inf), np.zeros((1, 100))]
)
def test_a_sum_that_is_none_is_refused(broken: NDArray[np.float64]) -> None:
    with pytest.raises(SettingsError, match="100 finite numbers"):
        lattice().encode(broken)


def test_a_sum_beyond_all_bounds_stays_a_number() -> None:
    assert np.abs(lattice().encode(np.full(100, 1e30))).max() == 2**31
