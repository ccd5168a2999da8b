"""The part of a report that says what exclusion did to each group's share of the people trained on."""

from __future__ import annotations

from pydantic import Field

from .frozen import Frozen, Interval, Status


class AskedGroup(Frozen):
    """One group's share of the people asked for training, and of those admitted.

    `ratio` is the second over the first: below 1 exclusion made the group smaller. `reference` is its share
    among those whom the model is for, and `over_reference` its share of the admitted over that; null where
    the policy names none. Every interval holds for all groups of all columns together
    (Bonferroni). `suppressed` states nothing: the group, or whom the gate refused of it, could single someone
    out, or would give away one that could.
    """

    feature: str
    group: str
    status: Status
    asked: int | None = None
    admitted: int | None = None
    share_asked: float | None = None
    share_asked_ci: Interval | None = None
    share_admitted: float | None = None
    share_admitted_ci: Interval | None = None
    ratio: float | None = None
    ratio_ci: Interval | None = None
    reference: float | None = None
    over_reference: float | None = None
    refused: dict[str, int] = Field(
        default_factory=dict,
        description="By reason; those that would single someone out stand together as `other_reasons`.",
    )


class AskedByGroup(Frozen):
    """Counts that stores made at the door, added up; of stores that made none nobody knows.

    Of the people `apart` no look was counted, and of a minor the age band alone: they are in no other column.
    `judged` are the columns of which exclusion is judged: an age decides by itself who is refused.
    """

    stores: tuple[str, ...]
    stores_without: tuple[str, ...]
    asked: int
    admitted: int
    apart: dict[str, int] = Field(description="By feature, people whose look was not counted.")
    judged: tuple[str, ...]
    groups: tuple[AskedGroup, ...]
    left_out: tuple[str, ...] = Field(description="Columns of too many different values.")
    notes: tuple[str, ...]
