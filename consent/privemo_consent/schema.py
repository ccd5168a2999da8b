"""The tables; the guards that make them append-only stand in `storage`.

A log's leaf is the truth; the columns beside it repeat what decisions need, and `verify` holds the
two together. Enumerations are stored as their position in the enumeration (`terms.py`).

Who a ``pid`` is stands only in ``persons``, sealed under that person's own key, which is wrapped under a
key that the database never holds (`sealing.py`). Erasing sets every column but ``pid`` to NULL; the
only other UPDATE that a guard lets through wraps the same key anew.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
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
    "BACKUP_ID",
    "EVENTS_LOG",
    "SCHEMA_VERSION",
    "USES_LOG",
    "checkpoints",
    "events",
    "items",
    "meta",
    "metadata",
    "nodes",
    "notices",
    "persons",
    "uses",
]

#: ``PRAGMA application_id``: "pvmo"
APPLICATION_ID = 0x70766D6F
#: Of a backup: "pvmb"; three bits from a registry's, so that no single flip makes one of it.
BACKUP_ID = 0x70766D62
SCHEMA_VERSION = 2
EVENTS_LOG = 0
USES_LOG = 1

# On SQLite only INTEGER makes the key the row's own number.
_SEQ = BigInteger().with_variant(Integer(), "sqlite")

metadata = MetaData()

meta = Table(
    "meta",
    metadata,
    Column("key", Text, primary_key=True),
    Column("value", Text, nullable=False),
)
persons = Table(
    "persons",
    metadata,
    Column("pid", Integer, primary_key=True, autoincrement=False),
    # keyed BLAKE2b of the person's id: how a row is found by whoever holds the lookup key
    Column("handle", LargeBinary, unique=True),
    # AES-256-GCM under the person's key: subject key and id
    Column("sealed", LargeBinary),
    # the person's key, AES-256-GCM under the wrapping key number pid of this epoch
    Column("wrapped", LargeBinary),
    Column("epoch", SmallInteger),
)
# Finding who was erased must not cost a walk over everyone.
Index(
    "persons_erased",
    persons.c.pid,
    sqlite_where=persons.c.wrapped.is_(None),
    postgresql_where=persons.c.wrapped.is_(None),
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
    Column("seq", _SEQ, primary_key=True, autoincrement=False),
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
    Column("seq", _SEQ, primary_key=True, autoincrement=False),
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


# Signed heads (C2SP tlog-checkpoint), one for each durable change of a log.
checkpoints = Table(
    "checkpoints",
    metadata,
    Column("log", SmallInteger, primary_key=True, autoincrement=False),
    Column("size", BigInteger, primary_key=True, autoincrement=False),
    Column("note", Text, nullable=False),
    sqlite_with_rowid=False,
)
# The vault: what is held of a person besides the record. Rows come and go, and never change.
items = Table(
    "items",
    metadata,
    # a hash keyed with the person's key: a rising number would tell who came when
    Column("iid", _SEQ, primary_key=True, autoincrement=False),
    Column("pid", Integer, ForeignKey("persons.pid"), nullable=False),
    Column("kind", SmallInteger, nullable=False),
    Column("head", LargeBinary, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Index("items_by_person", "pid"),
)
