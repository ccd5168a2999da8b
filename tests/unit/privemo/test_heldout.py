"""`predictions.csv`: written whole, read back as it was, and rid of whoever is erased."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from privemo.errors import RunError
from privemo.faces import Faces
from privemo.heldout import count_rows, drop_persons, joined, people_in, write_table


def faces(*persons: str) -> Faces:
    n = len(persons)
    return Faces(
        images=np.zeros((n, 48, 48), np.uint8),
        label=np.arange(n) % 4,
        person=np.array(persons, dtype=np.str_),
        face_id=np.array([f"f{i}" for i in range(n)], dtype=np.str_),
    )


def write(path: Path, *persons: str) -> None:
    columns = {"group": np.array(["NA", "", "a,b", "007"][: len(persons)])}
    probabilities = np.full((len(persons), 4), 0.25, np.float32)
    write_table(path, "store-01", faces(*persons), columns, probabilities)


def test_whoever_is_erased_goes_and_every_other_row_stays_byte_for_byte(tmp_path: Path) -> None:
    path = tmp_path / "predictions.csv"
    write(path, "ann", "bob", "01", "bob")
    before = path.read_text().splitlines()
    assert count_rows(path) == 4
    assert people_in(path) == {"ann", "bob", "01"}
    assert drop_persons(path, ["bob", "somebody"]) == 2
    assert path.read_text().splitlines() == [before[0], before[1], before[3]]
    assert drop_persons(path, ["bob", "1"]) == 0
    assert drop_persons(path, ["ann", "01"]) == 2
    assert path.read_text().splitlines() == [before[0]]


def test_no_rows_are_a_table_too(tmp_path: Path) -> None:
    write(tmp_path / "p.csv")
    assert count_rows(tmp_path / "p.csv") == 0
    assert drop_persons(tmp_path / "p.csv", ["ann"]) == 0


def test_a_face_without_its_columns_is_left_out() -> None:
    found = {("ann", "f0"): {"group": "a"}, ("bob", "f2"): {"group": "b"}, ("cid", "f1"): {}}
    kept, columns = joined(faces("ann", "bob", "bob"), found, ["group"])
    assert kept.person.tolist() == ["ann", "bob"]
    assert kept.face_id.tolist() == ["f0", "f2"]
    assert columns["group"].tolist() == ["a", "b"]


def test_without_sensitive_columns_every_face_stays() -> None:
    kept, columns = joined(faces("ann", "bob"), {}, [])
    assert (len(kept), columns) == (2, {})
    none, empty = joined(faces(), {}, ["group"])
    assert (len(none), empty["group"].tolist()) == (0, [])


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe\x00", b"store,face\n1,2\n", b"id,person\n1,ann\n", None]
)
def test_a_file_that_is_no_table_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "predictions.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RunError, match=r"predictions\.csv cannot be read"):
        drop_persons(path, ["ann"])
    assert content is None or path.read_bytes() == content


def test_what_a_killed_writer_left_is_gone_once_the_file_is_written_again(tmp_path: Path) -> None:
    path = tmp_path / "predictions.csv"
    for again in (lambda: write(path, "ann", "bob"), lambda: drop_persons(path, ["bob"])):
        (left := tmp_path / ".predictions.csv.a1_b2c3d").write_text("everybody")
        again()
        assert not left.exists()
    assert people_in(path) == {"ann"}
