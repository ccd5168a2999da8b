"""Shoppers who do not exist: what they like, how they feel, how they are read, and what they then take.

What shoppers look at falls with the place in the list; whether they take it depends on how good it is for
them, on their mood, and on the time of the day. The shop's recommender knows how good things are, with some
error, and nothing of moods. A recognizer misreads moods as often as a confusion table says. The taste for a
mood is an assumption (`effect`), not a finding.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from privemo.errors import SettingsError
from privemo.labels import EMOTIONS

from .offers import Appeal, Offer, Pressure, Sensitive
from .policy import CIRCUMSTANCES, AdaptationPolicy, default_policy

__all__ = ["GROUPS", "LIST", "Store", "Visit", "uniform_confusion", "visits"]

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

CATALOGUE, LIST = 80, 12
SCREEN = 4  # places that a shopper sees; the rest of the list is below
ATTENTION = 0.75  # of what stands one place higher
GROUPS: tuple[tuple[str, str], ...] = tuple(
    (age, gender) for age in ("25_34", "45_54", "65_plus") for gender in ("woman", "man")
)
"""Age band and gender of shoppers: known to the simulation alone, and to nothing that ranks."""

MOODS = {"happy": 0.3, "sad": 0.15, "neutral": 0.4, "surprise": 0.15}
#: What a mood adds to the taste for an appeal, in units of `effect`; and what an evening does to everybody.
TASTE: dict[str, dict[Appeal, float]] = {
    "happy": {Appeal.DISCOVERY: 1.0},
    "sad": {Appeal.COMFORT: 1.0, Appeal.DISCOVERY: -0.5},
    "neutral": {Appeal.PRACTICAL: 0.5},
    "surprise": {Appeal.FAVOURITE: 0.5, Appeal.DISCOVERY: 0.5},
}
EVENING: dict[Appeal, float] = {Appeal.COMFORT: 0.5, Appeal.VALUE: 0.25}


def uniform_confusion(accuracy: float) -> Floats:
    """A table of how moods are read, (4, 4), rows the true ones: right with `accuracy`, else any other alike.

    Raises:
        SettingsError: the accuracy is not from 0.25 (chance) to 1.
    """
    if not 1 / len(EMOTIONS) <= accuracy <= 1:
        raise SettingsError(f"got accuracy {accuracy}, want {1 / len(EMOTIONS)} (chance) to 1")
    wrong = (1 - accuracy) / (len(EMOTIONS) - 1)
    return np.full((len(EMOTIONS),) * 2, wrong) + np.eye(len(EMOTIONS)) * (accuracy - wrong)


@dataclass(frozen=True)
class Store:
    """Settings of a store that does not exist.

    Attributes:
        shoppers: visits of each repetition.
        effect: how much a mood changes tastes, in logits; 0 for not at all.
        confusion: (4, 4), how often each mood (row) is read as each; rows add up to 1.
        by_group: another table for some age bands or genders.
        contrary: age bands or genders whose moods pull their tastes the other way.
        abstains: share of readings that the recognizer would not make.
        consenting: share of shoppers who agreed.
        policy: what may be done.
    """

    shoppers: int = 3000
    effect: float = 1.0
    confusion: Floats = field(default_factory=lambda: uniform_confusion(0.75))
    by_group: Mapping[str, Floats] = field(default_factory=dict)
    contrary: frozenset[str] = frozenset()
    abstains: float = 0.1
    consenting: float = 0.6
    policy: AdaptationPolicy = field(default_factory=default_policy)

    def __post_init__(self) -> None:
        if not 100 <= self.shoppers <= 1_000_000:
            raise SettingsError(f"got {self.shoppers} shoppers, want 100 to 1,000,000")
        if not 0 <= self.effect <= 5:
            raise SettingsError(f"got effect {self.effect}, want 0 to 5")
        for name, share in (("abstains", self.abstains), ("consenting", self.consenting)):
            if not 0 <= share <= 1:
                raise SettingsError(f"got {name} {share}, want a share from 0 to 1")
        known = {part for group in GROUPS for part in group}
        if unknown := (set(self.by_group) | self.contrary) - known:
            raise SettingsError(f"got group {min(unknown)}; there are {', '.join(sorted(known))}")
        for table in (self.confusion, *self.by_group.values()):
            sums = np.asarray(table, dtype=np.float64)
            if sums.shape != (len(EMOTIONS),) * 2 or not np.isfinite(sums).all():
                raise SettingsError(f"got a confusion table of shape {sums.shape}, want (4, 4)")
            if (sums < 0).any() or not np.allclose(sums.sum(axis=1), 1, atol=1e-6):
                raise SettingsError("a row of the confusion table is not made of shares of 1")


@dataclass(frozen=True, slots=True)
class Visit:
    """One shopper, one list.

    Attributes:
        offers: the list, in the shop's order.
        takes: (n,), how probable it is that each is taken once it is looked at.
        mood: the true one.
        read: as it was read; None where the recognizer abstained.
        daypart: of the visit.
        consents: whether they agreed.
        group: age band and gender.
        luck: one uniform number, the same for every way of ordering: whether they take something.
    """

    offers: tuple[Offer, ...]
    takes: tuple[float, ...]
    mood: str
    read: str | None
    daypart: str
    consents: bool
    group: tuple[str, str]
    luck: float

    def reward(self, order: Sequence[int]) -> float:
        """The probability that something on the screen is taken, of the list so ordered."""
        none = 1.0
        for place, was in enumerate(order[:SCREEN]):
            none *= 1 - self.takes[was] * ATTENTION**place
        return 1 - none


def visits(store: Store, seed: int) -> Iterator[Visit]:
    """The shoppers of one repetition: equal seeds, equal shoppers."""
    rng = np.random.default_rng(seed)
    catalogue = [_offer(rng, number) for number in range(CATALOGUE)]
    good = rng.normal(0, 1, CATALOGUE)
    moods, shares = list(MOODS), list(MOODS.values())
    for _ in range(store.shoppers):
        mood = str(rng.choice(moods, p=shares))
        daypart = str(rng.choice(CIRCUMSTANCES["daypart"]))
        group = GROUPS[int(rng.integers(len(GROUPS)))]
        picked = rng.choice(CATALOGUE, LIST, replace=False)
        own = good[picked] + rng.normal(0, 0.5, LIST)
        scores = own + rng.normal(0, 0.5, LIST)
        rows = np.argsort(-scores, kind="stable")
        offers = tuple(_scored(catalogue[picked[row]], float(scores[row])) for row in rows)
        pull = -store.effect if store.contrary & set(group) else store.effect
        wish = [_wish(offer, mood, daypart, pull, store.effect) for offer in offers]
        takes = 1 / (1 + np.exp(3.0 - own[rows] - np.array(wish)))
        table = next((store.by_group[p] for p in group if p in store.by_group), store.confusion)
        read = EMOTIONS[int(rng.choice(len(EMOTIONS), p=table[EMOTIONS.index(mood)]))]
        abstained, agreed, luck = rng.random(3)
        yield Visit(
            offers=offers,
            takes=tuple(map(float, takes)),
            mood=mood,
            read=None if abstained < store.abstains else read,
            daypart=daypart,
            consents=bool(agreed < store.consenting),
            group=group,
            luck=float(luck),
        )


def _offer(rng: np.random.Generator, number: int) -> Offer:
    """One thing in five presses, one in ten is sensitive, one in ten says nothing of itself."""
    appeals = [a for a in Appeal if rng.random() < 0.3]
    undeclared = rng.random() < 0.05
    presses = [list(Pressure)[int(rng.integers(len(Pressure)))]] if rng.random() < 0.05 else []
    plays = [list(Sensitive)[int(rng.integers(len(Sensitive)))]] if rng.random() < 0.05 else []
    return Offer(
        id=f"o{number:03d}",
        score=0.0,
        appeals=frozenset(appeals),
        price=round(float(rng.lognormal(2, 0.7)), 2),
        pressures=None if undeclared else frozenset(presses),
        sensitive=frozenset(plays),
    )


def _scored(offer: Offer, score: float) -> Offer:
    # Not made anew: it was checked once, and this happens a million times.
    again = object.__new__(Offer)
    for name in Offer.__slots__:
        object.__setattr__(again, name, score if name == "score" else getattr(offer, name))
    return again


def _wish(offer: Offer, mood: str, daypart: str, pull: float, effect: float) -> float:
    evening = EVENING if daypart == "evening" else {}
    return sum(pull * TASTE[mood].get(a, 0.0) + effect * evening.get(a, 0.0) for a in offer.appeals)
