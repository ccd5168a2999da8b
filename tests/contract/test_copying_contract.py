"""All rows from one database into another, of the same kind or the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from privemo_consent import schema
from privemo_consent.errors import MalformedError, RegistryError
from privemo_consent.storage import Store, create_store, insert_rows, open_store
from privemo_consent.storage.copying import copy_tables
from tests.contract.store_rows import everything, fill, use
from tests.support.postgres import PostgresServer

Place = Callable[[], str]
KINDS = ["sqlite", "postgresql"]


@pytest.fixture
def places(tmp_path: Path, request: pytest.FixtureRequest) -> dict[str, Place]:
    def on_server() -> str:
        server: PostgresServer = request.getfixturevalue("postgres")
        return server.fresh()

    return {
        "sqlite": lambda: str(tmp_path / f"{len(list(tmp_path.iterdir()))}.sqlite"),
        "postgresql": on_server,
    }


@pytest.fixture(params=KINDS)
def source(places: dict[str, Place], request: pytest.FixtureRequest) -> Iterator[Store]:
    store = create_store(places[request.param](), fill)
    yield store
    store.close()


@pytest.fixture(params=KINDS)
def target(places: dict[str, Place], request: pytest.FixtureRequest) -> str:
    return places[request.param]()


def copy(source: Store, target: str, **options: Any) -> dict[str, list[tuple[Any, ...]]]:
    with ExitStack() as stack:
        reading = stack.enter_context(source.read())
        create_store(target, lambda writing: copy_tables(reading, writing, **options)).close()
    store = open_store(target)
    with store.read() as connection:
        store.check(connection)
        rows = everything(connection)
    store.close()
    return rows


@pytest.mark.parametrize("chunk", [1, 7, 5000])
def test_every_row_arrives_as_it_was(source: Store, target: str, chunk: int) -> None:
    with source.read() as connection:
        before = everything(connection)
    assert copy(source, target, chunk=chunk) == before
    assert all(before.values()), "something of every table"


def test_rows_are_changed_or_left_out_on_the_way(source: Store, target: str) -> None:
    erased = {3}
    nothing = dict.fromkeys(("handle", "sealed", "wrapped", "epoch"))
    change = {
        "persons": lambda row: row | nothing if row["pid"] in erased else row,
        "items": lambda row: None if row["pid"] in erased else row,
    }
    rows = copy(source, target, change=change)
    assert rows["persons"][3] == (3, None, None, None, None)
    assert None not in rows["persons"][2]
    assert [row[1] for row in rows["items"]] == [1, 0]


def test_an_erased_person_arrives_erased(source: Store, target: str) -> None:
    with source.write() as connection:
        connection.exec_driver_sql(
            "UPDATE persons SET handle = NULL, sealed = NULL, wrapped = NULL, epoch = NULL "
            "WHERE pid = 2"
        )
    assert copy(source, target)["persons"][2] == (2, None, None, None, None)


def test_a_copy_with_holes_is_refused_and_leaves_nothing(source: Store, target: str) -> None:
    change = {"events": lambda row: None if row["seq"] == 7 else row}
    with pytest.raises(RegistryError, match="without gaps"):
        copy(source, target, change=change)
    with pytest.raises(RegistryError, match="no registry"):
        open_store(target)


def test_a_copy_over_something_is_refused(source: Store, target: str) -> None:
    store = create_store(target, fill)
    with pytest.raises(RegistryError), source.read() as one, store.write() as two:
        copy_tables(one, two)
    with store.read() as connection:
        assert len(everything(connection)["events"]) == 20
    store.close()


def test_what_is_written_meanwhile_is_not_half_in_the_copy(source: Store, target: str) -> None:
    other = open_store(source.where)

    def write_then_copy(writing: Any) -> None:
        with other.write() as connection:
            insert_rows(connection, schema.uses, [use(3)])
        copy_tables(reading, writing)

    with source.read() as reading:
        assert len(everything(reading)["uses"]) == 3
        create_store(target, write_then_copy).close()
    other.close()
    store = open_store(target)
    with store.read() as connection:
        assert len(everything(connection)["uses"]) == 3
    store.close()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"change": {"person": lambda row: row}}, "person, which is no table"),
        ({"chunk": 0}, "chunk 0"),
    ],
)
def test_a_slip_is_told_before_anything_is_written(
    source: Store, target: str, options: dict[str, Any], told: str
) -> None:
    with pytest.raises(MalformedError, match=told):
        copy(source, target, **options)
