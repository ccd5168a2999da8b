"""Whatever a shop offers, no order that breaks a rail comes out, and one that does is found."""

from __future__ import annotations

from itertools import accumulate, permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privemo.errors import RailBroken
from privemo.labels import EMOTIONS
from privemo.recommend import Appeal, Offer, Pressure, Sensitive, default_policy
from privemo.recommend.rails import check_order, lifted, may_pass
from tests.support.recommend import offer, offers

POLICY = default_policy()
MOST = POLICY.limits.most_displacement
ADAPTATIONS = st.sampled_from(POLICY.adaptation)


def worst(price: float | None) -> float:
    return 0.0 if price is None else price


@settings(max_examples=60, deadline=None)
@given(offers(), ADAPTATIONS, st.sampled_from(EMOTIONS))
def test_every_order_keeps_the_rails(items: list[Offer], adaptation: object, emotion: str) -> None:
    order = lifted(items, adaptation, emotion, POLICY)  # type: ignore[arg-type]
    assert sorted(order) == list(range(len(items)))
    check_order(items, order, emotion, POLICY)
    for place, was in enumerate(order):
        assert abs(place - was) <= MOST
        item = items[was]
        hidden = item.price is None or item.pressures is None or item.sensitive is None
        if hidden or item.pressures or item.sensitive:
            assert place >= was, "something that presses, is sensitive or undeclared moved up"


#: equally good, and every other one is comfortable: the price alone holds anything back
PRICED = st.lists(
    st.tuples(st.sampled_from([None, 1.0, 5.0, 9.0]), st.booleans()), min_size=2, max_size=8
).map(
    lambda rows: [
        offer(f"o{k}", 1.0, *([Appeal.COMFORT] if comfort else []), price=price)
        for k, (price, comfort) in enumerate(rows)
    ]
)


@settings(max_examples=60, deadline=None)
@given(PRICED, st.sampled_from(POLICY.rails.no_dearer_for))
def test_the_first_places_never_get_dearer(items: list[Offer], emotion: str) -> None:
    order = lifted(items, POLICY.find("comfort"), emotion, POLICY)
    before = accumulate(worst(item.price) for item in items)
    after = accumulate(worst(items[was].price) for was in order)
    assert all(new <= old + 1e-9 for new, old in zip(after, before, strict=True))


@settings(max_examples=60, deadline=None)
@given(offers(), ADAPTATIONS, st.sampled_from(EMOTIONS))
def test_only_what_has_the_appeal_passes_and_only_what_has_not_is_passed(
    items: list[Offer], adaptation: object, emotion: str
) -> None:
    order = lifted(items, adaptation, emotion, POLICY)  # type: ignore[arg-type]
    appeal = adaptation.lifts  # type: ignore[attr-defined]
    for place, was in enumerate(order):
        for later in order[place + 1 :]:
            if later < was:
                assert appeal in items[was].appeals
                assert appeal not in items[later].appeals


@settings(max_examples=40, deadline=None)
@given(offers(most=4), st.sampled_from(EMOTIONS))
def test_the_check_finds_exactly_the_orders_that_break_a_rail(
    items: list[Offer], emotion: str
) -> None:
    """All orders of a short list, against the rails written out pair by pair."""
    for order in permutations(range(len(items))):
        allowed = all(abs(place - was) <= MOST for place, was in enumerate(order)) and all(
            may_pass(items[was], items[later], emotion, POLICY)
            for place, was in enumerate(order)
            for later in order[place + 1 :]
            if later < was
        )
        if allowed:
            check_order(items, order, emotion, POLICY)
        else:
            with pytest.raises(RailBroken):
                check_order(items, order, emotion, POLICY)


CREDIT = {"pressures": frozenset({Pressure.CREDIT})}
LOAN = {"sensitive": frozenset({Sensitive.LOAN})}


@pytest.mark.parametrize(
    ("riser", "passed", "allowed"),
    [
        ({}, {}, True),
        ({"price": 4.0}, {}, True),
        ({"price": 6.0}, {}, False),
        ({"price": 1.0}, {"price": None}, False),
        ({"price": 0.0}, {"price": None}, True),
        ({"price": None}, {}, False),
        ({"pressures": None}, {}, False),
        ({"sensitive": None}, {}, False),
        ({}, {"pressures": None, "sensitive": None}, True),
        (CREDIT, {}, False),
        (LOAN, {}, False),
        (CREDIT, CREDIT, False),
        ({}, CREDIT | LOAN, True),
        *(({"pressures": frozenset({p})}, {}, False) for p in Pressure),
        *(({"sensitive": frozenset({s})}, {}, False) for s in Sensitive),
    ],
)
@pytest.mark.parametrize("emotion", EMOTIONS)
def test_which_offer_may_pass_which(
    riser: dict[str, object], passed: dict[str, object], allowed: bool, emotion: str
) -> None:
    assert may_pass(offer("a", **riser), offer("b", **passed), emotion, POLICY) is allowed  # type: ignore[arg-type]


def test_there_is_something_to_move_at_all() -> None:
    """Or the properties above would hold of a function that does nothing."""
    items = [offer("a"), offer("b"), offer("c", 0.99, Appeal.COMFORT), offer("d", 0.0)]
    assert lifted(items, POLICY.find("comfort"), "sad", POLICY) == (2, 0, 1, 3)


@pytest.mark.parametrize("order", [(0, 1), (0, 0, 1), (0, 1, 3), (-1, 0, 1)])
def test_an_order_that_loses_or_repeats_something_is_none(order: tuple[int, ...]) -> None:
    with pytest.raises(RailBroken, match="no order"):
        check_order([offer("a"), offer("b"), offer("c")], order, "happy", POLICY)
