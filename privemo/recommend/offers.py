"""What a shop offers, and what it has to say about it before anything may be moved up."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from privemo.errors import DataError

__all__ = ["MOST_ITEMS", "Appeal", "Offer", "Pressure", "Sensitive"]

MOST_ITEMS = 1000
"""A longer list is no recommendation; it is handed back as it came."""


class Appeal(StrEnum):
    """What an adaptation may move up. The list is closed: nothing that presses or exploits stands in it."""

    COMFORT = "comfort"
    DISCOVERY = "discovery"
    FAVOURITE = "favourite"
    PRACTICAL = "practical"
    VALUE = "value"


class Pressure(StrEnum):
    """How an offer presses. Whatever has one is never moved up, whatever a shopper looks like."""

    URGENCY = "urgency"
    SCARCITY = "scarcity"
    CREDIT = "credit"
    PRICE_RISE = "price_rise"
    SUBSCRIPTION = "subscription"
    UPSELL = "upsell"


class Sensitive(StrEnum):
    """Goods that play on a weakness (EU AI Act 5(1)(b)). Never moved up."""

    ALCOHOL = "alcohol"
    TOBACCO = "tobacco"
    GAMBLING = "gambling"
    LOAN = "loan"
    WEIGHT_LOSS = "weight_loss"
    COSMETIC_PROCEDURE = "cosmetic_procedure"
    MEDICINE = "medicine"
    ADULT = "adult"
    WEAPON = "weapon"
    FOR_CHILDREN = "for_children"


Word = TypeVar("Word", bound=StrEnum)


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """One thing that the shop's own recommender proposes.

    Args:
        id: of the shop's choosing; not empty, and once in a list.
        score: of the shop's recommender; finite, larger is better. It says how near two items are; it does
            not sort them: the shop's order is the order in which it hands them over.
        appeals: why somebody may like it.
        price: what it costs, in one currency for the whole list; 0 or more. None: undeclared.
        pressures: how the offer presses; an empty set says that it does not. None: undeclared.
        sensitive: which sensitive goods it is; an empty set says none. None: undeclared.

    What is undeclared counts as the worst that it could be: such an item is never moved up.

    Raises:
        DataError: a value is none of these.
    """

    id: str
    score: float
    appeals: frozenset[Appeal] = frozenset()
    price: float | None = None
    pressures: frozenset[Pressure] | None = None
    sensitive: frozenset[Sensitive] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.id, str) or not self.id:
            raise DataError(f"got item id {self.id!r}, want a text that is not empty")
        _number(self.id, "score", self.score)
        if self.price is not None:
            _number(self.id, "price", self.price)
            if self.price < 0:
                raise DataError(f"item {self.id}: got price {self.price}, want 0 or more")
        object.__setattr__(self, "appeals", _words(self.id, "appeals", self.appeals, Appeal))
        for name, kind in (("pressures", Pressure), ("sensitive", Sensitive)):
            given = getattr(self, name)
            if given is not None:
                object.__setattr__(self, name, _words(self.id, name, given, kind))

    @property
    def may_rise(self) -> bool:
        """Whether it could ever be moved up: all is declared, and nothing presses or is sensitive.

        `None` is not empty: a set that was not declared never passes.
        """
        return (
            self.price is not None
            and self.pressures is not None
            and self.sensitive is not None
            and not self.pressures
            and not self.sensitive
        )


def _number(item: str, name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise DataError(f"item {item}: got {name} {value!r}, want a finite number")


def _words(item: str, name: str, given: Iterable[str], kind: type[Word]) -> frozenset[Word]:
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise DataError(f"item {item}: got {name} {given!r}, want a set of words")
    try:
        return frozenset(kind(word) for word in given)
    except ValueError:
        raise DataError(
            f"item {item}: {name} knows {', '.join(kind)}, and got {sorted(map(str, given))}"
        ) from None
