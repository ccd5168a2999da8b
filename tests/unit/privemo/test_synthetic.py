"""People who do not exist: the same for a seed, balanced, in range, and saved whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from privemo.errors import SettingsError
from privemo.labels import EMOTIONS
from privemo.synthetic import (
    ORIGIN,
    REGIONS,
    NotSaved,
    SyntheticPeople,
    contact_sheet,
    save_png,
    synthesize,
)
from privemo.synthetic.body import make_body
from privemo.synthetic.expression import LIMIT, Expression, draw_expression
from privemo.synthetic.head import load_head
from privemo.synthetic.identity import age_band, draw_age, draw_traits, skin_tone_group
from privemo.synthetic.mouth import measure_mouth

COLUMNS = [
    "label",
    "identity",
    "age",
    "age_band",
    "gender",
    "skin_tone",
    "skin_tone_group",
    "glasses",
    "yaw",
    "pitch",
    "roll",
    "light",
    "intensity",
]


@pytest.fixture(scope="module")
def people() -> SyntheticPeople:
    return synthesize(12, 4, seed=7)


def digest(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def test_same_seed_gives_the_same_bytes(people: SyntheticPeople) -> None:
    again = synthesize(12, 4, seed=7)
    for name in ("images", *COLUMNS):
        assert digest(getattr(again, name)) == digest(getattr(people, name)), name


def test_another_seed_gives_other_people(people: SyntheticPeople) -> None:
    other = synthesize(3, 4, seed=8)
    assert not np.array_equal(other.images, people.images[:12])
    assert not np.array_equal(other.age, people.age[:12])


@pytest.mark.parametrize(("count", "images"), [(3, 4), (3, 2), (3, 6), (1, 1), (13, 1)])
def test_a_person_does_not_depend_on_how_many_are_asked_for(
    people: SyntheticPeople, count: int, images: int
) -> None:
    some = synthesize(count, images, seed=7)
    shared = min(images, 4)
    for name in ("images", *COLUMNS):
        ours = getattr(some, name).reshape(count, images, -1)[:12, :shared]
        theirs = getattr(people, name).reshape(12, 4, -1)[: len(ours), :shared]
        assert np.array_equal(ours, theirs), name


def test_workers_change_nothing(people: SyntheticPeople) -> None:
    done: list[tuple[int, int]] = []
    again = synthesize(
        12, 4, seed=7, workers=2, progress=lambda now, total: done.append((now, total))
    )
    assert digest(again.images) == digest(people.images)
    assert done[-1] == (12, 12)
    assert [now for now, _ in done] == sorted(now for now, _ in done)


def test_shapes_types_and_ranges(people: SyntheticPeople) -> None:
    assert len(people) == 48
    assert people.images.shape == (48, 48, 48)
    assert people.images.dtype == np.uint8
    assert people.label.dtype == np.int8
    assert people.label_names == EMOTIONS
    assert list(people.identity[:5]) == ["p000000"] * 4 + ["p000001"]
    assert people.age.min() >= 0.5
    assert people.age.max() <= 90
    assert set(people.gender) <= {"feminine", "masculine", "androgynous"}
    assert people.skin_tone.min() >= 1
    assert people.skin_tone.max() <= 10
    assert np.all((people.intensity >= 0) & (people.intensity <= 1))
    shows = people.label != EMOTIONS.index("neutral")
    assert people.intensity[shows].min() >= 0.45
    assert people.intensity[~shows].max() < 0.45
    assert np.abs(people.yaw).max() < 60
    assert set(people.light) <= {"front", "left", "right", "above", "below"}
    # A picture shows something: it is neither flat nor burnt out.
    assert people.images.std(axis=(1, 2)).min() > 8


def test_a_person_keeps_their_traits_and_changes_their_picture(people: SyntheticPeople) -> None:
    for name in (
        "identity",
        "age",
        "age_band",
        "gender",
        "skin_tone",
        "skin_tone_group",
        "glasses",
    ):
        column = getattr(people, name).reshape(12, 4)
        assert np.all(column == column[:, :1]), name
    poses = people.yaw.reshape(12, 4)
    assert np.all(poses[:, 0] != poses[:, 1])
    assert len({digest(image) for image in people.images}) == len(people)


@pytest.mark.parametrize("images", [1, 2, 4])
def test_emotions_are_balanced(images: int) -> None:
    some = synthesize(8, images, seed=3, size=16)
    assert np.bincount(some.label, minlength=4).tolist() == [2 * images] * 4


@pytest.mark.parametrize(
    ("age", "band"),
    [
        (0.5, "under_13"),
        (12.99, "under_13"),
        (13, "13_15"),
        (15.99, "13_15"),
        (16, "16_17"),
        (17.99, "16_17"),
        (18, "18_24"),
        (25, "25_34"),
        (35, "35_44"),
        (45, "45_54"),
        (55, "55_64"),
        (64.99, "55_64"),
        (65, "65_plus"),
        (90, "65_plus"),
    ],
)
def test_age_band(age: float, band: str) -> None:
    assert age_band(age) == band


def test_bands_are_those_of_the_stored_ages(people: SyntheticPeople) -> None:
    # The stored float32 age, not the drawn float64, decides: a reader recomputes the band from it.
    assert [age_band(float(age)) for age in people.age] == list(people.age_band)


def test_ages_are_those_of_shoppers() -> None:
    ages = np.array([draw_age(u, None) for u in (np.arange(2000) + 0.5) / 2000])
    assert 0.11 < (ages < 18).mean() < 0.13
    assert ages.min() < 2
    assert ages.max() > 85


def test_ages_can_be_restricted() -> None:
    some = synthesize(6, 1, seed=1, ages=(18, 24.5), size=16)
    assert some.age.min() >= 18
    assert some.age.max() <= 24.5
    assert set(some.age_band) == {"18_24"}


@pytest.mark.parametrize(
    ("tone", "group"),
    [(1, "monk_1_3"), (3, "monk_1_3"), (4, "monk_4_7"), (7, "monk_4_7"), (8, "monk_8_10")],
)
def test_skin_tone_group(tone: int, group: str) -> None:
    assert skin_tone_group(tone) == group


def test_people_differ() -> None:
    drawn = [draw_traits(np.random.default_rng(k)) for k in range(300)]
    assert {t.skin_tone for t in drawn} == set(range(1, 11))
    assert {t.gender for t in drawn} == {"feminine", "masculine", "androgynous"}
    assert len({t.style for t in drawn}) >= 10
    assert not any(t.beard for t in drawn if t.age < 17 or t.gender == "feminine")
    assert not any(t.makeup for t in drawn if t.age < 17)
    old = np.mean([np.mean(t.hair) for t in drawn if t.age > 68])
    young = np.mean([np.mean(t.hair) for t in drawn if t.age < 40])
    assert old > 1.5 * young  # hair grays


def test_darker_tones_give_darker_faces() -> None:
    some = synthesize(80, 2, seed=5)
    faces = some.images[:, 14:34, 14:34].mean(axis=(1, 2))
    assert faces[some.skin_tone >= 8].mean() < faces[some.skin_tone <= 3].mean() - 20


def test_colour_and_gray_show_the_same_picture() -> None:
    colour = synthesize(4, 2, seed=2, channels=3)
    gray = synthesize(4, 2, seed=2)
    assert colour.images.shape == (8, 48, 48, 3)
    luma = colour.images @ np.array([0.299, 0.587, 0.114])
    # Colour is clipped channel by channel, gray after mixing: equal where nothing clips.
    inner = ((colour.images > 0) & (colour.images < 255)).all(axis=-1)
    assert inner.mean() > 0.5
    assert np.abs(luma - gray.images)[inner].max() <= 1
    spread = colour.images.max(axis=-1).astype(int) - colour.images.min(axis=-1)
    assert spread.mean() > 5


def test_regions_lie_where_a_face_has_them() -> None:
    some = synthesize(8, 2, seed=4, regions=True)
    assert some.regions is not None
    assert some.regions.shape == (16, 48, 48)
    assert some.regions.max() < len(REGIONS)
    heights = {}
    for name in ("brows", "eyes", "nose", "mouth"):
        rows = [np.nonzero(mask == REGIONS.index(name))[0] for mask in some.regions]
        assert all(len(r) > 3 for r in rows), name
        heights[name] = np.array([r.mean() for r in rows])
    assert np.all(heights["brows"] < heights["eyes"])
    assert np.all(heights["eyes"] < heights["nose"])
    assert np.all(heights["nose"] < heights["mouth"])


def test_mouths_are_measured_where_they_are_drawn() -> None:
    some = synthesize(16, 4, seed=4, regions=True)
    assert some.regions is not None
    assert some.mouth_opening is not None
    assert some.mouth_lift is not None
    happy, sad, neutral, surprise = (some.label == k for k in range(4))
    assert some.mouth_opening.min() >= 0
    assert some.mouth_opening[surprise].min() > some.mouth_opening[neutral].max()
    assert some.mouth_lift[happy].min() > some.mouth_lift[sad].max()


def test_a_mouth_is_as_open_as_the_jaw_says_whatever_the_size_of_the_person() -> None:
    def shows(**units: float) -> Expression:
        return Expression({f"faceunits/{k}": v for k, v in units.items()}, (0, 0), 1, (0, 0, 0, 0))

    for seed, ages in ((1, (3.0, 4.0)), (2, (30.0, 40.0))):
        body = make_body(draw_traits(np.random.default_rng(seed), ages))
        gaps = [measure_mouth(body, shows(jawOpen=w)).opening for w in (0.0, 0.3, 0.6, 0.9)]
        assert 0 <= gaps[0] < 0.03
        np.testing.assert_allclose(np.diff(gaps), 0.1, atol=0.04)
        smile = shows(mouthSmileLeft=1.0, mouthSmileRight=1.0)
        frown = shows(mouthFrownLeft=1.0, mouthFrownRight=1.0)
        assert measure_mouth(body, shows()).lift == 0
        assert measure_mouth(body, smile).lift > 0.05
        assert measure_mouth(body, frown).lift < -0.02


def test_expressions_move_what_they_should() -> None:
    mean: dict[str, dict[str, float]] = {}
    for label, name in enumerate(EMOTIONS):
        drawn = [draw_expression(label, np.random.default_rng(k)) for k in range(60)]
        assert max(w for e in drawn for w in e.units.values()) <= LIMIT
        assert all(unit in load_head().targets for e in drawn for unit in e.units)
        mean[name] = {
            unit: float(np.mean([e.units.get(f"faceunits/{unit}", 0.0) for e in drawn]))
            for unit in (
                "mouthSmileLeft",
                "mouthFrownLeft",
                "browInnerUp",
                "jawOpen",
                "eyeWideLeft",
            )
        }
    for unit, owner in (
        ("mouthSmileLeft", "happy"),
        ("mouthFrownLeft", "sad"),
        ("jawOpen", "surprise"),
        ("eyeWideLeft", "surprise"),
    ):
        rest = max(mean[name][unit] for name in EMOTIONS if name != owner)
        assert mean[owner][unit] > 2 * rest, unit
    assert mean["sad"]["browInnerUp"] > 4 * mean["neutral"]["browInnerUp"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"people": 0}, "people must be at least 1"),
        ({"people": -3}, "people must be at least 1"),
        ({"images": 0}, "images must be at least 1"),
        ({"workers": 0}, "workers must be at least 1"),
        ({"channels": 2}, "channels must be 1"),
        ({"seed": -1}, "seed must be 0 or more"),
        ({"size": 8}, "size must be 16 to 512"),
        ({"ages": (30, 20)}, "ages must be"),
        ({"ages": (-1, 20)}, "ages must be"),
        ({"ages": (float("nan"), 20)}, "ages must be"),
    ],
)
def test_impossible_settings_are_refused(change: dict[str, object], says: str) -> None:
    settings: dict[str, object] = {"people": 1, "images": 1, "seed": 1} | change
    with pytest.raises(SettingsError, match=says):
        synthesize(**settings)  # type: ignore[arg-type]


def test_save_and_load(people: SyntheticPeople, tmp_path: Path) -> None:
    path = tmp_path / "people.npz"
    people.save(path)
    with np.load(path, allow_pickle=False) as data:
        for name in ("images", *COLUMNS):
            assert np.array_equal(data[name], getattr(people, name)), name
        assert tuple(data["label_names"]) == EMOTIONS
        assert str(data["origin"]) == ORIGIN
        assert "est_age" not in data.files  # the age is exact, not estimated
        assert "regions" not in data.files
    assert os.listdir(tmp_path) == ["people.npz"]


def test_save_into_a_missing_folder(people: SyntheticPeople, tmp_path: Path) -> None:
    with pytest.raises(NotSaved, match=r"could not be written .* choose a folder"):
        people.save(tmp_path / "missing" / "people.npz")
    assert os.listdir(tmp_path) == []


def test_a_full_disk_leaves_the_old_file(
    people: SyntheticPeople, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "people.npz"
    path.write_bytes(b"old")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(NotSaved, match="No space left"):
        people.save(path)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["people.npz"]


def test_contact_sheet(people: SyntheticPeople, tmp_path: Path) -> None:
    sheet = contact_sheet(people, 4, 5, scale=2)
    assert sheet.shape == (4 * 96, 5 * 96)
    first_sad = people.images[np.flatnonzero(people.label == EMOTIONS.index("sad"))[0]]
    assert np.array_equal(sheet[96:192:2, :96:2], first_sad)
    path = tmp_path / "sheet.png"
    save_png(sheet, path)
    assert path.read_bytes().startswith(b"\x89PNG")
    with pytest.raises(SettingsError):
        contact_sheet(people, 0, 5)


def test_colour_contact_sheet() -> None:
    some = synthesize(2, 4, seed=1, channels=3, size=16)
    assert contact_sheet(some, 4, 3).shape == (4 * 48, 3 * 48, 3)


IMPORTS = """
import sys
import privemo.synthetic
heavy = {"embreex", "torch", "PIL", "pandas"} & set(sys.modules)
assert not heavy, heavy
"""
WITHOUT = """
import sys
sys.modules["embreex"] = None
from privemo.synthetic import synthesize
try:
    synthesize(1, 1, seed=1)
except ImportError as error:
    assert "privemo[synth]" in str(error), error
else:
    raise SystemExit("no error")
"""


@pytest.mark.parametrize("program", [IMPORTS, WITHOUT], ids=["light import", "without embreex"])
def test_in_a_fresh_process(program: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
