"""Random bits: the same for the same key, no bias at any bound, and nothing shown."""

from __future__ import annotations

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from privemo.dp.stream import KeyStream
from privemo.errors import SettingsError

KEY = bytes(range(32))


def aes(count: int) -> bytes:
    return Cipher(algorithms.AES(KEY), modes.CTR(bytes(16))).encryptor().update(bytes(count))


@given(st.lists(st.integers(0, 3000), min_size=1, max_size=5))
def test_it_is_the_key_stream_however_it_is_cut(counts: list[int]) -> None:
    stream = KeyStream(KEY)
    parts = b"".join(stream.uint32(n).tobytes() for n in counts)
    assert parts == aes(4 * sum(counts))


def test_more_than_fits_at_once_is_the_same_stream() -> None:
    count = (1 << 18) + 7
    assert KeyStream(KEY).uint64(count).tobytes() == aes(8 * count)
    assert KeyStream(KEY).uint32(2 * count).tobytes() == aes(8 * count)


def test_filling_writes_what_was_asked_for() -> None:
    room = bytearray(100 + 15)
    KeyStream(KEY).fill(room, 100)
    assert room[:100] == aes(100)


def test_without_a_key_every_stream_is_another() -> None:
    assert KeyStream().uint64(4).tolist() != KeyStream().uint64(4).tolist()


@pytest.mark.parametrize("bound", [1, 2, 3, 7, 10])
def test_below_is_uniform(bound: int) -> None:
    drawn = KeyStream(KEY).below(np.full(60_000, bound, np.uint64))
    counts = np.bincount(drawn.astype(np.int64), minlength=bound)
    assert len(counts) == bound
    if bound > 1:
        assert stats.chisquare(counts).pvalue > 1e-4


def test_below_does_not_favour_small_numbers_at_huge_bounds() -> None:
    """At three quarters of 2^64 a remainder alone would be twice as likely in the lowest third."""
    bound = 3 * 2**62
    drawn = KeyStream(KEY).below(np.full(60_000, bound, np.uint64))
    thirds = np.bincount((drawn // np.uint64(2**62)).astype(np.int64), minlength=3)
    assert stats.chisquare(thirds).pvalue > 1e-4


def test_below_takes_each_bound_for_itself() -> None:
    bounds = np.array([1, 5, 2**63 + 1, 1, 2**64 - 1], np.uint64)
    stream = KeyStream(KEY)
    for _ in range(200):
        assert (stream.below(bounds) < bounds).all()


def test_a_key_of_another_length_is_refused_and_none_is_shown() -> None:
    with pytest.raises(SettingsError, match="32 bytes, not 16"):
        KeyStream(bytes(16))
    assert repr(KeyStream(KEY)) == "KeyStream()"
