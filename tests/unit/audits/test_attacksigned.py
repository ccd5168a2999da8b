"""Whose signature stands under the history of attacks, and what is found out by it."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import pytest

from privemo_audits import Report, ReportError, RunFilesError, build_report
from privemo_audits.attackchecks import attempts_checks
from privemo_audits.attacksigned import attacks_note, signature_name
from privemo_audits.attempts import measure_attacks
from privemo_audits.pages import render_html
from privemo_audits.report import Check
from privemo_audits.runfiles import load_run
from privemo_consent.keys import SigningKey
from tests.support.audit_runs import RUN_ID, RunMaker
from tests.unit.audits.test_attempts import found, save, write

SIGNED, WHOLE = "privacy.attacks_signed", "privacy.attacks_whole"
ANNA = SigningKey.generate("anna")


def of_store(run: RunMaker) -> SigningKey:
    return SigningKey("store-01", run.keys["store-01"])


def signed(
    run: RunMaker, rows: list[dict[str, Any]], *keys: SigningKey, run_id: str = RUN_ID
) -> None:
    """Sign a history as `privemo attack` does."""
    for key in keys:
        note = attacks_note(run_id, len(rows), rows[-1]["hash"], key)
        (run.directory / signature_name(key.key_id)).write_text(note)


def audited(run: RunMaker, *keys: SigningKey, earlier: Report | None = None) -> dict[str, Check]:
    """The checks of attacks alone, by name."""
    _, attempts = measure_attacks(load_run(run.directory), [key.verifying for key in keys], earlier)
    assert attempts is not None
    return {check.id: check for check in attempts_checks(attempts)}


def evidence(checks: dict[str, Check], name: str = SIGNED) -> str:
    return checks[name].evidence


def test_a_history_signed_by_a_store_of_the_run_is_known(run: RunMaker) -> None:
    signed(run, write(run, found(1)), of_store(run))
    checks = audited(run)
    assert checks[SIGNED].passed
    assert "of 2 entries all are signed: store-01 (to entry 2)" in evidence(checks)
    report = build_report(run.directory)
    assert "The first 2 are signed by store-01" in render_html(report)
    assert signature_name(of_store(run).key_id) in report.evidence.files
    assert Report.from_json(report.to_json()) == report


def test_a_history_that_nobody_signed_is_a_warning(run: RunMaker) -> None:
    write(run, found(1))
    checks = audited(run)
    assert (checks[SIGNED].passed, checks[SIGNED].required) == (False, False)
    assert "nobody who is known signed the last 2 of 2 entries" in evidence(checks)
    assert checks[WHOLE].passed
    report = build_report(run.directory)
    assert report.passed
    assert "Nobody who is known signed it" in render_html(report)


def test_an_auditors_key_counts_where_it_was_named(run: RunMaker) -> None:
    signed(run, write(run, found(1)), ANNA)
    assert audited(run, ANNA)[SIGNED].passed
    stranger = audited(run)
    assert not stranger[SIGNED].passed
    assert f"anna+{ANNA.key_id.hex()} signed too, and nobody named that key" in evidence(stranger)


def test_what_came_after_the_last_signature_is_told(run: RunMaker) -> None:
    rows = write(run, found(1), found(2))
    signed(run, rows[:2], of_store(run))
    signed(run, rows, ANNA)
    assert "nobody who is known signed the last 2 of 4" in evidence(audited(run))
    assert audited(run, ANNA)[SIGNED].passed


# -- what is found out -----------------------------------------------------------------------------


def write_anew_without_the_last(run: RunMaker, rows: list[dict[str, Any]]) -> None:
    save(run, rows[:2])


def write_another_history(run: RunMaker, rows: list[dict[str, Any]]) -> None:
    write(run, found(7), found(8))


def take_all_away(run: RunMaker, rows: list[dict[str, Any]]) -> None:
    (run.directory / "attacks.jsonl").unlink()
    (run.directory / "attacks.head").unlink()


def change_the_number_in_the_note(run: RunMaker, rows: list[dict[str, Any]]) -> None:
    save(run, rows[:2])
    path = run.directory / signature_name(of_store(run).key_id)
    last = base64.b64encode(bytes.fromhex(rows[1]["hash"])).decode()
    lines = path.read_text().split("\n")
    path.write_text("\n".join([lines[0], "2", last, *lines[3:]]))


def bring_a_note_of_another_run(run: RunMaker, rows: list[dict[str, Any]]) -> None:
    signed(run, rows, of_store(run), run_id="another")


@pytest.mark.parametrize(
    ("forge", "words"),
    [
        (write_anew_without_the_last, "store-01 signed a history of 4 entries"),
        (write_another_history, "store-01 signed a history of 4 entries"),
        (take_all_away, "not how the 0 that are there begin"),
        (change_the_number_in_the_note, "bad signature"),
        (bring_a_note_of_another_run, "by store-01 for another run"),
    ],
)
def test_a_forger_who_writes_files_and_head_anew_lacks_the_key(
    run: RunMaker, forge: Callable[[RunMaker, list[dict[str, Any]]], None], words: str
) -> None:
    rows = write(run, found(1), found(2))
    signed(run, rows, of_store(run))
    forge(run, rows)
    checks = audited(run)
    assert not checks[WHOLE].passed
    assert checks[WHOLE].required
    assert words in evidence(checks, WHOLE)


def test_a_note_under_a_stores_name_by_another_key_proves_nothing(run: RunMaker) -> None:
    signed(run, write(run, found(1)), SigningKey.generate("store-01"))
    checks = audited(run)
    assert not checks[SIGNED].passed
    assert checks[WHOLE].passed


def test_an_older_copy_of_everything_is_found_out_by_an_earlier_report_alone(
    run: RunMaker,
) -> None:
    rows = write(run, found(1), found(2))
    signed(run, rows, of_store(run))
    earlier = build_report(run.directory)
    assert audited(run, earlier=earlier)[WHOLE].passed
    save(run, rows[:2])
    signed(run, rows[:2], of_store(run))
    assert all(check.passed for check in audited(run).values())
    told = audited(run, earlier=earlier)[WHOLE]
    assert not told.passed
    assert "an earlier report knew of 2 attacks in 4 entries" in told.evidence


def test_attacks_taken_away_whole_are_found_out_by_an_earlier_report(run: RunMaker) -> None:
    write(run, found(1))
    earlier = build_report(run.directory)
    take_all_away(run, [])
    assert measure_attacks(load_run(run.directory)) == (None, None)
    assert not audited(run, earlier=earlier)[WHOLE].passed


def test_a_history_that_went_on_is_told_to_hold_all_of_before(run: RunMaker) -> None:
    write(run, found(1))
    earlier = build_report(run.directory)
    write(run, found(1), found(2))
    report = build_report(run.directory, earlier=earlier)
    assert "knew of are there" in evidence(audited(run, earlier=earlier))
    assert "Every attack that an earlier report knew of is there" in render_html(report)


def take_the_note(run: RunMaker, rows: list[dict[str, Any]]) -> None:
    (run.directory / signature_name(of_store(run).key_id)).unlink()


def bring_an_older_note(run: RunMaker, rows: list[dict[str, Any]]) -> None:
    signed(run, rows[:2], of_store(run))


def put_a_note_of_my_own_there(run: RunMaker, rows: list[dict[str, Any]]) -> None:
    note = attacks_note(RUN_ID, 999, "ab" * 32, SigningKey.generate("store-01"))
    (run.directory / signature_name(of_store(run).key_id)).write_text(note)


def put_another_of_the_same_name_beside_an_older_one(
    run: RunMaker, rows: list[dict[str, Any]]
) -> None:
    signed(run, rows[:2], of_store(run))
    signed(run, rows, SigningKey.generate("store-01"))


@pytest.mark.parametrize(
    ("take", "words"),
    [
        (
            put_another_of_the_same_name_beside_an_older_one,
            "store-01 signed 4 entries, and by what is there fewer",
        ),
        (take_the_note, ".sig was there when an earlier report was made, and is gone"),
        (bring_an_older_note, "store-01 signed 4 entries, and by what is there fewer"),
    ],
)
def test_a_signature_that_is_gone_is_found_out_by_an_earlier_report(
    run: RunMaker, take: Callable[[RunMaker, list[dict[str, Any]]], None], words: str
) -> None:
    rows = write(run, found(1), found(2))
    signed(run, rows, of_store(run))
    earlier = build_report(run.directory)
    take(run, rows)
    assert audited(run)[WHOLE].passed, "a warning at most: it may never have been there"
    told = audited(run, earlier=earlier)[WHOLE]
    assert not told.passed
    assert told.required
    assert words in told.evidence


def test_a_note_in_another_keys_file_is_a_fault(run: RunMaker) -> None:
    rows = write(run, found(1))
    signed(run, rows, of_store(run))
    put_a_note_of_my_own_there(run, rows)
    told = audited(run)[WHOLE]
    assert not told.passed
    assert "is named after another key than those in it" in told.evidence


def test_a_signature_whose_key_is_not_named_again_is_there_all_the_same(run: RunMaker) -> None:
    signed(run, write(run, found(1)), ANNA)
    earlier = build_report(run.directory, keys=[ANNA.verifying])
    assert audited(run, earlier=earlier)[WHOLE].passed
    signed(run, write(run, found(1), found(2)), ANNA)  # and it may go further by now
    assert audited(run, ANNA, earlier=earlier)[WHOLE].passed


def test_an_earlier_report_of_another_run_is_refused(
    run: RunMaker, make_run: Callable[..., RunMaker]
) -> None:
    other = build_report(make_run(run_id="another", rounds=1, trained=5).directory)
    with pytest.raises(ReportError, match="'another'"):
        measure_attacks(load_run(run.directory), earlier=other)


@pytest.mark.parametrize(
    "content",
    ["", "words", "privemo.attacks/run-0001\nmany\nAAAA\n\n\u2014 anna AAAAAAA=\n", "\x00"],
)
def test_what_is_no_note_is_named(run: RunMaker, content: str) -> None:
    write(run, found(1))
    (run.directory / "attacks-00000000.sig").write_text(content)
    with pytest.raises(RunFilesError, match=r"attacks-00000000\.sig is no signed head"):
        measure_attacks(load_run(run.directory))


def test_nothing_of_the_key_is_in_the_note() -> None:
    note = attacks_note(RUN_ID, 1, "0" * 64, ANNA)
    assert note.startswith(f"privemo.attacks/{RUN_ID}\n1\n")
    assert ANNA.secret().hex() not in note
    assert base64.b64encode(ANNA.secret()).decode() not in note
