"""The registry gone, locked, full, behind the clock: the kiosk says so kindly, and records all or nothing."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from privemo_consent import ConsentRegistry, ConsentStatus, Purpose
from privemo_consent.kiosk import SessionBook
from privemo_consent.kiosk.codes import person_of
from privemo_consent.times import utcnow
from tests.support.kiosk import PASSWORD, Shopper, kiosk_registry, running, settings_for

YES = dict.fromkeys((purpose.value for purpose in Purpose), "yes")


class MovableClock:
    def __init__(self) -> None:
        self.by = timedelta(0)

    def __call__(self) -> Any:
        return utcnow() + self.by


@pytest.fixture
def clock() -> MovableClock:
    return MovableClock()


@pytest.fixture
def registry(tmp_path: Path, clock: MovableClock) -> Any:
    path = tmp_path / "consent.sqlite"
    with kiosk_registry(path, ["en"], clock=clock, busy_timeout_ms=300) as made:
        yield made


@pytest.fixture
def kiosk(registry: ConsentRegistry, tmp_path: Path) -> Any:
    with running(registry, settings_for(tmp_path)) as url:
        yield url


@contextmanager
def locked(registry: ConsentRegistry, _clock: MovableClock) -> Iterator[None]:
    """Another process holds the write lock and does not let go."""
    with closing(sqlite3.connect(registry.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


@contextmanager
def full(registry: ConsentRegistry, _clock: MovableClock) -> Iterator[None]:
    """The database may not grow by one page."""
    limit = [True]

    def no_room(connection: Any, *_: Any) -> None:
        if limit[0]:
            raise sqlite3.OperationalError("database or disk is full")

    registry._store.listen("before_cursor_execute", lambda *given: _on_insert(no_room, *given))
    yield
    limit[0] = False


def _on_insert(then: Any, connection: Any, cursor: Any, statement: str, *_: Any) -> None:
    if statement.startswith("INSERT INTO checkpoints"):  # the last of an answer's writes
        try:
            then(connection)
        except sqlite3.Error as error:
            raise sa.exc.OperationalError(statement, {}, error) from error


@contextmanager
def deleted(registry: ConsentRegistry, _clock: MovableClock) -> Iterator[None]:
    """Somebody deleted the file; SQLite would go on writing into it."""
    aside = registry.path.with_suffix(".aside")
    registry.path.rename(aside)
    yield
    aside.rename(registry.path)


@contextmanager
def replaced(registry: ConsentRegistry, _clock: MovableClock) -> Iterator[None]:
    """Somebody put a copy in its place."""
    aside = registry.path.with_suffix(".aside")
    registry.path.rename(aside)
    shutil.copy(aside, registry.path)
    yield
    aside.replace(registry.path)


@contextmanager
def backwards(_registry: ConsentRegistry, clock: MovableClock) -> Iterator[None]:
    """The clock was set back."""
    clock.by = -timedelta(days=2)
    yield
    clock.by = timedelta(0)


FAULTS = [locked, full, deleted, replaced]


@pytest.mark.parametrize("fault", [*FAULTS, backwards], ids=lambda f: f.__name__)
def test_a_yes_that_cannot_be_recorded_is_said_kindly_and_can_be_given_again(
    kiosk: str, registry: ConsentRegistry, clock: MovableClock, fault: Any
) -> None:
    before = registry.head()
    with Shopper(kiosk) as shopper:
        shopper.read_on()
        with fault(registry, clock):
            page = shopper.post("choices", YES)
            assert page.status_code == 503
            assert "nothing can be recorded, and nothing was" in page.text
            assert 'class="code"' not in page.text
        assert registry.head() == before
        assert registry.persons() == ()
        shopper.get("choices")
        page = shopper.post("choices", YES)
        assert page.url.path == "/en/receipt"
    assert registry.head().seq == before.seq + 3
    registry.verify()


@pytest.mark.parametrize("fault", FAULTS, ids=lambda f: f.__name__)
def test_a_no_that_cannot_be_recorded_does_not_look_as_if_it_was(
    kiosk: str, registry: ConsentRegistry, clock: MovableClock, fault: Any
) -> None:
    with Shopper(kiosk) as shopper:
        person = person_of(shopper.decide())
        before = registry.history(person)
        with fault(registry, clock):
            for what in ("withdraw", "erase"):
                page = shopper.post(what)
                assert page.status_code == 503
                assert "Taken back" not in page.text
                assert "is erased" not in page.text
        assert registry.history(person) == before
        shopper.get("mine")
        assert shopper.post("withdraw").status_code == 200
        history = registry.history(person)
        assert [event.status for event in history[-2:]] == [ConsentStatus.WITHDRAWN] * 2
        assert shopper.post("erase").status_code == 200
        assert registry.history(person) == ()


@pytest.mark.parametrize("fault", [*FAULTS, backwards], ids=lambda f: f.__name__)
def test_one_answer_that_cannot_be_recorded_anew_leaves_the_one_of_before(
    kiosk: str, registry: ConsentRegistry, clock: MovableClock, fault: Any
) -> None:
    with Shopper(kiosk) as shopper:
        person = person_of(shopper.decide(training="no"))
        before = registry.history(person)
        shopper.post("change", {"purpose": "training"})
        with fault(registry, clock):
            page = shopper.post("change/record", {"answer": "yes"})
            assert page.status_code == 503
            assert "nothing was" in page.text
        assert registry.history(person) == before
        shopper.get("change")
        assert shopper.post("change/record", {"answer": "yes"}).url.path == "/en/receipt"
        assert registry.history(person)[-1].status is ConsentStatus.GIVEN


def test_a_withdrawal_waits_for_no_clock(
    kiosk: str, registry: ConsentRegistry, clock: MovableClock
) -> None:
    with Shopper(kiosk) as shopper:
        person = person_of(shopper.decide())
        with backwards(registry, clock):
            assert shopper.post("withdraw").status_code == 200
    assert registry.history(person)[-1].status is ConsentStatus.WITHDRAWN


@pytest.mark.parametrize("fault", FAULTS, ids=lambda f: f.__name__)
def test_a_child_is_thanked_even_where_it_cannot_be_counted(
    kiosk: str, registry: ConsentRegistry, clock: MovableClock, fault: Any
) -> None:
    with Shopper(kiosk) as shopper:
        shopper.get("notice")
        shopper.get("about")
        with fault(registry, clock):
            page = shopper.post("about", {"age": "under_13", "role": "shopper"})
        if fault in (locked, full):  # the notice could still be read
            assert "Thank you for telling us" in page.text
        else:
            assert page.status_code == 503
    assert registry.persons() == ()


def test_a_receipt_that_cannot_be_made_now_does_not_hide_the_answer(
    kiosk: str, registry: ConsentRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    from privemo_consent import RegistryUnreadableError

    def fails(person: str) -> str:
        raise RegistryUnreadableError("a sector of the disk cannot be read")

    with Shopper(kiosk) as shopper:
        with monkeypatch.context() as patch:
            patch.setattr(registry, "receipt", fails)
            code = shopper.decide()
            page = shopper.get("receipt").text
            assert "Your answers are recorded. The receipt cannot be made" in page
            assert code in page
        assert "receipt.svg" in shopper.get("receipt").text
    assert len(registry.history(person_of(code))) == 3


def test_an_answer_sent_twice_at_once_is_recorded_once(
    kiosk: str, registry: ConsentRegistry
) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with Shopper(kiosk) as shopper:
        shopper.read_on()
        form = {"csrf": shopper.token} | YES
        cookies = dict(shopper.http.cookies)

        def send(_: int) -> int:
            import httpx

            return httpx.post(f"{kiosk}/en/choices", data=form, cookies=cookies).status_code

        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(send, range(8)))
    assert 303 in found
    assert len(registry.persons()) == 1


def test_a_folder_of_visits_that_is_full_opens_none(
    kiosk: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(*_: Any, **__: Any) -> Any:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with Shopper(kiosk) as shopper:
        shopper.decide()
        with monkeypatch.context() as patch:
            patch.setattr("privemo_consent.kiosk.visits.tempfile.mkstemp", no_room)
            assert shopper.post("visit").status_code == 503
        assert "Begin my visit" in shopper.get("mine").text
    assert SessionBook(tmp_path / "visits").current() == ()


def test_somebody_who_was_erased_elsewhere_is_told_so(
    kiosk: str, registry: ConsentRegistry
) -> None:
    with Shopper(kiosk) as shopper:
        person = person_of(shopper.decide())
        registry.erase(person)
        page = shopper.get("mine")
        assert page.status_code == 404
        assert "Nothing is held" in page.text
        assert shopper.get("mine").url.path == "/en/ended"


def change_an_entry(path: Path) -> None:
    """What a thief of the disk can do: take the guards away, change a leaf, put them back."""
    with closing(sqlite3.connect(path)) as thief:
        query = "SELECT name, sql FROM sqlite_master WHERE type = 'trigger'"
        guards = thief.execute(query).fetchall()
        for name, _ in guards:
            thief.execute(f"DROP TRIGGER {name}")
        thief.execute("UPDATE events SET leaf = replace(leaf, 'training', 'trainink')")
        for _, sql in guards:
            thief.execute(sql)
        thief.commit()


def test_the_staff_are_shown_which_entry_was_changed(kiosk: str, registry: ConsentRegistry) -> None:
    with Shopper(kiosk) as staff:
        staff.decide()
        change_an_entry(registry.path)
        staff.get("staff")
        staff.post("staff", {"password": PASSWORD})
        page = staff.post("staff/verify").text
    assert "NOT as written: event" in page


def test_what_is_overdue_is_shown_to_the_staff(
    kiosk: str, registry: ConsentRegistry, clock: MovableClock
) -> None:
    with Shopper(kiosk) as shopper:
        shopper.decide()
    clock.by = timedelta(days=365 * 5)
    with Shopper(kiosk) as staff:
        staff.get("staff")
        page = staff.post("staff", {"password": PASSWORD}).text
    assert "People whose record is to be destroyed" in page
    assert "privemo consent overdue --destroy" in page
