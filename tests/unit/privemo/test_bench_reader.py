"""Whom detector and age estimate leave out is measured as an audit measures a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from privemo.bench import reader
from privemo.bench.reader import NOBODY, Seen, _told, figures
from privemo.errors import DataError, SettingsError
from privemo.faces import load_faces
from privemo.synthetic import synthesize
from privemo_audits.intervals import clopper_pearson

Figures = dict[str, dict[str, Any]]


def seen(**changes: Any) -> Seen:
    """400 adults and 100 minors, of whom every face is found; adults look 40, minors 12."""
    adult = np.arange(500) < 400
    columns: dict[str, Any] = {
        "found": np.ones(500, dtype=bool),
        "alone": np.ones(500, dtype=bool),
        "years": np.where(adult, 40.0, 12.0),
        "adult": adult,
        "person": np.array([f"p{k}" for k in range(500)]),
        "groups": {"skin_tone": np.where(np.arange(500) % 2 == 0, "dark", "light")},
        "exist": False,
    }
    return Seen(**{**columns, **changes})


def told(of: Seen, challenge_age: float = 25.0) -> Figures:
    return {figure["figure"]: figure for figure in _told(of, challenge_age, NOBODY)}


def test_a_detector_that_misses_a_group_is_found_out() -> None:
    rows = np.arange(500)
    dark = told(seen(found=~((rows % 2 == 0) & (rows % 3 == 0))))
    gap = dark["reader_found_gap_skin_tone"]
    assert (gap["highest"], gap["lowest"], gap["real"]) == ("light", "dark", True)
    share = dark["reader_found_skin_tone_dark"]
    right = round(share["value"] * share["people"])
    assert (share["low"], share["high"]) == pytest.approx(
        clopper_pearson(right, share["people"]), abs=1e-5
    )
    assert gap["value"] == pytest.approx(1 - share["value"], abs=1e-4)
    assert gap["low"] < gap["value"] < gap["high"]


def test_where_nobody_is_treated_otherwise_no_gap_is_more_than_chance() -> None:
    chance = np.random.default_rng(3).random(500) < 0.9
    found = told(seen(found=chance))
    assert not any(figure.get("real") for figure in found.values())
    assert found["reader_found_all_all"]["value"] == pytest.approx(chance[:400].mean(), abs=1e-5)


def test_adults_refused_and_minors_admitted_are_told_apart() -> None:
    rows = np.arange(500)
    years = np.where(rows < 100, 20.0, np.where(rows < 460, 40.0, 12.0))  # 60 of the minors look 40
    found = told(seen(years=years))
    assert found["reader_admitted_all_all"]["value"] == 0.75
    assert found["reader_refused_all_all"]["value"] == 0.4
    assert found["reader_refused_all_all"]["people"] == 100
    older = told(seen(years=years), challenge_age=41.0)
    assert older["reader_admitted_all_all"]["value"] == 0
    assert older["reader_refused_all_all"]["value"] == 1


def test_nobody_whose_age_could_not_be_told_is_admitted() -> None:
    found = told(seen(years=np.full(500, np.nan)))
    assert found["reader_admitted_all_all"]["value"] == 0
    assert found["reader_refused_all_all"]["value"] == 1


def test_small_groups_of_people_who_exist_are_not_shown() -> None:
    """Nor is the group from which, with the total, a small one would follow."""
    few = np.where(np.arange(500) < 4, "few", np.where(np.arange(500) < 200, "some", "many"))
    shown = told(seen(groups={"culture": few}, exist=True))
    assert "reader_found_culture_many" in shown
    assert "reader_found_culture_few" not in shown
    assert "reader_found_culture_some" not in shown
    drawn = told(seen(groups={"culture": few}))
    assert {"reader_found_culture_some", "reader_found_culture_many"} <= drawn.keys()


def test_what_another_model_guessed_is_marked_as_that() -> None:
    column = np.where(np.arange(500) % 2 == 0, "0", "1")
    found = told(seen(groups={"est_female": column}, estimated=frozenset({"est_female"})))
    assert found["reader_found_est_female_0"]["estimated"]
    assert found["reader_found_gap_est_female"]["estimated"]
    assert not found["reader_found_all_all"]["estimated"]


def test_people_who_do_not_exist_are_drawn_looked_at_and_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reader, "DRAWN", 64)  # drawn sooner
    done: list[tuple[int, int]] = []
    found = {f["figure"]: f for f in figures(people=20, listener=lambda *at: done.append(at))}
    assert found["reader_found_all_all"]["people"] == 20
    assert found["reader_found_all_all"]["value"] > 0.6
    assert found["reader_refused_all_all"]["people"] <= 20
    assert all(figure["of"] == NOBODY for figure in found.values())
    assert done[-1] == (80, 80)
    assert done == sorted(done)


def test_a_table_is_looked_at_behind_the_gate(tmp_path: Path) -> None:
    """A third of it are noise and not faces, and a group of its own; minors are not looked at."""
    drawn = synthesize(45, 1, seed=9, size=48, channels=1, ages=(30.0, 80.0))
    images = drawn.images.copy()
    images[:15] = np.random.default_rng(0).integers(0, 256, (15, 48, 48))
    band = np.where(np.arange(45) >= 40, "13_15", "35_44")
    np.savez(
        tmp_path / "faces.npz",
        images=images,
        label=drawn.label,
        label_names=np.array(drawn.label_names),
        identity=drawn.identity,
        age_band=band,
        kind=np.where(np.arange(45) < 15, "noise", "face"),
    )
    table = load_faces(tmp_path / "faces.npz")
    found = {f["figure"]: f for f in figures(table=table, sensitive=("kind",))}
    assert found["reader_found_all_all"]["people"] == 40
    assert found["reader_found_kind_noise"]["value"] == 0
    assert found["reader_found_gap_kind"]["real"]
    assert not any(name.startswith("reader_refused") for name in found)
    assert "simulated" in found["reader_found_all_all"]["of"]
    with pytest.raises(DataError, match="no column 'culture'"):
        list(figures(table=table, sensitive=("culture",)))


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"people": 5}, "draw 20 or more"),
        ({"challenge_age": 17.0}, "18 or more"),
        ({"challenge_age": float("nan")}, "18 or more"),
    ],
)
def test_impossible_settings_are_refused(wrong: dict[str, Any], why: str) -> None:
    with pytest.raises(SettingsError, match=why):
        list(figures(**wrong))
