"""What a registry asks of its database, held against each kind of database there is."""

from __future__ import annotations

import gc
import os
import time
import traceback
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from privemo_consent import schema
from privemo_consent.errors import (
    RegistryBusyError,
    RegistryError,
    RegistryExistsError,
    RegistryFullError,
    RegistryMissingError,
    RegistryUnreadableError,
)
from privemo_consent.storage import Store, create_store, insert_rows, open_store
from tests.contract.processes import Worker, finish, go, kill
from tests.contract.processes import start as start_process
from tests.contract.store_rows import add_use, event, everything, fill, person, size_of
from tests.support.consent import in_child
from tests.support.postgres import PostgresServer
from tests.support.races import race_until_at_once


def start(act: str, place: str, name: str, count: int = 0) -> Worker:
    return start_process("store_worker", act, place, name, str(count))


def names(store: Store) -> list[str]:
    with store.read() as connection:
        query = sa.select(schema.uses.c.leaf).order_by(schema.uses.c.seq)
        return [leaf.decode() for leaf in connection.execute(query).scalars()]


class StoreContract(ABC):
    @pytest.fixture
    @abstractmethod
    def place(self) -> str:
        """Where no registry stands yet."""

    @pytest.fixture
    def store(self, place: str) -> Iterator[Store]:
        store = create_store(place, fill)
        yield store
        store.close()

    @pytest.fixture
    def other(self, store: Store, place: str) -> Iterator[Store]:
        """The same database through connections of its own, impatient."""
        other = open_store(place, busy_timeout_ms=80)
        yield other
        other.close()

    # -- making and opening ------------------------------------------------------------------

    def test_what_was_made_opens_whole(self, store: Store, other: Store) -> None:
        with store.read() as one, other.read() as two:
            assert everything(one) == everything(two)
            assert store.version(one) == schema.SCHEMA_VERSION
            other.check(two)

    def test_every_value_comes_back_as_it_was_put(self, store: Store) -> None:
        with store.read() as connection:
            rows = everything(connection)
        want = event(4, 4)
        assert rows["events"][4] == tuple(want.values())
        assert [type(value) for value in rows["events"][4]] == [
            type(value) for value in want.values()
        ]
        assert [row[0] for row in rows["items"]] == [-5, 9, 2**53 + 7]
        assert rows["meta"] == [("mode", "production"), ("name", "été")]

    def test_nothing_is_made_over_something(self, store: Store, place: str) -> None:
        with pytest.raises(RegistryExistsError, match="open"):
            create_store(place, fill)
        with store.read() as connection:
            store.check(connection)

    def test_where_nothing_is_nothing_opens(self, place: str) -> None:
        for readonly in (True, False):
            with pytest.raises(RegistryMissingError, match=r"ConsentRegistry\.create"):
                open_store(place, readonly=readonly)

    def test_a_failed_making_leaves_the_place_free(self, place: str) -> None:
        def fail(connection: sa.Connection) -> None:
            fill(connection)
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            create_store(place, fail)
        with pytest.raises(RegistryMissingError):
            open_store(place)
        create_store(place, fill).close()

    def test_discarding_removes_what_was_made_here(self, place: str) -> None:
        store = create_store(place, fill)
        opened = open_store(place)
        opened.discard()
        open_store(place).close()
        store.discard()
        with pytest.raises(RegistryMissingError):
            open_store(place)

    def test_a_store_names_itself(self, store: Store, other: Store) -> None:
        assert store.where in repr(store)
        assert store.where == other.where
        assert (store.path is None) is (store.dialect == "postgresql")

    def test_closed_it_opens_again_on_use(self, store: Store) -> None:
        store.close()
        with store.write() as connection:
            add_use(connection, size_of(connection))

    # -- reading and writing -----------------------------------------------------------------

    def test_a_reader_sees_one_moment(self, store: Store, other: Store) -> None:
        with store.read() as reader:
            assert size_of(reader) == 3
            with other.write() as writer:
                add_use(writer, 3)
            assert size_of(reader) == 3
        with store.read() as reader:
            assert size_of(reader) == 4

    def test_whoever_stops_reading_leaves_nothing_open(self, store: Store) -> None:
        def first(connection: sa.Connection) -> int:
            options = {"stream_results": True, "max_row_buffer": 1}
            query = sa.select(schema.events.c.seq)
            return int(next(iter(connection.execute(query, execution_options=options)))[0])

        for _ in range(3):
            with store.read() as connection:
                assert first(connection) == 0
        with store.read() as connection:
            assert first(connection) == 0
            with pytest.raises(sa.exc.DBAPIError):
                connection.exec_driver_sql("SELECT nonsense")
        gc.collect()  # what is still open says so now, and a warning is an error
        with store.read() as connection:
            assert size_of(connection) == 3

    def test_a_writer_has_the_lock_before_it_reads(self, store: Store, other: Store) -> None:
        with store.write():
            began = time.monotonic()
            with pytest.raises(RegistryBusyError, match="try again") as caught, other.write():
                pytest.fail("two writers at once")
            assert 0.05 < time.monotonic() - began < 10
            assert store.where in str(caught.value)
            with other.read() as reader:
                assert size_of(reader) == 3, "reading goes on"
        with other.write() as writer:
            add_use(writer, size_of(writer))

    def test_a_reader_writes_nothing(self, store: Store) -> None:
        before = names(store)
        if store.dialect == "postgresql":
            with pytest.raises(RegistryFullError), store.read() as connection:
                add_use(connection, 3)
        else:
            with store.read() as connection:
                add_use(connection, 3)
        assert names(store) == before, "what was written while reading is rolled back"

    @pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
    def test_what_fails_leaves_nothing(self, store: Store, error: type[BaseException]) -> None:
        def fail() -> None:
            with store.write() as connection:
                add_use(connection, 3)
                raise error

        with pytest.raises(error):
            fail()
        assert len(names(store)) == 3
        with store.write() as connection:
            add_use(connection, 3)

    def test_opened_for_reading_nothing_is_written(self, store: Store, place: str) -> None:
        reader = open_store(place, readonly=True)
        with reader.read() as connection:
            reader.check(connection)
        with pytest.raises(RegistryFullError, match="may not be written"), reader.write():
            pytest.fail("writing to what was opened for reading")
        reader.close()

    def test_a_refused_row_tells_nothing_of_a_person(self, store: Store) -> None:
        secret = b"mallory-at-17-main-street"
        twice = person(0, handle=secret, sealed=secret)
        with pytest.raises(RegistryUnreadableError) as caught, store.write() as connection:
            insert_rows(connection, schema.persons, [twice])
        told = "".join(traceback.format_exception(caught.value))
        assert store.where in str(caught.value)
        for spelling in (secret.decode(), secret.hex(), repr(secret)):
            assert spelling not in told

    @pytest.mark.parametrize("count", [1, 31, 32, 500])
    def test_many_rows_at_once_are_those_rows(self, store: Store, count: int) -> None:
        rows = [event(20 + i, None if i % 3 else 1, at=-i, nid=None) for i in range(count)]
        with store.write() as connection:
            insert_rows(connection, schema.events, rows)
        with store.read() as connection:
            found = everything(connection)["events"][20:]
        assert found == [tuple(row.values()) for row in rows]

    def test_rows_that_are_refused_in_bulk_leave_nothing(self, store: Store) -> None:
        rows = [event(20 + i) for i in range(99)] + [event(120)]
        with pytest.raises(RegistryError, match="without gaps"), store.write() as connection:
            insert_rows(connection, schema.events, rows)
        with store.read() as connection:
            assert len(everything(connection)["events"]) == 20

    # -- the two changes of a person, and the vault --------------------------------------------

    def test_wrapping_anew_and_erasing_are_let_through(self, store: Store) -> None:
        change = sa.update(schema.persons).where(schema.persons.c.pid == 3)
        anew = {"handle": b"new", "wrapped": b"newer", "epoch": 2}
        gone = {"handle": None, "sealed": None, "wrapped": None, "epoch": None}
        for values in (anew, gone):
            with store.write() as connection:
                connection.execute(change.values(**values))
            with store.read() as connection:
                row = connection.execute(
                    sa.select(schema.persons).where(schema.persons.c.pid == 3)
                ).one()
            assert values.items() <= row._asdict().items()
        with pytest.raises(RegistryError, match="erased"), store.write() as connection:
            connection.execute(change.values(**anew, sealed=b"back"))
        with store.write() as connection:
            connection.execute(sa.delete(schema.items).where(schema.items.c.pid == 3))

    # -- processes -----------------------------------------------------------------------------

    @pytest.mark.parametrize("act", ["durable", "quick"])
    def test_processes_writing_at_once_lose_and_double_nothing(
        self, store: Store, place: str, act: str
    ) -> None:
        each = 60 if act == "durable" else 600

        def race(_: int) -> list[str]:
            before = len(names(store))
            kiosks = {name: start(act, place, name, each) for name in ("east", "west", "north")}
            for kiosk in kiosks.values():
                go(kiosk)
            said = {name: finish(kiosk) for name, kiosk in kiosks.items()}
            told = sorted((line for lines in said.values() for line in lines), key=_seq)
            written = names(store)[before:]
            assert [f"{i + before} {name}" for i, name in enumerate(written)] == told
            assert len(told) == 3 * each
            for lines in said.values():
                assert [_seq(line) for line in lines] == sorted(_seq(line) for line in lines)
            return written

        race_until_at_once(race)
        with store.read() as connection:
            store.check(connection)

    @pytest.mark.parametrize("act", ["durable", "quick"])
    def test_kill_9_keeps_every_promise(self, store: Store, place: str, act: str) -> None:
        worker = start(act, place, "kiosk", 5000)
        go(worker)
        assert worker.stdout is not None
        said = [worker.stdout.readline().rstrip() for _ in range(8)]
        time.sleep(0.003)  # somewhere within the next act
        said += kill(worker)
        with store.write() as connection:  # the lock came free with its holder
            add_use(connection, size_of(connection), "after")
        kept = [f"{i} {name}" for i, name in enumerate(names(store))][3:]
        assert kept[: len(said)] == said
        assert len(kept) <= len(said) + 2, "at most the one act that nobody was told of"

    def test_a_writer_killed_in_the_middle_leaves_nothing(self, store: Store, place: str) -> None:
        worker = start("hold", place, "half")
        go(worker)
        assert worker.stdout is not None
        assert worker.stdout.readline() == "holding\n"
        kill(worker)
        with store.write() as connection:
            assert size_of(connection) == 3
            add_use(connection, 3)
        assert "half" not in names(store)

    def test_a_forked_child_writes_on_connections_of_its_own(self, store: Store) -> None:
        assert len(names(store)) == 3

        def act() -> None:
            for _ in range(3):
                with store.write() as connection:
                    add_use(connection, size_of(connection), "child")

        assert in_child(act) == 0
        with store.write() as connection:
            add_use(connection, size_of(connection), "parent")
        assert names(store)[3:] == ["child", "child", "child", "parent"]

    def test_a_fork_while_reading_disturbs_nobody(self, store: Store) -> None:
        with store.read() as reader:
            assert size_of(reader) == 3

            def act() -> None:
                with store.read() as own:
                    assert size_of(own) == 3
                store.close()

            assert in_child(act) == 0
            assert size_of(reader) == 3


def _seq(line: str) -> int:
    return int(line.split()[0])


class TestSqliteStore(StoreContract):
    @pytest.fixture
    def place(self, tmp_path: Path) -> str:
        return str(tmp_path / "consent.sqlite")

    def test_a_file_is_readable_by_its_owner_alone(self, store: Store, place: str) -> None:
        assert os.stat(place).st_mode & 0o777 == 0o600

    @pytest.mark.parametrize(("durable", "want"), [(True, 2), (False, 1)])
    def test_commits_are_flushed_unless_they_need_not_be(
        self, store: Store, durable: bool, want: int
    ) -> None:
        # REQUIREMENTS 32: https://sqlite.org/pragma.html#pragma_synchronous, FULL is 2
        with store.write(durable=durable) as connection:
            assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == want
            assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
            assert connection.exec_driver_sql("PRAGMA secure_delete").scalar() == 1

    def test_after_an_erasure_and_a_scrub_no_byte_is_left(self, store: Store, place: str) -> None:
        secrets = (b"sealed-secret-of-3", b"wrapped-key-of-3", b"picture-of-3")
        erase(store, 3)
        store.scrub()
        left = Path(place).read_bytes() + Path(f"{place}-wal").read_bytes()
        assert not [secret for secret in secrets if secret in left]
        assert b"sealed-secret-of-2" in left

    def test_a_scrub_waits_for_readers_and_says_so(self, store: Store, other: Store) -> None:
        with store.read() as reader:
            assert size_of(reader) == 3
            erase(other, 3)
            with pytest.raises(RegistryBusyError, match="try again"):
                other.scrub()
        other.scrub()


class TestPostgresStore(StoreContract):
    @pytest.fixture
    def place(self, postgres: PostgresServer) -> str:
        return postgres.fresh()

    @pytest.mark.parametrize(("durable", "want"), [(True, "on"), (False, "off")])
    def test_commits_are_flushed_unless_they_need_not_be(
        self, store: Store, durable: bool, want: str
    ) -> None:
        for _ in range(2):
            with store.write(durable=durable) as connection:
                shown = connection.exec_driver_sql("SHOW synchronous_commit").scalar()
                assert shown == want
        with store.write() as connection:
            assert connection.exec_driver_sql("SHOW synchronous_commit").scalar() == "on"
            assert connection.exec_driver_sql("SHOW fsync").scalar() == "on"

    def test_after_a_scrub_no_dead_row_is_left(
        self, store: Store, place: str, postgres: PostgresServer
    ) -> None:
        with postgres.connect(place) as raw:
            raw.execute("CREATE EXTENSION IF NOT EXISTS pageinspect SCHEMA public")
            rows = (
                "SELECT count(*) FROM public.heap_page_items(public.get_raw_page('persons', 0))"
                " WHERE lp_len > 0"
            )
            assert raw.execute(rows).fetchone() == (5,)
            erase(store, 3)
            assert raw.execute(rows).fetchone() == (6,), "the old row is dead, not gone"
            store.scrub()
            assert raw.execute(rows).fetchone() == (5,)

    def test_registries_side_by_side_do_not_wait_for_each_other(
        self, store: Store, postgres: PostgresServer
    ) -> None:
        beside = create_store(postgres.fresh(), fill, busy_timeout_ms=80)
        with store.write() as one, beside.write() as two:
            add_use(one, 3, "one")
            add_use(two, 3, "two")
        assert names(beside)[3:] == ["two"]
        beside.close()


def erase(store: Store, pid: int) -> None:
    nothing = dict.fromkeys(("handle", "sealed", "wrapped", "epoch"))
    with store.write() as connection:
        change = sa.update(schema.persons).where(schema.persons.c.pid == pid)
        connection.execute(change.values(**nothing))
        connection.execute(sa.delete(schema.items).where(schema.items.c.pid == pid))
