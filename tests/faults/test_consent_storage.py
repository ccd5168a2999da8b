"""Disks that are full, files that may not be written, locks that do not come free."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from privemo_consent import (
    ConsentGate,
    ConsentRegistry,
    Context,
    Purpose,
    Reason,
    RegistryBusyError,
    RegistryError,
    RegistryFullError,
    SealedFaces,
)
from tests.support.consent import grant, in_child, make_registry

SHOP = Context(setting="retail", jurisdiction="IE")
TRAINING = Purpose.TRAINING


def withdraw(path: Path) -> None:
    with ConsentRegistry.open(path, mode="production") as registry:
        registry.withdraw("p05")


def test_a_full_disk_records_nothing_and_breaks_nothing(whole: Path) -> None:
    with ConsentRegistry.open(whole, mode="production") as registry:
        before = registry.head()
        with registry._store.read() as connection:  # the one pooled connection
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
            connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(RegistryFullError, match="no space left"):
            registry.grant_many([grant(f"new-{i}") for i in range(500)])
        assert registry.head() == before
        registry.verify()
        with registry._store.read() as connection:
            connection.exec_driver_sql("PRAGMA max_page_count = 100000")
        registry.grant_many([grant(f"new-{i}") for i in range(500)])
        registry.verify()


def test_a_file_that_may_not_grow_records_nothing(whole: Path) -> None:
    def act() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        with ConsentRegistry.open(whole, mode="production") as registry:
            before = registry.head()
            limit = whole.stat().st_size
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
            with pytest.raises(RegistryError, match=r"consent\.sqlite"):
                registry.grant_many([grant(f"new-{i}") for i in range(2000)])
            assert registry.head() == before
            assert registry.decide("p05", TRAINING, SHOP).permit

    assert in_child(act) == 0
    with ConsentRegistry.open(whole, mode="production") as registry:
        registry.verify()
        assert "new-0" not in registry.persons()


def test_a_registry_opened_for_reading_shows_and_permits_nothing(whole: Path) -> None:
    with ConsentRegistry.open(whole, mode="production", readonly=True) as registry:
        assert registry.preview("p05", TRAINING, SHOP).permit
        decision = registry.decide("p05", TRAINING, SHOP)  # which could not be logged
        assert decision.reason is Reason.REGISTRY_UNREADABLE
        registry.verify()
        with pytest.raises(RegistryFullError, match="may not be written"):
            registry.withdraw("p05")


def beside(path: Path) -> list[str]:
    return sorted(file.name for file in path.parent.glob(f"{path.name}*"))


def test_whoever_only_reads_leaves_no_file_behind(whole: Path) -> None:
    before = whole.read_bytes()
    for _ in range(2):
        with ConsentRegistry.open(whole, mode="production", readonly=True) as registry:
            registry.verify()
        assert beside(whole) == [whole.name]
    assert whole.read_bytes() == before


def test_whoever_only_reads_takes_nothing_from_whoever_writes(whole: Path) -> None:
    reader = ConsentRegistry.open(whole, mode="production", readonly=True)
    assert reader.preview("p05", TRAINING, SHOP).permit
    with ConsentRegistry.open(whole, mode="production") as writer:
        writer.withdraw("p05")
        reader.close()
        assert f"{whole.name}-wal" in beside(whole)
        writer.withdraw("p04")
        assert in_child(lambda: refused(whole, "p04", "p05")) == 0


def refused(path: Path, *persons: str) -> None:
    with ConsentRegistry.open(path, mode="production", readonly=True) as registry:
        assert not any(registry.preview(person, TRAINING, SHOP).permit for person in persons)


def test_a_reader_does_not_write_for_a_writer_who_died(whole: Path) -> None:
    """What waits in its -wal file is read, and left to whoever writes next."""

    def act() -> None:
        registry = ConsentRegistry.open(whole, mode="production")
        registry.withdraw("p05")
        os.kill(os.getpid(), signal.SIGKILL)

    reader = ConsentRegistry.open(whole, mode="production", readonly=True)
    before = whole.read_bytes()
    in_child(act)
    refused(whole, "p05")
    reader.close()
    assert whole.read_bytes() == before
    refused(whole, "p05")


@pytest.fixture
def anybodys() -> Iterator[Path]:
    """A folder every user may enter, with a registry every user may read."""
    folder = Path(tempfile.mkdtemp())
    path = make_registry(folder / "consent.sqlite")
    folder.chmod(0o755)
    path.chmod(0o444)
    yield path
    shutil.rmtree(folder)


def test_a_file_the_user_may_only_read(anybodys: Path) -> None:
    keys = anybodys.with_suffix(".keys")

    def act() -> None:
        if os.geteuid() == 0:
            for file in (keys, *keys.iterdir()):
                os.chown(file, 65534, 65534)
            os.setuid(65534)  # root may write anything
        else:
            anybodys.parent.chmod(0o555)
        with ConsentRegistry.open(
            anybodys, mode="production", readonly=True, keys=keys
        ) as registry:
            assert registry.preview("p05", TRAINING, SHOP).permit
            registry.verify()
            with pytest.raises(RegistryFullError, match="may not be written"):
                registry.withdraw("p05")
        with pytest.raises(RegistryError, match=r"consent\.sqlite"):
            withdraw(anybodys)

    code = in_child(act)
    anybodys.parent.chmod(0o755)
    assert code == 0


def test_a_lock_that_does_not_come_free_is_told_and_nothing_is_lost(whole: Path) -> None:
    holder = sqlite3.connect(whole, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with ConsentRegistry.open(whole, mode="production", busy_timeout_ms=80) as registry:
        with pytest.raises(RegistryBusyError, match="try again"):
            registry.withdraw("p05")
        assert registry.preview("p05", TRAINING, SHOP).permit, "reading goes on"
        decision = registry.decide("p05", TRAINING, SHOP)  # which has to wait for the log
        assert decision.reason is Reason.REGISTRY_UNREADABLE
        holder.execute("ROLLBACK")
        registry.withdraw("p05")
        assert registry.decide("p05", TRAINING, SHOP).reason is Reason.WITHDRAWN
    holder.close()


def test_a_file_locked_for_everyone_permits_nobody(whole: Path) -> None:
    with ConsentRegistry.open(whole, mode="production", busy_timeout_ms=80) as registry:
        assert registry.decide("p05", TRAINING, SHOP).permit
        registry.close()
        holder = sqlite3.connect(whole, isolation_level=None)
        holder.execute("PRAGMA locking_mode = EXCLUSIVE")
        holder.execute("BEGIN EXCLUSIVE")
        faces = SealedFaces(["p05"], ["f"], lambda rows: rows)
        admitted = ConsentGate(registry).admit(faces, TRAINING, SHOP)
        assert admitted.counts.refused_faces == {Reason.REGISTRY_UNREADABLE: 1}
        holder.close()


def test_a_forked_child_writes_on_connections_of_its_own(whole: Path) -> None:
    with ConsentRegistry.open(whole, mode="production") as registry:
        assert registry.decide("p05", TRAINING, SHOP).permit

        def act() -> None:
            registry.withdraw("p05")

        assert in_child(act) == 0
        assert registry.decide("p05", TRAINING, SHOP).reason is Reason.WITHDRAWN
        registry.withdraw("p06")
        registry.verify()
