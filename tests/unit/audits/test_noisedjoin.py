"""Noised and summed counts as files, and what an audit makes of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from privemo_audits import ReportError
from privemo_audits.cellcounts import CellCounts, Noise, read_any
from privemo_audits.cellplan import CellPlan
from privemo_audits.counts import count_groups, one_face_each
from privemo_audits.joined import JoinedAudit, join_counts
from privemo_audits.noisedjoin import NoisedAudit, join_any
from privemo_audits.predictions import validate
from tests.support.audit_runs import LABELS

SKIN, BAND = ("light", "medium", "dark"), ("18-24", "25-34", "65 and over")
PLAN = CellPlan(LABELS, (("skin", SKIN), ("age", BAND)))


def people(rng: np.random.Generator, n: int, accuracy: float = 0.75) -> pd.DataFrame:
    label = rng.integers(0, 4, n)
    said = np.where(rng.random(n) < accuracy, label, (label + rng.integers(1, 4, n)) % 4)
    return pd.DataFrame(
        {
            "store": "s",
            "person": [f"p{i}" for i in range(n)],
            "face": [f"f{i}" for i in range(n)],
            "label": label,
            "prediction": said,
            "skin": np.array([*SKIN, ""])[rng.integers(0, 4, n)],
            "age": np.array(BAND)[rng.integers(0, 3, n)],
        }
    )


def noise(scale: int = 65, resolution: int = 16, epsilon: float = 50.0) -> Noise:
    return Noise(
        mechanism="discrete_gaussian",
        tables=len(PLAN.tables),
        resolution=resolution,
        scale=scale,
        epsilon=epsilon,
        delta=1e-5,
    )


def counted(
    frame: pd.DataFrame, store: str, how: Noise | None = None, seed: int = 0, run_id: str = "run-1"
) -> CellCounts:
    """Counts of one store, noised as `how` says."""
    vector = PLAN.vector(frame)
    if how is not None:
        rng = np.random.default_rng(seed)
        drawn = rng.normal(0, how.scale / how.resolution, len(vector))
        vector = vector + np.rint(drawn).astype(np.int64)
    return CellCounts.of(PLAN, vector, run_id=run_id, stores=[store], noise=how)


# -- exact sums ------------------------------------------------------------------------------------


@settings(
    max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(seed=st.integers(0, 2**31), sizes=st.lists(st.integers(2, 40), min_size=1, max_size=4))
def test_a_sum_without_noise_is_the_audit_of_the_pooled_counts(
    tmp_path: Path, seed: int, sizes: list[int]
) -> None:
    """To the last digit; but for the store, which nobody can tell any more."""
    rng = np.random.default_rng(seed)
    frames = [people(rng, n) for n in sizes]
    pooled = pd.concat(frames, ignore_index=True)
    pooled["person"] = pooled["face"] = [f"p{i}" for i in range(len(pooled))]
    if pooled["label"].nunique() < 2:
        return
    stores = [f"store-{i}" for i in range(len(sizes))]
    total = sum(PLAN.vector(frame) for frame in frames)
    summed = CellCounts.of(PLAN, np.asarray(total), run_id="run-1", stores=stores, noise=None)
    path = tmp_path / "pooled.csv"
    pooled.assign(store="all").to_csv(path, index=False)
    exact = join_counts(
        [
            count_groups(
                path, run_id="run-1", store="all", label_names=LABELS, sensitive=("skin", "age")
            )
        ]
    )
    found = join_any([CellCounts.model_validate_json(summed.to_json())])
    assert isinstance(found, JoinedAudit)
    assert found.performance == exact.performance
    ours, theirs = (tuple(c for c in a.groups if c.feature != "store") for a in (found, exact))
    assert ours == theirs
    assert [g for g in found.gaps if g.feature != "store"] == [
        g for g in exact.gaps if g.feature != "store"
    ]


def test_a_file_says_the_same_when_it_is_read_again(tmp_path: Path) -> None:
    for how in (None, noise()):
        made = counted(people(np.random.default_rng(1), 60), "store-01", how)
        path = tmp_path / "counts.json"
        path.write_bytes(made.to_json())
        read = read_any(path)
        assert read == made
        assert read.to_json() == made.to_json()


def test_each_person_counts_once_in_the_file() -> None:
    frame = people(np.random.default_rng(2), 40)
    frame = pd.concat([frame, frame.assign(face=frame["face"] + "b")], ignore_index=True)
    checked = validate(frame, LABELS, "here", alone=False)
    assert PLAN.split(PLAN.vector(one_face_each(checked, "run-1")))[()].sum() == 40


# -- noised ----------------------------------------------------------------------------------------


def test_intervals_of_a_noised_audit_hold_the_true_accuracy() -> None:
    """120 audits of two stores whose noise differs: everyone, each emotion, and each group."""
    rng = np.random.default_rng(5)
    hits: dict[str, list[bool]] = {"everyone": [], "groups": [], "recall": []}
    for time in range(120):
        parts = [
            counted(people(rng, 150), store, noise(scale), seed=2 * time + place)
            for place, (store, scale) in enumerate((("a", 20), ("b", 40)))
        ]
        found = join_any(parts)
        assert isinstance(found, NoisedAudit)
        hits["everyone"].append(_holds(found.accuracy.ci, 0.75))
        hits["recall"] += [_holds(r.ci, 0.75) for r in found.recall.values()]
        hits["groups"] += [
            _holds(g.accuracy.ci, 0.75) for g in found.groups if g.accuracy is not None
        ]
    assert len(hits["groups"]) > 400
    for what, held in hits.items():
        slack = 3 * (0.05 * 0.95 / len(held)) ** 0.5
        assert np.mean(held) > 0.95 - slack, what


def _holds(ci: tuple[float, float], value: float) -> bool:
    return ci[0] <= value <= ci[1]


def test_gaps_are_called_real_as_seldom_as_said_and_a_planted_one_is_found() -> None:
    rng = np.random.default_rng(6)
    quiet = noise(8)
    called = 0
    for time in range(60):
        found = join_any([counted(people(rng, 300), "a", quiet, seed=time)])
        assert isinstance(found, NoisedAudit)
        called += any(g.real for g in found.gaps)
    assert called <= 5  # 3 are allowed on average; Bonferroni makes it fewer
    frame = people(rng, 900)
    dark = frame["skin"] == "dark"
    frame.loc[dark, "prediction"] = (frame.loc[dark, "label"] + 1) % 4
    found = join_any([counted(frame, "a", quiet)])
    assert isinstance(found, NoisedAudit)
    gap = next(g for g in found.gaps if g.feature == "skin")
    assert gap.real
    assert gap.lowest == "dark"
    assert gap.ci is not None
    assert gap.ci[0] > 0.3


def test_groups_are_judged_and_hidden_by_what_noise_leaves_of_them() -> None:
    frame = people(np.random.default_rng(7), 200)
    frame["skin"] = ["light"] * 170 + ["dark"] * 27 + ["medium"] * 3
    states = {}
    for how in (noise(16), noise(160)):
        found = join_any([counted(frame, "a", how, seed=1)])
        assert isinstance(found, NoisedAudit)
        states[how.scale] = {g.group: g.status for g in found.groups if g.feature == "skin"}
        hidden = [g for g in found.groups if g.status != "ok"]
        assert all(g.accuracy is None for g in hidden)
    assert states[16]["light"] == "ok"
    assert states[16]["dark"] == "insufficient" or states[16]["dark"] == "suppressed"
    assert states[160]["light"] in ("ok", "insufficient")
    assert states[160]["dark"] != "ok"
    assert all(s["medium"] != "ok" for s in states.values())


def test_groups_of_nobody_do_not_pass_for_groups() -> None:
    frame = people(np.random.default_rng(8), 80).assign(skin="light")
    made_up = 0
    for seed in range(60):
        found = join_any([counted(frame, "a", noise(32), seed=seed)])
        assert isinstance(found, NoisedAudit)
        made_up += sum(
            g.status == "ok" for g in found.groups if g.feature == "skin" and g.group != "light"
        )
    assert made_up <= 3  # of 240


def test_negative_counts_are_added_as_they_are() -> None:
    """Cut off at zero, the sum of empty cells would grow with every store."""
    empty = people(np.random.default_rng(9), 0)
    parts = [counted(empty, f"s{i}", noise(64), seed=i) for i in range(40)]
    assert all(part.counts(()).min() < 0 for part in parts)
    found = join_any(parts)
    assert isinstance(found, NoisedAudit)
    assert abs(found.accuracy.people) < 3 * found.accuracy.noise
    assert found.accuracy.ci[1] - found.accuracy.ci[0] > 0.5


# -- what does not go together ---------------------------------------------------------------------


def test_noised_and_exact_counts_are_not_joined() -> None:
    frame = people(np.random.default_rng(10), 40)
    exact, noised = counted(frame, "a"), counted(frame, "b", noise())
    for other in (exact, exact.exact()):
        with pytest.raises(ReportError, match="b sent noised counts, and a exact ones"):
            join_any([other, noised])


def test_a_store_in_two_files_is_refused() -> None:
    frame = people(np.random.default_rng(11), 40)
    one, two = counted(frame, "a", noise()), counted(frame, "b", noise())
    both = two.model_copy(update={"stores": ("a", "b")})
    with pytest.raises(ReportError, match="'a' comes twice"):
        join_any([one, both])
    with pytest.raises(ReportError, match="'a' comes twice"):
        join_any([counted(frame, "a"), counted(frame, "a").exact()])
    with pytest.raises(ReportError, match="no counts"):
        join_any([])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"run_id": "run-2"}, "run_id 'run-2'"),
        ({"groups": {"skin": ("light",), "age": BAND}}, "groups"),
    ],
)
def test_files_of_other_runs_or_cells_are_refused(change: dict[str, Any], words: str) -> None:
    frame = people(np.random.default_rng(12), 40)
    one, two = counted(frame, "a", noise()), counted(frame, "b", noise())
    with pytest.raises(ReportError, match=words):
        join_any([one, two.model_copy(update=change)])


def more_than_noise(content: dict[str, Any]) -> None:
    content["tables"][1]["counts"][0][0] += 10_000


def far_below(content: dict[str, Any]) -> None:
    content["tables"][0]["counts"][0][0] = -10_000


def too_many(content: dict[str, Any]) -> None:
    content["tables"][0]["counts"][0][0] = 10**30


def a_cell_less(content: dict[str, Any]) -> None:
    content["tables"][1]["counts"].pop()


def a_table_less(content: dict[str, Any]) -> None:
    content["tables"].pop()


def less_epsilon(content: dict[str, Any]) -> None:
    content["noise"]["epsilon"] = 0.1


def fewer_tables(content: dict[str, Any]) -> None:
    content["noise"]["tables"] = 1


def shares_of_nobody(content: dict[str, Any]) -> None:
    content["noise"]["noise_stores"] = 2


def a_group_that_is_reserved(content: dict[str, Any]) -> None:
    content["groups"]["skin"] = ["light", "medium", "not recorded"]


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (more_than_noise, "add up to"),
        (far_below, "further below 0"),
        (too_many, "less than or equal"),
        (a_cell_less, "cells of 16 counts are due"),
        (a_table_less, "tables by"),
        (less_epsilon, "costs epsilon"),
        (fewer_tables, "one person moves 4 tables"),
        (shares_of_nobody, "one share"),
        (a_group_that_is_reserved, "Name 1 to"),
    ],
)
def test_files_that_contradict_themselves_are_named(
    tmp_path: Path, spoil: Callable[[dict[str, Any]], None], words: str
) -> None:
    made = counted(people(np.random.default_rng(13), 60), "a", noise(epsilon=20.0))
    content = json.loads(made.to_json())
    spoil(content)
    path = tmp_path / "counts.json"
    path.write_text(json.dumps(content))
    with pytest.raises(ReportError, match=words) as error:
        read_any(path)
    assert "counts.json" in str(error.value)


def test_exact_sums_have_no_room_for_lies() -> None:
    vector = PLAN.vector(people(np.random.default_rng(14), 60))
    for place, change in ((0, -vector[0] - 1), (-1, 1)):
        spoilt = vector.copy()
        spoilt[place] += change
        with pytest.raises(ValueError, match=r"below 0|add up to"):
            CellCounts.of(PLAN, spoilt, run_id="r", stores=["a"], noise=None)


def test_files_that_are_none_are_named(tmp_path: Path) -> None:
    for text, words in (("[]", "no.json"), ("{", "no.json"), ('{"schema": "x"}', "no.json")):
        path = tmp_path / "no.json"
        path.write_text(text)
        with pytest.raises(ReportError, match=words):
            read_any(path)
    with pytest.raises(ReportError, match="cannot be read"):
        read_any(tmp_path / "nowhere.json")
