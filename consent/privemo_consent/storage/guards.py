"""What keeps the tables append-only, and the making of a fresh registry.

GDPR 7(1), REQUIREMENTS 12: nothing is overwritten, even by somebody with SQL. Every table of
`schema.metadata` is guarded; a new one is append-only until it is named here.

On SQLite INSERT is guarded as well, because ``INSERT OR REPLACE`` deletes without firing DELETE
triggers unless a pragma asks for it. PostgreSQL's guards stand in `pgguards`.
"""

from __future__ import annotations

from collections.abc import Iterator

import sqlalchemy as sa

from .. import schema
from . import pgguards

__all__ = ["install", "make", "remove", "revision", "triggers", "versions"]

#: Tables whose rows are numbered without gaps, and the number's column.
_DENSE = {"events": "seq", "uses": "seq", "persons": "pid", "notices": "nid"}

# A signed head may go once a later one of its log stands there.
_NEWEST = "WHEN NOT EXISTS (SELECT 1 FROM checkpoints WHERE log = OLD.log AND size > OLD.size)"

# alembic's own table; its revisions are the schema's versions in four digits.
versions = sa.Table(
    "alembic_version", sa.MetaData(), sa.Column("version_num", sa.Text, primary_key=True)
)


def revision(version: int) -> str:
    """Return alembic's name of a version of the schema."""
    return f"{version:04d}"


def _refuse(
    table: str, verb: str, when: str = "", why: str = "append-only", more: str = ""
) -> tuple[str, str]:
    name = f"{table}_no_{verb.lower()}{more}"
    sql = (
        f"CREATE TRIGGER {name} BEFORE {verb} ON {table} {when} "
        f"BEGIN SELECT RAISE(ABORT, '{table} is {why}'); END"
    )
    return name, sql


def _unique_columns(table: sa.Table) -> Iterator[str]:
    for constraint in table.constraints:
        if isinstance(constraint, sa.UniqueConstraint):
            yield from (column.name for column in constraint.columns)


def _inserts(table: sa.Table) -> Iterator[tuple[str, str]]:
    """Yield the guards against numbers with gaps and rows that would REPLACE others."""
    # Every name below is a constant of schema.py.
    name, key = table.name, _DENSE.get(table.name)
    if key:
        dense = f"WHEN NEW.{key} IS NOT (SELECT coalesce(max({key}) + 1, 0) FROM {name})"  # noqa: S608
        yield _refuse(name, "INSERT", dense, "numbered without gaps")
    else:
        same = " AND ".join(f"{c.name} = NEW.{c.name}" for c in table.primary_key.columns)
        fresh = f"WHEN EXISTS (SELECT 1 FROM {name} WHERE {same})"  # noqa: S608
        yield _refuse(name, "INSERT", fresh)
    # A duplicate person or notice hash under a new number would REPLACE the old row.
    for column in _unique_columns(table):
        again = f"WHEN EXISTS (SELECT 1 FROM {name} WHERE {column} = NEW.{column})"  # noqa: S608
        yield _refuse(name, "INSERT", again, more="_twice")


def _persons_update() -> tuple[str, str]:
    """Return the guard that lets through erasures, and the same key wrapped anew."""
    sealed = [c.name for c in schema.persons.columns if not c.primary_key]
    erased = " AND ".join(f"NEW.{name} IS NULL" for name in sealed)
    # UPDATE OR REPLACE would delete another person of the same handle: hence NOT EXISTS.
    other = "SELECT 1 FROM persons WHERE handle = NEW.handle"
    when = (
        "WHEN NEW.pid IS NOT OLD.pid OR OLD.handle IS NULL OR ("
        f"({erased}) OR (NEW.sealed IS OLD.sealed AND NEW.epoch > OLD.epoch "
        "AND NEW.handle <> OLD.handle AND NEW.wrapped <> OLD.wrapped "
        f"AND NOT EXISTS ({other}))) IS NOT TRUE"
    )
    return _refuse("persons", "UPDATE", when, "only ever erased or wrapped anew")


def triggers() -> dict[str, str]:
    """Return name -> SQL of every SQLite trigger."""
    found: dict[str, str] = {}
    for table in (*schema.metadata.sorted_tables, versions):
        found.update(_inserts(table))
        persons = table is schema.persons
        found.update((_persons_update() if persons else _refuse(table.name, "UPDATE"),))
        if table is schema.checkpoints:
            found.update((_refuse(table.name, "DELETE", _NEWEST, "kept to the newest"),))
        elif table is not schema.items:  # what is held of a person goes when its time is over
            found.update((_refuse(table.name, "DELETE"),))
    return found


def install(connection: sa.Connection) -> None:
    """Put every guard in place."""
    if connection.dialect.name == "postgresql":
        pgguards.install(connection, versions)
        return
    for sql in triggers().values():
        connection.exec_driver_sql(sql)


def remove(connection: sa.Connection) -> None:
    """Drop every guard, also those of an earlier version: a migration's first step."""
    if connection.dialect.name == "postgresql":
        pgguards.remove(connection)
        return
    query = "SELECT name FROM sqlite_master WHERE type = 'trigger'"
    for name in connection.exec_driver_sql(query).scalars().all():
        connection.exec_driver_sql(f'DROP TRIGGER "{name}"')


def mark(connection: sa.Connection) -> None:
    """Mark the file as a registry of this schema, where a look at its head shows it."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql(f"PRAGMA application_id = {schema.APPLICATION_ID}")
        connection.exec_driver_sql(f"PRAGMA user_version = {schema.SCHEMA_VERSION}")


def make(connection: sa.Connection) -> None:
    """Create tables, indexes and guards, and mark the database as a registry of this schema."""
    schema.metadata.create_all(connection)
    versions.create(connection)
    connection.execute(sa.insert(versions).values(version_num=revision(schema.SCHEMA_VERSION)))
    install(connection)
    mark(connection)
