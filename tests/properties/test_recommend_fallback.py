"""Who did not agree sees the shop's own list, whatever is offered, and whatever was learned from others."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privemo.labels import EMOTIONS
from privemo.recommend import EmotionEstimate, Offer, Ranking, Recommender, Why
from privemo_consent import Purpose
from tests.support.recommend import CONTEXT, EVENING, offers, read_as, shelf, shop, taught

ESTIMATES = (
    st.none()
    | st.just(EmotionEstimate.abstained())
    | st.just(EmotionEstimate.refused("suspected_minor"))
    | st.sampled_from(EMOTIONS).map(read_as)
)
OTHERS = st.sampled_from([None, "tom", "nobody"])


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Recommender, Recommender]]:
    """One that learned nothing, and one that learned a lot; same seed, same registry."""
    folder = tmp_path_factory.mktemp("two")
    with shop(folder) as registry:
        blank = Recommender(registry, CONTEXT, folder / "blank", seed=1)
        taught(folder / "wise")
        wise = Recommender(registry, CONTEXT, folder / "wise", seed=1)
        assert wise._bandit.probabilities("sad/evening/any")["comfort"] > 0.5
        yield blank, wise


def same(ranking: Ranking, items: list[Offer]) -> None:
    assert len(ranking.items) == len(items)
    assert all(ours is theirs for ours, theirs in zip(ranking.items, items, strict=True))
    assert ranking.why is not Why.ADAPTED
    assert (ranking.arm, ranking.probability, ranking.model) == (None, None, None)


@settings(max_examples=25, deadline=None)
@given(items=offers(), estimate=ESTIMATES, person=OTHERS)
def test_without_consent_the_order_is_the_shops_and_what_was_learned_is_not_looked_at(
    two: tuple[Recommender, Recommender],
    items: list[Offer],
    estimate: EmotionEstimate | None,
    person: str | None,
) -> None:
    blank, wise = (
        r.rank(items, person=person, emotion=estimate, circumstances=EVENING) for r in two
    )
    same(blank, items)
    same(wise, items)
    assert blank == wise
    assert blank.sentence() == wise.sentence()


@settings(max_examples=25, deadline=None)
@given(
    items=offers(),
    estimate=st.sampled_from([None, EmotionEstimate.abstained(), EmotionEstimate.refused("minor")]),
)
def test_without_a_reading_the_order_is_the_shops_even_for_those_who_agreed(
    two: tuple[Recommender, Recommender], items: list[Offer], estimate: EmotionEstimate | None
) -> None:
    rankings = [r.rank(items, person="ann", emotion=estimate, circumstances=EVENING) for r in two]
    for ranking in rankings:
        same(ranking, items)
    assert rankings[0] == rankings[1]


@settings(max_examples=25, deadline=None)
@given(items=offers(), sure=st.floats(0.26, 0.49))
def test_an_unsure_reading_changes_nothing(
    two: tuple[Recommender, Recommender], items: list[Offer], sure: float
) -> None:
    for recommender in two:
        ranking = recommender.rank(items, person="ann", emotion=read_as("sad", sure))
        same(ranking, items)
        assert ranking.why is Why.UNSURE


class Broken:
    """A registry that is gone."""

    def decide(self, *_: object, **__: object) -> object:
        raise OSError("gone")


@settings(max_examples=25, deadline=None)
@given(items=offers(), estimate=ESTIMATES)
def test_whatever_fails_the_order_is_the_shops(
    two: tuple[Recommender, Recommender], items: list[Offer], estimate: EmotionEstimate | None
) -> None:
    _, wise = two
    registry = wise._registry
    wise._registry = Broken()  # type: ignore[assignment]
    try:
        ranking = wise.rank(items, person="ann", emotion=estimate)
    finally:
        wise._registry = registry
    same(ranking, items)
    assert (ranking.why, ranking.detail) == (Why.FAILED, "OSError")


@settings(max_examples=25, deadline=None)
@given(
    items=offers(),
    wrong=st.sampled_from(
        [
            {"emotion": "sad"},
            {"emotion": 0.5},
            {"circumstances": {"age": "65_plus"}},
            {"circumstances": {"daypart": "payday"}},
            {"circumstances": 7},
            {"person": 41},
        ]
    ),
)
def test_whatever_nonsense_an_app_asks_the_order_is_the_shops(
    two: tuple[Recommender, Recommender], items: list[Offer], wrong: dict[str, object]
) -> None:
    asked: dict[str, object] = {"person": "ann", "emotion": read_as("sad")} | wrong
    ranking = two[1].rank(items, **asked)  # type: ignore[arg-type]
    same(ranking, items)
    assert ranking.why is Why.FAILED


def test_those_who_agreed_are_adapted_to(two: tuple[Recommender, Recommender]) -> None:
    """Or the properties above would hold of a recommender that does nothing."""
    _, wise = two
    found = {
        wise.rank(shelf(), person="ann", emotion=read_as("sad"), circumstances=EVENING).why
        for _ in range(40)
    }
    assert Why.ADAPTED in found


def test_a_withdrawal_acts_on_the_next_decision_and_on_the_lesson_of_the_last(
    tmp_path: Path,
) -> None:
    with shop(tmp_path) as registry:
        recommender = Recommender(registry, CONTEXT, tmp_path / "r", seed=1)
        last = recommender.rank(shelf(), person="ann", emotion=read_as("sad"))
        assert last.arm is not None
        registry.withdraw("ann", [Purpose.PERSONALISATION])
        learned = recommender.learn(last, 1.0)
        assert (learned.kept, learned.reason) == (False, "withdrawn")
        assert recommender._file.read().reactions == 0
        after = recommender.rank(shelf(), person="ann", emotion=read_as("sad"))
        same(after, list(after.items))
        assert (after.why, after.detail) == (Why.NOT_PERMITTED, "withdrawn")
