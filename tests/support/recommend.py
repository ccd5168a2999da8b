"""Shops, shoppers and readings to recommend with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hypothesis import strategies as st

from privemo.files import write_json
from privemo.labels import EMOTIONS
from privemo.recommend import (
    AdaptationPolicy,
    Appeal,
    EmotionEstimate,
    Offer,
    Pressure,
    Sensitive,
    default_policy,
)
from privemo.recommend.sums import Sums, SumsFile
from privemo_consent import AgeBand, ConsentRegistry, Context, Purpose
from tests.support.consent import PARTY, consent_notice

CONTEXT = Context(setting="retail", jurisdiction="IE")
EVENING = {"daypart": "evening"}


@contextmanager
def shop(folder: Path) -> Iterator[ConsentRegistry]:
    """A registry in which ann agreed to personalisation, tom to training alone, and clerk works there."""
    with ConsentRegistry.create(
        folder / "consent.sqlite", mode="production", controller=PARTY
    ) as registry:
        notice = consent_notice()
        registry.notice(notice)
        registry.announce_reading(notice, place="the door")
        for person, purpose in (("ann", Purpose.PERSONALISATION), ("tom", Purpose.TRAINING)):
            registry.grant(
                person, [purpose], age_band=AgeBand.FROM_25, jurisdiction="IE", notice=notice
            )
        yield registry


def read_as(emotion: str, sure: float = 0.85) -> EmotionEstimate:
    rest = (1 - sure) / 3
    return EmotionEstimate.read({e: sure if e == emotion else rest for e in EMOTIONS})


def offer(name: str, score: float = 1.0, *appeals: Appeal, **changes: object) -> Offer:
    """One that hides nothing and presses nobody, unless told otherwise."""
    fields: dict[str, object] = {
        "price": 5.0,
        "pressures": frozenset(),
        "sensitive": frozenset(),
    } | changes
    return Offer(id=name, score=score, appeals=frozenset(appeals), **fields)  # type: ignore[arg-type]


def shelf(size: int = 8) -> list[Offer]:
    """Every third is comfortable; scores fall by one in a hundred."""
    return [
        offer(f"o{k}", 1 - k / 100, *([Appeal.COMFORT] if k % 3 == 2 else [])) for k in range(size)
    ]


def sets(words: type[Appeal] | type[Pressure] | type[Sensitive]) -> st.SearchStrategy[object]:
    return st.frozensets(st.sampled_from(list(words)), max_size=2)


@st.composite
def offers(draw: st.DrawFn, most: int = 12) -> list[Offer]:
    """Lists of any kind, of which much is declared: else nothing would ever move."""
    size = draw(st.integers(0, most))
    clean = st.just(frozenset())
    return [
        Offer(
            id=f"o{number}",
            score=draw(st.sampled_from([0.0, 0.5, 0.9, 1.0]) | st.floats(-10, 10)),
            appeals=draw(sets(Appeal)),  # type: ignore[arg-type]
            price=draw(st.none() | st.sampled_from([0.0, 1.0, 5.0, 9.0])),
            pressures=draw(clean | clean | st.none() | sets(Pressure)),  # type: ignore[arg-type]
            sensitive=draw(clean | clean | st.none() | sets(Sensitive)),  # type: ignore[arg-type]
        )
        for number in range(size)
    ]


def taught(folder: Path, policy: AdaptationPolicy | None = None) -> None:
    """Leave sums in a folder from which comfort turns out to be what the sad take in the evening."""
    policy = policy or default_policy()
    sums = Sums(policy.sha256)
    for number in range(1000):
        for arm, takes in (("shop", 2), ("comfort", 9)):
            sums.add(f"sad/evening/any/{arm}", 0.5, float(number % 10 < takes), number % 2)
    write_json(SumsFile(folder, policy).path, sums.content() | {"simulated": False})


__all__ = [
    "CONTEXT",
    "EVENING",
    "default_policy",
    "offer",
    "offers",
    "read_as",
    "shelf",
    "shop",
    "taught",
]
