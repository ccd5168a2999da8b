"""For any punctures: every other key stays as it was, and no node that is left leads to these."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from privemo_consent.keyfolder.puncture import INDICES, PuncturableKey

SEED = b"\x2a" * 32
# Close together and far apart: neighbours share all but the last turns.
INDEX = st.one_of(
    st.integers(0, 40), st.integers(INDICES - 20, INDICES - 1), st.integers(0, INDICES - 1)
)
INDEXES = st.lists(INDEX, max_size=12)


def whole() -> PuncturableKey:
    return PuncturableKey.from_bytes((1).to_bytes(4, "big") + bytes(5) + SEED)


def spans(key: PuncturableKey) -> list[tuple[int, int]]:
    return [
        (start, start + (1 << (32 - level)))
        for level, start in zip(key._levels, key._starts, strict=True)
    ]


@given(INDEXES, INDEXES)
def test_the_others_stay_and_these_are_under_no_node(gone: list[int], asked: list[int]) -> None:
    key, untouched = whole(), whole()
    for index in gone:
        key.derive(index) if not key.is_punctured(index) else None
        key.puncture(index)
    lost = set(gone)
    near = {i + step for i in gone for step in (-2, -1, 1, 2) if 0 <= i + step < INDICES}
    for index in (set(asked) | near) - lost:
        assert key.derive(index) == untouched.derive(index)
    for first, end in spans(key):
        assert not [index for index in lost if first <= index < end]
    # Nothing was lost either: the nodes and the punctured cover every index once.
    assert sum(end - first for first, end in spans(key)) + len(lost) == INDICES
    assert list(key.indices_punctured()) == sorted(lost)


@given(INDEXES, st.randoms(use_true_random=False))
def test_bytes_are_canonical(gone: list[int], chance: random.Random) -> None:
    one = whole().without(gone)
    mixed = gone + gone[:3]
    chance.shuffle(mixed)
    other = whole().without(mixed)
    assert one.to_bytes() == other.to_bytes(), "whatever the order"
    again = PuncturableKey.from_bytes(one.to_bytes())
    assert again.to_bytes() == one.to_bytes()


@given(st.lists(INDEX, min_size=1, max_size=6), st.data())
def test_keys_are_the_same_after_any_history(gone: list[int], data: st.DataObject) -> None:
    key, untouched = whole(), whole()
    for index in gone:
        for asked in data.draw(INDEXES):
            if not key.is_punctured(asked):
                assert key.derive(asked) == untouched.derive(asked)
        key.puncture(index)
        key = PuncturableKey.from_bytes(key.to_bytes()) if data.draw(st.booleans()) else key
