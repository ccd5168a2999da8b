"""What stores agree to have counted: the limits, each with what lies beyond it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from privemo.config import PrivacySettings, RunSettings
from privemo.countrequest import CountRequest
from privemo.countterms import CountTerms
from privemo.errors import BudgetExhausted, SettingsError
from privemo_audits.cellplan import CellPlan

GROUPS = (("age_band", ("young", "old")), ("region", ("north", "south")))
TERMS = CountTerms(groups=GROUPS, epsilon=2.0)
ALL = TERMS.request("run-1", 1e-5)


def asked(**changes: Any) -> CountRequest:
    return replace(ALL, **changes)


def plan(*groups: tuple[str, tuple[str, ...]], labels: tuple[str, ...] | None = None) -> CellPlan:
    return CellPlan(labels or ALL.plan.label_names, groups)


@pytest.mark.parametrize(
    "request_",
    [
        ALL,
        asked(epsilon=0.5),
        asked(plan=plan(GROUPS[1])),
        asked(plan=plan()),
        asked(plan=plan(GROUPS[1], GROUPS[0])),
    ],
)
def test_what_asks_for_no_more_passes(request_: CountRequest) -> None:
    TERMS.check(request_)


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (asked(epsilon=2.001), "noise for 2.001"),
        (asked(epsilon=None), "none is asked for"),
        (asked(plan=plan(("age_band", ("young",)))), "'age_band'"),
        (asked(plan=plan(("age_band", ("old", "young")))), "'age_band'"),
        (asked(plan=plan(("skin_tone", ("light",)))), "'skin_tone'"),
        (asked(plan=plan(GROUPS[0], labels=("glad", "sad"))), "other emotions"),
    ],
)
def test_what_asks_for_more_or_something_else_is_refused(
    request_: CountRequest, words: str
) -> None:
    with pytest.raises(SettingsError, match=words):
        TERMS.check(request_)


def test_who_agreed_to_exact_counts_is_not_asked_for_noised_ones() -> None:
    exact = TERMS.model_copy(update={"epsilon": None})
    exact.check(asked(epsilon=None))
    with pytest.raises(SettingsError, match="Exact counts were agreed on"):
        exact.check(ALL)


def test_a_store_may_agree_to_less_and_to_nothing_but_not_to_more() -> None:
    less = TERMS.less(1.0)
    assert less is not None
    assert (less.epsilon, less.groups, less.releases) == (1.0, GROUPS, 2)
    assert TERMS.less(0) is None
    for more in (2.5, -1.0, float("nan")):
        with pytest.raises(SettingsError, match="is not less"):
            TERMS.less(more)
    assert TERMS.model_copy(update={"epsilon": None}).less(1.0) == less


@pytest.mark.parametrize("change", [{"epsilon": 0.0}, {"epsilon": float("inf")}, {"releases": 0}])
def test_terms_out_of_range_are_named(change: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match=f"Counts refused: {next(iter(change))}"):
        CountTerms.of(**{"groups": GROUPS, "epsilon": 2.0, "releases": 2, **change})


def test_all_releases_together_have_to_fit_the_budget() -> None:
    budget = {"epsilon": 8.0, "delta": 1e-5, "accountant": "rdp"}
    TERMS.check_cost(**budget)
    with pytest.raises(BudgetExhausted, match="2 release"):
        TERMS.model_copy(update={"epsilon": 7.0}).check_cost(**budget)
    one = TERMS.model_copy(update={"epsilon": 7.0, "releases": 1})
    one.check_cost(**budget)
    with pytest.raises(BudgetExhausted, match="over the budget of 8"):
        one.check_cost(**budget, times=3)
    TERMS.model_copy(update={"epsilon": None}).check_cost(**budget)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"sensitive": ("age_band",)}, "counts by 'region': name it among the sensitive columns"),
        ({"counts": TERMS.model_copy(update={"epsilon": None})}, "a secure sum alone"),
        ({"privacy": None, "plain": {}}, "without privacy has none"),
    ],
)
def test_settings_that_no_counts_go_with_are_refused(change: dict[str, Any], words: str) -> None:
    good = {"sensitive": ("age_band", "region"), "counts": TERMS, "privacy": PrivacySettings()}
    assert RunSettings.of(**good).counts == TERMS
    with pytest.raises(SettingsError, match=words):
        RunSettings.of(**{**good, **change})


def test_settings_without_counts_are_written_as_before() -> None:
    """A run's name, and a seeded run's draws, follow from them."""
    assert "counts" not in RunSettings().model_dump()
    with_counts = RunSettings(sensitive=("age_band", "region"), counts=TERMS)
    assert RunSettings.of(**with_counts.model_dump(mode="json")) == with_counts
