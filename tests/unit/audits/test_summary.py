"""What the first lines of a report say of gaps: no more than is known, and nothing that contradicts."""

from __future__ import annotations

import pytest

from privemo_audits.report_performance import Gap
from privemo_audits.summary import _fairness


def gap(*ci: float, real: bool = True) -> Gap:
    low, high = ci
    return Gap(
        feature="age_band",
        groups_compared=5,
        pairs=10,
        highest="35_44",
        lowest="55_64",
        accuracy_gap=0.22,
        ci=(low, high),
        p=0.004,
        p_adjusted=0.04,
        real=real,
    )


def test_a_gap_that_is_sure_is_told_with_its_interval() -> None:
    told = _fairness([], [gap(0.05, 0.41)])
    assert "22 points ahead of “55_64” (between 5 and 41)" in told


def test_a_gap_whose_interval_holds_none_is_told_as_more_than_chance_and_uncertain() -> None:
    told = _fairness([], [gap(-0.02, 0.49)])
    assert "It does not work equally well for everyone" in told
    assert "uncertain: up to 49 points" in told
    assert "-2" not in told


@pytest.mark.parametrize("ci", [(-0.2, 0.49), (0.05, 0.41)])
def test_a_gap_that_may_be_chance_is_not_called_one(ci: tuple[float, float]) -> None:
    told = _fairness([], [gap(*ci, real=False)])
    assert "larger than chance could make" in told
    assert "does not prove" in told


@pytest.mark.parametrize("real", [True, False])
def test_what_a_gap_is_between_is_said_in_words_and_not_as_a_column(real: bool) -> None:
    told = _fairness([], [gap(0.05, 0.41, real=real)])
    assert "by age band" in told
    assert "age_band" not in told
