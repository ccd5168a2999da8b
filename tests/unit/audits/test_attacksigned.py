"""Whose signature stands under the history of attacks, and what is found out by it."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from privemo_audits import Report, ReportError, RunFilesError, build_report
from privemo_audits.attacksigned import attacks_note, signature_name
from privemo_audits.pages import render_html
from privemo_consent.keys import SigningKey
from tests.support.audit_runs import RUN_ID, RunMaker
from tests.unit.audits.test_attempts import check, found, save, write

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


def evidence(report: Report, name: str = "privacy.attacks_signed") -> str:
    return str(check(report, name).evidence)


def test_a_history_signed_by_a_store_of_the_run_is_known(run: RunMaker) -> None:
    signed(run, write(run, found(1)), of_store(run))
    report = build_report(run.directory)
    assert check(report, "privacy.attacks_signed").passed
    assert "of 2 entries all are signed: store-01 (to entry 2)" in evidence(report)
    assert "The first 2 are signed by store-01" in render_html(report)
    assert signature_name(of_store(run).key_id) in report.evidence.files
    assert Report.from_json(report.to_json()) == report


def test_a_history_that_nobody_signed_is_a_warning(run: RunMaker) -> None:
    write(run, found(1))
    report = build_report(run.directory)
    warned = check(report, "privacy.attacks_signed")
    assert (warned.passed, warned.required) == (False, False)
    assert "nobody who is known signed the last 2 of 2 entries" in evidence(report)
    assert "privacy.attacks_whole" not in report.failed_checks
    assert "Nobody who is known signed it" in render_html(report)


def test_an_auditors_key_counts_where_it_was_named(run: RunMaker) -> None:
    signed(run, write(run, found(1)), ANNA)
    assert check(
        build_report(run.directory, keys=[ANNA.verifying]), "privacy.attacks_signed"
    ).passed
    stranger = build_report(run.directory)
    assert not check(stranger, "privacy.attacks_signed").passed
    assert f"anna+{ANNA.key_id.hex()} signed too, and nobody named that key" in evidence(stranger)
    assert "nobody named that key, so it proves nothing" in render_html(stranger)


def test_what_came_after_the_last_signature_is_told(run: RunMaker) -> None:
    rows = write(run, found(1), found(2))
    signed(run, rows[:2], of_store(run))
    signed(run, rows, ANNA)
    report = build_report(run.directory)
    assert "nobody who is known signed the last 2 of 4" in evidence(report)
    assert check(
        build_report(run.directory, keys=[ANNA.verifying]), "privacy.attacks_signed"
    ).passed


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
    report = build_report(run.directory)
    assert "privacy.attacks_whole" in report.failed_checks
    assert words in evidence(report, "privacy.attacks_whole")
    assert words in render_html(report)


def test_a_note_under_a_stores_name_by_another_key_proves_nothing(run: RunMaker) -> None:
    signed(run, write(run, found(1)), SigningKey.generate("store-01"))
    report = build_report(run.directory)
    assert not check(report, "privacy.attacks_signed").passed
    assert "privacy.attacks_whole" not in report.failed_checks


def test_an_older_copy_of_everything_is_found_out_by_an_earlier_report_alone(
    run: RunMaker,
) -> None:
    rows = write(run, found(1), found(2))
    signed(run, rows, of_store(run))
    earlier = build_report(run.directory)
    assert build_report(run.directory, earlier=earlier).privacy.attempts is not None
    save(run, rows[:2])
    signed(run, rows[:2], of_store(run))
    assert not build_report(run.directory).failed_checks
    report = build_report(run.directory, earlier=earlier)
    assert "privacy.attacks_whole" in report.failed_checks
    assert "an earlier report knew of 2 attacks in 4 entries" in evidence(
        report, "privacy.attacks_whole"
    )


def test_attacks_taken_away_whole_are_found_out_by_an_earlier_report(run: RunMaker) -> None:
    write(run, found(1))
    earlier = build_report(run.directory)
    take_all_away(run, [])
    assert build_report(run.directory).privacy.attempts is None
    report = build_report(run.directory, earlier=earlier)
    assert "privacy.attacks_whole" in report.failed_checks


def test_a_history_that_went_on_is_told_to_hold_all_of_before(run: RunMaker) -> None:
    rows = write(run, found(1))
    earlier = build_report(run.directory)
    write(run, found(1), found(2))
    report = build_report(run.directory, earlier=earlier)
    assert report.privacy.attempts is not None
    assert report.privacy.attempts.earlier is not None
    assert "knew of are there" in evidence(report)
    assert "Every attack that an earlier report knew of is there" in render_html(report)
    assert len(rows) == 2


def test_an_earlier_report_of_another_run_is_refused(
    run: RunMaker, make_run: Callable[..., RunMaker]
) -> None:
    other = build_report(make_run(run_id="another").directory)
    with pytest.raises(ReportError, match="'another'"):
        build_report(run.directory, earlier=other)


@pytest.mark.parametrize(
    "content",
    ["", "words", "privemo.attacks/run-0001\nmany\nAAAA\n\n\u2014 anna AAAAAAA=\n", "\x00"],
)
def test_what_is_no_note_is_named(run: RunMaker, content: str) -> None:
    write(run, found(1))
    (run.directory / "attacks-00000000.sig").write_text(content)
    with pytest.raises(RunFilesError, match=r"attacks-00000000\.sig is no signed head"):
        build_report(run.directory)


def test_reports_of_unattacked_runs_are_as_before(truthful: RunMaker) -> None:
    assert (
        b"signed"
        not in json.dumps(
            json.loads(build_report(truthful.directory).to_json())["privacy"]
        ).encode()
    )


def test_nothing_of_the_key_is_in_the_note(tmp_path: Path) -> None:
    note = attacks_note(RUN_ID, 1, "0" * 64, ANNA)
    assert note.startswith(f"privemo.attacks/{RUN_ID}\n1\n")
    assert ANNA.secret().hex() not in note
    assert base64.b64encode(ANNA.secret()).decode() not in note
