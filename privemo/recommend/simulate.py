"""A store that does not exist: what adapting to an expression gains there, what the rails cost, and for whom.

Every way of ordering meets the same shoppers (`privemo.recommend.shoppers`) with the same lists, so
differences are between pairs. What each is measured by is the probability that the shopper takes something
on the screen, which the simulation knows. Apart from that stands what a bandit had learned by then from
what shoppers happened to do. Where nothing is to be gained, as with `effect` 0, the report has to say so.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from privemo.errors import SettingsError
from privemo.labels import EMOTIONS
from privemo_consent import ConsentRegistry, Context, Party, simulate_consents

from .bandit import Bandit, cell_name
from .chooser import choose, situation
from .estimate import EmotionEstimate
from .groups import by_group, interval
from .offers import Offer
from .policy import AdaptationPolicy
from .rails import Passing, lifted, may_pass
from .ranking import Why
from .recommender import Recommender
from .shoppers import GROUPS, LIST, Bools, Floats, Store, Visit, visits
from .sums import HALVES, Sums, randomised

__all__ = ["Way", "informed", "learned", "simulate", "untouched"]


@dataclass(frozen=True)
class Way:
    """One way of ordering lists, that learns as it goes.

    Attributes:
        name: of the way.
        sees: the expression it is told for a visit; None for no reading.
        passing: which offer may pass which.
    """

    name: str
    sees: Callable[[Visit], str | None]
    passing: Passing = may_pass


def _anything(riser: Offer, passed: Offer, emotion: str, policy: AdaptationPolicy) -> bool:
    """No rails: to measure what they cost, and for nothing else."""
    return True


CIRCUMSTANCES_ALONE = Way("circumstances alone", lambda v: None if v.read is None else "neutral")
MISREAD = Way("expression", lambda v: v.read)
NEVER_MISREAD = Way("expression, never misread", lambda v: None if v.read is None else v.mood)
NO_RAILS = Way("expression, no rails", lambda v: v.read, _anything)
"""The first is told the same expression of everybody whom the recognizer reads: it can find what the time of
day does, and nothing of moods. What the second has over it is what the expression adds."""


SHOP_FIRST = tuple(range(LIST))


def informed(way: Way, met: Sequence[Visit], policy: AdaptationPolicy) -> Floats:
    """What visits of the second half earn if somebody who knows the odds of the first had chosen.

    The most that any learner could reach that sees what this way sees; nothing is left to the luck of
    learning.

    Returns:
        (n,), NaN in the first half; the shop's order for whoever did not agree or was not read.
    """
    half, gained = len(met) // 2, dict[str, float]()
    for visit in met[:half]:
        if seen := way.sees(visit) if visit.consents else None:
            kind = situation(policy, seen, {"daypart": visit.daypart})
            for arm in policy.arms(seen)[1:]:
                cell = cell_name(kind, arm)
                gained[cell] = gained.get(cell, 0.0) + _gain(way, visit, seen, arm, policy)
    earned = np.full(len(met), math.nan)
    for number, visit in enumerate(met[half:], half):
        earned[number] = visit.reward(range(LIST))
        if seen := way.sees(visit) if visit.consents else None:
            kind = situation(policy, seen, {"daypart": visit.daypart})
            arms = policy.arms(seen)[1:]
            best = max(arms, key=lambda arm: gained.get(cell_name(kind, arm), 0.0))
            if gained.get(cell_name(kind, best), 0.0) > 0:
                earned[number] += _gain(way, visit, seen, best, policy)
    return earned


def _gain(way: Way, visit: Visit, seen: str, arm: str, policy: AdaptationPolicy) -> float:
    order = lifted(visit.offers, policy.find(arm), seen, policy, passing=way.passing)
    if order == SHOP_FIRST:
        return 0.0
    return visit.reward(order) - visit.reward(SHOP_FIRST)


def learned(way: Way, met: Sequence[Visit], policy: AdaptationPolicy, seed: int) -> Floats:
    """What each visit earned, shape (n,), while the way learned from those before it.

    The bandit as it runs in a store, exploration included. Who did not agree, and who was not read, sees
    the shop's order; nothing is learned from them.
    """
    rng, sums, earned = Random(seed), Sums(policy.sha256), np.zeros(len(met))  # noqa: S311
    bandit, fitted = Bandit(policy), 0
    for number, visit in enumerate(met):
        seen = way.sees(visit) if visit.consents else None
        if seen is None:
            earned[number] = visit.reward(range(LIST))
            continue
        choice = choose(
            visit.offers,
            EmotionEstimate.read({name: float(name == seen) for name in EMOTIONS}),
            {"daypart": visit.daypart},
            policy=policy,
            bandit=bandit,
            rng=rng,
            passing=way.passing,
        )
        earned[number] = visit.reward(choice.order)
        assert choice.kind is not None and choice.arm is not None  # noqa: S101, PT018 - it is sure
        kept = randomised(float(visit.luck < earned[number]), policy.learning.reaction_epsilon, rng)
        cell, p = cell_name(choice.kind, choice.arm), choice.probabilities[choice.arm]
        sums.add(cell, p, kept, rng.randrange(HALVES))
        if sums.reactions - fitted >= max(policy.learning.refit_every, fitted // 10):
            bandit, fitted = Bandit(policy, sums.whole()), sums.reactions
    return earned


def simulate(
    store: Store,
    *,
    repeats: int = 10,
    seed: int = 0,
    listener: Callable[[int], None] = lambda _: None,
) -> dict[str, Any]:
    """Let every way of ordering meet the same shoppers, `repeats` times, and compare.

    Returns:
        JSON: `comparisons`, each a difference in the share of visits in which something was taken, among
        those who agreed and were read, in the second half of the visits, with a 95% interval over
        repetitions; `groups`, see `privemo.recommend.groups`; and `verdicts` in words.

    Raises:
        SettingsError: fewer than five repetitions: they give no interval.
    """
    if repeats < 5:
        raise SettingsError(f"got {repeats} repetitions, want 5 at least: an interval needs them")
    found: list[dict[str, float]] = []
    gains: list[dict[str, float]] = []
    for number in range(repeats):
        levels, grouped = _repetition(store, seed + number)
        found.append(levels)
        gains.append(grouped)
        listener(number + 1)
    level = {name: interval([each[name] for each in found]) for name in found[0]}
    comparisons = {
        name: interval([each[a] - each[b] for each in found]) for name, (a, b) in COMPARED.items()
    }
    return {
        "schema": "privemo.recommend-simulation/1",
        "store": _settings(store),
        "repeats": repeats,
        "seed": seed,
        "policy": store.policy.sha256,
        "levels": level,
        "comparisons": comparisons,
        "groups": by_group(gains),
        "verdicts": [_verdict(name, told) for name, told in comparisons.items()],
    }


SHOP = "the shop's order"
LEARNED = "expression, as learned"
COMPARED = {
    "most there is to gain": (MISREAD.name, SHOP),
    "most that circumstances alone gain": (CIRCUMSTANCES_ALONE.name, SHOP),
    "what the expression adds to them": (MISREAD.name, CIRCUMSTANCES_ALONE.name),
    "what misreading costs": (NEVER_MISREAD.name, MISREAD.name),
    "what the guard rails cost": (NO_RAILS.name, MISREAD.name),
    "what was learned of it by then": (LEARNED, SHOP),
}


def _repetition(store: Store, seed: int) -> tuple[dict[str, float], dict[str, float]]:
    """The level of each way, and the most there is to gain for each group of shoppers and all others."""
    met = list(visits(store, seed))
    counted = np.array([v.consents and v.read is not None for v in met])
    counted[: len(met) // 2] = False
    if not counted.any():
        raise SettingsError("nobody agreed and was read: raise the share who consent, or shoppers")
    shop = np.array([visit.reward(range(LIST)) for visit in met])
    found = {SHOP: float(shop[counted].mean())}
    for way in (CIRCUMSTANCES_ALONE, MISREAD, NEVER_MISREAD, NO_RAILS):
        earned = informed(way, met, store.policy)
        found[way.name] = float(earned[counted].mean())
        if way is MISREAD:
            gained = _apart([v.group for v in met], earned - shop, counted)
    found[LEARNED] = float(learned(MISREAD, met, store.policy, seed)[counted].mean())
    return found, gained


def _apart(groups: Sequence[tuple[str, str]], gain: Floats, counted: Bools) -> dict[str, float]:
    """The mean gain of each group, and, as "not GROUP", that of all others.

    Raises:
        SettingsError: a group has nobody who agreed and was read.
    """
    found = {}
    for name in sorted({part for group in GROUPS for part in group}):
        mine = np.array([name in group for group in groups])
        for key, rows in ((name, mine & counted), (f"not {name}", ~mine & counted)):
            if not rows.any():
                raise SettingsError(f"nobody of {key} agreed and was read: raise --shoppers")
            found[key] = float(gain[rows].mean())
    return found


def _settings(store: Store) -> dict[str, Any]:
    return {
        "shoppers": store.shoppers,
        "effect": store.effect,
        "confusion": np.asarray(store.confusion).tolist(),
        "by_group": {name: np.asarray(t).tolist() for name, t in store.by_group.items()},
        "contrary": sorted(store.contrary),
        "abstains": store.abstains,
        "consenting": store.consenting,
    }


def _verdict(name: str, told: Mapping[str, float]) -> str:
    points = (
        f"{100 * told['mean']:+.2f} points ({100 * told['low']:+.2f} to {100 * told['high']:+.2f})"
    )
    if told["low"] > 0:
        return f"{name}: {points}"
    if told["high"] < 0:
        return f"{name}: {points}, a loss"
    return f"{name}: nothing shown, {points}"


def untouched(store: Store, *, people: int = 100, seed: int = 0) -> dict[str, int]:
    """Shoppers with simulated consents meet a real registry and a real recommender that has learned.

    Returns:
        `asked`, `refused` of them, and `identical`: those refused whose list came back as it was, the very
        objects in the very places.

    Raises:
        SettingsError: fewer people than one.
    """
    if not 1 <= people <= 20_000:
        raise SettingsError(f"got {people} people, want 1 to 20,000")
    names = [f"s-{number:05d}" for number in range(people)]
    party = Party(id="nowhere", name="A store that does not exist", address="-", contact="-")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "consent.sqlite"
        with ConsentRegistry.create(path, mode="simulation", controller=party) as registry:
            simulated = simulate_consents(registry, names, seed=seed)
            registry.announce_reading(simulated.notice, place="nowhere")
            context = Context(setting="retail", jurisdiction="IE")
            recommender = Recommender(
                registry, context, Path(folder) / "recommend", policy=store.policy, seed=seed
            )
            refused = identical = 0
            for name, visit in zip(names, visits(store, seed), strict=False):
                read = EmotionEstimate.read({e: float(e == visit.mood) for e in EMOTIONS})
                ranking = recommender.rank(visit.offers, person=name, emotion=read)
                recommender.learn(ranking, visit.takes[0])
                if ranking.why is Why.NOT_PERMITTED:
                    refused += 1
                    pairs = zip(ranking.items, visit.offers, strict=True)
                    identical += all(ours is theirs for ours, theirs in pairs)
    return {"asked": people, "refused": refused, "identical": identical}
