"""All attacks on a run: the strongest counts, none dilutes another, and what was taken out is named."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import rfc8785

from privemo_audits import Report, RunFilesError, build_report
from privemo_audits.attempts import FEWEST_PERSONS, FEWEST_REHEARSALS, share_of
from privemo_audits.intervals import ALPHA
from privemo_audits.ledger import entry_hash
from privemo_audits.pages import render_html
from privemo_audits.render import render_markdown
from tests.support.audit_runs import RUN_ID, RunMaker
from tests.unit.audits.test_attacked import NOISE, attack

FIRST = "0" * 64


def noise(alike: float = 0.01, steps: int = 60) -> dict[str, Any]:
    return {
        "steps": steps,
        "dimensions": 4000,
        "pairs": steps * (steps - 1) // 2,
        "alike": alike,
        "first": [1, 3],
        "second": [2, 9],
    }


def found(seed: int, *, alike: float = 0.01, **changes: Any) -> dict[str, Any]:
    content = attack(np.random.default_rng(seed), **changes)
    return {**content, "schema": "privemo.attack/2", "noise": noise(alike)}


def write(run: RunMaker, *attacks: dict[str, Any] | None) -> list[dict[str, Any]]:
    """Attacks as `privemo attack` leaves them; None is one that was broken off."""
    rows: list[dict[str, Any]] = []
    for content in attacks:
        size = {"canaries": 200 if content is None else content["canaries"]}
        rows.append(linked(rows, event="begun", **size))
        if content is not None:
            rows.append(linked(rows, event="found", of=rows[-1]["seq"], found=content, **size))
    save(run, rows)
    return rows


def linked(rows: list[dict[str, Any]], **fields: Any) -> dict[str, Any]:
    entry = {
        "schema": "privemo.attacks/1",
        "seq": len(rows),
        "at": "2026-11-29T12:00:00Z",
        "prev": rows[-1]["hash"] if rows else FIRST,
        "run_id": RUN_ID,
        "canaries": 200,
        "rehearsals": 2,
        "of": None,
        "found": None,
        **fields,
    }
    return {**entry, "hash": entry_hash(entry)}


def save(run: RunMaker, rows: list[dict[str, Any]], *, head: bool = True) -> None:
    (run.directory / "attacks.jsonl").write_bytes(
        b"".join(rfc8785.dumps(row) + b"\n" for row in rows)
    )
    if head:
        known = {"entries": len(rows), "hash": rows[-1]["hash"]}
        (run.directory / "attacks.head").write_text(json.dumps(known))


def check(report: Report, name: str) -> Any:
    (one,) = [c for c in report.checks if c.id == name]
    return one


# -- how sure each has to be -----------------------------------------------------------------------


def test_the_shares_of_however_many_attacks_add_up_to_no_more_than_the_five_percent() -> None:
    assert sum(share_of(number) for number in range(1, 10_001)) == pytest.approx(ALPHA, rel=1e-3)
    assert sum(share_of(number) for number in range(1, 10_001)) < ALPHA
    assert share_of(1) == ALPHA / 2


def test_the_strongest_of_all_attacks_counts(run: RunMaker) -> None:
    write(run, found(1, trials=200), found(2, trials=20_000), found(3, trials=200))
    report = build_report(run.directory)
    attempts, strongest = report.privacy.attempts, report.privacy.attacked
    assert attempts is not None
    assert strongest is not None
    assert [one.number for one in attempts.each] == [1, 2, 3]
    assert strongest.epsilon_at_least == max(one.epsilon_at_least for one in attempts.each)
    assert strongest.epsilon_at_least == attempts.each[1].epsilon_at_least
    assert [round(one.certainty, 4) for one in attempts.each] == [0.975, 0.9917, 0.9958]
    assert "privacy.attack_within_claim" not in report.failed_checks


def test_no_number_of_later_attacks_takes_back_what_the_first_found(run: RunMaker) -> None:
    write(run, found(4, noise=NOISE / 2), *(found(seed, trials=50) for seed in range(20, 32)))
    report = build_report(run.directory)
    assert "privacy.attack_within_claim" in report.failed_checks
    assert report.privacy.attempts is not None
    assert [one.within for one in report.privacy.attempts.each].count(False) == 1


def test_attacks_on_correct_code_made_until_one_pleases_raise_no_more_alarms_than_one(
    run: RunMaker,
) -> None:
    """Eight attacks each, on code that is right: the chance of any alarm stays under 5%."""
    from privemo_audits.attacked import AttackInfo, bounds

    alarms = 0
    for seed in range(25):
        tries = (found(1000 * seed + k, trials=300) for k in range(1, 9))
        alarms += any(
            not bounds(AttackInfo.model_validate(one), share_of(k)).within
            for k, one in enumerate(tries, start=1)
        )
    assert alarms <= 2


# -- noise that came back --------------------------------------------------------------------------


def test_noise_that_came_back_fails_the_audit_and_is_named(run: RunMaker) -> None:
    write(run, found(5, alike=0.4))
    report = build_report(run.directory)
    assert "privacy.attack_within_claim" in report.failed_checks
    evidence = check(report, "privacy.attack_within_claim").evidence
    assert "step 3 of rehearsal 1 and step 9 of rehearsal 2" in evidence
    assert "noise came back" in evidence
    assert "noise came back" in render_html(report)


@pytest.mark.parametrize(
    ("alike", "reused"), [(0.06, False), (-0.06, False), (0.1, True), (-0.1, True)]
)
def test_what_chance_makes_of_many_pairs_is_no_alarm(
    run: RunMaker, alike: float, reused: bool
) -> None:
    """Of 1,770 pairs of vectors of 4,000 numbers the most alike are about 0.055 alike."""
    write(run, found(6, alike=alike))
    attacked = build_report(run.directory).privacy.attacked
    assert attacked is not None
    assert attacked.in_noise is not None
    assert attacked.in_noise.reused is reused


def test_new_noise_is_called_new_at_the_rate_that_is_stated() -> None:
    from privemo_audits.reused import NoiseInfo, judge_reuse

    rng = np.random.default_rng(7)
    alarms = 0
    for _ in range(400):
        rows = rng.normal(size=(12, 50))
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        most = float(np.abs((rows @ rows.T)[np.triu_indices(12, 1)]).max())
        info = NoiseInfo.model_validate({**noise(most, 12), "dimensions": 50})
        alarms += judge_reuse(info, 0.05).reused
    assert 2 <= alarms <= 36


# -- what was taken out ----------------------------------------------------------------------------


def cut_the_last(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return rows[:-2]


def take_one_out(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [*rows[:2], *rows[4:]]


def change_a_count(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    rows[1]["found"]["steps"]["against_all"]["inside_called_in"] -= 1
    return rows


def change_a_count_and_hash_it(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    change_a_count(rows)
    rows[1]["hash"] = entry_hash(rows[1])
    return rows


def move(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [*rows[2:4], *rows[:2], *rows[4:]]


def find_twice(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    rows.append(linked(rows, event="found", of=4, found=rows[1]["found"]))
    return rows


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (cut_the_last, "4 entries are there, and 6 were written"),
        (take_one_out, "entry 2 does not follow"),
        (change_a_count, "entry 1 was changed"),
        (change_a_count_and_hash_it, "entry 2 does not follow"),
        (move, "entry 0 does not follow"),
        (find_twice, "was not under way"),
    ],
)
def test_a_history_that_was_changed_fails_the_audit(
    run: RunMaker,
    spoil: Callable[[list[dict[str, Any]]], list[dict[str, Any]]],
    words: str,
) -> None:
    rows = write(run, found(8), found(9), found(10))
    save(run, spoil(rows), head=False)
    report = build_report(run.directory)
    assert "privacy.attacks_whole" in report.failed_checks
    assert words in check(report, "privacy.attacks_whole").evidence
    assert words in render_html(report)


def test_a_history_that_is_gone_is_missed(run: RunMaker) -> None:
    write(run, found(11))
    (run.directory / "attacks.jsonl").unlink()
    report = build_report(run.directory)
    assert "privacy.attacks_whole" in report.failed_checks
    assert "is gone" in check(report, "privacy.attacks_whole").evidence
    assert any("nothing of what they found is there" in limit for limit in report.limits)


def test_a_missing_head_is_named(run: RunMaker) -> None:
    write(run, found(12))
    (run.directory / "attacks.head").unlink()
    assert (
        "attacks.head is missing"
        in check(build_report(run.directory), "privacy.attacks_whole").evidence
    )


def test_attacks_that_were_broken_off_hide_nothing(run: RunMaker) -> None:
    """What gives people away does so however many attacks were begun before: none of these has a share."""
    content = attack(np.random.default_rng(21), noise=1.2, trials=2000)
    content |= {"schema": "privemo.attack/2", "noise": noise()}
    write(run, *[None] * 40, content)
    report = build_report(run.directory)
    assert report.privacy.attempts is not None
    (one,) = report.privacy.attempts.each
    assert (one.number, one.certainty) == (41, 1 - share_of(1))
    assert "privacy.attack_within_claim" in report.failed_checks


def test_shares_follow_the_order_in_which_attacks_were_finished(run: RunMaker) -> None:
    """An attack that ends later takes back nothing, also where it was begun before."""
    rows = write(run, None, found(22))
    rows.append(linked(rows, event="found", of=0, found=found(23)))
    save(run, rows)
    attempts = build_report(run.directory).privacy.attempts
    assert attempts is not None
    assert [(one.number, one.certainty) for one in attempts.each] == [
        (1, 1 - share_of(2)),
        (2, 1 - share_of(1)),
    ]


def too_small(content: dict[str, Any]) -> None:
    content["canaries"] = 20
    for each in content["membership"]["every_step"]:
        each["scores"], each["took_part"] = each["scores"][:20], each["took_part"][:20]


def fewer_steps(content: dict[str, Any]) -> None:
    content["mechanism"]["steps_at_each_rate"] = [[0.2, 9]]


def smaller_rate(content: dict[str, Any]) -> None:
    content["mechanism"]["steps_at_each_rate"] = [[0.1, 10]]


def larger_rate_of_draws(content: dict[str, Any]) -> None:
    content["draws"][0]["rate"] = 0.3


def other_delta(content: dict[str, Any]) -> None:
    content["mechanism"]["delta"] = 1e-4


def more_people_than_scores(content: dict[str, Any]) -> None:
    content["membership"]["every_step"][0]["scores"].pop()
    content["membership"]["every_step"][0]["took_part"].pop()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (too_small, "20 people in 2 rehearsals, too few to be counted"),
        (fewer_steps, "rehearsed 9 steps at 0.2, and the run plans 10 steps at 0.2"),
        (smaller_rate, "rehearsed 10 steps at 0.1"),
        (larger_rate_of_draws, "draws against a rate that it did not rehearse"),
        (other_delta, "delta of 0.0001, and the run's is 1e-05"),
        (more_people_than_scores, "has scores of others"),
    ],
)
def test_an_attack_that_is_no_evidence_is_named_and_takes_no_share(
    run: RunMaker, spoil: Callable[[dict[str, Any]], None], words: str
) -> None:
    content = found(24)
    spoil(content)
    write(run, content, found(25))
    report = build_report(run.directory)
    assert "privacy.attacks_whole" in report.failed_checks
    assert words in check(report, "privacy.attacks_whole").evidence
    assert report.privacy.attempts is not None
    assert [(o.number, o.certainty) for o in report.privacy.attempts.each] == [(2, 1 - share_of(1))]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"canaries": 400}, "on others than it was begun with"),
        ({"run_id": "another"}, "is of run 'another'"),
    ],
)
def test_an_entry_of_another_run_or_size_is_named(
    run: RunMaker, changes: dict[str, Any], words: str
) -> None:
    rows = [linked([], event="begun", **changes)]
    rows.append(linked(rows, event="found", of=0, found=found(26)))
    save(run, rows)
    assert words in check(build_report(run.directory), "privacy.attacks_whole").evidence


def test_no_attack_is_made_that_the_audit_would_not_count() -> None:
    from privemo.attacks.attack import FEWEST_CANARIES
    from privemo.attacks.attack import FEWEST_REHEARSALS as FEWEST

    assert (FEWEST_CANARIES, FEWEST) == (FEWEST_PERSONS, FEWEST_REHEARSALS)


def test_an_attack_that_was_broken_off_is_told_and_takes_nothing_from_others(
    run: RunMaker,
) -> None:
    write(run, None, found(13))
    report = build_report(run.directory)
    assert report.privacy.attempts is not None
    assert report.privacy.attempts.unfinished == (1,)
    assert report.privacy.attempts.each[0].number == 2
    assert "attacks.head" in report.evidence.files
    assert "1 of 2 attacks finished" in check(report, "privacy.attacks_finished").evidence
    assert "privacy.attacks_finished" not in report.failed_checks
    assert "begun and not finished" in render_html(report)
    assert "the strongest of 2 that were begun" in render_markdown(report)


def test_an_attack_of_an_earlier_version_still_reads(run: RunMaker) -> None:
    (run.directory / "attack.json").write_text(json.dumps(attack(np.random.default_rng(14))))
    report = build_report(run.directory)
    assert report.privacy.attempts is not None
    assert report.privacy.attempts.begun == 1
    assert report.privacy.attacked is not None
    assert report.privacy.attacked.in_noise is None


def without_noise(content: dict[str, Any]) -> None:
    del content["noise"]


def not_all_pairs(content: dict[str, Any]) -> None:
    content["noise"]["pairs"] -= 1


def another_run(content: dict[str, Any]) -> None:
    content["run_id"] = "another"


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (without_noise, "whether noise came back is due"),
        (not_all_pairs, "not every two steps"),
        (another_run, "is of run 'another'"),
    ],
)
def test_what_an_attack_cannot_have_found_is_named(
    run: RunMaker, spoil: Callable[[dict[str, Any]], None], words: str
) -> None:
    content = found(15)
    spoil(content)
    write(run, content)
    with pytest.raises(RunFilesError, match=words):
        build_report(run.directory)


def test_a_torn_line_is_named(run: RunMaker) -> None:
    write(run, found(16))
    path = run.directory / "attacks.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(RunFilesError, match=r"attacks\.jsonl"):
        build_report(run.directory)
