"""Is a gap more than chance? Against dealing people out by hand, and at the error rate that is stated."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from privemo_audits.gaps import adjusted, gap_of
from privemo_audits.intervals import Sample
from privemo_audits.permutation import gap_p_value, holm


def sample(right: list[list[bool]]) -> Sample:
    """Of people, each with the pictures that were read rightly or not."""
    person = np.repeat(np.arange(len(right)), [len(pictures) for pictures in right])
    wrong = np.array([not r for pictures in right for r in pictures], dtype=np.int64)
    return Sample.of(np.zeros_like(wrong), wrong, person, 2)


def people(rng: np.random.Generator, n: int, accuracy: float, pictures: int = 1) -> Sample:
    return sample((rng.random((n, pictures)) < accuracy).tolist())


def test_it_is_the_share_of_all_deals_with_a_gap_as_large() -> None:
    """Seven people in groups of three and four: all 35 deals can be written down."""
    right = [True, True, True, True, False, False, False]
    seen = [sample([[r] for r in part]) for part in (right[:3], right[3:])]

    def gap(first: tuple[int, ...]) -> float:
        a = [right[i] for i in first]
        b = [right[i] for i in range(7) if i not in first]
        return abs(np.mean(a) - np.mean(b))

    every = [gap(first) for first in itertools.combinations(range(7), 3)]
    exact = np.mean([g >= gap((0, 1, 2)) - 1e-12 for g in every])
    assert gap_p_value(seen, deals=20_000) == pytest.approx(exact, abs=0.01)


def test_people_are_dealt_whole() -> None:
    """Twenty pictures of each of six people are six observations, and not a hundred and twenty."""
    right = [[True] * 20] * 3 + [[False] * 20] * 3
    as_people = gap_p_value([sample(right[:3]), sample(right[3:])])
    single = [[r] for pictures in right for r in pictures]
    as_pictures = gap_p_value([sample(single[:60]), sample(single[60:])])
    assert as_people == pytest.approx(0.1, abs=0.03)  # 2 of 20 deals
    assert as_pictures < 0.001


def test_where_everybody_is_read_alike_nothing_is_found() -> None:
    assert gap_p_value([sample([[True]] * 9), sample([[True]] * 4)]) == 1.0


def test_the_same_people_give_the_same_number() -> None:
    groups = [people(np.random.default_rng(i), 30, 0.7, 3) for i in range(3)]
    assert gap_p_value(groups) == gap_p_value(groups)


@pytest.mark.parametrize(("pictures", "audits"), [(1, 1000), (4, 300)])
def test_without_a_gap_one_is_claimed_at_the_stated_rate_at_most(
    pictures: int, audits: int
) -> None:
    """A model that works alike for all; each audit has three features."""
    rng = np.random.default_rng(5)
    claimed = 0
    for _ in range(audits):
        gaps = [
            gap_of(
                f, {g: people(rng, n, 0.75, pictures) for g, n in (("a", 60), ("b", 25), ("c", 40))}
            )
            for f in "xyz"
        ]
        claimed += any(gap.real for gap in adjusted(gaps))
    assert claimed / audits <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / audits)


def test_a_planted_gap_of_ten_points_is_found() -> None:
    rng = np.random.default_rng(5)
    found = 0
    for _ in range(100):
        planted = {"a": people(rng, 800, 0.75), "b": people(rng, 800, 0.65)}
        alike = [gap_of(f, {g: people(rng, 400, 0.7) for g in "abcd"}) for f in ("y", "z")]
        gaps = adjusted([gap_of("x", planted), *alike])
        found += gaps[0].real
        assert gaps[0].highest == "a" or not gaps[0].real
    assert found >= 95


def test_many_tests_cost_what_holm_says() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []
    assert holm([0.7, 0.6]) == [1.0, 1.0]


@given(st.lists(st.floats(0, 1), max_size=20))
def test_adjusting_keeps_the_order_and_never_helps(ps: list[float]) -> None:
    out = holm(ps)
    assert all(a >= p for a, p in zip(out, ps, strict=True))
    assert all(
        (ps[i] <= ps[j]) <= (out[i] <= out[j]) for i in range(len(ps)) for j in range(len(ps))
    )
    assert all(a <= min(1.0, len(ps) * p) for a, p in zip(out, ps, strict=True))
