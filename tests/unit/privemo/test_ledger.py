"""The ledger as a threat model: what is written stays, what is damaged is named."""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
from pathlib import Path

import pytest

from privemo.errors import LedgerError
from privemo.ledger import GENESIS, Ledger
from privemo.releases import Mechanism

FIELDS = {
    "store": "store-01",
    "run_id": "r",
    "noise_multiplier": 1.1,
    "sample_rate": 0.25,
    "steps": 12,
    "max_grad_norm": 1.0,
    "normaliser": 20.0,
    "delta": 1e-5,
    "epsilon_rdp": 1.0,
    "epsilon_prv": 0.9,
    "update_sha256": "a" * 64,
}


def write(path: Path, rounds: int = 3) -> Ledger:
    ledger = Ledger(path)
    for number in range(1, rounds + 1):
        ledger.append(round=number, **FIELDS)
    return ledger


def test_entries_survive_a_reopen_and_chain(tmp_path: Path) -> None:
    write(tmp_path / "l.jsonl")
    entries = Ledger(tmp_path / "l.jsonl").entries
    assert [e.round for e in entries] == [1, 2, 3]
    assert [e.prev for e in entries] == [GENESIS, entries[0].hash, entries[1].hash]


def test_noise_that_stores_share_is_told_apart(tmp_path: Path) -> None:
    ledger = write(tmp_path / "l.jsonl", rounds=1)
    shared = "poisson_subsampled_discrete_gaussian_sum"
    ledger.append(round=2, mechanism=shared, noise_stores=8, **FIELDS)
    again = Ledger(tmp_path / "l.jsonl")
    assert [m.discrete for m in again.releases()] == [False, True]
    with pytest.raises(LedgerError):
        ledger.append(round=3, mechanism="another", **FIELDS)


def test_history_is_what_an_accountant_needs(tmp_path: Path) -> None:
    assert write(tmp_path / "l.jsonl").releases() == [Mechanism(1.1, 0.25, 12)] * 3


def test_an_update_is_found_by_its_hash(tmp_path: Path) -> None:
    ledger = write(tmp_path / "l.jsonl")
    assert ledger.find(run_id="r", round_=2, update_sha256="a" * 64) is not None
    assert ledger.find(run_id="r", round_=2, update_sha256="b" * 64) is None
    assert ledger.find(run_id="other", round_=2, update_sha256="a" * 64) is None


@pytest.mark.parametrize(
    "change",
    [
        {"noise_multiplier": 0.0},
        {"noise_multiplier": float("nan")},
        {"noise_multiplier": float("inf")},
        {"sample_rate": 1.5},
        {"steps": 0},
        {"epsilon_rdp": -1.0},
        {"update_sha256": "short"},
        {"surprise": 1},
    ],
)
def test_an_impossible_entry_is_refused_and_nothing_written(
    tmp_path: Path, change: dict[str, object]
) -> None:
    ledger = Ledger(tmp_path / "l.jsonl")
    with pytest.raises(LedgerError, match="Not a ledger entry"):
        ledger.append(**{"round": 1, **FIELDS, **change})
    assert (tmp_path / "l.jsonl").read_bytes() == b""


@pytest.mark.parametrize(
    ("attack", "entry"),
    [
        ("less noise claimed", 1),
        ("entry removed", 1),
        ("entries swapped", 0),
        ("entry doubled", 2),
        ("hash forged", 1),
        ("not JSON", 1),
    ],
)
def test_tampering_is_named(tmp_path: Path, attack: str, entry: int) -> None:
    path = tmp_path / "l.jsonl"
    write(path)
    lines = path.read_text().splitlines()
    if attack == "less noise claimed":
        lines[1] = lines[1].replace('"noise_multiplier":1.1', '"noise_multiplier":9.9')
    elif attack == "entry removed":
        del lines[1]
    elif attack == "entries swapped":
        lines[0], lines[1] = lines[1], lines[0]
    elif attack == "entry doubled":
        lines.insert(1, lines[1])
    elif attack == "hash forged":
        lines[1] = json.dumps({**json.loads(lines[1]), "hash": "0" * 64})
    else:
        lines[1] = lines[1][5:]
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(LedgerError, match=rf"entry {entry} |entries are missing"):
        Ledger(path)


def test_every_bit_flip_in_an_entry_is_found(tmp_path: Path) -> None:
    path = tmp_path / "l.jsonl"
    write(path, rounds=2)
    good = path.read_bytes()
    first_line = good.index(b"\n")
    assert first_line > 100
    for position in range(len(good)):
        flipped = bytearray(good)
        flipped[position] ^= 1 << (position % 8)
        path.write_bytes(bytes(flipped))
        with pytest.raises(LedgerError, match=r"entry [01]"):
            Ledger(path)


def test_a_whole_entry_without_its_line_end_still_counts(tmp_path: Path) -> None:
    path = tmp_path / "l.jsonl"
    write(path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    assert len(Ledger(path).entries) == 3
    assert path.read_bytes() == whole


@pytest.mark.parametrize("kept", [0, 1, 2])
def test_entries_cut_from_the_end_are_missed(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "l.jsonl"
    write(path)
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:kept]))
    with pytest.raises(LedgerError, match="entries are missing"):
        Ledger(path)


def test_a_deleted_ledger_does_not_give_the_budget_back(tmp_path: Path) -> None:
    write(tmp_path / "l.jsonl")
    (tmp_path / "l.jsonl").unlink()
    with pytest.raises(LedgerError, match="what was spent stays spent"):
        Ledger(tmp_path / "l.jsonl")


def test_a_crash_before_the_head_is_written_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "l.jsonl"
    write(path, rounds=2)
    head = (tmp_path / "l.head").read_bytes()
    Ledger(path).append(round=3, **FIELDS)
    (tmp_path / "l.head").write_bytes(head)
    assert len(Ledger(path).entries) == 3


def test_a_ledger_whose_head_is_gone_cannot_be_cut(tmp_path: Path) -> None:
    path = tmp_path / "l.jsonl"
    write(path, rounds=3)
    (tmp_path / "l.head").unlink()
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:2]))
    with pytest.raises(LedgerError, match=r"l\.head is gone"):
        Ledger(path)


def test_a_crash_before_the_first_head_is_mended(tmp_path: Path) -> None:
    path = tmp_path / "l.jsonl"
    write(path, rounds=1)
    (tmp_path / "l.head").unlink()
    assert len(Ledger(path).entries) == 1
    assert (tmp_path / "l.head").exists()


@pytest.mark.parametrize("head", [b"", b"{}", b"[]", b'{"entries": "x", "hash": 1}'])
def test_a_damaged_head_is_named(tmp_path: Path, head: bytes) -> None:
    write(tmp_path / "l.jsonl")
    (tmp_path / "l.head").write_bytes(head)
    with pytest.raises(LedgerError, match=r"l\.head"):
        Ledger(tmp_path / "l.jsonl")


def test_a_torn_last_line_was_never_promised_and_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "l.jsonl"
    write(path)
    whole = path.read_bytes()
    path.write_bytes(whole + whole.splitlines()[0][:57])
    assert len(Ledger(path).entries) == 3
    assert path.read_bytes() == whole


def test_a_full_disk_leaves_the_ledger_as_it_was(tmp_path: Path) -> None:
    """A real write that fails half-way, in a process of its own whose files may not grow further."""
    path = tmp_path / "l.jsonl"
    write(path)
    before = path.read_bytes()

    def child() -> None:
        import signal

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 40, len(before) + 40))
        try:
            Ledger(path).append(round=4, **FIELDS)
        except LedgerError as error:
            os._exit(17 if "nothing was released" in str(error) else 18)
        os._exit(19)

    pid = os.fork()
    if pid == 0:
        child()
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 17
    assert path.read_bytes() == before
    assert Ledger(path).append(round=4, **FIELDS).seq == 3


def test_a_read_only_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="cannot be opened"):
        Ledger(Path("/proc/nowhere/l.jsonl")).append(round=1, **FIELDS)


def test_to_look_is_not_to_begin_a_ledger(tmp_path: Path) -> None:
    assert Ledger(tmp_path / "l.jsonl").standing().entries == 0
    assert list(tmp_path.iterdir()) == []


def test_a_ledger_goes_through_what_it_was(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "l.jsonl")
    assert ledger.goes_through(0, GENESIS)
    first = ledger.append(round=1, **FIELDS)
    second = ledger.append(round=2, **FIELDS)
    assert ledger.goes_through(1, first.hash)
    assert ledger.goes_through(2, second.hash)
    for entries, digest in ((0, first.hash), (1, second.hash), (2, first.hash), (3, second.hash)):
        assert not ledger.goes_through(entries, digest)
    assert ledger.standing().hash == second.hash


def _append_many(path: Path, count: int) -> None:
    ledger = Ledger(path)
    for _ in range(count):
        ledger.append(round=1, **FIELDS)


def test_processes_that_append_at_once_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "l.jsonl"
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_append_many, args=(path, 25)) for _ in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
        assert writer.exitcode == 0
    assert [e.seq for e in Ledger(path).entries] == list(range(75))
