"""The guard rails: which item may pass which, and no order that breaks them ever leaves.

An order is changed by swaps of neighbours alone, and each swap asks `may_pass` first. So every pair that
stands the other way round than the shop had it was permitted as a pair, and three things follow for the
whole list:

- an item that presses, is sensitive or undeclared never stands higher than the shop had put it: it passes
  nobody;
- under the price rail no first k items, for any k, cost more together than the shop's first k: whoever came
  in passed everyone who went out, and none of them is dearer than any of those;
- nothing stands more than `most_displacement` places from where it was.

`check_order` derives all three anew from the two orders, without knowing how one came from the other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from privemo.errors import DataError, RailBroken

from .offers import MOST_ITEMS, Offer
from .policy import Adaptation, AdaptationPolicy

__all__ = ["check_items", "check_order", "lifted", "may_pass"]

Passing = Callable[[Offer, Offer, str, AdaptationPolicy], bool]


def may_pass(riser: Offer, passed: Offer, emotion: str, policy: AdaptationPolicy) -> bool:
    """Whether `riser` may stand before `passed`, which the shop had put before it.

    Pressing, sensitive and undeclared items pass nobody, under any expression (EU AI Act 5(1)(b)): a sad
    reading moves up no urgency, no scarcity, no credit. Under the price rail nothing dearer passes anything
    cheaper, and what has no declared price may have cost nothing.
    """
    if not riser.may_rise:
        return False
    if emotion not in policy.rails.no_dearer_for:
        return True
    assert riser.price is not None  # noqa: S101 - may_rise says so
    return riser.price <= (passed.price or 0.0)


def lifted(
    items: Sequence[Offer],
    adaptation: Adaptation,
    emotion: str,
    policy: AdaptationPolicy,
    *,
    passing: Passing = may_pass,
) -> tuple[int, ...]:
    """Move up what has the appeal, past neighbours that have not and are not much better.

    Args:
        items: n of them in the shop's order.
        adaptation: what to move up, and how much better a neighbour may be.
        emotion: what was read.
        policy: limits and rails.
        passing: the rule for a pair. The simulated store measures what the rails cost with another one; a
            `Recommender` uses `may_pass` and checks the result besides.

    Returns:
        Positions in `items`, n of them, in the new order.
    """
    order = list(range(len(items)))
    scores = [item.score for item in items]
    reach = adaptation.strength * (max(scores) - min(scores)) if scores else 0.0
    has = [adaptation.lifts in item.appeals for item in items]
    most = policy.limits.most_displacement
    moved = True
    while moved:  # ends: a pair that was swapped has the appeal in front and is never swapped back
        moved = False
        for place in range(1, len(order)):
            above, below = order[place - 1], order[place]
            near = has[below] and not has[above] and scores[above] - scores[below] <= reach
            # `below` goes to place - 1 and `above` to place; an item's number is where the shop had it.
            close = below - (place - 1) <= most and place - above <= most
            if near and close and passing(items[below], items[above], emotion, policy):
                order[place - 1], order[place] = below, above
                moved = True
    return tuple(order)


def check_order(
    items: Sequence[Offer], order: Sequence[int], emotion: str, policy: AdaptationPolicy
) -> None:
    """Hold a finished order against the rails.

    Raises:
        RailBroken: it is no order of these items, moves something too far, or lets something pass that may
            not.
    """
    if sorted(order) != list(range(len(items))):
        raise RailBroken("this is no order of the shop's items: one is missing or stands twice")
    most = policy.limits.most_displacement
    for place, was in enumerate(order):
        if abs(place - was) > most:
            raise RailBroken(f"{items[was].id} moves {abs(place - was)} places; {most} are allowed")
        for later in order[place + 1 : place + 1 + 2 * most]:
            # Nothing moves further than `most`: no pair that is further apart than twice that has changed
            # sides.
            if later < was and not may_pass(items[was], items[later], emotion, policy):
                raise RailBroken(f"{items[was].id} may not pass {items[later].id}")


def check_items(items: Sequence[Offer]) -> None:
    """Whether a list can be re-ranked at all.

    Raises:
        DataError: something in it is no `Offer`, an id stands twice, or it is too long.
    """
    if len(items) > MOST_ITEMS:
        raise DataError(f"got {len(items)} items, want {MOST_ITEMS} at most: recommend fewer")
    for item in items:
        if not isinstance(item, Offer):
            raise DataError(f"got {type(item).__name__} in the list, want items")
    if len({item.id for item in items}) != len(items):
        raise DataError("an item id stands twice in the list")
