"""No hidden cell can be had back from what is published."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from privemo_audits.groups import SUPPRESS_BELOW, hide

TABLES = st.tuples(st.integers(1, 8), st.integers(1, 5)).flatmap(
    lambda shape: arrays(np.int64, shape, elements=st.integers(0, 30))
)


@given(TABLES)
def test_small_cells_are_always_hidden(table: np.ndarray) -> None:
    hidden = hide(table)
    assert hidden[(table > 0) & (table < SUPPRESS_BELOW)].all()


@given(TABLES)
def test_every_published_total_covers_enough_or_everything(table: np.ndarray) -> None:
    """Within a row or column either nothing is shown beside the hidden, or two cells cover each other."""
    hidden = hide(table)
    lines = [(table[:, c], hidden[:, c]) for c in range(table.shape[1])] if len(table) > 1 else []
    if table.shape[1] > 1:
        lines += [(table[r], hidden[r]) for r in range(table.shape[0])]
    for line, mask in lines:
        if mask.any():
            cells = (line[mask] > 0).sum()
            covered = cells >= 2 and line[mask].sum() - (cells - 1) >= SUPPRESS_BELOW
            nothing_left = not ((line > 0) & ~mask).any()
            assert covered or nothing_left


@given(st.lists(st.integers(1, 40), min_size=2, max_size=8))
def test_subtraction_leaves_more_than_one_answer(people: list[int]) -> None:
    """Solve it as an attacker would, who knows that every hidden group has somebody in it."""
    table = np.array([[n] for n in people], dtype=np.int64)
    hidden = hide(table)[:, 0]
    if not hidden.any():
        return
    rest = int(table.sum()) - int(table[~hidden].sum())
    assert hidden.sum() >= 2
    largest = rest - (hidden.sum() - 1)
    assert largest >= SUPPRESS_BELOW or hidden.all()
