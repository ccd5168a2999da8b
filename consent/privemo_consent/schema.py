"""The tables, and the triggers that make them append-only.

A log's leaf is the truth; the columns beside it repeat what decisions need, and `verify` holds the
two together. Enumerations are stored as their position in the enumeration (`terms.py`).

Who a ``pid`` is stands only in ``persons``: erasing sets ``person`` and ``nonce`` to NULL, the one
UPDATE a trigger lets through, and with the nonce goes the key of that person's subject tags.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
)

__all__ = [
    "APPLICATION_ID",
    "EVENTS_LOG",
    "SCHEMA_VERSION",
    "USES_LOG",
    "events",
    "make",
    "meta",
    "metadata",
    "nodes",
    "notices",
    "persons",
    "secrets",
    "triggers",
    "uses",
]

#: ``PRAGMA application_id``: "pvmo"
APPLICATION_ID = 0x70766D6F
SCHEMA_VERSION = 1
EVENTS_LOG = 0
USES_LOG = 1

metadata = MetaData()

meta = Table(
    "meta",
    metadata,
    Column("key", Text, primary_key=True),
    Column("value", Text, nullable=False),
)
secrets = Table(
    "secrets",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", LargeBinary, nullable=False),
)
persons = Table(
    "persons",
    metadata,
    Column("pid", Integer, primary_key=True, autoincrement=False),
    Column("person", Text, unique=True),
    Column("nonce", LargeBinary),
)
notices = Table(
    "notices",
    metadata,
    Column("nid", Integer, primary_key=True, autoincrement=False),
    Column("hash", Text, nullable=False, unique=True),
    Column("notice_id", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("body", LargeBinary, nullable=False),
)
events = Table(
    "events",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("kind", SmallInteger, nullable=False),
    Column("pid", Integer, ForeignKey("persons.pid")),
    Column("purpose", SmallInteger),
    Column("status", SmallInteger),
    Column("role", SmallInteger),
    Column("at", BigInteger, nullable=False),
    Column("recorded", BigInteger, nullable=False),
    Column("expires", BigInteger),
    Column("nid", Integer, ForeignKey("notices.nid")),
    Column("simulated", Boolean(create_constraint=False), nullable=False),
    Column("leaf", LargeBinary, nullable=False),
    Column("leaf_hash", LargeBinary, nullable=False),
    Index("events_by_person", "pid"),
)
uses = Table(
    "uses",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("recorded", BigInteger, nullable=False),
    Column("persons", LargeBinary, nullable=False),
    Column("leaf", LargeBinary, nullable=False),
    Column("leaf_hash", LargeBinary, nullable=False),
)
# Hashes of perfect subtrees of 2**level leaves, every fourth level: see log.py.
nodes = Table(
    "nodes",
    metadata,
    Column("log", SmallInteger, primary_key=True, autoincrement=False),
    Column("level", SmallInteger, primary_key=True, autoincrement=False),
    Column("idx", BigInteger, primary_key=True, autoincrement=False),
    Column("hash", LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)


def _refuse(table: str, verb: str, when: str = "", why: str = "append-only") -> tuple[str, str]:
    name = f"{table}_no_{verb.lower()}"
    sql = (
        f"CREATE TRIGGER {name} BEFORE {verb} ON {table} {when} "
        f"BEGIN SELECT RAISE(ABORT, '{table} is {why}'); END"
    )
    return name, sql


def triggers() -> dict[str, str]:
    """Return name -> SQL of every SQLite trigger.

    GDPR 7(1), REQUIREMENTS 12: nothing is overwritten. INSERT is guarded as well, because
    ``INSERT OR REPLACE`` deletes without firing DELETE triggers unless a pragma asks for it.
    """
    found: dict[str, str] = {}
    for table in ("meta", "secrets", "notices", "events", "uses", "nodes"):
        found.update((_refuse(table, "UPDATE"), _refuse(table, "DELETE")))
    found.update((_refuse("persons", "DELETE"),))
    erasing = (
        "WHEN NEW.person IS NOT NULL OR NEW.nonce IS NOT NULL OR NEW.pid IS NOT OLD.pid "
        "OR OLD.person IS NULL"
    )
    found.update((_refuse("persons", "UPDATE", erasing, "only ever erased"),))
    for table, key in (("events", "seq"), ("uses", "seq"), ("persons", "pid"), ("notices", "nid")):
        # Names are constants of this module.
        dense = f"WHEN NEW.{key} IS NOT (SELECT coalesce(max({key}) + 1, 0) FROM {table})"  # noqa: S608
        found.update((_refuse(table, "INSERT", dense, "numbered without gaps"),))
    for table, where in (
        ("meta", "key = NEW.key"),
        ("secrets", "name = NEW.name"),
        ("nodes", "log = NEW.log AND level = NEW.level AND idx = NEW.idx"),
    ):
        fresh = f"WHEN EXISTS (SELECT 1 FROM {table} WHERE {where})"  # noqa: S608
        found.update((_refuse(table, "INSERT", fresh),))
    # A duplicate person or notice hash under a new number would REPLACE the old row.
    for table, column in (("persons", "person"), ("notices", "hash")):
        again = f"WHEN EXISTS (SELECT 1 FROM {table} WHERE {column} = NEW.{column})"  # noqa: S608
        name, sql = _refuse(table, "INSERT", again)
        found[f"{name}_twice"] = sql.replace(name, f"{name}_twice")
    return found


def make(connection: Connection) -> None:
    """Create tables, indexes and triggers, and mark the file as a registry of this schema."""
    metadata.create_all(connection)
    for sql in triggers().values():
        connection.exec_driver_sql(sql)
    connection.exec_driver_sql(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.exec_driver_sql(f"PRAGMA user_version = {SCHEMA_VERSION}")
