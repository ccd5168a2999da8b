"""The door of the vault: what may be brought in, and for whom.

BIPA 15(b): the release comes before the capture, so a face enters on a live consent alone, for a
purpose that it is captured for. Labels of demographic groups have their own purpose, FAIRNESS_AUDIT
(AI Act 10(5)). That a face was turned away may be noted for people who have a record; of a minor, or
of someone taken for one, nothing is kept but a count, and counting is up to the caller
(`Stored.reasons`).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .errors import MalformedError
from .items import ItemKind
from .policy import CHALLENGE_AGE
from .records import Context
from .rules import CODE, REASONS
from .terms import AgeBand, Purpose, Reason
from .times import from_us

if TYPE_CHECKING:
    from .reader import RegistryReader

__all__ = ["NewItem", "Stored", "age_columns", "check_item", "entry_reasons"]

_LONGEST_ID = 200
#: An adult's band is no evidence against anyone, just as no answer in this session is none.
_NOT_ASKED = AgeBand.FROM_18.value
_PURPOSES = {
    ItemKind.FACE: tuple(Purpose),
    ItemKind.DEMOGRAPHIC: (Purpose.FAIRNESS_AUDIT,),
    ItemKind.REFUSAL: (Purpose.TRAINING,),  # any one will do: the record counts, not the answer
}
#: What a record can say without its owner being a minor, or taken for one.
_OF_A_RECORD = frozenset(
    {
        Reason.PERMITTED,
        Reason.NOT_GIVEN,
        Reason.REFUSED,
        Reason.WITHDRAWN,
        Reason.EXPIRED,
        Reason.WRONG_PURPOSE,
        Reason.STAFF,
        Reason.NOTICE_CHANGED,
        Reason.SIMULATED_IN_PRODUCTION,
        Reason.NOT_ANNOUNCED,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewItem:
    """Something to keep of a person.

    Attributes:
        person: id of a person with a record.
        item_id: unique for this person and kind; 1 to 200 printable characters.
        body: what is kept; for a face its pixels.
        facts: JSON values that may be read before the gate opens the body. Two of them the gate
            asks about: ``estimated_age`` (years, or None) and ``attested_age_band`` (a text, or None).

    """

    person: str = field(repr=False)
    item_id: str = field(repr=False)
    body: bytes = field(repr=False)
    facts: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """What `Vault.put` did.

    Attributes:
        reasons: for each item offered, in order: ``permitted`` where it was kept, else why not.

    """

    reasons: tuple[Reason, ...] = field(repr=False)

    @property
    def stored(self) -> int:
        """How many items were kept."""
        return self.reasons.count(Reason.PERMITTED)

    @property
    def refused(self) -> dict[Reason, int]:
        """How many were not, by reason."""
        counts = Counter(self.reasons)
        return {r: counts[r] for r in Reason if r is not Reason.PERMITTED and counts[r]}


def check_item(item: NewItem) -> None:
    """Refuse what would make the vault unreadable later.

    Raises:
        MalformedError: an id that is none, a body that is no bytes, an age that is no number.

    """
    name, age = item.item_id, item.facts.get("estimated_age")
    band = item.facts.get("attested_age_band")
    if not isinstance(name, str) or not 0 < len(name) <= _LONGEST_ID or not name.isprintable():
        raise MalformedError(f"an item's id is 1 to {_LONGEST_ID} printable characters")
    if not isinstance(item.body, bytes):
        raise MalformedError(f"got a body of type {type(item.body).__name__}, want bytes")
    if age is not None and (type(age) not in (int, float) or not math.isfinite(age)):
        raise MalformedError("estimated_age is a finite number of years, or None for no estimate")
    if band is not None and type(band) is not str:
        raise MalformedError("attested_age_band is a text, or None where nobody asked")
    if any(type(key) is not str for key in item.facts):
        raise MalformedError("a fact is named by a text")


def age_columns(facts: Sequence[Mapping[str, Any]]) -> tuple[list[float], list[str] | None]:
    """Return the two columns of age that a gate asks about: estimates and attested bands.

    Where some sessions asked and others did not, the record's attestation speaks for the others:
    leaving the whole column out would forget what was said.
    """
    ages = [fact.get("estimated_age") for fact in facts]
    bands = [fact.get("attested_age_band") for fact in facts]
    asked = any(band is not None for band in bands)
    return (
        [math.nan if age is None else age for age in ages],
        [_NOT_ASKED if band is None else band for band in bands] if asked else None,
    )


def entry_reasons(
    registry: RegistryReader,
    items: Sequence[NewItem],
    context: Context,
    kind: ItemKind,
    purposes: Sequence[Purpose] | None,
    challenge_age: float = CHALLENGE_AGE,
) -> tuple[Reason, ...]:
    """Decide each item on the registry's state as it is in memory. The caller holds the lock.

    Args:
        registry: who agreed to what.
        items: n items.
        context: where they were captured.
        kind: of all of them.
        purposes: what they are captured for: one live consent among these lets an item in. None
            for every purpose that its kind allows.
        challenge_age: years.

    Raises:
        MalformedError: a purpose that the kind does not allow, or none at all.

    """
    wanted = _PURPOSES[kind] if purposes is None else tuple(Purpose(p) for p in purposes)
    if not wanted or not set(wanted) <= set(_PURPOSES[kind]):
        raise MalformedError(
            f"an item of kind {kind.value} is kept for one or more of: "
            + ", ".join(purpose.value for purpose in _PURPOSES[kind])
        )
    ages, bands = age_columns([item.facts for item in items])
    best: npt.NDArray[np.uint8] | None = None
    for purpose in wanted:
        codes = (
            registry._present(purpose)
            .decide_many(
                [item.person for item in items],
                context,
                at=from_us(registry._journal.now()),
                estimated_age=ages,
                attested_age_band=bands,
                challenge_age=challenge_age,
            )
            .codes
        )
        best = codes if best is None else np.where(best == CODE[Reason.PERMITTED], best, codes)
    assert best is not None  # noqa: S101 - there is a purpose
    reasons = tuple(REASONS[code] for code in best.tolist())
    if kind is ItemKind.REFUSAL:
        return tuple(Reason.PERMITTED if reason in _OF_A_RECORD else reason for reason in reasons)
    return reasons
