"""How each purpose stands for one person, as of now."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import UnknownPersonError
from ..records import ConsentEvent, Context, Notice
from ..registry import ConsentRegistry
from ..terms import AgeBand, Purpose, Reason, Setting

__all__ = ["Standing", "standing_of", "verdict"]

_LIVE = (Reason.PERMITTED, Reason.NOT_ANNOUNCED)
#: A yes that counts no more, though nobody took it back: its term is over, or the text is another.
_LAPSED = (Reason.EXPIRED, Reason.NOTICE_CHANGED)


@dataclass(frozen=True, slots=True)
class Standing:
    """How one purpose stands for one person.

    Attributes:
        purpose: which.
        reason: why the face may be used for it now, or may not.
        event: the last one recorded; None for a purpose that was never asked for.
        offered: whether the notice in force asks for it, so that a yes can be given.

    """

    purpose: Purpose
    reason: Reason
    event: ConsentEvent | None
    offered: bool

    @property
    def live(self) -> bool:
        """Whether the face may be used for it now."""
        return self.reason in _LIVE

    @property
    def lapsed(self) -> bool:
        """Whether a yes ran out, or was given to another text."""
        return self.reason in _LAPSED


def verdict(registry: ConsentRegistry, person: str, purpose: Purpose, place: str) -> Reason:
    """Return what the rules say of a face of this person in a shop at this place."""
    context = Context(setting=Setting.RETAIL, jurisdiction=place)
    return registry.preview(person, purpose, context, attested_age_band=AgeBand.FROM_25).reason


def standing_of(
    registry: ConsentRegistry, person: str, notice: Notice | None, place: str
) -> list[Standing]:
    """Return how each purpose stands that the person was asked for, or that the notice asks for.

    Raises:
        UnknownPersonError: erased meanwhile.

    """
    history = registry.history(person)
    if not history:
        raise UnknownPersonError("erased meanwhile")
    last = {event.purpose: event for event in history}
    offered = () if notice is None else notice.purposes
    return [
        Standing(
            purpose,
            verdict(registry, person, purpose, place),
            last.get(purpose),
            purpose in offered,
        )
        for purpose in Purpose
        if purpose in last or purpose in offered
    ]
