"""From a reading to an order: what happens after consent, and before anyone sees it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random

from privemo.errors import DataError

from .bandit import Bandit
from .estimate import EmotionEstimate
from .offers import Offer
from .policy import CIRCUMSTANCES, SHOP_ORDER, AdaptationPolicy
from .rails import Passing, check_order, lifted, may_pass
from .ranking import Choice, Why

__all__ = ["choose", "situation"]


def situation(policy: AdaptationPolicy, emotion: str, circumstances: Mapping[str, str]) -> str:
    """The name of a situation: the expression, and the circumstances that the policy looks at.

    A circumstance that was not told is "any".

    Raises:
        DataError: a circumstance that there is none, or a value that it does not have.
    """
    for name, value in circumstances.items():
        if value not in CIRCUMSTANCES.get(name, ()):
            known = "; ".join(f"{k}: {', '.join(v)}" for k, v in CIRCUMSTANCES.items())
            raise DataError(f"got {name}={value!r}; circumstances are {known}")
    return "/".join([emotion, *(circumstances.get(name, "any") for name in policy.context.uses)])


def choose(
    items: Sequence[Offer],
    estimate: EmotionEstimate,
    circumstances: Mapping[str, str],
    *,
    policy: AdaptationPolicy,
    bandit: Bandit,
    rng: Random,
    passing: Passing = may_pass,
) -> Choice:
    """Choose an arm by its probability, and an order by the arm.

    Args:
        items: n of them, in the shop's order.
        estimate: a reading with probabilities.
        circumstances: of the shop; see `privemo.recommend.policy.CIRCUMSTANCES`.
        policy: what may be done.
        bandit: what was learned.
        rng: draws the arm.
        passing: see `privemo.recommend.rails.lifted`. With any other than `may_pass` the order is not
            checked.

    Raises:
        DataError: circumstances that there are none.
        RailBroken: the order would break a rail: a mistake of ours, and the shop's order stands.
    """
    shop = tuple(range(len(items)))
    emotion = estimate.emotion(policy.limits.least_confidence)
    if emotion is None:
        return Choice(Why.UNSURE, shop)
    kind = situation(policy, emotion, circumstances)
    probabilities = bandit.probabilities(kind)
    arm = _drawn(probabilities, rng)
    if arm == SHOP_ORDER:
        return Choice(Why.SHOP_CHOSEN, shop, emotion, kind, arm, probabilities)
    order = lifted(items, policy.find(arm), emotion, policy, passing=passing)
    if passing is may_pass:
        check_order(items, order, emotion, policy)
    why = Why.NOTHING_MOVED if order == shop else Why.ADAPTED
    return Choice(why, order, emotion, kind, arm, probabilities)


def _drawn(probabilities: Mapping[str, float], rng: Random) -> str:
    point = rng.random()
    for arm, p in probabilities.items():
        point -= p
        if point < 0:
            return arm
    return next(iter(probabilities))  # rounding: together they were a little less than 1
