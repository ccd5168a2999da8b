"""The guards on PostgreSQL: trigger functions and the triggers that call them.

They fire once a statement, so that bulk inserts stay fast, and ALWAYS, so that
``session_replication_role = replica`` does not pass them by. TRUNCATE is refused like DELETE.
Duplicates are refused by the keys themselves: PostgreSQL has no REPLACE, and ON CONFLICT DO
UPDATE fires the guard of UPDATE. Whoever owns the tables can drop a guard; `check` then names it.
"""

from __future__ import annotations

import sqlalchemy as sa

from .. import schema

__all__ = ["functions", "install", "remove", "triggers"]

_RAISE = "RAISE EXCEPTION '% is %', TG_TABLE_NAME, {why} USING ERRCODE = '23000';"

_REFUSE = f"""
BEGIN
  {_RAISE.format(why="TG_ARGV[0]")}
END
"""

# All the statement's rows at once: they must fill the numbers after the last one that was there.
_DENSE = """
DECLARE
  low bigint;
  high bigint;
  many bigint;
  before bigint;
BEGIN
  SELECT min({key}), max({key}), count(*) INTO low, high, many FROM added;
  IF many > 0 THEN
    SELECT max({key}) INTO before FROM {schema}.{table} WHERE {key} < low;
    IF low <> coalesce(before + 1, 0) OR high - low + 1 <> many
       OR high <> (SELECT max({key}) FROM {schema}.{table}) THEN
      {refusal}
    END IF;
  END IF;
  RETURN NULL;
END
"""

_PERSON = """
BEGIN
  IF NEW.pid = OLD.pid AND OLD.handle IS NOT NULL AND (
    ({erased})
    OR (NEW.sealed IS NOT DISTINCT FROM OLD.sealed AND NEW.epoch > OLD.epoch
        AND NEW.handle <> OLD.handle AND NEW.wrapped <> OLD.wrapped)
  ) THEN
    RETURN NEW;
  END IF;
  {refusal}
END
"""

# A signed head may go once a later one of its log stands there.
_HEAD = """
BEGIN
  IF EXISTS (SELECT 1 FROM {schema}.checkpoints WHERE log = OLD.log AND size > OLD.size) THEN
    RETURN OLD;
  END IF;
  {refusal}
END
"""

_NUMBERED = {"events": "seq", "uses": "seq", "persons": "pid", "notices": "nid"}


def functions(namespace: str) -> dict[str, str]:
    """Return name -> PL/pgSQL body of every trigger function.

    Tables are named with their schema: a temporary table of the same name must not deceive a
    guard.
    """
    gaps = _RAISE.format(why="'numbered without gaps'")
    found = {"privemo_refuse": _REFUSE}
    for table, key in _NUMBERED.items():
        body = _DENSE.format(key=key, schema=namespace, table=table, refusal=gaps)
        found[f"privemo_dense_{table}"] = body
    sealed = [c.name for c in schema.persons.columns if not c.primary_key]
    found["privemo_person"] = _PERSON.format(
        erased=" AND ".join(f"NEW.{name} IS NULL" for name in sealed),
        refusal=_RAISE.format(why="'only ever erased or wrapped anew'"),
    )
    found["privemo_head"] = _HEAD.format(
        schema=namespace, refusal=_RAISE.format(why="'kept to the newest'")
    )
    return found


def triggers(versions: sa.Table) -> dict[str, str]:
    """Return name -> SQL of every trigger, worded as ``pg_get_triggerdef(oid, true)`` does."""
    found: dict[str, str] = {}
    for table in (*schema.metadata.sorted_tables, versions):
        for verb in ("UPDATE", "DELETE", "TRUNCATE"):
            timing = f"BEFORE {verb} ON {table.name} FOR EACH"
            action = "STATEMENT EXECUTE FUNCTION privemo_refuse('append-only')"
            if table is schema.items and verb == "DELETE":
                continue  # what is held of a person goes when its time is over
            if table is schema.persons and verb == "UPDATE":
                action = "ROW EXECUTE FUNCTION privemo_person()"
            if table is schema.checkpoints and verb == "DELETE":
                action = "ROW EXECUTE FUNCTION privemo_head()"
            name = f"{table.name}_no_{verb.lower()}"
            found[name] = f"CREATE TRIGGER {name} {timing} {action}"
        if table.name in _NUMBERED:
            name = f"{table.name}_no_insert"
            found[name] = (
                f"CREATE TRIGGER {name} AFTER INSERT ON {table.name} "
                "REFERENCING NEW TABLE AS added FOR EACH STATEMENT "
                f"EXECUTE FUNCTION privemo_dense_{table.name}()"
            )
    return found


def install(connection: sa.Connection, versions: sa.Table) -> None:
    """Create the functions and triggers in the session's schema."""
    namespace = str(connection.exec_driver_sql("SELECT current_schema()").scalar())
    for name, body in functions(namespace).items():
        text = body.replace("%", "%%")  # a lone one would mark a parameter
        connection.exec_driver_sql(
            f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $guard${text}$guard$"
        )
    for name, sql in triggers(versions).items():
        table = sql.split(" ON ")[1].split()[0]
        connection.exec_driver_sql(sql)
        connection.exec_driver_sql(f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {name}")


def remove(connection: sa.Connection) -> None:
    """Drop every function of the guards and, with it, every trigger that calls it."""
    query = (
        "SELECT p.proname FROM pg_proc p WHERE p.pronamespace = current_schema()::regnamespace "
        "AND p.prorettype = 'trigger'::regtype AND p.proname LIKE 'privemo\\_%%'"
    )
    for name in connection.exec_driver_sql(query).scalars().all():
        connection.exec_driver_sql(f'DROP FUNCTION "{name}"() CASCADE')
