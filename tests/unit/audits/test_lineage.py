"""Uses that should not have been: each planted by itself, each named with round, store, pseudonym."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from privemo_audits import Report, build_report
from privemo_audits.consent_log import Event
from privemo_audits.report import Violation
from privemo_audits.timeline import Timeline
from privemo_consent import Context
from privemo_consent.terms import Purpose
from tests.support.audit_runs import RunMaker


def breaches(report: Report, kind: str) -> list[Violation]:
    assert set(report.lineage.violations_by_kind) == {kind}, report.lineage.violation_list
    return list(report.lineage.violation_list)


def test_a_truthful_run_has_no_violation(truthful: RunMaker) -> None:
    report = build_report(truthful.directory)
    got = report.lineage
    assert (report.passed, got.violations, got.violation_list) == (True, 0, ())
    assert got.uses_by_purpose == {"training": got.uses}
    assert got.uses > 2 * 2 * 5 * 5
    assert got.persons <= 2 * truthful.trained
    assert (got.withdrawals, got.withdrawals_honoured) == (6, 6)
    assert got.predictions_checked == 2 * truthful.held_out
    assert {s: log["verified"] for s, log in got.consent_logs.items()} == {
        "store-01": True,
        "store-02": True,
    }


def test_what_the_log_says_of_itself_stands_in_the_report(run: RunMaker) -> None:
    shop = Context(setting="retail", jurisdiction="IE")
    with run.registry(0) as registry:
        for person in (run.people(0, "train")[0], run.people(0, "no")[0], "nobody"):
            registry.decide(person, Purpose.TRAINING, shop)
        registry.erase(run.people(0, "gone")[0])
    report = build_report(run.directory)
    assert report.passed
    one, two = (report.lineage.consent_logs[f"store-0{n}"] for n in (1, 2))
    assert one["signed"] == one["entries"] > two["entries"]
    assert (one["decisions"], two["decisions"]) == (
        {"logged": 3, "permitted": 1},
        {"logged": 0, "permitted": 0},
    )
    assert (one["erasures"], one["erased_uses"], two["erasures"]) == (1, 0, 0)


@pytest.mark.parametrize(
    ("kind", "violation", "words"),
    [
        ("no", "no_live_consent", "had refused"),
        ("gone", "no_live_consent", "had withdrawn"),
        ("expired", "expired", "run out"),
        ("staff", "no_live_consent", "had been invalidated"),
        ("held", "wrong_purpose", "had not agreed to training"),
    ],
)
def test_a_use_without_consent_is_named(
    run: RunMaker, kind: str, violation: str, words: str
) -> None:
    person = run.people(1, kind)[0]
    run.use(1, [run.people(1, "train")[0], person], round=2)
    report = build_report(run.directory)
    found = [v for v in report.lineage.violation_list if v.kind == violation]
    assert [(v.store, v.round, v.person) for v in found] == [("store-02", 2, person)]
    assert words in found[0].detail
    assert "batch 90" in found[0].detail
    assert "lineage.no_violation" in report.failed_checks
    assert ("lineage.withdrawals_honoured" in report.failed_checks) is (kind == "gone")
    assert not report.passed


def test_consent_is_judged_as_of_the_batch_not_as_of_today(run: RunMaker) -> None:
    """Whoever withdraws after the last round was rightly used before it."""
    with run.registry(0) as registry:
        registry.withdraw(run.people(0, "train")[0])
    report = build_report(run.directory)
    assert report.lineage.violations == 0
    assert (report.lineage.withdrawals, report.lineage.withdrawals_honoured) == (7, 7)


def test_a_batch_on_a_stale_snapshot_is_a_use_after_withdrawal(run: RunMaker) -> None:
    person = run.people(0, "train")[3]
    with run.registry(0) as registry:
        before = registry.log_seq
        registry.withdraw(person)
    for batch in (90, 91):
        run.use(0, [person], batch=batch, log_seq=before)
    report = build_report(run.directory)
    found = breaches(report, "used_after_withdrawal")
    assert {v.person for v in found} == {person}
    assert report.lineage.batches_after_withdrawal == 2
    assert report.lineage.batches_after_withdrawal_max == 2
    assert report.lineage.withdrawals_honoured == report.lineage.withdrawals - 1
    assert report.failed_checks == ("lineage.withdrawals_honoured",)


def test_consent_renewed_after_withdrawal_permits_again(run: RunMaker) -> None:
    person = run.people(0, "train")[3]
    with run.registry(0) as registry:
        registry.withdraw(person)
        notice = registry.notices()[0]
        from privemo_consent.terms import AgeBand

        registry.grant(
            person, [Purpose.TRAINING], age_band=AgeBand.FROM_25, jurisdiction="IE", notice=notice
        )
    run.use(0, [person])
    report = build_report(run.directory)
    assert report.lineage.violations == 0
    assert report.lineage.withdrawals_honoured == report.lineage.withdrawals == 7


def test_a_round_that_hides_whom_it_used_is_named(run: RunMaker) -> None:
    def forget(round_: dict) -> None:
        round_["round"] = 3

    text = (run.directory / "rounds/0002.json").read_text()
    (run.directory / "rounds/0003.json").write_text(text)
    run.edit_json("rounds/0003.json", forget)
    report = build_report(run.directory)
    found = breaches(report, "uses_not_recorded")
    assert {(v.store, v.round) for v in found} == {("store-01", 3), ("store-02", 3)}
    assert "lineage.uses_recorded" in report.failed_checks


def test_a_round_run_on_another_log_is_named(run: RunMaker) -> None:
    def lie(round_: dict) -> None:
        round_["stores"]["store-01"]["consent_log_root"] = "ab" * 32

    run.edit_json("rounds/0001.json", lie)
    report = build_report(run.directory)
    assert [(v.store, v.round) for v in breaches(report, "log_root")] == [("store-01", 1)]
    assert report.failed_checks == ("consent_log.verifies",)


@pytest.mark.parametrize(("root", "fine"), [(None, True), ("ab" * 32, False)])
def test_a_root_named_without_its_size_is_searched_for(
    run: RunMaker, root: str | None, fine: bool
) -> None:
    def forget(round_: dict) -> None:
        did = round_["stores"]["store-01"]
        did["consent_log_seq"] = None
        did["consent_log_root"] = root or did["consent_log_root"]

    run.edit_json("rounds/0001.json", forget)
    with run.registry(0) as registry:
        registry.withdraw(run.people(0, "held")[0])  # the log goes on after the round
    assert build_report(run.directory).passed is fine


def test_someone_both_trained_on_and_measured_is_named(run: RunMaker) -> None:
    person = run.people(0, "train")[0]
    with run.registry(0) as registry:
        from privemo_consent.terms import AgeBand

        registry.grant(
            person,
            [Purpose.FAIRNESS_AUDIT],
            age_band=AgeBand.FROM_25,
            jurisdiction="IE",
            notice=registry.notices()[0],
        )
        run._admit("store-01", 0, "fairness_audit", registry.log_seq, 61)
    run.edit_predictions(0, lambda rows: [rows[0] | {"person": person, "face": "x"}, *rows])
    report = build_report(run.directory)
    assert [v.person for v in breaches(report, "measured_on_training")] == [person]
    assert report.failed_checks == ("data.held_out",)


def test_whoever_was_measured_must_have_agreed_to_that(run: RunMaker) -> None:
    person = run.people(0, "no")[0]
    run.edit_predictions(0, lambda rows: [rows[0] | {"person": person, "face": "x"}, *rows])
    report = build_report(run.directory)
    found = {each.kind: each for each in report.lineage.violation_list}
    # What was read without a yes is due to be destroyed at once, too.
    assert set(found) == {"no_live_consent", "overdue"}
    assert {(each.person, each.store) for each in found.values()} == {(person, "store-01")}
    assert "read for the fairness audit" in found["no_live_consent"].detail


def test_measuring_without_asking_the_gate_is_named(run: RunMaker) -> None:
    path = run.path(0, "admissions.jsonl")
    kept = [x for x in path.read_text().splitlines() if "fairness_audit" not in x]
    path.write_text("\n".join(kept) + "\n")
    (found,) = breaches(build_report(run.directory), "read_without_gate")
    assert found.store == "store-01"


def test_a_person_used_in_two_stores_is_accounted_in_both(
    make_run: Callable[..., RunMaker],
) -> None:
    run = make_run(trained=10, held_out=20)
    person = run.people(0, "train")[0]
    alone = build_report(run.directory).privacy
    from privemo_consent.terms import AgeBand

    with run.registry(1) as registry:
        registry.grant(
            person,
            [Purpose.TRAINING],
            age_band=AgeBand.FROM_25,
            jurisdiction="IE",
            notice=registry.notices()[0],
        )
    run.use(1, [person])
    report = build_report(run.directory)
    assert report.privacy.most_exposed_stores == ("store-01", "store-02")
    assert alone.epsilon_max_person is not None
    assert report.privacy.epsilon_max_person is not None
    assert report.privacy.epsilon_max_person > 1.2 * alone.epsilon_max_person
    assert "privacy.store_sets" in report.failed_checks


# -- the replay itself -------------------------------------------------------------------------

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def event(seq: int, status: str, **more: object) -> Event:
    values = {
        "seq": seq,
        "person": "p",
        "purpose": "training",
        "status": status,
        "at": NOON,
        "recorded": NOON + timedelta(seconds=seq),
        "expires": NOON + timedelta(days=1),
        "role": "shopper",
    } | more
    return Event(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("events", "log_seq", "after", "want"),
    [
        ([event(1, "ConsentGiven")], 2, 60, None),
        ([event(1, "RenewedConsentGiven")], 2, 60, None),
        ([event(1, "ConsentGiven")], 1, 60, "no_record"),  # not yet in the log the batch saw
        ([], 5, 60, "no_record"),
        ([event(1, "ConsentGiven", purpose="fairness_audit")], 2, 60, "wrong_purpose"),
        ([event(1, "ConsentGiven", role="employee")], 2, 60, "staff"),
        ([event(1, "ConsentGiven")], 2, 86_400, "expired"),  # the last instant is over
        ([event(1, "ConsentGiven")], 2, 86_399, None),
        ([event(1, "ConsentGiven", expires=None)], 2, 60, "expired"),  # endless is not live
        ([event(1, "ConsentGiven")], 2, -1, "no_live_consent"),  # agreed only later
        ([event(1, "ConsentGiven"), event(2, "ConsentWithdrawn")], 3, 60, "no_live_consent"),
        ([event(1, "ConsentGiven"), event(2, "ConsentWithdrawn")], 2, 60, "used_after_withdrawal"),
        ([event(1, "ConsentGiven"), event(2, "ConsentWithdrawn")], 2, 1, None),  # before it
        ([event(1, "ConsentRequested")], 2, 60, "no_live_consent"),
        ([event(1, "ConsentUnknown")], 2, 60, "no_live_consent"),
        ([event(1, "SomethingNew")], 2, 60, "no_live_consent"),
    ],
)
def test_replay(events: list[Event], log_seq: int, after: int, want: str | None) -> None:
    got = Timeline.of(events).fault("p", "training", log_seq, NOON + timedelta(seconds=after))
    assert (got and got[0]) == want


def test_replay_is_fast() -> None:
    """40,000 uses of 25,000 people within the 5 seconds allowed."""
    events = [event(i, "ConsentGiven", person=f"p{i}") for i in range(25_000)]
    started = time.perf_counter()
    timeline = Timeline.of(events)
    faults = [
        timeline.fault(f"p{i % 25_000}", "training", 25_000, NOON + timedelta(hours=1))
        for i in range(40_000)
    ]
    assert not any(faults)
    assert time.perf_counter() - started < 5.0
