"""kill -9 and a full disk at every step of backup, restore and transfer: whole, or not there.

A forked child runs one act and dies at the n-th point of a write; n runs until the act gets
through. Points are the system calls that change a disk, the middle of each write, and every
statement and commit of a database.
"""

from __future__ import annotations

import errno
import os
import resource
import shutil
import signal
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from privemo_consent import ConsentRegistry, Context, Purpose
from privemo_consent.copies.backup import restore, write_backup
from privemo_consent.copies.transfer import read_transfer, write_transfer
from privemo_consent.errors import ConsentError
from privemo_consent.storage.base import Store
from privemo_consent.storage.postgres import PostgresStore
from privemo_consent.storage.sqlite import SqliteStore
from privemo_consent.vault import NewItem, Vault
from tests.support.consent import KILLED, PARTY, consent_notice, grant, in_child
from tests.support.interrupt import interrupt
from tests.support.postgres import PostgresServer

SHOP = Context(setting="retail", jurisdiction="IE")
WORDS = b"correct horse"


class House:
    """A small registry, its backup and its transfer; someone was erased after the backup."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path, self.keys = folder / "consent.sqlite", folder / "consent.keys"
        self.copy, self.sent = folder / "copy.bak", folder / "sent.jsonl"
        with ConsentRegistry.create(self.path, mode="production", controller=PARTY) as registry:
            registry.notice(consent_notice())
            people = [grant(f"p{i}", valid_for=timedelta(days=9)) for i in range(4)]
            registry.grant_many(people)
            Vault(registry).put([NewItem(person="p1", item_id="f", body=b"pixels")], SHOP)
            use: dict[str, Any] = {"run": "r", "round": 1, "store": "s", "batch": 0, "log_seq": 5}
            registry.record_use(["p1"], Purpose.TRAINING, **use)
            write_backup(registry, self.copy)
            registry.erase("p3")
            write_transfer(registry, self.sent, passphrase=None)  # a copy: the registry goes on

    def open(self, place: Path | str | None = None, keys: Path | None = None) -> ConsentRegistry:
        return ConsentRegistry.open(place or self.path, keys=keys or self.keys, mode="production")

    def back_up(self) -> None:
        with self.open() as registry:
            write_backup(registry, self.folder / "new.bak")

    def restore(self) -> None:
        restore(self.copy, self.folder / "new.sqlite", keys=self.keys, mode="production")

    def send(self) -> None:
        with self.open() as registry:
            write_transfer(registry, self.folder / "new.jsonl", passphrase=None)

    def receive(self) -> None:
        read_transfer(
            self.sent, self.folder / "new.sqlite", keys=self.folder / "new.keys", mode="production"
        )


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def disk_full() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def arm(step: int, end: Callable[[], None]) -> None:
    """Let this (forked) process meet its ``end`` at the ``step``-th point from now on."""
    reached, link = interrupt(step, end), os.link

    def linked(*arguments: Any, **named: Any) -> None:
        reached()
        link(*arguments, **named)
        reached()

    os.link = linked
    for kind in (SqliteStore, PostgresStore):
        watch(kind, reached)


def watch(kind: type[Store], reached: Callable[[], None]) -> None:
    make = kind._make_engines

    def make_engines(store: Store) -> Any:
        engines = make(store)  # type: ignore[arg-type]
        for engine in engines.values():
            if type(engine) is sa.Engine:
                sa.event.listen(engine, "after_cursor_execute", lambda *_: reached())
                sa.event.listen(engine, "commit", lambda *_: reached())
        return engines

    kind._make_engines = make_engines  # type: ignore[method-assign]


def check_backup(house: House) -> None:
    """A backup that is there restores."""
    place = house.folder / "tried.sqlite"
    found = restore(house.folder / "new.bak", place, keys=house.keys, mode="production")
    assert found.erased == 0
    place.unlink()


def check_restored(house: House) -> None:
    """A restored registry that is there is whole, and nobody who may have said no is permitted."""
    with house.open(house.folder / "new.sqlite") as registry:
        registry.verify()
        assert registry.persons() == ("p0", "p1", "p2")
        assert not registry.decide("p1", Purpose.TRAINING, SHOP).permit


def check_sent(house: House) -> None:
    keys, place = house.folder / "tried.keys", house.folder / "tried.sqlite"
    read_transfer(house.folder / "new.jsonl", place, keys=keys, mode="production")
    with house.open(place, keys) as registry:
        registry.verify()
        assert registry.persons() == ("p0", "p1", "p2")


def check_received(house: House) -> None:
    with house.open(house.folder / "new.sqlite", house.folder / "new.keys") as registry:
        registry.verify()
        assert registry.persons() == ("p0", "p1", "p2")
        assert not registry.decide("p1", Purpose.TRAINING, SHOP).permit, "the other one goes on"


ACTS: dict[str, tuple[Callable[[House], None], str, Callable[[House], None]]] = {
    "backup": (House.back_up, "new.bak", check_backup),
    "restore": (House.restore, "new.sqlite", check_restored),
    "send": (House.send, "new.jsonl", check_sent),
    "receive": (House.receive, "new.sqlite", check_received),
}


EVERY = pytest.mark.parametrize(
    "every", [pytest.param(1, marks=pytest.mark.slow), 3], ids=["each", "third"]
)


@EVERY
@pytest.mark.parametrize("name", ACTS)
def test_killed_at_any_step_it_is_whole_or_not_there(house: House, name: str, every: int) -> None:
    act, made, check = ACTS[name]
    place, left_alone = house.folder / made, 0
    for step in range(0, 2000, every):

        def child(step: int = step) -> None:
            arm(step, die)
            act(house)

        code = in_child(child)
        if code != KILLED:
            assert code == 0
            break
        if place.exists():  # it failed, but was persisted
            check(house)
            place.unlink()
        else:
            left_alone += 1
        remove(house, "new.keys", "tried.sqlite", "tried.jsonl", "tried.keys")
    assert left_alone > 20 / every, "it was killed at many points before it was there"
    check(house)
    assert not list(house.folder.glob(".*.making-*")), "whoever comes next sweeps up"
    with house.open() as registry:  # the old one is as it was
        registry.verify()
        assert registry.persons() == ("p0", "p1", "p2")


def remove(house: House, *names: str) -> None:
    for name in names:
        place = house.folder / name
        if place.is_dir():
            for path in place.iterdir():
                path.unlink()
            place.rmdir()
        else:
            place.unlink(missing_ok=True)


@EVERY
@pytest.mark.parametrize("end", ["killed", "disk full"])
def test_no_moment_of_a_move_leaves_two_registries_that_permit(
    house: House, end: str, every: int
) -> None:
    """A file on which consents live is there only once the old registry permits nothing."""
    seen: set[tuple[bool, bool]] = set()
    for step in range(0, 2000, every):
        trial = House.__new__(House)
        trial.folder = house.folder.parent / f"{house.folder.name}-{step}"
        shutil.copytree(house.folder, trial.folder)
        trial.path, trial.keys = trial.folder / "consent.sqlite", trial.folder / "consent.keys"
        file = trial.folder / "moved.jsonl"

        def close(trial: House = trial, file: Path = file) -> None:
            with trial.open() as registry:
                write_transfer(registry, file, passphrase=None, close=True)

        def child(step: int = step, close: Callable[[], None] = close) -> None:
            arm(step, die) if end == "killed" else interrupt(step, disk_full)
            expect_refusal(close)

        code = in_child(child)
        with trial.open() as registry:
            registry.verify()
            permits = registry.preview("p1", Purpose.TRAINING, SHOP).permit
        assert code in (0, KILLED, REFUSED), f"at step {step}"
        seen.add((file.exists(), permits))
        assert not (file.exists() and permits), f"at step {step}"
        if not file.exists():
            close()  # whatever had happened: done again, it is done
        receive_closed(trial, file)
        shutil.rmtree(trial.folder)
        if code == 0:
            break
    assert code == 0
    assert {(False, True), (False, False), (True, False)} <= seen


def receive_closed(house: House, file: Path) -> None:
    place, keys = house.folder / "new.sqlite", house.folder / "new.keys"
    found = read_transfer(file, place, keys=keys, mode="production")
    assert (found.closed, found.suspended) == (True, 0)
    with house.open(place, keys) as registry:
        registry.verify()
        assert registry.decide("p1", Purpose.TRAINING, SHOP).permit


@pytest.mark.parametrize("name", ACTS)
def test_a_full_disk_leaves_the_whole_or_nothing(house: House, name: str) -> None:
    act, made, check = ACTS[name]
    place, failed = house.folder / made, 0
    for step in range(2000):

        def child(step: int = step) -> None:
            interrupt(step, disk_full)
            expect_refusal(lambda: act(house))

        code = in_child(child)
        assert code in (0, REFUSED), f"at step {step}"
        if code == 0:
            break
        failed += 1
        if place.exists():  # its name could not be flushed: failed, but persisted
            check(house)
            place.unlink()
        remove(house, "new.keys", "tried.sqlite", "tried.keys")
    assert failed > 3
    check(house)
    remove(house, made, "new.keys", "tried.sqlite", "tried.keys")
    act(house)
    assert not list(house.folder.glob(".*.making-*")), "whoever comes next sweeps up"


@pytest.mark.parametrize("name", ACTS)
def test_a_file_that_cannot_grow_leaves_nothing(house: House, name: str) -> None:
    act, made, check = ACTS[name]
    whole = house.path.stat().st_size
    for limit in (4096, whole // 2):

        def child(limit: int = limit) -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
            expect_refusal(lambda: act(house))

        code = in_child(child)
        if code == 0:  # a transfer is shorter than the database
            assert name == "send"
            (house.folder / made).unlink()
            continue
        assert code == REFUSED
        assert not (house.folder / made).exists()
        assert not list(house.folder.glob(".*.making-*"))
        remove(house, "new.keys")
    act(house)
    check(house)


REFUSED = 7


def expect_refusal(act: Callable[[], None]) -> None:
    """End this (forked) process with a code of its own when the act refuses in words of ours."""
    try:
        act()
    except ConsentError:
        os._exit(REFUSED)


def test_a_restore_onto_a_server_is_one_transaction(house: House, postgres: PostgresServer) -> None:
    place, none = postgres.fresh(), 0
    for step in range(0, 2000, 4):

        def child(step: int = step, place: str = place) -> None:
            arm(step, die)
            restore(house.copy, place, keys=house.keys, mode="production")

        code = in_child(child)
        if code != KILLED:
            assert code == 0
            break
        if is_there(house, place):
            place = postgres.fresh()
        else:
            none += 1
    assert none > 20
    with house.open(place) as registry:
        registry.verify()
        assert registry.persons() == ("p0", "p1", "p2")


def is_there(house: House, place: str) -> bool:
    """Tell whether a whole registry stands there; a half one would not verify."""
    try:
        registry = house.open(place)
    except ConsentError:
        return False
    with registry:
        registry.verify()
        assert not registry.preview("p1", Purpose.TRAINING, SHOP).permit
    return True


def test_a_backup_is_one_moment_while_others_write(house: House) -> None:
    """Grants go on in another process; each copy holds a log that somebody signed."""

    def write() -> None:
        with house.open() as registry:
            for number in range(60):
                registry.grant_many([grant(f"more-{number}")])

    pid = os.fork()
    if pid == 0:
        try:
            write()
        finally:
            os._exit(0)
    sizes = []
    with house.open() as registry:
        for number in range(6):
            made = write_backup(registry, house.folder / f"copy-{number}.bak")
            sizes.append(made.events)
            time.sleep(0.05)
    os.waitpid(pid, 0)
    for number, size in enumerate(sizes):
        place = house.folder / f"r{number}.sqlite"
        found = restore(
            house.folder / f"copy-{number}.bak", place, keys=house.keys, mode="production"
        )
        assert found.events > size
        with house.open(place) as restored:
            restored.verify()
    assert sizes == sorted(sizes)


@pytest.mark.slow
def test_a_hundred_thousand_people_move(tmp_path: Path) -> None:
    """Import 100,000, withdraw 1,000, erase 100, move: the same root, and everything verifies."""
    from privemo_consent.intake import COLUMNS, import_grants

    rows = tmp_path / "in.csv"
    people = [f"p{i:06d}" for i in range(100_000)]
    lines = (f"{person},training,25_34,IE,faces,100\n" for person in people)
    rows.write_text(",".join(COLUMNS) + "\n" + "".join(lines))
    with ConsentRegistry.create(
        tmp_path / "consent.sqlite", mode="production", controller=PARTY
    ) as registry:
        registry.notice(consent_notice())
        assert import_grants(registry, rows).granted == 100_000
        assert registry.withdraw_many(people[:1000]) == 1000
        assert registry.erase_many(people[1000:1100]).people == 100
        head = registry.head()
        write_transfer(registry, tmp_path / "sent.jsonl", passphrase=WORDS, close=True)
    found = read_transfer(
        tmp_path / "sent.jsonl",
        tmp_path / "new.sqlite",
        keys=tmp_path / "new.keys",
        mode="production",
        passphrase=WORDS,
    )
    assert (found.events, found.closed) == (head.seq + 1, True)
    with ConsentRegistry.open(tmp_path / "new.sqlite", mode="production") as moved:
        moved.verify()
        assert moved.log_root(head.seq) == head.root
        assert len(moved.persons()) == 99_900
        snapshot = moved.snapshot(Purpose.TRAINING)
        verdicts = snapshot.decide_many(people, SHOP, at=moved.now())
        assert int((verdicts.codes == 0).sum()) == 98_900
