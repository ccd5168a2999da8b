from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from privemo_audits import Report, build_report
from privemo_audits.accounting import Release, epsilon_dp_accounting, epsilon_rdp
from privemo_audits.errors import RunFilesError
from tests.support.audit_runs import RunMaker, epsilons, sha

Rows = list[dict[str, Any]]


def check(report: Report, name: str) -> tuple[bool, str]:
    (found,) = [c for c in report.checks if c.id == name]
    return found.passed, found.evidence


def test_epsilon_is_recomputed_per_store_and_round(truthful: RunMaker) -> None:
    got = build_report(truthful.directory).privacy
    done = [Release(2.0, 0.2, 5)] * 2
    for store in got.stores:
        assert store.recomputed_rdp == pytest.approx(epsilon_rdp(done, 1e-5))
        assert store.recomputed_pld == pytest.approx(epsilon_dp_accounting(done, 1e-5, "pld"))
        assert [r.recomputed_rdp for r in store.rounds] == pytest.approx(
            [epsilon_rdp(done[:1], 1e-5), epsilon_rdp(done, 1e-5)]
        )
        assert all(r.arrived for r in store.rounds)
    assert got.epsilon_max_person == max(s.epsilon_rdp or 0 for s in got.stores)
    assert got.accountants["rdp"] == got.epsilon_max_person
    assert (got.unit, got.delta, got.neighbouring) == ("person", 1e-5, "add_or_remove_one_person")


@pytest.mark.parametrize("accountant", ["rdp", "prv"])
def test_a_claim_below_the_cost_is_named_and_not_believed(run: RunMaker, accountant: str) -> None:
    def halve(rows: Rows) -> Rows:
        return [r | {f"epsilon_{accountant}": r[f"epsilon_{accountant}"] / 2} for r in rows]

    run.edit_json("run.json", lambda r: r["privacy"].update(accountant=accountant))
    run.edit_ledger(0, halve, rechain=True)
    report = build_report(run.directory)
    passed, evidence = check(report, "privacy.recomputed_agrees")
    assert not passed
    assert "store-01" in evidence
    done = [Release(2.0, 0.2, 10)]
    truth = (
        epsilon_rdp(done, 1e-5) if accountant == "rdp" else epsilon_dp_accounting(done, 1e-5, "pld")
    )
    assert report.privacy.epsilon_max_person is not None
    assert report.privacy.epsilon_max_person >= truth * (1 - 1e-9)


def test_noise_stated_too_high_for_the_claim_passes_but_lower_noise_does_not(run: RunMaker) -> None:
    """Half the noise under the old claim: the classic bug, caught by recomputing."""
    run.edit_ledger(1, lambda rows: [r | {"noise_multiplier": 1.0} for r in rows], rechain=True)
    report = build_report(run.directory)
    assert "privacy.recomputed_agrees" in report.failed_checks
    assert report.privacy.most_exposed_stores == ("store-02",)


def test_a_budget_exceeded_fails(run: RunMaker) -> None:
    run.edit_json("run.json", lambda r: r["privacy"].update(epsilon_budget=1.0))
    report = build_report(run.directory)
    assert report.failed_checks == ("privacy.within_budget",)
    assert "1.8" in check(report, "privacy.within_budget")[1]


def test_a_release_whose_update_never_arrived_still_counts(run: RunMaker) -> None:
    """A crash after the ledger entry: the noise was drawn, the privacy is spent."""
    rdp, prv = epsilons(2.0, 0.2, 15, 1e-5)

    def crash(rows: Rows) -> Rows:
        extra = rows[-1] | {
            "round": 3,
            "update_sha256": sha("lost"),
            "epsilon_rdp": rdp,
            "epsilon_prv": prv,
        }
        return [*rows, extra]

    before = build_report(run.directory).privacy.epsilon_max_person
    run.edit_ledger(0, crash, rechain=True)
    report = build_report(run.directory)
    assert report.passed
    assert report.privacy.released_not_arrived == ("store-01: ledger entry 2, round 3",)
    assert before is not None
    assert report.privacy.epsilon_max_person is not None
    assert report.privacy.epsilon_max_person > before


def test_an_update_without_an_entry_is_named(run: RunMaker) -> None:
    run.edit_ledger(1, lambda rows: rows[:1], rechain=True)
    report = build_report(run.directory)
    passed, evidence = check(report, "ledger.covers_updates")
    assert not passed
    assert "store-02, round 2" in evidence


def test_a_missing_ledger_of_a_store_that_trained_is_named(run: RunMaker) -> None:
    run.path(0, "ledger.jsonl").unlink()
    report = build_report(run.directory)
    assert "ledger.covers_updates" in report.failed_checks


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"unit": "image"}, "protects a 'image'"),
        ({"mechanism": "laplace"}, "'laplace', which cannot be recomputed"),
        ({"delta": 1e-3}, "has delta 0.001"),
        ({"store": "store-09"}, "belongs to store 'store-09'"),
    ],
)
def test_an_entry_that_is_not_what_was_promised_is_named(
    run: RunMaker, change: dict[str, Any], words: str
) -> None:
    run.edit_ledger(0, lambda rows: [rows[0], rows[1] | change], rechain=True)
    passed, evidence = check(build_report(run.directory), "ledger.covers_updates")
    assert not passed
    assert words in evidence


def test_no_noise_is_unbounded(run: RunMaker) -> None:
    run.edit_ledger(0, lambda rows: [r | {"noise_multiplier": 0.0} for r in rows], rechain=True)
    report = build_report(run.directory)
    assert (report.privacy.unbounded, report.privacy.epsilon_max_person) == (True, None)
    assert {"privacy.within_budget", "privacy.recomputed_agrees"} <= set(report.failed_checks)
    assert "unbounded" in " ".join(report.summary)


def test_without_privacy_the_report_says_so_in_plain_words(
    make_run: Callable[..., RunMaker],
) -> None:
    report = build_report(make_run(private=False, trained=8, held_out=30).directory)
    assert report.passed
    assert (report.privacy.private, report.privacy.epsilon_max_person) == (False, None)
    assert "no privacy guarantee" in " ".join(report.summary)
    assert not any(c.id.startswith("privacy.") for c in report.checks)


def test_seeded_noise_must_not_be_released(run: RunMaker) -> None:
    run.edit_json("run.json", lambda r: r["privacy"].update(noise_source="seeded"))
    report = build_report(run.directory)
    assert report.passed  # a simulation may; it informs
    assert not check(report, "privacy.noise_unpredictable")[0]
    assert "must not be released" in " ".join(report.summary)


def test_a_store_that_never_trained_spent_nothing(make_run: Callable[..., RunMaker]) -> None:
    run = make_run(rounds=0, trained=5, held_out=30)
    report = build_report(run.directory)
    assert report.privacy.epsilon_max_person == 0.0
    assert "model.provenance" in report.failed_checks


def test_declared_store_sets_are_composed(run: RunMaker) -> None:
    def declare(r: dict[str, Any]) -> None:
        r["store_sets"] = [["store-01", "store-02"]]
        r["privacy"]["max_stores_per_person"] = 2

    run.edit_json("run.json", declare)
    report = build_report(run.directory)
    assert report.passed
    both = epsilon_rdp([Release(2.0, 0.2, 20)], 1e-5)
    assert report.privacy.epsilon_max_person == pytest.approx(both)
    assert report.privacy.most_exposed_stores == ("store-01", "store-02")
    assert math.isclose(report.privacy.accountants["rdp"] or 0, both)


def test_more_stores_for_a_person_than_promised_fails(run: RunMaker) -> None:
    run.edit_json("run.json", lambda r: r.update(store_sets=[["store-01", "store-02"]]))
    assert "privacy.store_sets" in build_report(run.directory).failed_checks


EARLIER = {"noise_multiplier": 3.0, "sample_rate": 0.2, "steps": 40}


def before(run: RunMaker, *releases: dict[str, Any]) -> Report:
    run.edit_json("run.json", lambda r: r["privacy"].update(spent_before=list(releases)))
    return build_report(run.directory)


def test_what_was_spent_on_the_same_people_before_counts(run: RunMaker) -> None:
    got = before(run, EARLIER, {"epsilon": 0.5, "delta": 5e-6})
    both = [Release(3.0, 0.2, 40), Release(2.0, 0.2, 10)]
    assert got.passed
    assert got.privacy.epsilon_max_person == pytest.approx(0.5 + epsilon_rdp(both, 5e-6))
    assert got.privacy.recomputed["pld"] == pytest.approx(
        0.5 + epsilon_dp_accounting(both, 5e-6, "pld")
    )
    earlier = 0.5 + epsilon_rdp(both[:1], 5e-6)
    assert any(f"before this run: {earlier:.3f}" in note for note in got.privacy.notes)


def test_a_budget_that_an_earlier_run_used_up_fails(run: RunMaker) -> None:
    run.edit_json("run.json", lambda r: r["privacy"].update(epsilon_budget=2.0))
    assert build_report(run.directory).passed
    assert before(run, EARLIER).failed_checks == ("privacy.within_budget",)


def test_deltas_of_earlier_releases_that_use_up_delta_leave_no_bound(run: RunMaker) -> None:
    got = before(run, {"epsilon": 0.1, "delta": 1e-5})
    assert got.privacy.unbounded
    assert "privacy.within_budget" in got.failed_checks


@pytest.mark.parametrize(
    "nonsense",
    [
        {},
        {"noise_multiplier": 3.0, "sample_rate": 0.2},
        {**EARLIER, "epsilon": 1.0},
        {"epsilon": 1.0, "steps": 3},
        {"epsilon": -1.0},
        {**EARLIER, "noise_multiplier": 0.0},
    ],
)
def test_an_earlier_release_of_no_sense_is_refused(run: RunMaker, nonsense: dict[str, Any]) -> None:
    with pytest.raises(RunFilesError, match="spent_before"):
        before(run, nonsense)


def test_a_stores_ledger_outlives_its_runs(run: RunMaker) -> None:
    """Entries of an earlier run in the same folder count in full, and no update of theirs is missed."""
    alone = build_report(run.directory).privacy.epsilon_max_person or 0.0

    def with_earlier(rows: Rows) -> Rows:
        first, *_ = rows
        earlier = first | {"run_id": "run-0000", "update_sha256": sha("earlier")}
        claims = [epsilons(2.0, 0.2, 5 * n, 1e-5) for n in (1, 2, 3)]
        return [
            row | {"epsilon_rdp": rdp, "epsilon_prv": prv}
            for row, (rdp, prv) in zip([earlier, *rows], claims, strict=True)
        ]

    run.edit_ledger(0, with_earlier, rechain=True)
    report = build_report(run.directory)
    assert report.passed
    assert (report.privacy.epsilon_max_person or 0.0) > 1.1 * alone
    assert report.privacy.released_not_arrived == ()
    assert any("other runs of these stores: 1." in note for note in report.privacy.notes)


# -- noise that stores share ---------------------------------------------------------------------------


def share_the_noise(run: RunMaker, *, needs: int, summed: list[str] | None) -> Report:
    """Entries of shared noise that claim what it costs, in rounds of those sums."""

    def shared(rows: Rows) -> Rows:
        kind = {"mechanism": "poisson_subsampled_discrete_gaussian_sum", "noise_stores": needs}
        costs = [
            epsilon_rdp([Release(2.0, 0.2, 5 * n, True)], 1e-5) for n in range(1, len(rows) + 1)
        ]
        return [
            row | kind | {"epsilon_rdp": cost, "epsilon_prv": cost}
            for row, cost in zip(rows, costs, strict=True)
        ]

    for index in range(len(run.stores)):
        run.edit_ledger(index, shared, rechain=True)
    if summed is not None:
        for number in (1, 2):
            sums = {"attempt": "0" * 32, "enough": needs, "summed": summed}
            run.edit_json(
                f"rounds/{number:04d}.json", lambda r, sums=sums: r.update(secure_sum=sums)
            )  # type: ignore[misc]
    return build_report(run.directory)


def test_shared_noise_is_recomputed_as_such(run: RunMaker) -> None:
    report = share_the_noise(run, needs=2, summed=run.stores)
    assert not report.failed_checks
    assert "2 rounds are secure sums of 2 stores" in check(report, "ledger.covers_updates")[1]
    assert "RDP at whole orders" in check(report, "privacy.recomputed_agrees")[1]
    want = epsilon_rdp([Release(2.0, 0.2, 10, True)], 1e-5)
    assert report.privacy.epsilon_max_person == pytest.approx(want)


@pytest.mark.parametrize(
    ("needs", "summed", "why"),
    [
        (3, ["store-01", "store-02"], "was in a sum of 2 stores, and its noise is whole from 3 on"),
        (2, ["store-01"], "was in a sum of 1 stores"),
        (2, None, "arrived by itself"),
    ],
)
def test_noise_that_too_few_stores_added_is_named(
    run: RunMaker, needs: int, summed: list[str] | None, why: str
) -> None:
    report = share_the_noise(run, needs=needs, summed=summed)
    assert report.failed_checks == ("ledger.covers_updates",)
    assert why in check(report, "ledger.covers_updates")[1]


def test_shared_noise_claimed_as_if_it_were_real_is_underclaimed(run: RunMaker) -> None:
    """Fractional orders, or PRV, say less than is proved of discrete noise."""
    share_the_noise(run, needs=2, summed=run.stores)
    tight = epsilon_dp_accounting([Release(2.0, 0.2, 10)], 1e-5, "pld")
    run.edit_ledger(0, lambda rows: [r | {"epsilon_prv": tight} for r in rows], rechain=True)
    assert "privacy.recomputed_agrees" in build_report(run.directory).failed_checks


def test_stores_of_one_sum_that_added_other_noise_are_named(run: RunMaker) -> None:
    share_the_noise(run, needs=2, summed=run.stores)
    run.edit_ledger(1, lambda rows: [r | {"noise_multiplier": 1.5} for r in rows], rechain=True)
    report = build_report(run.directory)
    assert "noise of 2 kinds" in check(report, "ledger.covers_updates")[1]


def test_nothing_bounds_somebody_in_two_stores_of_one_sum(run: RunMaker) -> None:
    share_the_noise(run, needs=2, summed=run.stores)
    run.edit_json("run.json", lambda r: r.update(store_sets=[run.stores]))
    run.edit_json("run.json", lambda r: r["privacy"].update(max_stores_per_person=2))
    report = build_report(run.directory)
    assert "privacy.within_budget" in report.failed_checks
    assert report.privacy.epsilon_max_person is None
