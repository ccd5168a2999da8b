"""Estimates of policies that were never shown: exact from sums, unbiased, and intervals that cover."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privemo.errors import DataError
from privemo.recommend import Estimate, default_policy
from privemo.recommend.offpolicy import doubly_robust, evaluate, ips, snips
from privemo.recommend.sums import Sums

ARMS = ("shop", "comfort", "value")
KINDS = ("sad", "happy")
#: the true mean reward of each cell, the odds with which it was shown, and those of the policy to judge
TRUTH = {"sad": (0.3, 0.6, 0.2), "happy": (0.5, 0.2, 0.4)}
SHOWN = {"sad": (0.7, 0.2, 0.1), "happy": (0.8, 0.1, 0.1)}
JUDGED = {"sad": (0.1, 0.8, 0.1), "happy": (0.6, 0.1, 0.3)}
SHARE = {"sad": 0.4, "happy": 0.6}
VALUE = math.fsum(SHARE[k] * p * r for k in KINDS for p, r in zip(JUDGED[k], TRUTH[k], strict=True))


def shows(kind: str) -> dict[str, float]:
    return dict(zip(ARMS, JUDGED[kind], strict=True))


def wrong(cell: str) -> float:
    """A prediction that is far off."""
    return 0.9 if cell.endswith("shop") else 0.1


Row = tuple[str, str, float, float]


def draw(rng: np.random.Generator, n: int) -> list[Row]:
    """n reactions: situation, arm, the odds with which it was shown, and whether it was taken."""
    rows = []
    for happy, point, luck in rng.random((n, 3)):
        kind = KINDS[int(happy < SHARE["happy"])]
        arm = min(int(np.searchsorted(np.cumsum(SHOWN[kind]), point, side="right")), 2)
        rows.append((kind, ARMS[arm], SHOWN[kind][arm], float(luck < TRUTH[kind][arm])))
    return rows


def summed(rows: list[Row]) -> dict[str, np.ndarray]:
    sums = Sums("policy")
    for number, (kind, arm, p, r) in enumerate(rows):
        sums.add(f"{kind}/{arm}", p, r, number % 2)
    return sums.whole()


METHODS: dict[str, Callable[[dict[str, np.ndarray]], Estimate]] = {
    "ips": lambda cells: ips(cells, shows),
    "snips": lambda cells: snips(cells, shows),
    "dr": lambda cells: doubly_robust(cells, shows, wrong),
}


@pytest.mark.parametrize("method", METHODS)
def test_estimates_are_unbiased_and_their_intervals_cover(method: str) -> None:
    """400 logs of 300 reactions: the mean within 4 standard errors of the truth, 95% of intervals over it."""
    rng = np.random.default_rng(11)
    found = [METHODS[method](summed(draw(rng, 300))) for _ in range(400)]
    values = np.array([each.value for each in found])
    off = abs(values.mean() - VALUE)
    assert off < 4 * values.std() / math.sqrt(len(found)) + (0.003 if method == "snips" else 0)
    covered = sum(each.low <= VALUE <= each.high for each in found) / len(found)
    assert 0.92 <= covered <= 0.98, covered


def test_a_good_prediction_narrows_the_doubly_robust_interval_and_a_bad_one_does_not_bias_it() -> (
    None
):
    cells = summed(draw(np.random.default_rng(5), 4000))

    def right(cell: str) -> float:
        kind, arm = cell.split("/")
        return TRUTH[kind][ARMS.index(arm)]

    good, bad = (doubly_robust(cells, shows, q) for q in (right, wrong))
    plain = ips(cells, shows)
    assert good.high - good.low < plain.high - plain.low
    assert good.low <= VALUE <= good.high
    assert bad.low <= VALUE <= bad.high


rows_ = st.lists(
    st.tuples(
        st.sampled_from(KINDS),
        st.sampled_from(ARMS),
        st.floats(0.05, 1),
        st.floats(0, 1),
    ),
    min_size=2,
    max_size=30,
)


@settings(max_examples=60, deadline=None)
@given(rows_)
def test_sums_say_exactly_what_the_single_reactions_say(rows: list[Row]) -> None:
    n = len(rows)
    pi = np.array([shows(kind)[arm] for kind, arm, _, _ in rows])
    p, r = np.array([row[2] for row in rows]), np.array([row[3] for row in rows])
    q = np.array([wrong(f"{kind}/{arm}") for kind, arm, _, _ in rows])
    direct = np.array(
        [sum(s * wrong(f"{k}/{a}") for a, s in shows(k).items()) for k, _, _, _ in rows]
    )
    w = pi / p
    cells = summed(rows)
    for told, each in (
        (ips(cells, shows), w * r),
        (doubly_robust(cells, shows, wrong), direct + w * (r - q)),
    ):
        half = 1.959964 * each.std(ddof=1) / math.sqrt(n)
        assert told.value == pytest.approx(each.mean(), abs=1e-9)
        assert told.high - told.value == pytest.approx(half, abs=1e-5)
    value = (w * r).sum() / w.sum()
    half = 1.959964 * math.sqrt(((w * (r - value)) ** 2).mean()) / w.mean() / math.sqrt(n)
    told = snips(cells, shows)
    assert told.value == pytest.approx(value, abs=1e-9)
    assert told.high - told.value == pytest.approx(half, abs=1e-5)


def test_nothing_is_no_estimate_and_one_reaction_has_no_interval() -> None:
    with pytest.raises(DataError, match="no reactions"):
        ips({}, shows)
    one = ips(summed([("sad", "shop", 0.5, 1.0)]), shows)
    assert (one.low, one.high) == (-math.inf, math.inf)
    with pytest.raises(DataError, match="was ever shown"):
        snips(summed([("sad", "shop", 0.5, 1.0)]), lambda _: {"comfort": 1.0})


def reactions(gain: float, n: int = 3000) -> Sums:
    """What a shop saw that shows comfort to the sad half of the time; it gains so much, or loses it."""
    sums, rng = Sums("policy"), np.random.default_rng(2)
    for number in range(n):
        arm, takes = ("shop", 0.4) if number % 2 else ("comfort", 0.4 + gain)
        sums.add(f"sad/any/any/{arm}", 0.5, float(rng.random() < takes), int(rng.integers(2)))
    return sums


def test_what_is_learned_is_judged_on_what_it_was_not_learned_from() -> None:
    better = evaluate(default_policy(), reactions(0.2))
    assert better.verdict == "better"
    # nine times in ten comfort, and each other arm as often as exploration says
    assert better.gain.value == pytest.approx(0.2 * 0.84, abs=0.05)
    assert better.shop.low <= 0.4 <= better.shop.high
    same = evaluate(default_policy(), reactions(0.0))
    assert same.verdict == "unclear"
    assert same.content()["verdict"] == "unclear"


def test_where_there_is_too_little_to_judge_it_is_said() -> None:
    with pytest.raises(DataError, match="no reactions"):
        evaluate(default_policy(), Sums("policy"))
