"""Counts of stores, joined: the same audit as of one table, and nothing in them but counts."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from privemo_audits import PredictionsError, ReportError
from privemo_audits.cells import measure_groups
from privemo_audits.counts import GroupCounts, count_groups, read_counts
from privemo_audits.fairness import measure_performance
from privemo_audits.joined import join_counts
from tests.support.audit_runs import LABELS

SENSITIVE = ("skin", "age")
STORES = ("store-01", "store-02", "store-03")


def people(rng: np.random.Generator, store: str, n: int, faces: int = 1) -> pd.DataFrame:
    """So many people of one store; a model that is right three times in four."""
    who = np.repeat(np.arange(n), faces)
    label = rng.integers(0, 4, n * faces)
    said = np.where(rng.random(n * faces) < 0.75, label, rng.integers(0, 4, n * faces))
    return pd.DataFrame(
        {
            "store": store,
            "person": [f"{store}-p{i}" for i in who],
            "face": [f"{store}-f{i}" for i in range(n * faces)],
            "label": [LABELS[i] for i in label],
            "prediction": [LABELS[i] for i in said],
            "skin": np.array(["light", "medium", "dark", ""])[rng.integers(0, 4, n)][who],
            "age": np.array(["18-24", "25-34", "65 and over"])[rng.integers(0, 3, n)][who],
        }
    )


def counted(frame: pd.DataFrame, folder: Path, *, run_id: str = "run-1") -> GroupCounts:
    path = folder / "predictions.csv"
    frame.to_csv(path, index=False)
    return count_groups(
        path,
        run_id=run_id,
        store=frame["store"].iloc[0],
        label_names=LABELS,
        sensitive=SENSITIVE,
    )


def pooled(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    frame = pd.concat(frames, ignore_index=True)
    for column in ("label", "prediction"):
        frame[column] = frame[column].map(LABELS.index)
    return frame


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(seed=st.integers(0, 2**31), sizes=st.lists(st.integers(1, 60), min_size=1, max_size=3))
def test_the_joined_audit_is_the_pooled_one_to_the_last_digit(
    tmp_path: Path, seed: int, sizes: list[int]
) -> None:
    rng = np.random.default_rng(seed)
    frames = [people(rng, store, n) for store, n in zip(STORES, sizes, strict=False)]
    table = pooled(frames)
    parts = [counted(frame, tmp_path) for frame in frames]
    if table["label"].nunique() < 2:
        with pytest.raises(ReportError, match="same emotion"):
            join_counts(parts)
        return
    joined = join_counts(parts)
    cells, gaps, _ = measure_groups(table, SENSITIVE, LABELS)
    assert joined.groups == tuple(cells)
    assert joined.gaps == tuple(gaps)
    assert joined.performance == measure_performance(table, LABELS)


def test_the_order_of_stores_and_of_faces_does_not_matter(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    frames = [people(rng, store, 40) for store in STORES]
    parts = [counted(frame, tmp_path) for frame in frames]
    again = [counted(frame.sample(frac=1, random_state=2), tmp_path) for frame in frames]
    assert [p.to_json() for p in again] == [p.to_json() for p in parts]
    assert join_counts(parts[::-1]).to_json() == join_counts(parts).to_json()


def test_each_person_counts_once_and_nobody_chose_with_which_face(tmp_path: Path) -> None:
    frame = people(np.random.default_rng(3), "store-01", 50, faces=4)
    one, other = (counted(frame, tmp_path, run_id=run_id) for run_id in ("run-1", "run-2"))
    assert one.persons == 50
    assert counted(frame, tmp_path).to_json() == one.to_json()
    assert one.tables[0] != other.tables[0]  # another run draws other faces


def test_nothing_but_counts_is_in_the_file(tmp_path: Path) -> None:
    frame = people(np.random.default_rng(4), "store-01", 30)
    text = counted(frame, tmp_path).to_json().decode()
    for value in (*frame["person"], *frame["face"]):
        assert value not in text
    assert set(json.loads(text)) == {
        *("schema", "run_id", "store", "label_names", "sensitive", "persons", "tables")
    }


def test_groups_that_could_single_someone_out_are_hidden_in_the_sum(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    frames = [people(rng, store, 40).assign(skin="light") for store in STORES]
    frames[0].loc[:1, "skin"] = "dark"
    joined = join_counts([counted(frame, tmp_path) for frame in frames])
    assert {c.status for c in joined.groups if c.feature == "skin"} == {"suppressed"}


# -- what does not go together ---------------------------------------------------------------------


def parts_of(tmp_path: Path) -> list[GroupCounts]:
    rng = np.random.default_rng(6)
    return [counted(people(rng, store, 30), tmp_path) for store in STORES]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"store": "store-02"}, "'store-02' comes twice"),
        ({"run_id": "run-2"}, "run_id 'run-1', and store-01 'run-2'"),
        ({"label_names": ("happy", "sad", "neutral", "angry")}, "label_names"),
    ],
)
def test_counts_that_do_not_go_together_are_refused(
    tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    parts = parts_of(tmp_path)
    parts[0] = parts[0].model_copy(update=change)
    with pytest.raises(ReportError, match=words):
        join_counts(parts)


def test_nothing_to_join_is_said() -> None:
    with pytest.raises(ReportError, match="no counts"):
        join_counts([])


def one_more(content: dict[str, Any]) -> None:
    content["tables"][1]["cells"][0]["confusion"][0][0] += 1


def below_none(content: dict[str, Any]) -> None:
    content["tables"][0]["cells"][0]["confusion"][0][0] = -1


def too_many(content: dict[str, Any]) -> None:
    content["tables"][0]["cells"][0]["confusion"][0][0] = 10**30


def a_table_less(content: dict[str, Any]) -> None:
    content["tables"].pop()


def a_group_twice(content: dict[str, Any]) -> None:
    content["tables"][1]["cells"][1]["groups"] = content["tables"][1]["cells"][0]["groups"]


def too_narrow(content: dict[str, Any]) -> None:
    for row in content["tables"][0]["cells"][0]["confusion"]:
        row.pop()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (one_more, "do not add up to 30 people"),
        (below_none, "greater than or equal to 0"),
        (too_many, "less than or equal to"),
        (a_table_less, "tables by"),
        (a_group_twice, "each group stands there once"),
        (too_narrow, "4 by 4 counts"),
    ],
)
def test_counts_that_contradict_each_other_are_named(
    tmp_path: Path, spoil: Callable[[dict[str, Any]], None], words: str
) -> None:
    content = json.loads(parts_of(tmp_path)[0].to_json())
    spoil(content)
    path = tmp_path / "counts.json"
    path.write_text(json.dumps(content))
    with pytest.raises(ReportError, match=words) as error:
        read_counts(path)
    assert "counts.json" in str(error.value)


def test_a_file_that_is_none_is_named(tmp_path: Path) -> None:
    path = tmp_path / "counts.json"
    with pytest.raises(ReportError, match="cannot be read"):
        read_counts(path)
    path.write_text('{"schema": ')
    with pytest.raises(ReportError, match=r"counts\.json"):
        read_counts(path)


def test_numbers_that_every_store_would_cut_in_its_own_way_are_refused(tmp_path: Path) -> None:
    frame = people(np.random.default_rng(7), "store-01", 60)
    frame["skin"] = np.linspace(0, 1, 60)
    with pytest.raises(PredictionsError, match="'skin' has more than"):
        counted(frame, tmp_path)


def test_ages_are_cut_alike_everywhere(tmp_path: Path) -> None:
    frame = people(np.random.default_rng(8), "store-01", 60)
    frame["age"] = np.arange(60) + 18
    ages = next(t for t in counted(frame, tmp_path).tables if t.features == ("age",))
    assert {cell.groups[0] for cell in ages.cells} <= {
        *("18-24", "25-34", "35-44", "45-54", "55-64", "65 and over")
    }


def test_stores_of_few_ages_and_of_many_are_cut_alike(tmp_path: Path) -> None:
    """With two features, of which pairs are made."""
    rng = np.random.default_rng(10)
    few, many = (people(rng, store, 40) for store in STORES[:2])
    few["age"], many["age"] = rng.integers(20, 25, 40), np.arange(40) + 18
    joined = join_counts([counted(frame, tmp_path) for frame in (few, many)])
    groups = {c.group for c in joined.groups if c.feature == "age"}
    assert groups <= {"18-24", "25-34", "35-44", "45-54", "55-64"}
    cells, gaps, _ = measure_groups(pooled([few, many]).astype({"age": str}), SENSITIVE, LABELS)
    assert joined.groups == tuple(cells)
    assert joined.gaps == tuple(gaps)


def test_numbers_that_are_few_in_each_store_and_many_together_are_refused(tmp_path: Path) -> None:
    rng = np.random.default_rng(11)
    frames = [people(rng, store, 40) for store in STORES[:2]]
    for shift, frame in enumerate(frames):
        frame["skin"] = rng.integers(0, 8, 40) + 8 * shift
    parts = [counted(frame, tmp_path) for frame in frames]
    with pytest.raises(ReportError, match="'skin' are more than"):
        join_counts(parts)


def test_a_store_where_nobody_is_measured_is_told_so(tmp_path: Path) -> None:
    frame = people(np.random.default_rng(9), "store-01", 1)
    path = tmp_path / "predictions.csv"
    frame.head(0).to_csv(path, index=False)
    with pytest.raises(PredictionsError, match="holds no faces"):
        count_groups(path, run_id="r", store="store-01", label_names=LABELS, sensitive=SENSITIVE)
