"""Random bits from AES-256 in counter mode (pyca/cryptography), for noise and for masks."""

from __future__ import annotations

import os

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

from privemo.errors import SettingsError

__all__ = ["KEY_BYTES", "KeyStream"]

KEY_BYTES = 32
_AT_ONCE = 1 << 20
_ZEROS = memoryview(bytes(_AT_ONCE))


class KeyStream:
    """An endless stream of bits that only whoever holds the key can tell from chance.

    Args:
        key: 32 bytes that determine the stream; from the operating system when omitted. It is neither
            stored nor shown. No two streams of one key are independent: they are the same stream.

    Raises:
        SettingsError: a key of another length.
    """

    def __init__(self, key: bytes | None = None) -> None:
        key = os.urandom(KEY_BYTES) if key is None else key
        if len(key) != KEY_BYTES:
            raise SettingsError(f"A key of random bits has {KEY_BYTES} bytes, not {len(key)}.")
        self._cipher = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    def fill(self, room: bytearray, count: int) -> None:
        """Write the next `count` bytes (1 MiB at most) to the start of `room`, which has 15 bytes more."""
        self._cipher.update_into(_ZEROS[:count], room)

    def uint32(self, count: int) -> NDArray[np.uint32]:
        """The next `count` numbers, uniform in 0 .. 2^32 - 1; little-endian on every machine."""
        return self._numbers("<u4", count)

    def uint64(self, count: int) -> NDArray[np.uint64]:
        """The next `count` numbers, uniform in 0 .. 2^64 - 1."""
        return self._numbers("<u8", count)

    def below(self, bounds: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """For each bound (n,), at least 1, a number that is uniform in 0 .. bound - 1, exactly.

        Remainders of 64 random bits would favour small numbers: the incomplete last run is drawn again.
        """
        out = np.empty(len(bounds), np.uint64)
        left = np.arange(len(bounds))
        while len(left):
            drawn, bound = self.uint64(len(left)), bounds[left]
            rest = drawn % bound
            # The run that `drawn` lies in is whole when its last number does not pass 2^64 - 1.
            whole = drawn - rest <= np.uint64(2**64 - 1) - (bound - np.uint64(1))
            out[left[whole]] = rest[whole]
            left = left[~whole]
        return out

    def _numbers(self, kind: str, count: int) -> NDArray[np.unsignedinteger]:
        size = np.dtype(kind).itemsize
        room = bytearray(count * size)
        for low in range(0, len(room), _AT_ONCE):
            part = _ZEROS[: len(room) - low]
            room[low : low + len(part)] = self._cipher.update(part)
        return np.frombuffer(room, kind)
