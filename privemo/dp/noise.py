"""Gaussian noise from a cryptographic generator.

PyTorch's CPU generator takes only 32 bits of its seed, so whoever sees a raw update could try all
seeds and take the noise off. Here AES-256 in counter mode (pyca/cryptography) makes the uniform bits,
and Box & Muller (1958) turns them into normal draws in float64, rounded to float32 at the end.

Rounding still leaves patterns of floating point in the low bits (Mironov 2012); `docs` lists that under
what is not prevented yet.
"""

from __future__ import annotations

import math
import os

import numpy as np
import torch
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from torch import Tensor

from privemo.errors import SettingsError

__all__ = ["GaussianNoise"]


class GaussianNoise:
    """An endless stream of standard normal draws.

    Args:
        key: 32 bytes that determine the stream; from the operating system when omitted. The key is
            the secret that protects people: it is neither stored nor shown.

    Raises:
        SettingsError: a key of another length.
    """

    def __init__(self, key: bytes | None = None) -> None:
        key = os.urandom(32) if key is None else key
        if len(key) != 32:
            raise SettingsError(f"A noise key has 32 bytes, not {len(key)}.")
        self._stream = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()

    def __repr__(self) -> str:
        return "GaussianNoise()"

    def draw(self, count: int) -> Tensor:
        """The next `count` draws: float32, shape (count,), mean 0, standard deviation 1."""
        pairs = (count + 1) // 2
        bits = np.frombuffer(self._stream.update(bytes(16 * pairs)), dtype=np.uint64)
        # 53 random bits each, in (0, 1]: the logarithm of 0 never comes up.
        uniform = ((bits >> np.uint64(11)).astype(np.float64) + 1.0) * 2.0**-53
        radius = np.sqrt(-2.0 * np.log(uniform[:pairs]))
        angle = (2.0 * math.pi) * uniform[pairs:]
        draws = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:count]
        return torch.from_numpy(draws.astype(np.float32))
