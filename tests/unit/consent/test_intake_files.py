"""Consents out of files: what is right goes in whole, what is wrong is named by line and column."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from privemo_consent import (
    AgeBand,
    BackdatedRefused,
    ConsentRegistry,
    Context,
    MalformedError,
    Notice,
    NoticeRefused,
    Purpose,
    Reason,
    Role,
    TransitionRefused,
)
from privemo_consent.intake import COLUMNS, import_grants, read_grants
from tests.unit.consent.conftest import MovableClock, Yes, make_notice

HEADER = ",".join(COLUMNS)
GOOD = "anna,training,25_34,IE,faces,100"
NAMED = "person-0815"


def csv_file(folder: Path, *lines: str, name: str = "in.csv") -> Path:
    path = folder / name
    path.write_bytes("".join(f"{line}\n" for line in lines).encode())
    return path


def test_csv_and_json_lines_say_the_same(tmp_path: Path) -> None:
    table = csv_file(
        tmp_path,
        f"{HEADER},role,at",
        '"anna","training;fairness_audit",25_34,IE,faces,100,employee,2026-02-01T10:00:00+01:00',
        "ben,personalisation,65_plus,US-IL,faces,1,,",
    )
    rows = [
        {
            "person": "anna",
            "purposes": ["training", "fairness_audit"],
            "age_band": "25_34",
            "jurisdiction": "IE",
            "notice": "faces",
            "valid_days": 100,
            "role": "employee",
            "at": "2026-02-01T10:00:00+01:00",
        },
        {
            "at": None,
            "person": "ben",
            "purposes": "personalisation",
            "age_band": "65_plus",
            "jurisdiction": "US-IL",
            "notice": "faces",
            "valid_days": "1",
        },
    ]
    lines = csv_file(tmp_path, *map(json.dumps, rows), name="in.jsonl")
    found = list(read_grants(table))
    assert found == list(read_grants(lines))
    assert found[0].purposes == (Purpose.TRAINING, Purpose.FAIRNESS_AUDIT)
    assert found[0].role is Role.EMPLOYEE
    assert found[0].at == datetime(2026, 2, 1, 9, tzinfo=UTC)
    assert (found[1].age_band, found[1].at) == (AgeBand.FROM_65, None)
    assert found[1].valid_for == timedelta(days=1)


def test_a_spreadsheets_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_bytes(b"\xef\xbb\xbf" + f"{HEADER}\r\n{GOOD}\r\n".encode())
    assert [row.person for row in read_grants(path)] == ["anna"]


def changed(**values: str) -> str:
    row = dict(zip(COLUMNS, GOOD.split(","), strict=True)) | values
    return ",".join(row.values())


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ([], "line 1, column person: missing"),
        ([HEADER.replace("notice", "note")], "line 1, column notice: missing"),
        ([f"{HEADER},hair"], "line 1, column number 7: is none of"),
        ([f"{HEADER},person"], "line 1, column number 7: is none of"),
        ([HEADER, GOOD, GOOD + ",x"], "line 3: got 7 columns, want 6"),
        ([HEADER, GOOD, ""], "line 3: got 0 columns, want 6"),
        ([HEADER, GOOD, '"anna'], "line 3: unexpected end of data"),
        ([HEADER, GOOD, changed(person="")], "line 3, column person: a person id is"),
        ([HEADER, changed(person=f" {NAMED}")], "line 2, column person: a person id is"),
        ([HEADER, changed(purposes=NAMED)], "line 2, column purposes: want some of"),
        ([HEADER, changed(purposes="training;training")], "line 2, column purposes"),
        ([HEADER, changed(purposes="")], "line 2, column purposes"),
        ([HEADER, changed(age_band=NAMED)], "line 2, column age_band: want one of under_13"),
        ([HEADER, changed(jurisdiction=NAMED)], "line 2, column jurisdiction: want ISO 3166"),
        ([HEADER, changed(notice=" ")], "line 2, column notice: want the hash or the id"),
        ([HEADER, changed(valid_days="0")], "line 2, column valid_days: want a whole number"),
        ([HEADER, changed(valid_days="733")], "line 2, column valid_days"),
        ([HEADER, changed(valid_days="1e2")], "line 2, column valid_days"),
        ([HEADER, changed(valid_days="nan")], "line 2, column valid_days"),
        ([HEADER, changed(valid_days="-1")], "line 2, column valid_days"),
        ([f"{HEADER},role", f"{GOOD},{NAMED}"], "line 2, column role: want one of shopper"),
        ([f"{HEADER},at", f"{GOOD},2026-02-01"], "line 2, column at: want a time with its zone"),
        ([f"{HEADER},at", f"{GOOD},{NAMED}"], "line 2, column at"),
    ],
)
def test_what_is_wrong_is_named_and_not_repeated(
    tmp_path: Path, registry: ConsentRegistry, lines: list[str], told: str
) -> None:
    path = csv_file(tmp_path, *lines)
    before = registry.head()
    with pytest.raises(MalformedError) as caught:
        import_grants(registry, path)
    assert f"in.csv {told}" in str(caught.value)
    assert NAMED not in str(caught.value)
    assert registry.head() == before


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[]", "is no JSON object"),
        ("", "is no JSON object"),
        ('{"person": "a", "person": "b"}', "is no JSON object"),
        ('{"person": "a"}', "column purposes: missing"),
        ("[" * 100_000, "is no JSON object"),
    ],
)
def test_json_lines_are_read_strictly(tmp_path: Path, text: str, told: str) -> None:
    path = csv_file(tmp_path, text, name="in.jsonl")
    with pytest.raises(MalformedError, match=rf"in\.jsonl line 1.*{told}"):
        list(read_grants(path))


@pytest.mark.parametrize("value", [True, 1.0, None, [], {}])
def test_numbers_in_json_are_whole(tmp_path: Path, value: object) -> None:
    row = dict(zip(COLUMNS, GOOD.split(","), strict=True)) | {"valid_days": value}
    with pytest.raises(MalformedError, match="column valid_days"):
        list(read_grants(csv_file(tmp_path, json.dumps(row), name="in.jsonl")))


@pytest.mark.parametrize(
    ("name", "data", "told"),
    [
        ("in.xlsx", b"", "want a file that ends in"),
        ("in.csv", f"{HEADER}\nann\xe4".encode("latin-1"), "is not UTF-8"),
        ("none.csv", None, "cannot be read"),
    ],
)
def test_no_file_of_text_is_refused(
    tmp_path: Path, name: str, data: bytes | None, told: str
) -> None:
    if data is not None:
        (tmp_path / name).write_bytes(data)
    with pytest.raises(MalformedError, match=told):
        list(read_grants(tmp_path / name))


def test_answers_are_recorded_as_those_given_one_by_one(
    tmp_path: Path, registry: ConsentRegistry, notice: Notice, shop: Context
) -> None:
    path = csv_file(
        tmp_path,
        f"{HEADER},role",
        f"{GOOD},",
        f"{changed(person='ben', notice=notice.hash)},shopper",
        f"{changed(person='kid', age_band='13_15')},",
        f"{changed(person='clerk')},employee",
    )
    outcome = import_grants(registry, path)
    assert (outcome.events, outcome.granted) == (3, 2)
    assert outcome.refused == {Reason.MINOR: 1, Reason.STAFF: 1}
    assert registry.persons() == ("anna", "ben", "clerk")
    assert registry.preview("anna", Purpose.TRAINING, shop).permit
    registry.verify()


def test_the_notice_in_force_is_meant(
    tmp_path: Path, registry: ConsentRegistry, notice: Notice, clock: MovableClock
) -> None:
    old = notice.hash
    newer = make_notice(notice.controller, 2)
    registry.notice(newer)
    import_grants(registry, csv_file(tmp_path, HEADER, GOOD))
    assert registry.history("anna")[0].notice == newer.hash
    clock.forward(hours=1)
    for named, told in (
        (old, "line 3, column notice: the notice is superseded"),
        ("0" * 64, "line 3, column notice: the notice is not registered"),
        ("other", "line 3, column notice: no such notice"),
    ):
        rows = csv_file(tmp_path, HEADER, changed(person="ben"), changed(person="cy", notice=named))
        with pytest.raises(NoticeRefused, match=told):
            import_grants(registry, rows)
    assert registry.persons() == ("anna",)


def test_a_notice_in_two_languages_is_named_by_its_hash(
    tmp_path: Path, registry: ConsentRegistry, notice: Notice
) -> None:
    registry._journal.register(notice.model_copy(update={"language": "fr"}))
    with pytest.raises(NoticeRefused, match="line 2, column notice: several languages"):
        import_grants(registry, csv_file(tmp_path, HEADER, GOOD))
    import_grants(registry, csv_file(tmp_path, HEADER, changed(notice=notice.hash)))
    assert registry.persons() == ("anna",)


def test_a_row_that_the_records_refuse_is_named_and_nothing_is_written(
    tmp_path: Path, registry: ConsentRegistry, yes: Yes, clock: MovableClock
) -> None:
    registry.grant("ben", [Purpose.TRAINING], **yes())  # type: ignore[arg-type]
    before = registry.head()
    twice = csv_file(tmp_path, HEADER, GOOD, changed(person="cy"), GOOD)
    with pytest.raises(TransitionRefused, match=r"in\.csv line 4, column purposes") as caught:
        import_grants(registry, twice)
    assert "anna" not in str(caught.value)
    given = csv_file(tmp_path, HEADER, GOOD, changed(person="ben"))
    with pytest.raises(TransitionRefused, match="line 3, column purposes"):
        import_grants(registry, given)
    later = (clock.time + timedelta(days=1)).isoformat()
    dated = csv_file(tmp_path, f"{HEADER},at", f"{GOOD},", f"{changed(person='cy')},{later}")
    with pytest.raises(BackdatedRefused, match="line 3, column at"):
        import_grants(registry, dated)
    assert registry.head() == before
