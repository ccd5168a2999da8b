"""A store's own recommender, adapted to how shoppers look, for those who agreed to it.

A registry and its answers, a list of offers, a policy, a few hundred visits, a withdrawal, and what was
learned. Needs `pip install 'privemo[recommend]'`, and neither torch nor a camera: the readings are made up
here. In a store they come from a recognizer.

    python recommend_store.py FOLDER
"""

# ruff: noqa: T201 - an example talks to whoever runs it

from __future__ import annotations

import sys
from pathlib import Path
from random import Random

import privemo
from privemo.recommend import Offer

SHOP = privemo.Party(
    id="amber", name="Amber", address="1 Main Street, Dublin", contact="privacy@amber.example"
)
HERE = privemo.Context(setting="retail", jurisdiction="IE")

# What this shop allows. It has just opened and tries more than privemo's own policy would.
POLICY = """
schema = "privemo.adaptation-policy/1"
[limits]
most_displacement = 2
least_confidence = 0.6
[rails]
no_dearer_for = ["happy", "sad", "neutral", "surprise"]
[learning]
exploration = 0.5
caution = 1.0
least_reactions = 10
refit_every = 25
most_reactions = 100000
[context]
uses = ["daypart"]
[log]
keep_days = 366
[[adaptation]]
lifts = "comfort"
strength = 0.15
emotions = ["sad", "neutral"]
[[adaptation]]
lifts = "discovery"
strength = 0.15
emotions = ["happy", "surprise"]
"""

# What the shop's own recommender proposes, best first. Everything that a rail asks for is declared, except
# for the towel: nobody said how it is sold, so it is never moved up.
OFFERS = [
    Offer(id="lamp", score=0.95, appeals={"discovery"}, price=40, pressures=set(), sensitive=set()),
    Offer(
        id="loan",
        score=0.94,
        appeals={"comfort"},
        price=0,
        pressures={"credit"},
        sensitive={"loan"},
    ),
    Offer(id="mug", score=0.93, appeals={"practical"}, price=9, pressures=set(), sensitive=set()),
    Offer(id="novel", score=0.92, appeals={"comfort"}, price=8, pressures=set(), sensitive=set()),
    Offer(id="lens", score=0.91, appeals={"practical"}, price=9, pressures=set(), sensitive=set()),
    Offer(id="towel", score=0.90, appeals={"comfort"}, price=6),
    Offer(
        id="wine", score=0.60, appeals={"comfort"}, price=9, pressures=set(), sensitive={"alcohol"}
    ),
]


def open_registry(folder: Path) -> privemo.ConsentRegistry:
    """A registry of simulated consents: ann and bob agree to personalisation, tom says no."""
    registry = privemo.ConsentRegistry.create(
        folder / "consent.sqlite", mode="simulation", controller=SHOP
    )
    asked = privemo.simulate_consents(registry, ["somebody"], seed=1)  # brings a notice with it
    registry.announce_reading(asked.notice, place="the entrance")
    for person in ("ann", "bob"):
        registry.grant(
            person,
            [privemo.Purpose.PERSONALISATION],
            age_band=privemo.AgeBand.FROM_25,
            jurisdiction="IE",
            notice=asked.notice,
        )
    registry.refuse(
        "tom",
        [privemo.Purpose.PERSONALISATION],
        age_band=privemo.AgeBand.FROM_25,
        jurisdiction="IE",
        notice=asked.notice,
    )
    return registry


def reading(emotion: str) -> privemo.EmotionEstimate:
    """As a recognizer would give it."""
    return privemo.EmotionEstimate.read(
        {name: 0.85 if name == emotion else 0.05 for name in privemo.EMOTIONS}
    )


def shown(who: str, ranking: privemo.Ranking) -> None:
    """Print a list and the sentence for the shopper."""
    print(f"{who:4}", *(offer.id for offer in ranking.items), f"({ranking.why})")
    print(f"     {ranking.sentence('en')}")


def main() -> None:
    """Run the store."""
    if len(sys.argv) != 2:
        sys.exit("usage: python recommend_store.py FOLDER")
    folder = Path(sys.argv[1])
    if folder.exists():
        sys.exit(f"{folder} exists; name a folder to make.")
    folder.mkdir(parents=True)
    with open_registry(folder) as registry:
        (folder / "policy.toml").write_text(POLICY)
        policy = privemo.load_adaptation_policy(folder / "policy.toml")
        recommender = privemo.Recommender(
            registry, HERE, folder / "recommend", policy=policy, seed=8
        )

        # Tom is sad, and nobody knows: his list is the shop's.
        shown("tom", recommender.rank(OFFERS, person="tom", emotion=reading("sad")))
        # Ann agreed. Every evening list teaches a little of what those take who look sad.
        luck = Random(3)  # noqa: S311 - people who do not exist
        for _ in range(300):
            ranking = recommender.rank(
                OFFERS, person="ann", emotion=reading("sad"), circumstances={"daypart": "evening"}
            )
            took = luck.random() < (0.7 if ranking.arm == "comfort" else 0.3)
            recommender.learn(ranking, float(took))
        ranking = recommender.rank(
            OFFERS, person="bob", emotion=reading("sad"), circumstances={"daypart": "evening"}
        )
        shown("bob", ranking)

        # A withdrawal acts on the next list, and on the lesson of the last one.
        registry.withdraw("bob")
        print("bob withdraws; learned from his last list:", recommender.learn(ranking, 1.0).reason)
        shown("bob", recommender.rank(OFFERS, person="bob", emotion=reading("sad")))

        judged = recommender.evaluate()
        gain = judged.gain
        print(
            f"After {judged.reactions:.0f} reactions: {100 * gain.value:+.0f} points over the shop's order "
            f"({100 * gain.low:+.0f} to {100 * gain.high:+.0f})"
        )


if __name__ == "__main__":
    main()
