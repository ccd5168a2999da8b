"""Whether a schema of PostgreSQL holds a registry's tables and guards, whole, and nothing else.

What is wanted is computed from `schema.metadata` and `pgguards`; what is there is read from the
catalogue, which every role may read.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa

from .. import schema
from ..errors import TamperedError
from . import pgguards

__all__ = ["check", "relations"]

_KINDS = {"r": "table", "p": "table", "f": "table", "v": "view", "m": "view", "S": "sequence"}

# Extensions may keep their own things in any schema.
_OWN = (
    "NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.objid = {oid} AND d.classid = '{catalogue}'"
    "::regclass AND d.deptype = 'e')"
)
_RELATIONS = f"""
    SELECT c.relkind::text, c.relname FROM pg_class c
    WHERE c.relnamespace = to_regnamespace(%s)::oid
      AND c.relkind NOT IN ('i', 'I', 'c', 't')
      AND {_OWN.format(oid="c.oid", catalogue="pg_class")}
"""  # noqa: S608 - constants
_TABLES = """
    SELECT c.relname,
      c.relpersistence::text || c.relkind::text || ' ' || c.relrowsecurity || ' '
        || c.relforcerowsecurity || ' ' || c.relhassubclass
        || ' ' || (SELECT count(*) FROM pg_rewrite r WHERE r.ev_class = c.oid)
        || ' ' || (SELECT count(*) FROM pg_trigger t WHERE t.tgrelid = c.oid AND t.tgisinternal
                   AND t.tgenabled <> 'O'),
      (SELECT string_agg(a.attname || ' ' || format_type(a.atttypid, a.atttypmod)
         || CASE WHEN a.attnotnull THEN ' not null' ELSE '' END
         || CASE WHEN a.atthasdef OR a.attidentity <> '' OR a.attgenerated <> ''
                 THEN ' default' ELSE '' END, ', ' ORDER BY a.attnum)
       FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
      (SELECT string_agg(pg_get_constraintdef(k.oid, true)
         || CASE WHEN k.convalidated THEN '' ELSE ' not valid' END, ', '
         ORDER BY pg_get_constraintdef(k.oid, true) COLLATE "C")
       FROM pg_constraint k WHERE k.conrelid = c.oid AND k.contype NOT IN ('n', 't'))
    FROM pg_class c
    WHERE c.relnamespace = to_regnamespace(%s)::oid AND c.relkind IN ('r', 'p', 'f')
"""
_INDEXES = """
    SELECT c.relname, pg_get_indexdef(i.indexrelid, 0, true), i.indisvalid AND i.indisready
    FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_class t ON t.oid = i.indrelid
    WHERE t.relnamespace = to_regnamespace(%s)::oid AND t.relkind <> 't'
      AND NOT EXISTS (SELECT 1 FROM pg_constraint k WHERE k.conindid = i.indexrelid
                      AND k.contype IN ('p', 'u', 'x'))
"""
_TRIGGERS = """
    SELECT t.tgname, pg_get_triggerdef(t.oid, true), t.tgenabled = 'A'
    FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
    WHERE c.relnamespace = to_regnamespace(%s)::oid AND NOT t.tgisinternal
"""
_FUNCTIONS = f"""
    SELECT p.proname, p.prosrc,
      l.lanname = 'plpgsql' AND p.pronargs = 0 AND NOT p.prosecdef AND p.proconfig IS NULL
        AND p.prorettype = 'trigger'::regtype
    FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
    WHERE p.pronamespace = to_regnamespace(%s)::oid
      AND {_OWN.format(oid="p.oid", catalogue="pg_proc")}
"""  # noqa: S608 - constants
_QUERIES = {"table": _TABLES, "index": _INDEXES, "trigger": _TRIGGERS, "function": _FUNCTIONS}


def relations(connection: sa.Connection, namespace: str) -> set[str]:
    """Return the tables, views and sequences of a schema, as ``"table events"``."""
    rows = connection.exec_driver_sql(_RELATIONS, (namespace,))
    return {f"{_KINDS.get(kind, 'relation')} {name}" for kind, name in rows}


def check(connection: sa.Connection, namespace: str, versions: sa.Table) -> None:
    """Compare what is there with what should be.

    Raises:
        TamperedError: names the first part that is missing, altered or strange.

    """
    want = dict(_wanted(connection.dialect, namespace, versions))
    have: dict[str, Any] = dict.fromkeys(relations(connection, namespace))
    have.update(_found(connection, namespace))
    for name, told in want.items():
        if have.pop(name, None) != told:
            raise TamperedError(name, "missing or altered: rows may be overwritten unseen")
    if have:
        raise TamperedError(min(have), "is none of this registry's")


def _found(connection: sa.Connection, namespace: str) -> Iterator[tuple[str, Any]]:
    for kind, query in _QUERIES.items():
        for name, *told in connection.exec_driver_sql(query, (namespace,)):
            yield f"{kind} {name}", tuple(told)


def _wanted(dialect: sa.Dialect, namespace: str, versions: sa.Table) -> Iterator[tuple[str, Any]]:
    for table in (*schema.metadata.sorted_tables, versions):
        plain = "pr false false false 0 0"
        yield f"table {table.name}", (plain, _columns(table, dialect), _constraints(table))
        for index in table.indexes:
            yield f"index {index.name}", (_index(index, dialect), True)
    for name, sql in pgguards.triggers(versions).items():
        yield f"trigger {name}", (sql, True)
    for name, body in pgguards.functions(namespace).items():
        yield f"function {name}", (body, True)


def _columns(table: sa.Table, dialect: sa.Dialect) -> str:
    return ", ".join(
        f"{column.name} {column.type.compile(dialect=dialect).lower()}"
        + ("" if column.nullable else " not null")
        for column in table.columns
    )


def _constraints(table: sa.Table) -> str:
    found: list[str] = []
    for constraint in table.constraints:
        if not isinstance(constraint, sa.schema.ColumnCollectionConstraint):
            continue
        names = ", ".join(column.name for column in constraint.columns)
        if isinstance(constraint, sa.PrimaryKeyConstraint):
            found.append(f"PRIMARY KEY ({names})")
        elif isinstance(constraint, sa.UniqueConstraint):
            found.append(f"UNIQUE ({names})")
        elif isinstance(constraint, sa.ForeignKeyConstraint):
            theirs = ", ".join(element.column.name for element in constraint.elements)
            target = constraint.referred_table.name
            found.append(f"FOREIGN KEY ({names}) REFERENCES {target}({theirs})")
    return ", ".join(sorted(found))


def _index(index: sa.Index, dialect: sa.Dialect) -> str:
    names = ", ".join(column.name for column in index.columns)
    unique = "UNIQUE " if index.unique else ""
    table = index.table.name if index.table is not None else ""
    told = f"CREATE {unique}INDEX {index.name} ON {table} USING btree ({names})"
    where = index.dialect_options["postgresql"]["where"]
    if where is None:
        return told
    clause = where.compile(dialect=dialect, compile_kwargs={"literal_binds": True})
    return f"{told} WHERE {str(clause).replace(f'{table}.', '')}"
