"""Gaussian noise from a cryptographic generator.

PyTorch's CPU generator takes only 32 bits of its seed, so whoever sees a raw update could try all
seeds and take the noise off. Here AES-256 in counter mode (pyca/cryptography) makes the uniform bits,
and Box & Muller (1958) turns them into normal draws in float64.

Floating-point numbers have gaps. The values that one draw can take lie in a pattern, and the pattern of a
noised sum can tell which sum was noised (Mironov 2012; Jin et al. 2022, arXiv 2112.05307). `draw_secure` adds
up four draws, whose pattern is too fine to search (Holohan & Braghin 2021, arXiv 2107.10138), as Opacus's
secure mode does.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from privemo.dp.stream import KeyStream

__all__ = ["GaussianNoise"]

_PAIRS_AT_ONCE = 1 << 14  # stay in the cache
_SUMMED = 4  # guessing needs about 2^(53 * 3) tries; two draws would leave 2^53 (Opacus's `_generate_noise`)


class GaussianNoise:
    """An endless stream of standard normal draws.

    Args:
        key: 32 bytes that determine the stream; from the operating system when omitted. The key is
            the secret that protects people: it is neither stored nor shown.

    Raises:
        SettingsError: a key of another length.
    """

    def __init__(self, key: bytes | None = None) -> None:
        self._stream = KeyStream(key)

    def __repr__(self) -> str:
        return "GaussianNoise()"

    def key(self) -> bytes:
        """32 bytes of the stream, to be the key of another; they never come again."""
        return self._stream.uint64(4).tobytes()

    def draw(self, count: int) -> Tensor:
        """The next `count` draws: float32, shape (count,), mean 0, standard deviation 1."""
        return self._sums(count, 1).float()

    def draw_secure(self, count: int) -> Tensor:
        """The next `count` sums of four draws, halved: float64, (count,), mean 0, standard deviation 1.

        Add it in float64 and round the sum afterwards: what is rounded first has a coarse pattern again.
        """
        return self._sums(count, _SUMMED).div_(math.sqrt(_SUMMED))

    def _sums(self, count: int, terms: int) -> Tensor:
        """Sums of `terms` standard normal draws each: float64 (count,)."""
        total = torch.zeros(count, dtype=torch.float64)
        room = bytearray(16 * _PAIRS_AT_ONCE + 15)
        bits = torch.frombuffer(room, dtype=torch.int64, count=2 * _PAIRS_AT_ONCE)
        for part in torch.split(total, 2 * _PAIRS_AT_ONCE):
            pairs = (len(part) + 1) // 2
            for _ in range(terms):
                self._stream.fill(room, 16 * pairs)
                radius, angle = _box_muller(bits[: 2 * pairs])
                part[:pairs].addcmul_(radius, angle.cos())
                part[pairs:].addcmul_(
                    radius[: len(part) - pairs], angle.sin_()[: len(part) - pairs]
                )
        return total


def _box_muller(bits: Tensor) -> tuple[Tensor, Tensor]:
    """Radius and angle of pairs of normal draws from random int64 (2 * pairs,), which are overwritten.

    52 random bits become the fraction of a float64 in [1, 2), with no conversion of integers.
    """
    one = bits.bitwise_right_shift_(12).bitwise_and_((1 << 52) - 1).bitwise_or_(0x3FF << 52)
    uniform = one.view(torch.float64)
    pairs = len(uniform) // 2
    # In (0, 1], so that the logarithm of 0 never comes up.
    radius = uniform[:pairs].neg_().add_(2.0).log_().mul_(-2.0).sqrt_()
    # Between one and two turns.
    return radius, uniform[pairs:].mul_(2.0 * math.pi)
