"""A tree of keys: what is derived, what is destroyed, and bytes that are none."""

from __future__ import annotations

import copy
import hashlib
import pickle
import sys
import threading
from typing import Any

import pytest

from privemo_consent.errors import ErasedKeyError, MalformedError
from privemo_consent.keyfolder.puncture import INDICES, PuncturableKey

SEED = bytes(range(32))
WHOLE = (1).to_bytes(4, "big") + bytes(5) + SEED


def by_the_book(index: int) -> bytes:
    """The construction of 1986 once more, by recursion over the bits."""
    seed = SEED
    for bit in f"{index:032b}":
        pair = hashlib.blake2b(b"privemo ggm 1", key=seed, digest_size=64).digest()
        seed = pair[32:] if bit == "1" else pair[:32]
    return seed


@pytest.mark.parametrize("index", [0, 1, 2, 3, 1000, 2**31 - 1, 2**31, INDICES - 2, INDICES - 1])
def test_keys_are_those_of_the_construction(index: int) -> None:
    key = PuncturableKey.from_bytes(WHOLE)
    assert key.derive(index) == by_the_book(index)
    assert key.derive(index) == by_the_book(index), "once more, from the kept path"


def test_order_does_not_matter() -> None:
    key = PuncturableKey.from_bytes(WHOLE)
    for index in (7, 6, 8, 8, 1 << 20, 9, 0, INDICES - 1, 10, 11, 7):
        assert key.derive(index) == by_the_book(index)


def test_a_published_vector_never_changes() -> None:
    # What is wrapped today must open in ten years: this value may not change.
    derived = PuncturableKey.from_bytes(WHOLE).derive(123_456_789)
    assert derived.hex() == "b8c618ffad99e32542c988cbcbdf43050b3f2b6dd6af9f9d84b28b34a29a467f"


@pytest.mark.parametrize("index", [0, 1, 77, 2**31, INDICES - 1])
def test_a_puncture_takes_one_key_and_no_other(index: int) -> None:
    key = PuncturableKey.from_bytes(WHOLE)
    near = [i for i in (index - 2, index - 1, index + 1, index + 2) if 0 <= i < INDICES]
    key.derive(index)
    key.puncture(index)
    key.puncture(index)
    assert key.is_punctured(index)
    assert key.punctures == 1
    assert list(key.indices_punctured()) == [index]
    with pytest.raises(ErasedKeyError, match="destroyed"):
        key.derive(index)
    for other in near:
        assert not key.is_punctured(other)
        assert key.derive(other) == by_the_book(other)
    with pytest.raises(ErasedKeyError):
        key.derive(index)


def held_by(key: PuncturableKey) -> list[bytes]:
    """Every 32 bytes that the object still reaches."""
    return [
        part
        for value in (*key._seeds, *key._path)
        for part in (value[:32], value[32:])
        if len(part) == 32
    ]


def test_no_seed_above_a_punctured_key_is_held_any_more() -> None:
    key = PuncturableKey.from_bytes(WHOLE)
    above = {SEED}
    seed = SEED
    for bit in f"{77:032b}":
        pair = hashlib.blake2b(b"privemo ggm 1", key=seed, digest_size=64).digest()
        seed = pair[32:] if bit == "1" else pair[:32]
        above.add(seed)
    key.derive(76)  # its path, now kept, leads to 77
    assert above & set(held_by(key))
    key.puncture(77)
    assert not above & set(held_by(key))
    key.derive(76)
    assert not above & set(held_by(key))
    assert not [seed for seed in above if seed in key.to_bytes()]


def test_without_leaves_the_key_itself_whole() -> None:
    key = PuncturableKey.from_bytes(WHOLE)
    less = key.without([5, 6])
    assert list(less.indices_punctured()) == [5, 6]
    assert key.derive(5) == by_the_book(5)
    assert less.derive(7) == by_the_book(7)


@pytest.mark.parametrize("index", [-1, INDICES, 1.0, True, None, "1", b"1"])
def test_what_is_no_index_is_refused(index: Any) -> None:
    key = PuncturableKey.generate()
    for act in (key.derive, key.puncture, key.is_punctured):
        with pytest.raises(MalformedError, match="whole number"):
            act(index)


def node(level: int, start: int) -> bytes:
    return level.to_bytes(1, "big") + start.to_bytes(4, "big") + SEED


def counted(*nodes: bytes, count: int | None = None) -> bytes:
    return (len(nodes) if count is None else count).to_bytes(4, "big") + b"".join(nodes)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "cut short"),
        (b"\0\0\0", "cut short"),
        (None, "cut short"),
        (bytearray(WHOLE), "cut short"),
        (counted(), "length"),
        (WHOLE[:-1], "length"),
        (WHOLE + b"\0", "length"),
        (counted(node(0, 0), count=2), "length"),
        (counted(node(0, 0), count=2**32 - 1), "length"),
        (counted(node(33, 0)), "starts where none can"),
        (counted(node(0, 1)), "starts where none can"),
        (counted(node(31, 3)), "starts where none can"),
        (counted(node(1, 0), node(2, 0)), "overlap"),
        (counted(node(0, 0), node(1, 1 << 31)), "overlap"),
        (counted(node(2, 3 << 30), node(2, 0)), "out of order"),
        (counted(node(2, 1 << 30), node(2, 1 << 30)), "overlap"),
        (counted(node(1, 0), node(1, 1 << 31)), "both children"),
        (counted(node(32, 8), node(32, 9)), "both children"),
    ],
)
def test_bytes_that_no_tree_writes_are_refused(data: Any, why: str) -> None:
    with pytest.raises(MalformedError, match=why):
        PuncturableKey.from_bytes(data)


def test_nothing_secret_is_shown_or_sent() -> None:
    key = PuncturableKey.from_bytes(WHOLE)
    key.puncture(3)
    assert repr(key) == "PuncturableKey(32 nodes, 1 punctured)"
    for act in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="neither copied nor sent"):
            act(key)


def test_threads_do_not_mix_their_paths() -> None:
    key = PuncturableKey.from_bytes(WHOLE)
    told: dict[int, bytes] = {}

    def derive(first: int) -> None:
        told.update({index: key.derive(index) for index in range(first, first + 30_000, 11)})

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=derive, args=(i * 700_000,)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    alone = PuncturableKey.from_bytes(WHOLE)
    assert [index for index in sorted(told) if told[index] != alone.derive(index)] == []
    assert len(told) == 4 * 2728


def test_next_indices_cost_about_one_hash_each(monkeypatch: pytest.MonkeyPatch) -> None:
    from privemo_consent.keyfolder import puncture

    hashes, double = [0], puncture._double

    def counting(seed: bytes) -> bytes:
        hashes[0] += 1
        return double(seed)

    monkeypatch.setattr(puncture, "_double", counting)
    key = PuncturableKey.generate()
    key.puncture(12)
    for index in range(1000, 3000):
        key.derive(index)
    assert hashes[0] <= 2000 + 2 * 32, "a bulk import depends on it"
    before = hashes[0]
    key.derive(2**32 - 5)
    assert hashes[0] - before <= 32
