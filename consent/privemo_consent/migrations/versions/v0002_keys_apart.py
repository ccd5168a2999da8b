"""Names sealed, keys apart from the database, signed heads, the vault.

The data goes through ``convert``, which `storage.upgrade.migrate` was given: it reads `persons_v1`
(pid, person, nonce) and `secrets` (name, value), and fills `persons`. The guards are down meanwhile:
`storage.upgrade` puts those of the newest version in place at the end.
"""

from __future__ import annotations

import alembic.context
import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Rebuild `persons` out of the old rows; add `checkpoints` and `items`; drop `secrets`."""
    # Not renamed: SQLite would rewrite the foreign key of `events` with it.
    op.execute("CREATE TABLE persons_v1 AS SELECT pid, person, nonce FROM persons")
    op.drop_table("persons")
    _make_tables()
    alembic.context.config.attributes["convert"](op.get_bind())
    op.drop_table("persons_v1")
    op.drop_table("secrets")


def _make_tables() -> None:
    op.create_table(
        "persons",
        sa.Column("pid", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("handle", sa.LargeBinary, unique=True),
        sa.Column("sealed", sa.LargeBinary),
        sa.Column("wrapped", sa.LargeBinary),
        sa.Column("epoch", sa.SmallInteger),
    )
    op.create_index("persons_erased", "persons", ["pid"], sqlite_where=sa.text("wrapped IS NULL"))
    op.create_table(
        "checkpoints",
        sa.Column("log", sa.SmallInteger, primary_key=True, autoincrement=False),
        sa.Column("size", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("note", sa.Text, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "items",
        sa.Column("iid", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("pid", sa.Integer, sa.ForeignKey("persons.pid"), nullable=False),
        sa.Column("kind", sa.SmallInteger, nullable=False),
        sa.Column("head", sa.LargeBinary, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
    )
    op.create_index("items_by_person", "items", ["pid"])
