from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from privemo_audits.groups import NOT_RECORDED, group_rows, hide


def text(*values: str) -> pd.Series[str]:
    return pd.Series(list(values), dtype=str)


def label_groups(column: pd.Series[str], name: str) -> tuple[list[str], list[str]]:
    """The name of each row's group, and the groups."""
    row, order = group_rows(column, name)
    return [order[r] for r in row.tolist()], order


def test_ages_are_banded() -> None:
    ages = [str(a) for a in (17, 18, 24.9, 25, 34, 44, 54, 64, 65, 90, 30, 31)]
    labels, order = label_groups(text(*ages), "est_age")
    assert labels[:5] == ["under 18", "18-24", "18-24", "25-34", "25-34"]
    assert labels[8:10] == ["65 and over", "65 and over"]
    assert order[0] == "under 18"
    assert order[-1] == "65 and over"


def test_a_band_stands_for_exactly_its_ages() -> None:
    ages = np.arange(0, 100)
    labels, _ = label_groups(text(*map(str, ages)), "age")
    for age, label in zip(ages, labels, strict=True):
        if "-" in label:
            low, high = map(int, label.split("-"))
            assert low <= age <= high
        else:
            assert (label == "under 18") == (age < 18)


def test_other_numbers_are_cut_into_quartiles() -> None:
    labels, order = label_groups(text(*(str(v) for v in range(100))), "brightness")
    assert len(order) == 4
    assert [labels.count(g) for g in order] == [25, 25, 25, 25]


def test_numbers_of_few_values_stay_as_they_are() -> None:
    labels, order = label_groups(text("10", "2", "1", "2"), "monk_tone")
    assert labels == ["10", "2", "1", "2"]
    assert order == ["1", "2", "10"]


def test_the_word_age_must_stand_alone() -> None:
    _, order = label_groups(text(*(str(v) for v in range(100))), "image_brightness")
    assert len(order) == 4


@pytest.mark.parametrize("name", ["est_age", "gender"])
def test_what_was_not_recorded_is_a_group_of_its_own(name: str) -> None:
    labels, order = label_groups(text("", *(str(v) for v in range(20, 60)), "  "), name)
    assert labels[0] == labels[-1] == NOT_RECORDED
    assert order[-1] == NOT_RECORDED


def test_a_constant_column_of_words() -> None:
    assert label_groups(text("a", "a"), "x") == (["a", "a"], ["a"])


def column(*people: int) -> np.ndarray:
    return np.array([[n] for n in people], dtype=np.int64)


@pytest.mark.parametrize(
    ("people", "want"),
    [
        ((50, 60), (False, False)),
        ((3, 50, 60), (True, True, False)),  # 3 alone would follow from the total
        ((3, 4, 50), (True, True, False)),  # 7 together: neither follows
        ((2, 2, 50, 60), (True, True, True, False)),  # 4 together is still too few
        ((1, 9), (True, True)),
        ((1, 1, 1, 1, 1, 5), (True,) * 6),  # 5 in five groups would be 1 in each
        ((0, 20, 30), (False, False, False)),
        ((5, 5), (False, False)),
    ],
)
def test_hidden_groups_do_not_follow_from_the_total(
    people: tuple[int, ...], want: tuple[bool, ...]
) -> None:
    assert tuple(hide(column(*people))[:, 0]) == want


def test_hidden_cells_of_a_table_do_not_follow_from_rows_or_columns() -> None:
    table = np.array([[2, 20, 30], [40, 50, 60], [70, 80, 90]], dtype=np.int64)
    hidden = hide(table)
    assert hidden[0, 0]
    for line, mask in [*zip(table, hidden, strict=True), *zip(table.T, hidden.T, strict=True)]:
        if mask.any():
            assert mask.sum() >= 2
            assert line[mask].sum() >= 5


def test_cells_hidden_already_count_as_cover() -> None:
    also = np.zeros((3, 2), dtype=bool)
    also[0] = True
    table = np.array([[20, 20], [3, 40], [50, 60]], dtype=np.int64)
    hidden = hide(table, also)
    assert hidden[0].all()
    assert hidden[1, 0]
    assert hidden[1, 1]  # the row's total is shown, so its other cell must go
    assert not hidden[2].any()
