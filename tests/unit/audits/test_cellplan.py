"""Cells that are agreed on beforehand: what they are, and that a person moves one count in each table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privemo_audits import PolicyError
from privemo_audits.cellplan import AGES, ANOTHER, CellPlan, load_groups
from tests.support.audit_runs import LABELS

SKIN = ("light", "medium", "dark")
PLAN = CellPlan(LABELS, (("skin", SKIN), ("age", AGES)))


def faces(rows: list[tuple[str, str, int, int]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["skin", "age", "label", "prediction"])


PERSON = st.tuples(
    st.sampled_from([*SKIN, "", "  ", "green", ANOTHER]),
    st.sampled_from(["18", "24.9", "65", "130", "", "old", "25_34", "1e3", "nan", "12", "18-24"]),
    st.integers(0, 3),
    st.integers(0, 3),
)


@settings(deadline=None, max_examples=50)
@given(st.lists(PERSON, min_size=0, max_size=12), PERSON)
def test_one_person_more_moves_one_count_in_each_table_by_one(
    others: list[tuple[str, str, int, int]], person: tuple[str, str, int, int]
) -> None:
    """Whoever else is there: this is what the noise is made for."""
    before, after = PLAN.vector(faces(others)), PLAN.vector(faces([*others, person]))
    step = after - before
    assert sorted(np.unique(step)) in ([0, 1], [1])
    assert int((step**2).sum()) == len(PLAN.tables)
    assert {int(t.sum()) for t in PLAN.split(step).values()} == {1}
    assert np.array_equal(step, PLAN.vector(faces([person])))  # no one else decides where


def test_all_tables_count_the_same_people() -> None:
    rows = [("light", "30", 0, 0), ("", "x", 1, 2), ("green", "17", 3, 3)]
    split = PLAN.split(PLAN.vector(faces(rows)))
    assert {int(t.sum()) for t in split.values()} == {3}
    by_skin = dict(zip(PLAN.cells(("skin",)), split[("skin",)].sum(axis=(1, 2)), strict=True))
    assert by_skin == {
        ("light",): 1,
        ("medium",): 0,
        ("dark",): 0,
        ("not recorded",): 1,
        (ANOTHER,): 1,
    }
    by_age = dict(zip(PLAN.cells(("age",)), split[("age",)].sum(axis=(1, 2)), strict=True))
    assert by_age[("25-34",)] == by_age[("under 18",)] == by_age[(ANOTHER,)] == 1


def test_cells_are_the_same_whoever_is_there() -> None:
    assert PLAN.vector(None).shape == PLAN.vector(faces([])).shape == (PLAN.length,)
    assert not PLAN.vector(None).any()


def test_pairs_of_too_many_groups_are_left_out_and_cost_no_noise() -> None:
    many = tuple(f"g{i}" for i in range(40))
    plan = CellPlan(LABELS, (("a", many), ("b", ("u", "v")), ("c", ("x", "y"))))
    assert plan.tables == ((), ("a",), ("b",), ("c",), ("b", "c"))


@pytest.mark.parametrize("names", [(), ("a", "a"), ("not recorded",), (ANOTHER,), ("",)])
def test_groups_that_cannot_be_told_apart_are_refused(names: tuple[str, ...]) -> None:
    with pytest.raises(PolicyError, match="groups of 'skin'"):
        CellPlan(LABELS, (("skin", names),))


def written(folder: Path, text: str) -> Path:
    path = folder / "groups.toml"
    path.write_text(text)
    return path


def test_groups_come_from_a_public_file_or_a_policy(tmp_path: Path) -> None:
    groups = written(
        tmp_path, 'schema = "privemo.groups/1"\n[groups]\nskin = ["light", "medium", "dark"]\n'
    )
    assert load_groups(groups, ["skin", "age"], LABELS) == PLAN
    policy = written(
        tmp_path,
        'schema = "privemo.policy/1"\n[representation.reference.skin]\n'
        "light = 0.3\nmedium = 0.3\ndark = 0.4\n",
    )
    assert load_groups(policy, ["skin", "age"], LABELS) == PLAN


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("not toml at all [", "cannot be read"),
        ('schema = "privemo.groups/1"\n', "holds no groups"),
        ('schema = "another"\n[groups]\nskin = ["a"]\n', "holds no groups"),
        ('schema = "privemo.groups/1"\nmore = 1\n[groups]\nskin = ["a"]\n', "holds no groups"),
        ('schema = "privemo.groups/1"\n[groups]\nskin = "light"\n', "groups.skin is no list"),
        ('schema = "privemo.groups/1"\n[groups]\nskin = [1, 2]\n', "groups.skin is no list"),
        ('schema = "privemo.groups/1"\n[groups]\nskin = []\n', "groups of 'skin'"),
        ('schema = "privemo.groups/1"\n[groups]\nage_band = ["a"]\n', "nobody named the groups of"),
    ],
)
def test_files_that_name_no_groups_are_refused(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(PolicyError, match=words):
        load_groups(written(tmp_path, text), ["skin"], LABELS)


def test_a_column_whose_groups_nobody_named_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="would tell who is in them"):
        load_groups(None, ["skin"], LABELS)
    with pytest.raises(PolicyError, match="cannot be read"):
        load_groups(tmp_path / "no.toml", ["skin"], LABELS)
