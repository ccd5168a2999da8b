"""The schema of privemo 0.1, on SQLite: names stood in the database, and so did the key.

Frozen: what this file makes is what that release made, guards and marks included.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision: str | None = None

_TABLES: dict[str, tuple[sa.schema.SchemaItem, ...]] = {
    "meta": (
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
    ),
    "secrets": (
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("value", sa.LargeBinary, nullable=False),
    ),
    "persons": (
        sa.Column("pid", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("person", sa.Text, unique=True),
        sa.Column("nonce", sa.LargeBinary),
    ),
    "notices": (
        sa.Column("nid", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("hash", sa.Text, nullable=False, unique=True),
        sa.Column("notice_id", sa.Text, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
    ),
    "events": (
        sa.Column("seq", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("kind", sa.SmallInteger, nullable=False),
        sa.Column("pid", sa.Integer, sa.ForeignKey("persons.pid")),
        sa.Column("purpose", sa.SmallInteger),
        sa.Column("status", sa.SmallInteger),
        sa.Column("role", sa.SmallInteger),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("recorded", sa.BigInteger, nullable=False),
        sa.Column("expires", sa.BigInteger),
        sa.Column("nid", sa.Integer, sa.ForeignKey("notices.nid")),
        sa.Column("simulated", sa.Boolean(create_constraint=False), nullable=False),
        sa.Column("leaf", sa.LargeBinary, nullable=False),
        sa.Column("leaf_hash", sa.LargeBinary, nullable=False),
    ),
    "uses": (
        sa.Column("seq", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("recorded", sa.BigInteger, nullable=False),
        sa.Column("persons", sa.LargeBinary, nullable=False),
        sa.Column("leaf", sa.LargeBinary, nullable=False),
        sa.Column("leaf_hash", sa.LargeBinary, nullable=False),
    ),
    "nodes": (
        sa.Column("log", sa.SmallInteger, primary_key=True, autoincrement=False),
        sa.Column("level", sa.SmallInteger, primary_key=True, autoincrement=False),
        sa.Column("idx", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("hash", sa.LargeBinary, nullable=False),
    ),
}
_ERASING = (
    "WHEN NEW.person IS NOT NULL OR NEW.nonce IS NOT NULL OR NEW.pid IS NOT OLD.pid "
    "OR OLD.person IS NULL"
)
_APPLICATION_ID = 0x70766D6F


def upgrade() -> None:
    """Make an empty registry of version 1."""
    if op.get_context().dialect.name != "sqlite":
        raise NotImplementedError("version 1 was written to SQLite alone")
    for name, columns in _TABLES.items():
        op.create_table(name, *columns, sqlite_with_rowid=name != "nodes")
    op.create_index("events_by_person", "events", ["pid"])
    for table in ("meta", "secrets", "notices", "events", "uses", "nodes"):
        _refuse(table, "UPDATE")
        _refuse(table, "DELETE")
    _refuse("persons", "DELETE")
    _refuse("persons", "UPDATE", _ERASING, "only ever erased")
    for table, key in (("events", "seq"), ("uses", "seq"), ("persons", "pid"), ("notices", "nid")):
        dense = f"WHEN NEW.{key} IS NOT (SELECT coalesce(max({key}) + 1, 0) FROM {table})"  # noqa: S608
        _refuse(table, "INSERT", dense, "numbered without gaps")
    for table, where, more in (
        ("meta", "key = NEW.key", ""),
        ("secrets", "name = NEW.name", ""),
        ("nodes", "log = NEW.log AND level = NEW.level AND idx = NEW.idx", ""),
        ("persons", "person = NEW.person", "_twice"),
        ("notices", "hash = NEW.hash", "_twice"),
    ):
        again = f"WHEN EXISTS (SELECT 1 FROM {table} WHERE {where})"  # noqa: S608
        _refuse(table, "INSERT", again, more=more)
    op.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
    op.execute("PRAGMA user_version = 1")


def _refuse(
    table: str, verb: str, when: str = "", why: str = "append-only", more: str = ""
) -> None:
    op.execute(
        f"CREATE TRIGGER {table}_no_{verb.lower()}{more} BEFORE {verb} ON {table} {when} "
        f"BEGIN SELECT RAISE(ABORT, '{table} is {why}'); END"
    )
