"""What a recommender answers: an order, why, and a sentence for the shopper."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from .offers import Offer

__all__ = ["Choice", "Learned", "Ranking", "Why"]


class Why(StrEnum):
    """Why the order is as it is. All but ADAPTED are the shop's own order, exactly."""

    ADAPTED = "adapted"
    #: read, and the shop's order was chosen
    SHOP_CHOSEN = "shop_chosen"
    #: read, and an adaptation was chosen that had nothing to move, or nothing that the rails let pass
    NOTHING_MOVED = "nothing_moved"
    #: nobody opened a session at the kiosk
    NO_SESSION = "no_session"
    #: the consent decision refuses; `Ranking.detail` has its reason
    NOT_PERMITTED = "not_permitted"
    #: nothing was read
    NOT_READ = "not_read"
    #: the recognizer would not say
    ABSTAINED = "abstained"
    #: the recognizer refused to read; `Ranking.detail` has its reason
    READING_REFUSED = "reading_refused"
    #: read, and less sure than the policy asks
    UNSURE = "unsure"
    #: something failed; `Ranking.detail` names the kind of error
    FAILED = "failed"
    #: the decision could not be logged, and what is not logged does not happen (AI Act 12)
    NOT_LOGGED = "not_logged"


@dataclass(frozen=True, slots=True)
class Choice:
    """What was chosen for a reading, before anyone sees it.

    Attributes:
        why: ADAPTED, SHOP_CHOSEN, NOTHING_MOVED or UNSURE.
        order: positions in the shop's list, in the new order.
        emotion: what was read; None when unsure.
        kind: the situation, a name in the policy's vocabulary; None when unsure.
        arm: what was chosen; None when unsure.
        probabilities: of every arm of the situation.
    """

    why: Why
    order: tuple[int, ...]
    emotion: str | None = None
    kind: str | None = None
    arm: str | None = None
    probabilities: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """An order of the shop's items.

    Attributes:
        items: the very objects that the shop handed over, all of them; no price is touched.
        why: see `Why`.
        detail: the reason of a consent decision, of a refusal to read, or the kind of an error; else None.
        arm: "shop", or the appeal that was moved up; None where nothing was chosen.
        emotion: the expression that was read; None where none was looked at.
        probability: with which the arm was chosen; None where nothing was.
        places: the most that anything rose.
        policy: SHA-256 of the policy.
        model: SHA-256 of what was learned; None where nothing learned was looked at.
    """

    items: tuple[Offer, ...]
    why: Why
    policy: str
    detail: str | None = None
    arm: str | None = None
    emotion: str | None = None
    probability: float | None = None
    places: int = 0
    model: str | None = None
    # Whom to ask about before learning, and where it goes. Neither printed nor exported.
    _person: str | None = field(default=None, repr=False)
    _kind: str | None = field(default=None, repr=False)
    _once: list[bool] = field(default_factory=list, repr=False, compare=False)

    @property
    def adapted(self) -> bool:
        """Whether anything stands elsewhere than the shop had put it."""
        return self.why is Why.ADAPTED

    def sentence(self, language: str = "en") -> str:
        """What to tell the shopper, in one sentence.

        Args:
            language: one of `LANGUAGES`; a regional one ("de-AT") is told in its language.

        Raises:
            SettingsError: it is told in no such language.
        """
        from .words import sentence

        return sentence(self, language)

    def content(self) -> dict[str, Any]:
        """As JSON for the shop's own screen: the order by id, and why. No person."""
        return {
            "schema": "privemo.ranking/1",
            "items": [item.id for item in self.items],
            "why": self.why.value,
            "detail": self.detail,
            "arm": self.arm,
            "emotion": self.emotion,
            "probability": self.probability,
            "places": self.places,
            "policy": self.policy,
            "model": self.model,
        }


@dataclass(frozen=True, slots=True)
class Learned:
    """What became of a reaction.

    Attributes:
        kept: whether it was added to the sums.
        reason: "kept"; "nothing_chosen" (the shop's order without a choice teaches nothing),
            "other_policy", "twice", the reason of the consent decision, or "failed".
    """

    kept: bool
    reason: str
