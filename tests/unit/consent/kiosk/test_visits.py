"""The folder in which a camera's program finds who opened a visit."""

from __future__ import annotations

import errno
import json
import os
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from privemo_consent import (
    AgeBand,
    MalformedError,
    RegistryError,
)
from privemo_consent.kiosk import SessionBook
from tests.unit.consent.kiosk.parts import keep_files


class Now:
    def __init__(self) -> None:
        self.now = datetime(2026, 5, 1, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


def test_a_visit_is_found_by_its_token_until_its_time_is_over(tmp_path: Path) -> None:
    clock = Now()
    book = SessionBook(tmp_path / "visits", lasts=timedelta(minutes=30), clock=clock)
    opened = book.open("p-1", AgeBand.FROM_25, "kiosk 2")
    assert SessionBook(tmp_path / "visits", clock=clock).find(opened.token) == opened
    assert book.current() == book.current("kiosk 2") == (opened,)
    assert book.current("kiosk 1") == ()
    clock.now += timedelta(minutes=30)
    assert book.find(opened.token) is None
    assert book.current() == ()
    assert list((tmp_path / "visits").iterdir()) == []


def test_whoever_stands_at_a_screen_now_ends_the_visits_there(tmp_path: Path) -> None:
    clock = Now()
    book = SessionBook(tmp_path / "visits", clock=clock)
    book.open("p-1", None, "door")
    other = book.open("p-2", None, "till")
    clock.now -= timedelta(hours=1)  # not open by this clock, and it may be by the next
    book.end_at("door")
    clock.now += timedelta(hours=1)
    assert book.current() == (other,)


def test_a_visit_that_cannot_be_read_just_now_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_handle(*_: Any) -> bytes:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    book = SessionBook(tmp_path / "visits")
    opened = book.open("p-1", None, "kiosk")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", no_handle)
        assert book.current() == ()
        assert book.find(opened.token) is None
    assert book.current() == (opened,)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", no_handle)
        book.end_of("p-1")  # whose it is cannot be told: it is over
    assert book.current() == ()


def test_a_file_that_cannot_be_removed_keeps_nobody_from_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Now()
    book = SessionBook(tmp_path / "visits", clock=clock)
    stale = book.name_of(book.open("p-1", None, "kiosk").token)
    clock.now += timedelta(hours=2)
    ann, bob = (book.open(who, None, "kiosk") for who in ("p-2", "p-3"))
    (tmp_path / "visits" / stale).write_text("{")
    keep_files(monkeypatch, stale)
    assert set(book.current()) == {ann, bob}
    with pytest.raises(PermissionError):
        book.end_at("kiosk")  # said, after all that could be ended was
    assert book.current() == ()


def test_what_a_process_left_that_died_while_it_wrote_is_removed(tmp_path: Path) -> None:
    book = SessionBook(tmp_path / "visits")
    left, written = tmp_path / "visits" / "a.draft", tmp_path / "visits" / "b.draft"
    left.write_text("p-1")
    written.write_text("p-2")
    os.utime(left, (0, 0))
    assert book.current() == ()
    assert not left.exists()
    assert written.exists()


@pytest.mark.parametrize("body", ["[" * 100_000, '{"person": ""}'], ids=["deep", "nobody"])
def test_a_visit_of_nobody_is_none(tmp_path: Path, body: str) -> None:
    book = SessionBook(tmp_path / "visits")
    opened = book.open("p-1", None, "kiosk")
    path = tmp_path / "visits" / book.name_of(opened.token)
    value = json.loads(path.read_text())
    path.write_text(json.dumps(value | json.loads(body)) if body[0] == "{" else body)
    assert book.current() == ()


def test_a_clock_gone_backwards_closes_a_visit(tmp_path: Path) -> None:
    clock = Now()
    book = SessionBook(tmp_path / "visits", clock=clock)
    opened = book.open("p-1", None, "kiosk")
    clock.now -= timedelta(seconds=1)
    assert book.find(opened.token) is None
    assert book.current() == ()


def test_somebody_has_one_visit_at_a_time(tmp_path: Path) -> None:
    book = SessionBook(tmp_path / "visits")
    first = book.open("p-1", None, "kiosk")
    second = book.open("p-1", None, "kiosk")
    assert book.find(first.token) is None
    book.end(second.token)
    book.end(second.token)
    assert book.current() == ()


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b"\xff", b'{"schema":"privemo.session-token/1"}']
)
def test_a_file_that_is_no_token_lets_nobody_in(tmp_path: Path, body: bytes) -> None:
    book = SessionBook(tmp_path / "visits")
    opened = book.open("p-1", None, "kiosk")
    path = next((tmp_path / "visits").glob("*.json"))
    path.write_bytes(body)
    assert book.find(opened.token) is None
    assert book.current() == ()


def test_a_token_moved_to_another_name_lets_nobody_in(tmp_path: Path) -> None:
    book = SessionBook(tmp_path / "visits")
    book.open("p-1", None, "kiosk")
    path = next((tmp_path / "visits").glob("*.json"))
    path.rename(path.with_name("0" * 64 + ".json"))
    assert book.current() == ()


def test_the_folder_of_visits_is_its_owners_alone(tmp_path: Path) -> None:
    book = SessionBook(tmp_path / "visits")
    opened = book.open("p-1", None, "kiosk")
    assert stat.S_IMODE((tmp_path / "visits").stat().st_mode) == 0o700
    file = next((tmp_path / "visits").iterdir())
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert opened.token not in file.name
    assert "p-1" not in repr(opened)
    (tmp_path / "visits").chmod(0o755)
    with pytest.raises(RegistryError, match="chmod 700"):
        SessionBook(tmp_path / "visits")


@pytest.mark.parametrize("lasts", [timedelta(0), timedelta(hours=5), timedelta(-1)])
def test_a_visit_without_an_end_is_refused(tmp_path: Path, lasts: timedelta) -> None:
    with pytest.raises(MalformedError):
        SessionBook(tmp_path / "visits", lasts=lasts)
