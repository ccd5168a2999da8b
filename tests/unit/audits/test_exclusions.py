from __future__ import annotations

import json
from typing import Any

from privemo_audits import build_report
from tests.support.audit_runs import RunMaker


def test_each_person_is_counted_once_however_many_rounds(truthful: RunMaker) -> None:
    got = build_report(truthful.directory).exclusions
    # 2 stores: 40 admitted and 16 refused to train, 60 and 1 for the audit; 2 rounds asked twice.
    assert (got.asked, got.admitted, got.refused) == (234, 200, 34)
    assert got.by_reason == {
        "suspected_minor": 8,
        "expired": 6,
        "minor": 6,
        "staff": 6,
        "withdrawn": 6,
        "unknown_age": 2,
    }
    training = got.purposes["training"].persons
    assert (training.asked, training.admitted, training.refused) == (112, 80, 32)
    assert sum(got.by_reason.values()) == got.refused


def test_minors_stand_apart(truthful: RunMaker) -> None:
    got = build_report(truthful.directory).exclusions
    assert got.minors.model_dump() == {
        "attested": 6,
        "suspected": 8,
        "unknown_age": 2,
        "total": 14,
    }
    # each registry turned away two 13 year olds who asked to agree
    assert sum(got.turned_away.values()) == 4


def test_faces_are_counted_beside_people(run: RunMaker) -> None:
    path = run.path(0, "admissions.jsonl")
    rows = [json.loads(x) for x in path.read_text().splitlines()]
    for row in rows:
        row["asked"]["faces"] *= 3
        row["admitted"]["faces"] *= 3
        row["refused"]["faces"] = {k: 3 * n for k, n in row["refused"]["faces"].items()}
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    got = build_report(run.directory).exclusions
    assert got.asked == 234
    assert got.faces.asked == 117 * 3 + 117
    assert got.faces.minors.attested == 3 * 3 + 3


def test_those_who_withdrew_later_are_told_apart(run: RunMaker) -> None:
    path = run.path(1, "admissions.jsonl")
    rows = [json.loads(x) for x in path.read_text().splitlines()]

    def withdraw(row: dict[str, Any]) -> None:
        row["refused"]["persons"]["withdrawn"] += 5
        row["refused"]["faces"]["withdrawn"] += 5
        row["admitted"]["persons"] -= 5
        row["admitted"]["faces"] -= 5

    (last,) = [r for r in rows if r["round"] == 2]
    withdraw(last)
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    got = build_report(run.directory).exclusions
    assert got.by_reason["withdrawn"] == 6
    assert got.withdrew_later.persons == 5
    assert [s.withdrew_later.persons for s in got.stores] == [0, 5]


def test_the_first_admission_counts_whatever_the_order_of_lines(run: RunMaker) -> None:
    before = build_report(run.directory).exclusions
    path = run.path(0, "admissions.jsonl")
    path.write_text("".join(x + "\n" for x in reversed(path.read_text().splitlines())))
    assert build_report(run.directory).exclusions == before


def admit(run: RunMaker, store: int, persons: int) -> None:
    """Let so many of the store's 56 people in; the others said no."""
    path = run.path(store, "admissions.jsonl")
    rows = [json.loads(x) for x in path.read_text().splitlines()]
    for row in rows:
        if row["purpose"] == "training":
            for unit in ("persons", "faces"):
                row["admitted"][unit] = persons
                row["refused"][unit] = {"refused": row["asked"][unit] - persons}
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))


def test_a_store_that_is_left_out_more_counts_for_less(run: RunMaker) -> None:
    even = build_report(run.directory).exclusions.shares
    assert [(s.asked, s.admitted, s.ratio) for s in even] == [(56, 40, 1.0), (56, 40, 1.0)]
    admit(run, 0, 10)
    less, more = build_report(run.directory).exclusions.shares
    assert (less.share_asked, less.share_admitted) == (0.5, 0.2)
    assert less.ratio == 0.4
    assert more.ratio == 1.6
    assert less.kept == 10 / 56
    assert less.kept_ci[0] < 10 / 56 < less.kept_ci[1] < more.kept_ci[0]


def test_where_nobody_was_admitted_there_are_no_shares(run: RunMaker) -> None:
    admit(run, 0, 0)
    admit(run, 1, 0)
    assert build_report(run.directory).exclusions.shares == ()
