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
from statistics import NormalDist
from typing import Any

import numpy as np

from privemo.errors import SettingsError
from privemo.labels import EMOTIONS
from privemo_consent import ConsentRegistry, Context, Party, simulate_consents

from .bandit import Bandit, cell_name
from .chooser import choose, situation
from .estimate import EmotionEstimate
from .offers import Offer
from .policy import AdaptationPolicy
from .rails import Passing, lifted, may_pass
from .ranking import Why
from .recommender import Recommender
from .shoppers import LIST, Floats, Store, Visit, visits
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
    return visit.reward(order) - visit.reward(range(LIST))


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
        repetitions; and `verdicts` in words.

    Raises:
        SettingsError: fewer than five repetitions: they give no interval.
    """
    if repeats < 5:
        raise SettingsError(f"got {repeats} repetitions, want 5 at least: an interval needs them")
    found: list[dict[str, float]] = []
    for number in range(repeats):
        found.append(_repetition(store, seed + number))
        listener(number + 1)
    levels = {name: _interval([each[name] for each in found]) for name in found[0]}
    comparisons = {
        name: _interval([each[a] - each[b] for each in found]) for name, (a, b) in COMPARED.items()
    }
    return {
        "schema": "privemo.recommend-simulation/1",
        "store": _settings(store),
        "repeats": repeats,
        "seed": seed,
        "policy": store.policy.sha256,
        "levels": levels,
        "comparisons": comparisons,
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


def _repetition(store: Store, seed: int) -> dict[str, float]:
    met = list(visits(store, seed))
    counted = np.array([v.consents and v.read is not None for v in met])
    counted[: len(met) // 2] = False
    shop = np.array([visit.reward(range(LIST)) for visit in met])
    found = {SHOP: float(shop[counted].mean()) if counted.any() else math.nan}
    if math.isnan(found[SHOP]):
        raise SettingsError("nobody agreed and was read: raise the share who consent, or shoppers")
    for way in (CIRCUMSTANCES_ALONE, MISREAD, NEVER_MISREAD, NO_RAILS):
        found[way.name] = float(informed(way, met, store.policy)[counted].mean())
    found[LEARNED] = float(learned(MISREAD, met, store.policy, seed)[counted].mean())
    return found


def _settings(store: Store) -> dict[str, Any]:
    return {
        "shoppers": store.shoppers,
        "effect": store.effect,
        "confusion": np.asarray(store.confusion).tolist(),
        "abstains": store.abstains,
        "consenting": store.consenting,
    }


def _interval(values: Sequence[float]) -> dict[str, float]:
    """Mean and 95% interval by Student's t over repetitions."""
    n = len(values)
    mean = math.fsum(values) / n
    deviation = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (n - 1))
    half = student(n - 1) * deviation / math.sqrt(n)
    return {"mean": mean, "low": mean - half, "high": mean + half}


def student(freedom: int) -> float:
    """The 97.5% quantile of Student's t, to two in a thousand from four degrees of freedom on.

    Source:
        Abramowitz and Stegun (1964), 26.7.5: no scipy on a small computer.
    """
    z = NormalDist().inv_cdf(0.975)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + math.fsum(term / freedom**power for power, term in enumerate(terms, 1))


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

    Returns: `asked`, `refused` of them, and `identical`: those refused whose list came back as it was, the
        very objects in the very places.

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
