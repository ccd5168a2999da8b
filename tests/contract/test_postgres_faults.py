"""Servers that are down, full, read-only or cut off, and what the registry then says."""

from __future__ import annotations

import os
import select
import signal
import socket
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from privemo_consent.errors import (
    MalformedError,
    RegistryBusyError,
    RegistryError,
    RegistryFullError,
    RegistryUnreadableError,
    TamperedError,
)
from privemo_consent.storage import Store, create_store, is_url, open_store
from privemo_consent.storage.upgrade import migrate
from tests.contract.store_rows import add_use, fill, size_of
from tests.support.postgres import PostgresServer, running_postgres


@pytest.fixture
def place(postgres: PostgresServer) -> str:
    return postgres.fresh()


@pytest.fixture
def store(place: str) -> Iterator[Store]:
    store = create_store(place, fill)
    yield store
    store.close()


@pytest.fixture
def own() -> Iterator[PostgresServer]:
    """A server to be hurt."""
    with running_postgres() as server:
        yield server


# -- names -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("where", "want"),
    [
        ("postgresql://h/d", True),
        ("postgres://h/d", True),
        ("postgresql+psycopg://h/d", True),
        ("POSTGRESQL://h/d", True),
        ("consent.sqlite", False),
        ("/var/lib/postgresql/consent.sqlite", False),
        ("postgresql:/h/d", False),
    ],
)
def test_a_place_is_a_url_or_a_path(where: str, want: bool) -> None:
    assert is_url(where) is want


@pytest.mark.parametrize(
    "where",
    [
        "mysql://user:hunter2@h/d",
        "sqlite:///consent.sqlite",
        "postgresql+asyncpg://user:hunter2@h/d",
        "postgresql://user:hunter2@h:port/d",
        "postgresql://user:hunter2@h/d?schema=pg_catalog",
        "postgresql://user:hunter2@h/d?schema=A",
        "postgresql://user:hunter2@h/d?schema=a&schema=b",
        'postgresql://user:hunter2@h/d?schema=a";DROP SCHEMA public;--',
        "postgresql://user:hunter2@h/d?schema=" + 64 * "a",
    ],
)
def test_other_places_are_refused_without_repeating_a_password(where: str) -> None:
    for act in (open_store, lambda where: create_store(where, fill)):
        with pytest.raises(MalformedError) as caught:
            act(where)
        assert "hunter2" not in "".join(traceback.format_exception(caught.value))


def test_a_password_is_never_shown(postgres: PostgresServer) -> None:
    url = postgres.fresh().replace("tester@", "tester:hunter2@")
    for text in (url, url.replace("tester:hunter2@", "tester@") + "&password=hunter2"):
        store = create_store(text, fill)
        assert "hunter2" not in f"{store.where} {store!r}"
        with pytest.raises(RegistryError) as caught:
            create_store(text, fill)
        assert "hunter2" not in "".join(traceback.format_exception(caught.value))
        store.discard()
    down = "postgresql://tester:hunter2@127.0.0.1:1/d"
    with pytest.raises(RegistryUnreadableError) as caught:
        open_store(down)
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))


def test_a_schema_with_something_in_it_is_left_alone(place: str, postgres: PostgresServer) -> None:
    schema = place.partition("?schema=")[2]
    with postgres.connect(place) as raw:
        raw.execute(f"CREATE SCHEMA {schema}")
        raw.execute("CREATE TABLE payroll (a integer)")
        with pytest.raises(RegistryError, match="table payroll"):
            create_store(place, fill)
        with pytest.raises(RegistryError, match="no registry"):
            open_store(place)
        raw.execute("DROP TABLE payroll")
        create_store(place, fill).discard()
        assert raw.execute("SELECT to_regnamespace(%s)::text", (schema,)).fetchone() == (schema,)


def test_another_program_s_tables_are_no_registry(place: str, postgres: PostgresServer) -> None:
    with postgres.connect(place) as raw:
        raw.execute(f"CREATE SCHEMA {place.partition('?schema=')[2]}")
        raw.execute("CREATE TABLE events (seq integer); CREATE TABLE meta (a integer)")
    with pytest.raises(RegistryUnreadableError, match="no consent registry"):
        open_store(place)
    with pytest.raises(RegistryUnreadableError, match="no consent registry"):
        migrate(place, convert=lambda connection: None)


def test_versions_are_told_apart(store: Store, place: str, postgres: PostgresServer) -> None:
    assert migrate(place, convert=lambda connection: None) == (2, 2)
    with postgres.connect(place) as raw:
        raw.execute("ALTER TABLE alembic_version DISABLE TRIGGER alembic_version_no_update")
        raw.execute("UPDATE alembic_version SET version_num = '0001'")
        with pytest.raises(RegistryUnreadableError, match="privemo registry migrate"):
            open_store(place)
        raw.execute("UPDATE alembic_version SET version_num = '0099'")
        for act in (open_store, lambda place: migrate(place, convert=lambda connection: None)):
            with pytest.raises(RegistryUnreadableError, match="later"):
                act(place)
    with store.read() as connection, pytest.raises(TamperedError):
        store.check(connection)


# -- what the server refuses -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "error", "told"),
    [
        ("53100", RegistryFullError, "no space left"),  # disk_full
        ("25006", RegistryFullError, "read-only"),
        ("42501", RegistryFullError, "no right"),
        ("55P03", RegistryBusyError, "try again"),
        ("40P01", RegistryBusyError, "try again"),
        ("40001", RegistryBusyError, "try again"),
        ("53300", RegistryBusyError, "try again"),
        ("57014", RegistryBusyError, "try again"),
        ("XX001", RegistryUnreadableError, "cannot be read or written"),  # data_corrupted
        ("P0001", RegistryUnreadableError, "cannot be read or written"),
    ],
)
def test_each_refusal_is_told_by_what_can_be_done(
    store: Store, state: str, error: type[RegistryError], told: str
) -> None:
    def act() -> None:
        with store.write() as connection:
            add_use(connection, 3)
            connection.exec_driver_sql(
                f"DO $$ BEGIN RAISE EXCEPTION 'so' USING ERRCODE = '{state}', "
                "DETAIL = 'Key (person)=(mallory)'; END $$"
            )

    with pytest.raises(error, match=told) as caught:
        act()
    assert store.where in str(caught.value)
    assert "mallory" not in "".join(traceback.format_exception(caught.value))
    with store.read() as connection:
        assert size_of(connection) == 3


def test_a_read_only_session_records_nothing(store: Store, place: str) -> None:
    reading = open_store(f"{place}&options=-cdefault_transaction_read_only%3Don")

    def act() -> None:
        with reading.write() as connection:
            add_use(connection, size_of(connection))

    with pytest.raises(RegistryFullError, match="read-only"):
        act()
    reading.close()


def test_a_role_that_may_only_read_reads(
    store: Store, place: str, postgres: PostgresServer
) -> None:
    schema = place.partition("?schema=")[2]
    role = f"reader_{schema}"
    with postgres.connect(place) as raw:
        raw.execute(f"CREATE ROLE {role} LOGIN; GRANT USAGE ON SCHEMA {schema} TO {role}")
        raw.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO {role}")
    other = open_store(place.replace("tester@", f"{role}@"))
    with other.read() as connection:
        other.check(connection)

    def act() -> None:
        with other.write() as connection:
            add_use(connection, size_of(connection))

    with pytest.raises(RegistryFullError, match="no right"):
        act()
    with pytest.raises(RegistryFullError, match="as their owner"):
        other.scrub()
    other.close()


def test_rows_hidden_by_a_policy_are_an_error_not_an_answer(
    store: Store, place: str, postgres: PostgresServer
) -> None:
    schema = place.partition("?schema=")[2]
    role = f"half_{schema}"
    with postgres.connect(place) as raw:
        raw.execute(f"CREATE ROLE {role} LOGIN; GRANT USAGE ON SCHEMA {schema} TO {role}")
        raw.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO {role}")
        raw.execute("ALTER TABLE uses ENABLE ROW LEVEL SECURITY")
        raw.execute("CREATE POLICY half ON uses USING (seq < 2)")
    other = open_store(place.replace("tester@", f"{role}@"), readonly=True)
    with pytest.raises(RegistryError), other.read() as connection:
        size_of(connection)
    other.close()


def test_a_server_that_does_not_flush_is_refused(own: PostgresServer) -> None:
    place = own.fresh()
    create_store(place, fill).close()
    with own.connect(place) as raw:
        raw.execute("ALTER SYSTEM SET fsync = off")
    own.stop()
    own.start()
    with pytest.raises(RegistryFullError, match="fsync"):
        open_store(place)
    with pytest.raises(RegistryFullError, match="fsync"):
        create_store(own.fresh(), fill)
    reading = open_store(place, readonly=True)
    with reading.read() as connection:
        assert size_of(connection) == 3
    reading.close()


def test_a_full_disk_records_nothing_and_breaks_nothing(
    store: Store, place: str, postgres: PostgresServer, small_disk: str
) -> None:
    with postgres.connect(place) as raw:
        raw.execute(f"CREATE TABLESPACE small LOCATION '{small_disk}'")
        raw.execute("ALTER TABLE uses SET TABLESPACE small")

    def act() -> None:
        with store.write() as connection:
            for seq in range(3, 20000):
                add_use(connection, seq, "x" * 1000)

    with pytest.raises(RegistryFullError, match="no space left"):
        act()
    with store.write() as connection:
        assert size_of(connection) == 3
        store.check(connection)
        add_use(connection, 3)
    with postgres.connect(place) as raw:
        raw.execute("ALTER TABLE uses SET TABLESPACE pg_default")
        raw.execute("DROP TABLESPACE small")


# -- servers that go away --------------------------------------------------------------------------


def test_no_server_is_told_with_a_remedy() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    for readonly in (True, False):
        with pytest.raises(RegistryUnreadableError, match="see that the server runs"):
            open_store(f"postgresql://tester@127.0.0.1:{port}/postgres", readonly=readonly)


def test_no_such_database_is_told(postgres: PostgresServer) -> None:
    with pytest.raises(RegistryUnreadableError, match="does not exist"):
        open_store(postgres.url().replace("/postgres", "/nowhere"))


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT])
def test_a_restart_of_the_server_is_survived(own: PostgresServer, how: signal.Signals) -> None:
    store = create_store(own.fresh(), fill)
    with store.write() as connection:
        add_use(connection, 3, "acknowledged")
    own.stop(how)

    def read() -> None:
        with store.read() as connection:
            size_of(connection)

    for _ in range(2):
        with pytest.raises(RegistryUnreadableError, match="see that the server runs"):
            read()
    own.start()
    with store.write() as connection:
        assert size_of(connection) == 4, "what was acknowledged survived"
        add_use(connection, 4)
    store.close()


def test_cut_off_in_the_middle_nothing_is_recorded(
    store: Store, place: str, postgres: PostgresServer
) -> None:
    def act() -> None:
        with store.write() as connection:
            add_use(connection, 3)
            mine = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar()
            with postgres.connect(place) as raw:
                raw.execute("SELECT pg_terminate_backend(%s, 5000)", (mine,))
            size_of(connection)

    with pytest.raises(RegistryUnreadableError, match="nothing was recorded"):
        act()
    with store.write() as connection:
        assert size_of(connection) == 3
        add_use(connection, 3)


class Cable:
    """Passes bytes to a server and back, until a COMMIT goes by: then it is cut.

    Either before the server hears of it, or after the server has done it and before the client
    hears of that.
    """

    def __init__(self, port: int, *, heard: bool) -> None:
        self._port = port
        self._heard = heard
        self.armed = False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._pass, args=(client,), daemon=True).start()

    def _pass(self, client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", self._port)) as server:
            ends = {client: server, server: client}
            while True:
                for end in select.select(ends, [], [])[0]:
                    data = end.recv(65536)
                    if not data:
                        return
                    commit = self.armed and end is client and b"COMMIT\0" in data
                    if not commit or self._heard:
                        ends[end].sendall(data)
                    if commit:
                        if self._heard:
                            server.recv(65536)
                        return

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@pytest.mark.parametrize("heard", [True, False])
def test_cut_off_while_committing_the_outcome_is_said_to_be_unknown(
    store: Store, place: str, postgres: PostgresServer, heard: bool
) -> None:
    cable = Cable(postgres.port, heard=heard)
    far = open_store(place.replace(f":{postgres.port}", f":{cable.port}"))

    def act() -> None:
        with far.write() as connection:
            add_use(connection, size_of(connection), "maybe")

    cable.armed = True
    with pytest.raises(RegistryUnreadableError, match="may have been recorded: ask again"):
        act()
    cable.armed = False
    with store.write() as connection:  # and nobody waits for a lock that died with its holder
        assert size_of(connection) == (4 if heard else 3)
    act()
    far.close()
    cable.close()


@pytest.fixture
def small_disk(postgres: PostgresServer) -> Iterator[str]:
    with _mounted(postgres) as folder:
        yield folder


@contextmanager
def _mounted(postgres: PostgresServer) -> Iterator[str]:
    """A folder on a file system of 4 MB."""
    import ctypes
    import shutil
    import tempfile

    libc = ctypes.CDLL(None, use_errno=True)
    folder = tempfile.mkdtemp()
    size = b"size=4m"
    if os.geteuid() != 0 or libc.mount(b"none", folder.encode(), b"tmpfs", 0, size) != 0:
        os.rmdir(folder)
        pytest.skip("a small file system needs the right to mount one")
    try:
        shutil.chown(folder, postgres.user)
        os.chmod(folder, 0o700)
        yield folder
    finally:
        libc.umount2(folder.encode(), 2)
        os.rmdir(folder)
