"""What a set of drawn faces invites a model to use; and that no statistics are made of people's faces."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from privemo.errors import DataError, PrivacyError, SettingsError
from privemo.explain import explain_data
from privemo.explain.dataset import measure
from privemo.explain.parts import draw_people
from privemo.explain.shortcuts import OPEN, folds, from_mouth, taken
from privemo.faces import load_faces
from privemo.synthetic import SyntheticPeople


@cache
def drawn() -> SyntheticPeople:
    return draw_people(40, seed=6)


def rows(people: SyntheticPeople, which: np.ndarray) -> SyntheticPeople:
    """Some pictures of a table."""
    columns = {
        name: getattr(people, name)[which]
        for name in people.__dataclass_fields__
        if isinstance(getattr(people, name), np.ndarray)
    }
    return replace(people, **columns)


def test_statistics_of_peoples_faces_are_refused_whoever_agreed(npz: Path) -> None:
    with pytest.raises(PrivacyError, match="No purpose that people can agree to"):
        measure(load_faces(npz))  # type: ignore[arg-type]


def test_a_mean_of_few_faces_is_refused(tmp_path: Path) -> None:
    few = rows(drawn(), np.arange(19 * 4))
    with pytest.raises(PrivacyError, match="19 people shows single faces"):
        measure(few)
    with pytest.raises(SettingsError, match="20 or more"):
        explain_data(tmp_path / "out", people=10)
    assert not (tmp_path / "out").exists()


def test_people_who_lack_an_emotion_or_regions_are_refused() -> None:
    with pytest.raises(DataError, match="every emotion"):
        measure(rows(drawn(), np.arange(len(drawn())) > 0))
    with pytest.raises(DataError, match="regions=True"):
        measure(replace(drawn(), regions=None))
    with pytest.raises(DataError, match="regions=True"):
        from_mouth(replace(drawn(), mouth_opening=None))


def test_what_was_put_into_the_pictures_is_found_and_nothing_else() -> None:
    """Pictures of noise alone, but for a mark at one place that surprise alone carries."""
    rng = np.random.default_rng(0)
    people = drawn()
    images = rng.integers(60, 200, people.images.shape, dtype=np.uint8)
    images[people.label == 3, 36:40, 20:28] = 255
    found = measure(replace(people, images=images))["separates"]["by_emotion"]
    assert found["surprise"]["mouth"]["pixels_that_differ"] > 0.05
    assert found["surprise"]["eyes"]["pixels_that_differ"] < 0.01
    pure = measure(
        replace(people, images=rng.integers(60, 200, people.images.shape, dtype=np.uint8))
    )
    for parts in pure["separates"]["by_emotion"].values():
        assert all(part["pixels_that_differ"] < 0.01 for part in parts.values())
    # Of noise no direction can be learned: the chance of 25% lies in the interval.
    accuracy = pure["directions"]["accuracy"]
    assert accuracy["low"] < 0.25 < accuracy["high"]


def test_everybody_is_left_out_once_and_whole() -> None:
    people, fold = drawn(), folds(drawn())
    for who in np.unique(people.identity):
        assert len(set(fold[people.identity == who])) == 1
    assert set(fold) == set(range(5))


def test_a_smile_and_an_open_mouth_are_shortcuts_in_drawn_people() -> None:
    found = from_mouth(drawn())
    assert found["lift"]["found"]["happy"]["mean"] > 0.8
    assert found["opening"]["found"]["surprise"]["mean"] > 0.6
    assert found["both"]["accuracy"]["mean"] >= found["opening"]["accuracy"]["mean"]
    assert found["open_mouths"]["surprise"]["mean"] > found["open_mouths"]["happy"]["mean"] > 0


def test_a_model_that_takes_the_shortcut_is_found_out() -> None:
    people = drawn()
    assert people.mouth_opening is not None
    shortcut = np.where(people.mouth_opening >= OPEN, 3, 0)  # open: surprise; closed: happy
    found = taken(people, shortcut)
    assert found["happy"]["open"]["mean"] == 0
    assert found["happy"]["closed"]["mean"] == 1
    assert found["neutral"]["open"] is None


def test_the_data_are_told_in_words_and_numbers(tmp_path: Path) -> None:
    for name in ("a", "b"):
        found = explain_data(tmp_path / name, people=20, run="nobody")
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == [
        "data.json",
        "data.md",
        "means.png",
    ]
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes(), path.name
    assert min(found["directions"]["distance"], key=found["directions"]["distance"].get) in {
        "sad-neutral",
        "happy-neutral",
    }
    for shown in found["model"]["confused"].values():
        assert sum(one["mean"] for one in shown.values()) == pytest.approx(1.0, abs=1e-4)
