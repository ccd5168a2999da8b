"""What was released: put together, and what the person worst off can have lost."""

from __future__ import annotations

import math

import pytest

from privemo.errors import SettingsError
from privemo.releases import Mechanism, Stated, merged, worst_of

A, B = Mechanism(1.0, 0.1, 10), Mechanism(2.0, 0.3, 5)


def test_steps_alike_are_put_together_and_order_does_not_matter() -> None:
    gaussian, stated = merged([A, Stated(0.5), B, A, Stated(0.25, 1e-6)])
    assert gaussian == (Mechanism(1.0, 0.1, 20), B)
    assert stated == Stated(0.75, 1e-6)
    assert merged([B, A, Stated(0.25, 1e-6), A, Stated(0.5)]) == (gaussian, stated)


def test_nothing_released_is_nothing() -> None:
    assert merged([]) == merged([Mechanism(1.0, 0.1, 0)]) == ((), Stated(0.0))


def test_deltas_that_add_up_to_one_or_more_stay_below_one() -> None:
    assert merged([Stated(0.0, 0.9), Stated(0.0, 0.9)])[1].delta == math.nextafter(1, 0)


def test_the_worst_off_person_lost_no_more_than_the_most_of_any_store() -> None:
    ledgers = [[A, B], [A, A], [B]]
    assert worst_of(ledgers) == [Mechanism(1.0, 0.1, 20), B]
    assert worst_of(ledgers, compositions=2) == [Mechanism(1.0, 0.1, 40), Mechanism(2.0, 0.3, 10)]
    assert worst_of([]) == []


@pytest.mark.parametrize(
    ("epsilon", "delta", "says"),
    [
        (-1.0, 0.0, "epsilon"),
        (float("nan"), 0.0, "epsilon"),
        (float("inf"), 0.0, "epsilon"),
        (1.0, 1.0, "delta"),
        (1.0, -1e-9, "delta"),
        (1.0, float("nan"), "delta"),
    ],
)
def test_a_release_that_states_nonsense_is_refused(epsilon: float, delta: float, says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        Stated(epsilon, delta)
