"""No hidden cell can be had back from what is published."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from privemo_audits.askedhide import hidden_groups, told_reasons
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


REASONS = ("", "refused", "expired", "staff")
PEOPLE = st.lists(
    st.tuples(st.integers(0, 30), *[st.integers(0, 9)] * 3).map(
        lambda counts: +Counter(dict(zip(REASONS, counts, strict=True)))
    ),
    min_size=1,
    max_size=7,
)


@given(PEOPLE)
def test_no_subtraction_tells_what_became_of_a_few(people: list[Counter[str]]) -> None:
    """Whoever has every total, and all that is shown: what is left is about nobody, or about five or more."""
    table = np.array([[p[""], p.total() - p[""]] for p in people], dtype=np.int64)
    hidden = hidden_groups(table)
    assert hidden[((table > 0) & (table < SUPPRESS_BELOW)).any(axis=1)].all()
    if hidden[table.sum(axis=1) > 0].all():
        return  # nothing is shown beside the totals
    told = told_reasons(people, hidden)
    away = [p for p, hide_it in zip(people, hidden, strict=True) if hide_it and p]
    rest = sum(away, Counter[str]())
    assert not away or len(away) >= 2
    for row in (rest, *(p for p, hide_it in zip(people, hidden, strict=True) if not hide_it)):
        others = sum(n for r, n in row.items() if r and r not in told)
        for left in (row[""], row.total() - row[""], others, *(row[r] for r in told)):
            assert left == 0 or left >= SUPPRESS_BELOW
