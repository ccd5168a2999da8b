"""Noise: normal, reproducible by its key alone, and never the 32 bits of PyTorch's generator."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from privemo.dp import GaussianNoise
from privemo.errors import SettingsError


def test_draws_are_standard_normal() -> None:
    draws = GaussianNoise(b"k" * 32).draw(400_000).numpy()
    assert draws.dtype == np.float32
    # A fixed key: the test either always passes or never does.
    assert stats.kstest(draws, "norm").pvalue > 0.01
    assert abs(stats.skew(draws)) < 0.02
    assert abs(stats.kurtosis(draws)) < 0.04
    assert np.isfinite(draws).all()
    assert np.abs(draws).max() > 4.2


def test_sums_of_draws_are_standard_normal_too() -> None:
    draws = GaussianNoise(b"k" * 32).draw_secure(400_000).numpy()
    assert draws.dtype == np.float64
    assert stats.kstest(draws, "norm").pvalue > 0.01
    assert abs(stats.skew(draws)) < 0.02
    assert abs(stats.kurtosis(draws)) < 0.04


def test_a_secure_draw_is_the_sum_of_four_that_are_used_for_nothing_else() -> None:
    secure, single = GaussianNoise(bytes(32)), GaussianNoise(bytes(32))
    terms = [single.draw(1000).double() for _ in range(4)]
    assert torch.allclose(secure.draw_secure(1000), sum(terms) / 2, atol=1e-6)  # type: ignore[arg-type]
    assert torch.equal(secure.draw(5), single.draw(5))


def test_secure_draws_keep_their_last_bits() -> None:
    """Rounded to float32 before it is added, noise falls on a coarse grid, and the grid tells its sum."""
    near_one = [GaussianNoise(bytes([k]) * 32).draw_secure(50_000) for k in range(2)]
    for draws in near_one:
        low_bits = draws[(draws > 1) & (draws < 2)].view(torch.int64) & 0xFF
        counts = torch.bincount(low_bits, minlength=256)
        assert stats.chisquare(counts.numpy()).pvalue > 0.001
    # float32, for comparison, has no bits there at all.
    rounded = near_one[0].float().double()
    assert int((rounded.view(torch.int64) & 0xFF).max()) == 0


def test_neighbouring_draws_and_both_halves_are_independent() -> None:
    draws = GaussianNoise(b"k" * 32).draw(200_000).numpy()
    for a, b in ((draws[:-1], draws[1:]), (draws[:100_000], draws[100_000:])):
        assert abs(np.corrcoef(a, b)[0, 1]) < 0.01
        assert abs(np.corrcoef(a**2, b**2)[0, 1]) < 0.01


def test_the_stream_goes_on_and_never_repeats() -> None:
    noise = GaussianNoise(b"k" * 32)
    first, second = noise.draw(1000), noise.draw(1000)
    assert not torch.equal(first, second)
    assert abs(float(torch.corrcoef(torch.stack([first, second]))[0, 1])) < 0.15


def test_same_key_same_noise_and_one_bit_changes_all_of_it() -> None:
    a, b = GaussianNoise(bytes(32)).draw(99), GaussianNoise(bytes(32)).draw(99)
    c = GaussianNoise(bytes(31) + b"\x01").draw(99)
    assert torch.equal(a, b)
    assert not (a == c).any()


def test_every_bit_of_the_key_counts() -> None:
    """PyTorch's CPU generator ignores all but 32 bits of its seed: an attacker tries them all."""
    first = {float(GaussianNoise((1 << bit).to_bytes(32)).draw(1)) for bit in range(256)}
    assert len(first) == 256


def test_without_a_key_no_two_streams_are_equal() -> None:
    assert not torch.equal(GaussianNoise().draw(8), GaussianNoise().draw(8))


@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_any_number_of_draws(count: int) -> None:
    assert GaussianNoise().draw(count).shape == (count,)


def test_the_key_is_checked_and_never_shown() -> None:
    with pytest.raises(SettingsError, match="32 bytes, not 5"):
        GaussianNoise(b"short")
    assert repr(GaussianNoise(b"k" * 32)) == "GaussianNoise()"
