"""Two reports against each other: nothing that chance could have made is called better or worse."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from privemo_audits import Report, build_report, compared
from privemo_audits.report_privacy import Attempts
from tests.support.audit_runs import RunMaker


@pytest.fixture(scope="module")
def good(truthful: RunMaker) -> Report:
    return build_report(truthful.directory)


def kinds(before: Report, after: Report) -> dict[str, str]:
    return {moved.what: moved.kind for moved in compared(before, after).figures}


def test_a_report_does_not_differ_from_itself(good: Report) -> None:
    found = compared(good, good)
    assert {moved.kind for moved in found.figures} == {"same"}
    assert (found.checks_lost, found.checks_won, found.notes) == ((), (), ())
    assert {"accuracy", "epsilon", "largest gap by gender", "F1 of sad"} <= set(kinds(good, good))


def test_what_is_much_worse_is_worse_and_back_again_better(
    good: Report, make_run: Callable[..., RunMaker]
) -> None:
    bad = build_report(make_run(accuracy=lambda person: 0.3).directory)
    assert kinds(good, bad)["accuracy"] == "worse"
    assert kinds(bad, good)["accuracy"] == "better"
    (change,) = (m.change for m in compared(good, bad).figures if m.what == "accuracy")
    assert change is not None
    assert change[0] < change[1] < 0


def test_attacks_that_only_the_earlier_report_knows_of_are_told(good: Report) -> None:
    def of(begun: int, entries: int, head: str) -> Report:
        attempts = Attempts(
            begun=begun, unfinished=(), faults=(), each=(), entries=entries, head=head
        )
        privacy = good.privacy.model_copy(update={"attempts": attempts})
        return good.model_copy(update={"privacy": privacy})

    one, two, other = of(1, 2, "1" * 64), of(2, 4, "2" * 64), of(2, 4, "3" * 64)
    assert compared(one, two).notes == ()
    assert compared(good, one).notes == ()
    for before, after in ((two, one), (one, good), (two, other)):
        assert "attacks were taken out or changed" in compared(before, after).notes[0]


def test_another_draw_of_the_same_is_neither(
    good: Report, make_run: Callable[..., RunMaker]
) -> None:
    other = build_report(make_run(seed=7).directory)
    assert other.performance.accuracy != good.performance.accuracy
    assert kinds(good, other)["accuracy"] == "unclear"


def test_privacy_is_known_without_chance(good: Report) -> None:
    spent = good.privacy.epsilon_max_person
    assert spent is not None
    more = good.privacy.model_copy(update={"epsilon_max_person": spent + 0.1, "delta": 1e-6})
    other = good.model_copy(update={"privacy": more})
    assert kinds(good, other)["epsilon"] == "worse"
    assert kinds(other, good)["epsilon"] == "better"
    assert "Epsilon is at different deltas." in compared(good, other).notes
    unbounded = good.privacy.model_copy(update={"epsilon_max_person": None})
    assert kinds(good, good.model_copy(update={"privacy": unbounded}))["epsilon"] == "unclear"


def test_a_gap_is_lost_or_won_only_where_it_is_more_than_chance(good: Report) -> None:
    def with_gap(real: bool, size: float) -> Report:
        gaps = [g.model_copy(update={"real": real, "accuracy_gap": size}) for g in good.gaps]
        return good.model_copy(update={"gaps": tuple(gaps)})

    small, chance, large = with_gap(False, 0.01), with_gap(False, 0.2), with_gap(True, 0.2)
    assert kinds(small, chance)["largest gap by gender"] == "unclear"
    assert kinds(small, large)["largest gap by gender"] == "worse"
    assert kinds(large, small)["largest gap by gender"] == "better"


def test_checks_that_changed_are_named_and_so_is_other_data(good: Report) -> None:
    checks = [c.model_copy(update={"passed": c.id != "ledger.chain"}) for c in good.checks]
    data = good.data.model_copy(update={"digest": "0" * 64})
    other = good.model_copy(update={"checks": tuple(checks), "verdict": "failed", "data": data})
    found = compared(good, other)
    assert found.checks_lost == ("ledger.chain",)
    assert compared(other, good).checks_won == ("ledger.chain",)
    assert found.verdicts == ("passed", "failed")
    assert found.notes == ("The runs are of different data.",)
