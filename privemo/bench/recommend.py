"""Re-ranking: how long a decision takes, and what adapting is worth in a store that does not exist."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from privemo.labels import EMOTIONS
from privemo.recommend import EmotionEstimate, Recommender, default_policy
from privemo.recommend.shoppers import Store, visits
from privemo.recommend.simulate import simulate, untouched
from privemo_consent import AgeBand, ConsentRegistry, Context, Party, Purpose
from privemo_consent.simulate import simulated_notice

__all__ = ["figures"]

RANKINGS = 300
MOST_MS = 33.0  # a frame: a decision must not cost one


def figures() -> Iterator[dict[str, Any]]:
    """Latency of a decision with its consent and its log, those untouched, and gains with their intervals.

    Gains are in points: of 100 visits, in how many more something was taken. Raises MissingExtra without
    the extra `privemo[recommend]`.
    """
    p50, p95 = _latency()
    yield _figure("recommend_rank_p50", p50, "ms", None, None)
    yield _figure("recommend_rank_p95", p95, "ms", f"<= {MOST_MS:.0f}", p95 <= MOST_MS)
    went = untouched(Store())
    share = went["identical"] / went["refused"]
    yield _figure("recommend_refused_identical", share, "share", "= 1", share == 1)
    for effect in (0.0, 1.0, 2.0):
        found = simulate(Store(effect=effect))["comparisons"]
        for name, told in found.items():
            for end in ("mean", "low", "high"):
                key = f"recommend_effect_{effect:g}_{name.replace(' ', '_')}_{end}"
                goal, met = None, None
                if effect == 0 and name == "most there is to gain" and end == "low":
                    # Nothing is there to be gained, and nothing may seem to be.
                    goal, met = "<= 0", told[end] <= 0
                yield _figure(key, 100 * told[end], "points", goal, met)


def _figure(
    name: str, value: float, unit: str, goal: str | None, met: bool | None
) -> dict[str, Any]:
    return {"figure": name, "value": round(value, 4), "unit": unit, "goal": goal, "met": met}


def _latency() -> tuple[float, float]:
    party = Party(id="nowhere", name="A store that does not exist", address="-", contact="-")
    taken = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "consent.sqlite"
        with ConsentRegistry.create(path, mode="simulation", controller=party) as registry:
            notice = simulated_notice(party, jurisdiction="IE")
            registry.notice(notice)
            registry.announce_reading(notice, place="nowhere")
            registry.grant(
                "ann",
                [Purpose.PERSONALISATION],
                age_band=AgeBand.FROM_25,
                jurisdiction="IE",
                notice=notice,
            )
            recommender = Recommender(
                registry, Context(setting="retail", jurisdiction="IE"), Path(folder) / "r"
            )
            for visit in visits(Store(shoppers=RANKINGS, policy=default_policy()), 0):
                read = EmotionEstimate.read({e: float(e == visit.mood) for e in EMOTIONS})
                start = time.perf_counter()
                recommender.rank(visit.offers, person="ann", emotion=read)
                taken.append(1e3 * (time.perf_counter() - start))
    taken.sort()
    return taken[len(taken) // 2], taken[int(0.95 * len(taken))]
