"""Files are replaced whole or not at all."""

from __future__ import annotations

import json
import os
import resource
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from privemo.errors import RunError
from privemo.files import append_line, changing, numbered, read_json, write_bytes, write_json
from privemo_consent import beside


def test_json_round_trips_with_its_schema(tmp_path: Path) -> None:
    write_json(tmp_path / "a" / "x.json", {"schema": "s/1", "value": 3})
    assert read_json(tmp_path / "a" / "x.json", schema="s/1")["value"] == 3
    with pytest.raises(RunError, match="schema s/2"):
        read_json(tmp_path / "a" / "x.json", schema="s/2")


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"schema": 1}'])
def test_other_content_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(RunError, match=r"x\.json"):
        read_json(tmp_path / "x.json", schema="s/1")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="does not exist"):
        read_json(tmp_path / "x.json", schema="s/1")


def test_nan_is_never_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "x.json", {"x": float("nan")})
    assert list(tmp_path.iterdir()) == []


def refused_for_want_of_room(write: Callable[[], None], room: int) -> str:
    """What a write says in a process whose files may have so many bytes; empty where it says nothing."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
        try:
            write()
        except Exception as error:
            os.write(writing, f"{type(error).__name__}: {error}".encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as told:
        said = told.read().decode()
    os.waitpid(pid, 0)
    return said


def test_a_full_disk_keeps_the_old_file_and_leaves_no_rest(tmp_path: Path) -> None:
    path = tmp_path / "x.bin"
    write_bytes(path, b"old")

    said = refused_for_want_of_room(lambda: write_bytes(path, b"n" * 5000), 1000)
    assert said.startswith("RunError")
    assert "Free some space" in said
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["x.bin"]


def test_an_unwritable_folder_is_named() -> None:
    with pytest.raises(RunError, match="/proc/nowhere"):
        write_bytes(Path("/proc/nowhere/x"), b"1")


def test_a_file_that_is_held_for_long_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(beside, "_LOCK_SECONDS", 0.05)
    with (
        changing(tmp_path / "x.json"),
        pytest.raises(RunError, match=r"x\.json is held by another process"),
        changing(tmp_path / "x.json"),
    ):
        pass


# -- lines ---------------------------------------------------------------------------------------------


def test_writers_of_one_file_of_lines_lose_none(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    writers, lines = 4, 30
    children = []
    for writer in range(writers):
        pid = os.fork()
        if pid == 0:
            try:
                for line in range(lines):
                    append_line(path, {"writer": writer, "line": line})
                os._exit(0)
            finally:
                os._exit(1)
        children.append(pid)
    for pid in children:
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    found = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(found) == writers * lines
    for writer in range(writers):
        assert [f["line"] for f in found if f["writer"] == writer] == list(range(lines))


@pytest.mark.parametrize("torn", [0, 1, 70_000, 200_000])
@pytest.mark.parametrize("whole", [b"", b'{"a": 1}\n', b'{"a": 1}\n' * 30_000])
def test_half_a_line_is_cut_off_however_long(whole: bytes, torn: int, tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(whole + b"x" * torn)
    append_line(path, {"a": 2})
    assert path.read_bytes() == whole + b'{"a": 2}\n'


@pytest.mark.parametrize("before", [b"", b'{"a": 1}\n'])
def test_a_disk_that_is_full_in_the_middle_of_a_line_is_said_and_no_half_stays(
    before: bytes, tmp_path: Path
) -> None:
    """Such a write succeeds: it says that it wrote less."""
    path = tmp_path / "x.jsonl"
    path.write_bytes(before)

    said = refused_for_want_of_room(lambda: append_line(path, {"a": 2, "b": 3}), len(before) + 5)
    assert said.startswith("LedgerError")
    assert "could not be written" in said
    assert path.read_bytes() == before
    append_line(path, {"a": 2})
    assert path.read_bytes() == before + b'{"a": 2}\n'


def test_files_with_numbers_come_in_their_order_beyond_four_digits(tmp_path: Path) -> None:
    for name in (
        "10000.json",
        "9999.json",
        "0002.json",
        "closing.json",
        "0003.json.part",
        "x1.json",
    ):
        (tmp_path / name).touch()
    assert [p.name for p in numbered(tmp_path, ".json")] == ["0002.json", "9999.json", "10000.json"]
    assert numbered(tmp_path / "nowhere", ".json") == []
