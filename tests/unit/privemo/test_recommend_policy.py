"""What a policy of adaptation can say, and what it has no words for."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import pytest

from privemo.errors import DataError, SettingsError
from privemo.labels import EMOTIONS
from privemo.recommend import (
    Appeal,
    EmotionEstimate,
    Offer,
    default_policy,
    load_adaptation_policy,
)
from privemo.recommend.chooser import situation
from tests.support.recommend import offer

DEFAULT = (files("privemo.recommend") / "data/policy.toml").read_text()


def changed(folder: Path, old: str, new: str) -> Path:
    assert DEFAULT.count(old) >= 1, old
    path = folder / "policy.toml"
    path.write_text(DEFAULT.replace(old, new, 1))
    return path


def test_the_policy_that_comes_along_is_careful() -> None:
    policy = default_policy()
    assert set(policy.rails.no_dearer_for) == set(EMOTIONS)
    assert policy.limits.most_displacement <= 3
    assert len(policy.sha256) == 64


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("[limits]", "[limits]\nage_band = '65_plus'"),
        ("[limits]", "[audience]\ngender = 'woman'\n[limits]"),
        ('uses = ["daypart", "basket"]', 'uses = ["daypart", "payday"]'),
        ('uses = ["daypart", "basket"]', 'uses = ["age_band"]'),
        ('lifts = "comfort"', 'lifts = "credit"'),
        ('lifts = "comfort"', 'lifts = "urgency"'),
        ('lifts = "comfort"', 'lifts = "alcohol"'),
        ('lifts = "comfort"', 'lifts = "comfort"\nwhen = "lonely"'),
        ('emotions = ["sad", "neutral"]', 'emotions = ["grieving"]'),
        ("[rails]", "[rails]\nmay_raise_prices = true"),
        ("[rails]", "[rails]\noff = true"),
    ],
)
def test_exploiting_age_or_vulnerability_cannot_be_expressed(
    tmp_path: Path, old: str, new: str
) -> None:
    """EU AI Act 5(1)(b): not one of these is a rule that is checked; they are words that there are not."""
    with pytest.raises(SettingsError, match=r"policy\.toml"):
        load_adaptation_policy(changed(tmp_path, old, new))


def test_a_sad_reading_cannot_be_let_off_the_price_rail(tmp_path: Path) -> None:
    path = changed(tmp_path, '["happy", "sad", "neutral", "surprise"]', '["happy"]')
    with pytest.raises(SettingsError, match='"sad" cannot be left out'):
        load_adaptation_policy(path)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("most_displacement = 3", "most_displacement = 6", "most_displacement"),
        ("most_displacement = 3", "most_displacement = 0", "most_displacement"),
        ("most_displacement = 3", "most_displacement = 2.5", "most_displacement"),
        ("most_displacement = 3", 'most_displacement = "3"', "most_displacement"),
        ("least_confidence = 0.5", "least_confidence = 0.2", "least_confidence"),
        ("least_confidence = 0.5", "least_confidence = nan", "least_confidence"),
        ("exploration = 0.2", "exploration = 0", "exploration"),
        ("least_reactions = 10", "least_reactions = 1", "least_reactions"),
        ("keep_days = 366", "keep_days = 30", "keep_days"),
        ("keep_days = 366", "keep_days = 99999", "keep_days"),
        ("strength = 0.15", "strength = inf", "strength"),
        ('lifts = "discovery"', 'lifts = "comfort"', "twice"),
        ('schema = "privemo.adaptation-policy/1"', 'schema = "other"', "schema"),
        ('schema = "privemo.adaptation-policy/1"', 'source = "x"', "schema"),
        ("[limits]", "[limits", "TOML"),
        ("[limits]", 'source = "x"\n[limits]', "source"),
    ],
)
def test_a_value_out_of_range_is_named(tmp_path: Path, old: str, new: str, told: str) -> None:
    with pytest.raises(SettingsError, match=told):
        load_adaptation_policy(changed(tmp_path, old, new))


def test_a_policy_is_known_by_every_byte_of_its_file(tmp_path: Path) -> None:
    path = changed(tmp_path, "# How a shop", "# how a shop")
    assert load_adaptation_policy(path).sha256 != default_policy().sha256
    path.write_text(DEFAULT)
    assert load_adaptation_policy(path).sha256 == default_policy().sha256


def test_a_file_that_is_not_there_is_said_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        load_adaptation_policy(tmp_path / "none.toml")


def test_situations_are_a_closed_list() -> None:
    policy = default_policy()
    kinds = policy.kinds()
    assert len(kinds) == sum(5 * 3 * len(policy.arms(e)) for e in EMOTIONS)
    kind = situation(policy, "sad", {"basket": "empty", "weekpart": "weekend"})
    assert kind == "sad/any/empty"
    assert f"{kind}/comfort" in kinds
    with pytest.raises(DataError, match="circumstances are"):
        situation(policy, "sad", {"age_band": "65_plus"})


# -- offers and readings ---------------------------------------------------------------------------


@pytest.mark.parametrize("hidden", ["price", "pressures", "sensitive"])
def test_what_is_not_declared_counts_as_the_worst(hidden: str) -> None:
    assert offer("a").may_rise
    assert not offer("a", **{hidden: None}).may_rise


@pytest.mark.parametrize(
    "fields",
    [
        {"id": ""},
        {"id": 7},
        {"score": float("nan")},
        {"score": float("inf")},
        {"score": True},
        {"score": "1"},
        {"price": -1.0},
        {"price": float("nan")},
        {"appeals": {"greed"}},
        {"appeals": "comfort"},
        {"pressures": {"hurry"}},
        {"sensitive": 3},
    ],
)
def test_an_offer_of_nonsense_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(DataError):
        Offer(**{"id": "a", "score": 1.0, **fields})  # type: ignore[arg-type]


def test_words_may_come_as_text() -> None:
    assert Offer(id="a", score=1, appeals={"comfort"}).appeals == {Appeal.COMFORT}  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "probabilities",
    [
        {},
        {"happy": 1.0},
        dict.fromkeys(EMOTIONS, 0.5),
        dict.fromkeys(EMOTIONS, float("nan")),
        {"happy": 1.5, "sad": -0.5, "neutral": 0.0, "surprise": 0.0},
        {"happy": 0.5, "sad": 0.5, "neutral": 0.0, "angry": 0.0},
    ],
)
def test_a_reading_of_nonsense_is_refused(probabilities: dict[str, float]) -> None:
    with pytest.raises(DataError):
        EmotionEstimate.read(probabilities)


@dataclass
class Reading:
    """As a recognizer gives it."""

    outcome: str
    probabilities: dict[str, float] | None = None
    reason: str | None = None


def test_of_a_recognizers_readings_one_that_was_read_alone_is_an_expression() -> None:
    sure = {"happy": 0.0, "sad": 1.0, "neutral": 0.0, "surprise": 0.0}
    assert EmotionEstimate.of(Reading("read", sure)).emotion(0.9) == "sad"
    assert EmotionEstimate.of(Reading("unsure", sure)) == EmotionEstimate.abstained()
    refused = EmotionEstimate.of(Reading("refused", sure, "suspected_minor"))
    assert (refused.probabilities, refused.refusal) == (None, "suspected_minor")
    for outcome in ("no_face", "several_faces", "session_over", "something new", ""):
        assert EmotionEstimate.of(Reading(outcome, sure)).probabilities is None
    assert EmotionEstimate.of(Reading("read")).probabilities is None
    with pytest.raises(DataError):
        EmotionEstimate.of(Reading("read", {"sad": 1.0}))


def test_a_tie_is_no_expression() -> None:
    tie = EmotionEstimate.read({"happy": 0.5, "sad": 0.5, "neutral": 0.0, "surprise": 0.0})
    assert tie.emotion(0.5) is None
    assert EmotionEstimate.abstained().emotion(0.4) is None
    with pytest.raises(DataError, match="refused"):
        EmotionEstimate((1.0, 0.0, 0.0, 0.0), refusal="minor")
