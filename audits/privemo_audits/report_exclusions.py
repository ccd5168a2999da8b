"""The part of a report that says who was left out, and why: by store, purpose and reason."""

from __future__ import annotations

from pydantic import Field

from .frozen import Frozen, Interval
from .report_asked import AskedByGroup


class Counted(Frozen):
    """A count of people and of their faces."""

    persons: int = 0
    faces: int = 0


class Minors(Frozen):
    """Who was refused as a child, in the unit of the block this stands in (people or faces).

    `total` is attested + suspected; people of unknown age, treated as children too (UK AADC 3),
    are counted apart in `unknown_age`.
    """

    attested: int
    suspected: int
    unknown_age: int
    total: int


class Tally(Frozen):
    """Asked, admitted and refused by reason, in one unit (people or faces)."""

    asked: int
    admitted: int
    refused: int
    by_reason: dict[str, int]
    minors: Minors


class PurposeExclusions(Frozen):
    """The first admission of one purpose, over one store or all."""

    persons: Tally
    faces: Tally


class StoreExclusions(Frozen):
    """One store's exclusions by purpose, and who withdrew after the first admission."""

    store: str
    purposes: dict[str, PurposeExclusions]
    withdrew_later: Counted


class StoreShare(Frozen):
    """A store's share of the people asked for training, beside its share of those admitted.

    `ratio` is the second over the first: below 1 the store's people count for less than they were. `kept` is
    the share of the store's own people who were admitted; its interval holds for all stores together.
    """

    store: str
    asked: int
    admitted: int
    share_asked: float
    share_admitted: float
    ratio: float
    kept: float
    kept_ci: Interval


class Exclusions(Frozen):
    """Who was left out and why (AI Act 9(9); UK AADC 2).

    The counts at the top are people, over all purposes and stores; `faces` has the same in faces.
    """

    asked: int
    admitted: int
    refused: int
    by_reason: dict[str, int]
    minors: Minors
    faces: Tally
    purposes: dict[str, PurposeExclusions]
    stores: tuple[StoreExclusions, ...]
    shares: tuple[StoreShare, ...] = Field(
        default=(),
        description="What exclusion did to each store's share of the training data.",
    )
    by_group: AskedByGroup | None = Field(
        default=None,
        exclude_if=lambda block: block is None,
        description="What it did to each group's; only there where stores counted at the door.",
    )
    withdrew_later: Counted
    turned_away: dict[str, int] = Field(
        description="People refused a consent record for their age, by rule, as registries count "
        "them."
    )
    notes: tuple[str, ...]
