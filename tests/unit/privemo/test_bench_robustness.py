"""Pictures made worse: as much as was asked, where it was asked, and told by group with doubt."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from privemo.bench import robustness
from privemo.bench.corruptions import CORRUPTIONS, SEVERITIES, discoloured
from privemo.bench.robustness import KINDS, figures
from privemo.errors import SettingsError
from privemo.explain.covering import grown
from privemo.explain.parts import draw_people
from privemo.synthetic import REGIONS, SyntheticPeople, synthesize


@cache
def drawn() -> SyntheticPeople:
    return draw_people(20, seed=8)


def masks() -> np.ndarray:
    regions = drawn().regions
    assert regions is not None
    return regions


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_every_kind_changes_more_with_each_severity_and_the_same_with_the_same_seed(
    kind: str,
) -> None:
    images = drawn().images.astype(float)
    changes = []
    for severity in SEVERITIES:
        one, two = (CORRUPTIONS[kind](drawn().images, masks(), severity, seed=3) for _ in range(2))
        np.testing.assert_array_equal(one, two)
        assert one.dtype == np.uint8
        changes.append(np.abs(one - images).mean())
    assert changes == sorted(changes)
    assert changes[0] > 0


@pytest.mark.parametrize(
    ("kind", "parts"),
    [
        ("glasses", ("eyes",)),
        ("background", ("background",)),
    ],
)
def test_what_is_drawn_over_a_part_touches_no_other(kind: str, parts: tuple[str, ...]) -> None:
    after = CORRUPTIONS[kind](drawn().images, masks(), 5, seed=3)
    where = np.isin(masks(), [REGIONS.index(part) for part in parts])
    near = grown(where, 1) if kind == "glasses" else where
    np.testing.assert_array_equal(after[~near], drawn().images[~near])
    assert (after[where] != drawn().images[where]).mean() > 0.5


def test_a_mask_hides_the_mouth_has_no_hole_and_leaves_the_eyes() -> None:
    after = CORRUPTIONS["mask"](drawn().images, masks(), 5, seed=3)
    lower = np.isin(masks(), [REGIONS.index(name) for name in ("mouth", "jaw", "cheeks", "nose")])
    assert (after[lower] == 190).all()
    inside = (
        np.cumsum(lower, axis=2).astype(bool)
        & np.cumsum(lower[..., ::-1], axis=2).astype(bool)[..., ::-1]
    )
    eyes = np.isin(masks(), [REGIONS.index("eyes"), REGIONS.index("brows")])
    assert (after[inside & ~eyes] == 190).all()
    np.testing.assert_array_equal(after[eyes], drawn().images[eyes])


def test_colour_pictures_are_made_worse_alike() -> None:
    colour = np.repeat(drawn().images[:4, ..., None], 3, axis=3)
    for kind in CORRUPTIONS:
        assert CORRUPTIONS[kind](colour, masks()[:4], 3, seed=1).shape == colour.shape


def test_colour_goes_and_gray_comes_from_blue() -> None:
    colour = np.random.default_rng(0).integers(0, 255, (2, 48, 48, 3), dtype=np.uint8)
    assert np.ptp(discoloured(colour, 1.0, 3), axis=-1).max() == 0
    np.testing.assert_array_equal(discoloured(colour, 0.0, 3), colour)
    np.testing.assert_array_equal(discoloured(colour, 1.0, 1), colour[..., 2])


def test_heads_turn_and_all_else_stays() -> None:
    chance, turned = (synthesize(4, 2, seed=9, turned=t) for t in (None, 40.0))
    np.testing.assert_allclose(np.abs(turned.yaw), 40.0, atol=1e-4)
    np.testing.assert_array_equal(np.sign(turned.yaw), np.sign(chance.yaw))
    for same in ("label", "identity", "pitch", "roll", "light", "intensity"):
        np.testing.assert_array_equal(getattr(turned, same), getattr(chance, same))
    with pytest.raises(SettingsError, match="0 to 80"):
        synthesize(1, 1, seed=1, turned=90.0)


def test_accuracy_falls_by_emotion_and_group_each_with_its_interval_and_people(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(robustness, "SEVERITIES", (1, 5))
    found = list(figures(people=20, kinds=("low light", "pose")))
    assert {f["feature"] for f in found} == {"all", "emotion", "gender", "age_band", "skin_tone"}
    for figure in found:
        assert figure["low"] <= figure["value"] <= figure["high"]
        assert figure["lost_low"] <= figure["lost"] <= figure["lost_high"]
        assert 1 <= figure["n"] <= 20
    whole = {(f["kind"], f["severity"]): f for f in found if f["feature"] == "all"}
    assert len(whole) == 5
    assert whole["low light", 5]["lost_low"] > 0.2
    # A turned head is held against the same head to the front.
    assert whole["pose", 5]["lost"] > whole["pose", 1]["lost"]
    sizes = [f["n"] for f in found if f["feature"] == "gender" and f["severity"] == 0]
    assert sum(sizes) == 20


def test_a_kind_that_is_none_and_too_few_people_are_refused() -> None:
    with pytest.raises(SettingsError, match="choose of noise"):
        next(figures(kinds=("fog",)))
    with pytest.raises(SettingsError, match="20 or more"):
        next(figures(people=5))
    assert set(KINDS) > set(CORRUPTIONS)
