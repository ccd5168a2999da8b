"""What a SuperLink tells the server's app of answered orders: a hint, never relied on."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from privemo.answered import Answered, Ear, answered_file

ONE, TWO = "a" * 64, "0123456789abcdef" * 4


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "flower").mkdir()
    return answered_file(tmp_path)


def test_what_is_told_is_heard_once_and_by_each_who_listened_before(path: Path) -> None:
    tells = Answered(path)
    tells.tell([ONE])
    early, late = Ear(path), Ear(path)
    assert early.heard() == set(), "told before it listened"
    tells.tell([TWO])
    tells.tell([ONE, TWO])
    assert early.heard() == {ONE, TWO}
    assert early.heard() == set()
    assert late.heard() == {ONE, TWO}


def test_who_waits_is_woken_at_once(path: Path) -> None:
    tells, ear = Answered(path), Ear(path)
    ringing = threading.Timer(0.2, tells.tell, ([ONE],))
    ringing.start()
    began = time.monotonic()
    assert ear.wait(30) == {ONE}
    assert 0.1 < time.monotonic() - began < 10
    ringing.join()
    assert ear.wait(0.1) == set()


def test_a_server_that_starts_anew_is_heard(path: Path) -> None:
    before = Answered(path)
    ear = Ear(path)
    before.tell([ONE, TWO])
    assert ear.heard() == {ONE, TWO}
    Answered(path).tell([TWO])
    assert ear.heard() == {TWO}


@pytest.mark.parametrize(
    "made_up", ["", "\n", f"{ONE}\n{TWO}", ONE + "a", "../x", "A" * 64, "é", "\0", "x" * 10**6]
)
def test_what_a_store_makes_up_is_no_line(path: Path, made_up: str) -> None:
    tells, ear = Answered(path), Ear(path)
    tells.tell([made_up])
    assert path.stat().st_size == 0
    tells.tell([made_up, ONE])
    assert ear.heard() == {ONE}


def test_half_a_line_is_heard_when_it_is_whole(path: Path) -> None:
    Answered(path)
    ear = Ear(path)
    with path.open("ab", buffering=0) as file:
        file.write(ONE[:10].encode())
        assert ear.heard() == set()
        file.write(f"{ONE[10:]}\n".encode())
    assert ear.heard() == {ONE}


def test_bytes_that_are_no_text_are_nobodys_order(path: Path) -> None:
    Answered(path)
    ear = Ear(path)
    with path.open("ab") as file:
        file.write(b"\xff\xfe\n" + ONE.encode() + b"\n")
    assert ONE in ear.heard()


def test_without_a_file_nothing_is_heard_and_waiting_is_waiting(tmp_path: Path) -> None:
    for ear in (Ear(None), Ear(tmp_path / "none")):
        assert not ear.connected
        began = time.monotonic()
        assert ear.wait(0.2) == set()
        assert time.monotonic() - began >= 0.19


def test_a_file_that_cannot_be_written_stops_no_server(tmp_path: Path) -> None:
    tells = Answered(tmp_path / "nowhere" / "answered")
    tells.tell([ONE])
    full = Answered(Path("/dev/full"))
    full.tell([ONE])


def test_it_is_its_owners_alone(path: Path) -> None:
    Answered(path)
    assert path.stat().st_mode & 0o077 == 0
    assert os.access(path, os.R_OK)


def test_a_store_that_answers_for_ever_fills_no_disk(path: Path) -> None:
    tells, ear = Answered(path), Ear(path)
    for _ in range(300):
        tells.tell([ONE] * 100)
    assert path.stat().st_size < 1_100_000
    assert ear.heard() <= {ONE}
    tells.tell([TWO])
    assert ear.heard() == {TWO}
