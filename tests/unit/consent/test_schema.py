"""Every table is guarded on both databases, and stored as each of them does it best."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from privemo_consent import schema
from privemo_consent.storage import guards, pgguards

VERBS = {"events": {"UPDATE", "DELETE", "INSERT"}, "items": {"UPDATE", "INSERT"}}


def guarded(statements: dict[str, str]) -> dict[str, set[str]]:
    """Return by table which verbs a trigger watches."""
    found: dict[str, set[str]] = {}
    for sql in statements.values():
        verb, table = sql.split(" ON ")[0].split()[-1], sql.split(" ON ")[1].split()[0]
        found.setdefault(table, set()).add(verb)
    return found


def test_every_table_is_guarded_on_sqlite() -> None:
    found = guarded(guards.triggers())
    assert found.keys() == {*schema.metadata.tables, "alembic_version"}
    for table, verbs in found.items():
        assert verbs == VERBS.get(table, {"UPDATE", "DELETE", "INSERT"})


def test_every_table_is_guarded_on_postgresql() -> None:
    found = guarded(pgguards.triggers(guards.versions))
    assert found.keys() == {*schema.metadata.tables, "alembic_version"}
    numbered = {"events", "uses", "persons", "notices"}  # elsewhere the keys refuse duplicates
    for table, verbs in found.items():
        want = {"UPDATE", "DELETE", "TRUNCATE"} | ({"INSERT"} if table in numbered else set())
        assert verbs == want - ({"DELETE"} if table == "items" else set())


@pytest.mark.parametrize(
    ("table", "column"),
    [(schema.events, "seq"), (schema.uses, "seq"), (schema.persons, "pid"), (schema.items, "iid")],
)
def test_numbers_are_row_numbers_on_sqlite(table: sa.Table, column: str) -> None:
    # https://sqlite.org/lang_createtable.html#rowid: only INTEGER makes an alias
    assert table.c[column].type.compile(dialect=sqlite.dialect()) == "INTEGER"


@pytest.mark.parametrize(("table", "column"), [(schema.events, "seq"), (schema.uses, "seq")])
def test_numbers_do_not_run_out_on_postgresql(table: sa.Table, column: str) -> None:
    assert table.c[column].type.compile(dialect=postgresql.dialect()) == "BIGINT"
