"""A witness remembers, on a plain folder, and notices when a log forgets or tells another past."""

from __future__ import annotations

import fcntl
import json
import os
import resource
import signal
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from privemo_consent import witnessfile
from privemo_consent.checkpoint import Checkpoint
from privemo_consent.cosign import Cosigner, verify_cosignatures
from privemo_consent.errors import (
    ClockBackwardsError,
    ForkedError,
    MalformedError,
    ProofError,
    RegistryBusyError,
    RegistryExistsError,
    RegistryFullError,
    RolledBackError,
    SignatureError,
    TamperedError,
    WitnessMissingError,
)
from privemo_consent.keys import SigningKey
from privemo_consent.witness import Witness, check_against
from tests.support.consent import KILLED, in_child
from tests.support.logs import SmallLog

KEY = SigningKey.generate("shop.example/log")
NOW = datetime(2026, 3, 1, 9, tzinfo=UTC)


@pytest.fixture
def log() -> SmallLog:
    made = SmallLog(KEY)
    made.notice()
    return made


@pytest.fixture
def witness(tmp_path: Path) -> Witness:
    return Witness.create(tmp_path / "stick", known=[KEY.verifying])


def grow(log: SmallLog, entries: int = 1) -> str:
    for _ in range(entries):
        log.consent("ConsentGiven")
    return log.sign()


def tell(witness: Witness, log: SmallLog, note: str) -> None:
    latest = witness.latest(log.origin)
    proof = [] if latest is None else log.proof(latest.size, len(log.leaves))
    witness.add(note, proof)


def told(witness: Witness, log: SmallLog, times: int = 3) -> Path:
    for _ in range(times):
        tell(witness, log, grow(log, 2))
    (file,) = witness.path.glob("*.jsonl")
    return file


def test_a_witness_remembers_across_processes(witness: Witness, log: SmallLog) -> None:
    assert witness.latest(log.origin) is None
    assert list(witness.history(log.origin)) == []
    told(witness, log)
    again = Witness.open(witness.path, known=[KEY.verifying])
    assert again.latest(log.origin) == log.head()
    assert again.note(log.origin) == log.notes["events"][-1]
    assert [head.size for head in again.history(log.origin)] == [4, 6, 8]
    assert again.latest("other.example/log") is None
    assert again.note("other.example/log") is None


def test_what_is_remembered_already_changes_nothing(witness: Witness, log: SmallLog) -> None:
    file = told(witness, log)
    before = file.read_bytes()
    witness.add(log.notes["events"][-1], [])
    assert file.read_bytes() == before


def test_logs_are_remembered_apart(witness: Witness, log: SmallLog) -> None:
    other = SmallLog(SigningKey.generate("other.example/log"))
    both = Witness.open(witness.path, known=[KEY.verifying, other.key.verifying])
    for each in (log, other):
        tell(both, each, each.sign())
    assert both.latest(log.origin) == log.head()
    assert both.latest(other.origin) == other.head()


def fork(log: SmallLog, at: int) -> SmallLog:
    """A log by the same key that agrees on the first ``at`` entries and no further."""
    other = SmallLog(KEY)
    other.leaves = log.leaves[:at]
    while len(other.leaves) < len(log.leaves):
        other.consent("ConsentGiven")
    return other


def shorter(log: SmallLog) -> tuple[str, list[bytes]]:
    return log.notes["events"][-2], []


def same_size(log: SmallLog) -> tuple[str, list[bytes]]:
    return fork(log, 6).sign(), []


def longer(log: SmallLog) -> tuple[str, list[bytes]]:
    size, other = len(log.leaves), fork(log, 6)
    note = grow(other)
    return note, other.proof(size, size + 1)


def wrong_proof(log: SmallLog) -> tuple[str, list[bytes]]:
    return grow(log), [bytes(32)] * 3


def no_proof(log: SmallLog) -> tuple[str, list[bytes]]:
    return grow(log), []


def short_proof(log: SmallLog) -> tuple[str, list[bytes]]:
    return grow(log), [b"short"] * len(log.proof(8, 9))


def stranger(log: SmallLog) -> tuple[str, list[bytes]]:
    log.signers = [SigningKey.generate(log.origin)]
    return grow(log), log.proof(8, 9)


def forged(log: SmallLog) -> tuple[str, list[bytes]]:
    return grow(log).replace("\n9\n", "\n10\n"), log.proof(8, 9)


@pytest.mark.parametrize(
    ("attack", "error"),
    [
        (shorter, RolledBackError),
        (same_size, ForkedError),
        (longer, ForkedError),
        (wrong_proof, ForkedError),
        (no_proof, ForkedError),
        (short_proof, MalformedError),
        (stranger, SignatureError),
        (forged, SignatureError),
    ],
)
def test_what_does_not_extend_the_past_is_not_remembered(
    witness: Witness,
    log: SmallLog,
    attack: Callable[[SmallLog], tuple[str, list[bytes]]],
    error: type[Exception],
) -> None:
    file = told(witness, log)
    before, latest = file.read_bytes(), witness.latest(log.origin)
    note, proof = attack(log)
    with pytest.raises(error):
        witness.add(note, proof)
    assert file.read_bytes() == before
    assert witness.latest(log.origin) == latest


def test_a_first_head_has_nothing_to_prove(witness: Witness, log: SmallLog) -> None:
    with pytest.raises(ProofError, match="nothing to be consistent with"):
        witness.add(grow(log), [bytes(32)])
    assert witness.latest(log.origin) is None


def test_a_head_of_nothing_may_be_the_first(witness: Witness, log: SmallLog) -> None:
    leaves, log.leaves = log.leaves, []
    witness.add(log.sign(), [])
    log.leaves = leaves
    tell(witness, log, log.sign())
    assert [head.size for head in witness.history(log.origin)] == [0, 2]


# -- the log against its witness -------------------------------------------------------------------


def test_a_log_that_kept_its_word_passes(log: SmallLog) -> None:
    latest = log.head()
    check_against(latest, size=len(log.leaves), root_at=log.root_at)
    grow(log, 3)
    check_against(latest, size=len(log.leaves), root_at=log.root_at)


def test_a_rolled_back_log_is_told_in_plain_words(log: SmallLog) -> None:
    grow(log, 3)
    latest, old = log.head(), log.leaves[:3]
    with pytest.raises(RolledBackError, match="An old copy stands in its place") as caught:
        check_against(latest, size=len(old), root_at=log.root_at)
    assert caught.value.entry == "event 3"
    assert "Put the newest copy or backup back" in str(caught.value)


def test_a_rewritten_log_is_told_in_plain_words(log: SmallLog) -> None:
    grow(log, 3)
    other = fork(log, 3)
    grow(other, 2)
    with pytest.raises(ForkedError, match="The past was rewritten") as caught:
        check_against(log.head(), size=len(other.leaves), root_at=other.root_at)
    assert caught.value.entry == "checkpoint 5"
    with pytest.raises(RolledBackError) as uses:
        check_against(log.head(), size=1, root_at=other.root_at, kind="use")
    assert uses.value.entry == "use 1"


# -- the file ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "tail",
    [b"{", b'{"note":"x', b"\0" * 700, b"\0" * 512 + b"\n", b'{"no' + b"\0" * 99 + b"\n", "cut"],
)
def test_what_a_crash_left_unfinished_is_cut_away(
    witness: Witness, log: SmallLog, tail: bytes | str
) -> None:
    file = told(witness, log)
    latest, whole = witness.latest(log.origin), file.read_bytes()
    if isinstance(tail, str):  # the very next line, half written
        tell(witness, log, grow(log))
        file.write_bytes(file.read_bytes()[:-20])
    else:
        file.write_bytes(whole + tail)
    assert witness.latest(log.origin) == latest
    assert len(list(witness.history(log.origin))) == 3
    tell(witness, log, log.sign() if isinstance(tail, str) else grow(log))
    assert file.read_bytes().startswith(whole)
    assert witness.latest(log.origin) == log.head()
    assert len(list(witness.history(log.origin))) == 4


def edit(change: Callable[[dict[str, str]], object]) -> Callable[[list[bytes]], list[bytes]]:
    def damage(lines: list[bytes]) -> list[bytes]:
        value = json.loads(lines[-1])
        change(value)
        return [*lines[:-1], json.dumps(value, separators=(",", ":"), sort_keys=True).encode()]

    return damage


@pytest.mark.parametrize(
    ("damage", "last", "line"),
    [
        # the last line, which `latest` reads
        (edit(lambda v: v.update(note=v["note"].replace("\n8\n", "\n7\n"))), True, 2),
        (edit(lambda v: v.update(note=v["note"][:-9] + "AAAAAAA=\n")), True, 2),
        (edit(lambda v: v.update(proof="0" + v["proof"][1:-1])), True, 2),
        (edit(lambda v: v.update(schema="privemo.witness/2")), True, 2),
        (edit(lambda v: v.pop("proof")), True, 2),
        (edit(lambda v: v.update(more="x")), True, 2),
        (lambda lines: [*lines[:-1], b"garbage"], True, 2),
        (lambda lines: [*lines[:-1], b" " + lines[-1]], True, 2),
        # lines before it, which only the whole history shows
        (lambda lines: [lines[1], lines[0], lines[2]], False, 0),
        (lambda lines: [lines[0], lines[2]], False, 1),
        (lambda lines: [lines[0], lines[0], *lines[1:]], False, 1),
        (lambda lines: [lines[0], bytes(len(lines[1])), lines[2]], False, 1),
        (lambda lines: [*lines[:-1], lines[2].replace(b" ", b"\0", 1)], True, 2),
        (lambda lines: [lines[0], b"garbage", lines[2]], False, 1),
        (edit(lambda v: v.update(proof="00" * 32 + v["proof"][64:])), False, 2),
    ],
)
def test_a_changed_line_is_named(
    witness: Witness,
    log: SmallLog,
    damage: Callable[[list[bytes]], list[bytes]],
    last: bool,
    line: int,
) -> None:
    file = told(witness, log)
    file.write_bytes(b"\n".join(damage(file.read_bytes().splitlines())) + b"\n")
    with pytest.raises(TamperedError) as caught:
        list(witness.history(log.origin))
    assert caught.value.entry == f"witness line {line}"
    if last:
        with pytest.raises(TamperedError):
            witness.latest(log.origin)
        with pytest.raises(TamperedError):
            witness.add(grow(log), log.proof(8, 9))


def test_a_line_of_another_log_does_not_pass_for_this_ones(witness: Witness, log: SmallLog) -> None:
    file = told(witness, log)
    other = SmallLog(SigningKey.generate("other.example/log"))
    both = Witness.open(witness.path, known=[KEY.verifying, other.key.verifying])
    tell(both, other, grow(other, 9))
    (theirs,) = set(witness.path.glob("*.jsonl")) - {file}
    file.write_bytes(theirs.read_bytes())
    with pytest.raises(TamperedError, match=r"it is of 'other.example/log'"):
        both.latest(log.origin)


def test_an_old_key_has_to_be_known_for_the_lines_it_signed(
    witness: Witness, log: SmallLog
) -> None:
    told(witness, log)
    new = SigningKey.generate(log.origin)
    with pytest.raises(TamperedError, match="open the witness with the old keys too"):
        Witness.open(witness.path, known=[new.verifying]).latest(log.origin)
    log.signers = [new]
    both = Witness.open(witness.path, known=[KEY.verifying, new.verifying])
    tell(both, log, grow(log))
    assert both.latest(log.origin) == log.head()


def test_a_stick_that_is_not_plugged_in_is_no_empty_witness(
    tmp_path: Path, witness: Witness, log: SmallLog
) -> None:
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "empty", tmp_path / "nowhere"):
        with pytest.raises(WitnessMissingError, match="plug the stick in"):
            Witness.open(path, known=[KEY.verifying])
    told(witness, log)
    witness.path.rename(tmp_path / "elsewhere")
    witness.path.mkdir()  # the mount point is still there
    note = grow(log)
    for ask in (
        lambda: witness.latest(log.origin),
        lambda: witness.add(note, []),
        lambda: list(witness.history(log.origin)),
    ):
        with pytest.raises(WitnessMissingError):
            ask()


def test_a_witness_is_made_in_a_folder_of_its_own(tmp_path: Path, witness: Witness) -> None:
    with pytest.raises(RegistryExistsError):
        Witness.create(witness.path, known=[])
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_text("x")
    with pytest.raises(RegistryExistsError):
        Witness.create(tmp_path / "photos", known=[])
    with pytest.raises(RegistryFullError):
        Witness.create(tmp_path / "no" / "such", known=[])


def test_a_link_in_the_folder_leads_nowhere(
    tmp_path: Path, witness: Witness, log: SmallLog
) -> None:
    file = told(witness, log)
    file.rename(tmp_path / "moved")
    file.symlink_to(tmp_path / "moved")
    with pytest.raises(WitnessMissingError):
        witness.latest(log.origin)
    with pytest.raises(RegistryFullError):
        witness.add(grow(log), log.proof(8, 9))


def test_a_full_disk_leaves_the_file_as_it_was(witness: Witness, log: SmallLog) -> None:
    file = told(witness, log)
    before = file.read_bytes()
    note, proof = grow(log), log.proof(8, 9)
    # a limit of the process stands for the disk's end: the kernel writes what fits, then fails
    old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 40, limits[1]))
    try:
        with pytest.raises(RegistryFullError, match="nothing was remembered"):
            witness.add(note, proof)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, old)
    assert file.read_bytes() == before
    witness.add(note, proof)
    assert witness.latest(log.origin) == log.head()


def test_killed_at_every_step_it_remembers_all_that_it_said_it_did(
    witness: Witness, log: SmallLog
) -> None:
    file = told(witness, log)
    whole = file.read_bytes()
    note, proof = grow(log), log.proof(8, 9)
    calls = ("ftruncate", "lseek", "write", "fsync")
    for name in calls:

        def die(name: str = name) -> None:
            real = getattr(os, name)

            def killed(*args: object) -> object:
                if name == "write":  # half of it reaches the file
                    real(args[0], bytes(args[1])[:99])  # type: ignore[arg-type]
                os.kill(os.getpid(), 9)
                return real(*args)

            setattr(witnessfile.os, name, killed)
            witness.add(note, proof)

        assert in_child(die) == KILLED, name
        head = witness.latest(log.origin)
        assert head is not None
        assert head.size == (9 if name == "fsync" else 8), name
        assert file.read_bytes().startswith(whole)
        file.write_bytes(whole)
    witness.add(note, proof)
    assert [head.size for head in witness.history(log.origin)] == [4, 6, 8, 9]


def test_many_processes_tell_one_witness(tmp_path: Path, witness: Witness, log: SmallLog) -> None:
    """Four kiosks append to one log (a file with its length, under a lock) and follow it."""
    grow(log, 40)
    length = tmp_path / "length"
    length.write_text("2")

    def newest() -> str:
        shown = SmallLog(KEY)
        shown.leaves = log.leaves[: int(length.read_text())]
        return shown.sign()

    def kiosk() -> None:
        for _ in range(10):
            with (tmp_path / "lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                os.replace(written(length, int(length.read_text()) + 1), length)
            witness.follow(log.origin, newest, log.proof)

    pids = []
    for _ in range(4):
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                kiosk()
                code = 0
            finally:
                os._exit(code)
        pids.append(pid)
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids] == [0] * 4
    assert witness.latest(log.origin) == log.head()
    sizes = [head.size for head in witness.history(log.origin)]
    assert sizes == sorted(set(sizes))
    assert len(sizes) > 10


def written(beside: Path, number: int) -> Path:
    path = beside.with_suffix(f".{os.getpid()}")
    path.write_text(str(number))
    return path


def test_following_asks_for_the_newest_head_under_the_lock(witness: Witness, log: SmallLog) -> None:
    file = told(witness, log)
    grow(log)
    asked: list[tuple[int, int]] = []

    def prove(old: int, new: int) -> list[bytes]:
        asked.append((old, new))
        return log.proof(old, new)

    seen: list[bool] = []

    def newest_note() -> str:
        other = threading.Thread(target=lambda: seen.append(is_locked(file)))
        other.start()
        other.join()
        return log.notes["events"][-1]

    assert witness.follow(log.origin, newest_note, prove) == log.head()
    assert witness.follow(log.origin, newest_note, prove) == log.head()
    assert asked == [(8, 9)]
    assert seen == [True, True]
    with pytest.raises(MalformedError, match=r"want 'other.example'"):
        witness.follow("other.example", newest_note, prove)


def is_locked(file: Path) -> bool:
    with file.open("rb") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def test_a_lock_that_is_never_given_back_is_told(
    witness: Witness, log: SmallLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = told(witness, log)
    monkeypatch.setattr(witnessfile, "_PATIENCE_S", 0.05)
    with file.open("rb") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        with pytest.raises(RegistryBusyError):
            witness.add(grow(log), log.proof(8, 9))
        assert witness.latest(log.origin) is not None  # reading needs no lock


# -- cosigned ------------------------------------------------------------------------------------------


def test_a_cosigner_signs_what_the_witness_has_checked(tmp_path: Path, log: SmallLog) -> None:
    times = [NOW]
    cosigner = Cosigner(SigningKey.generate("witness.example"), clock=lambda: times[0])
    witness = Witness.create(tmp_path / "w", known=[KEY.verifying], cosigner=cosigner)
    told(witness, log)
    note = witness.note(log.origin)
    assert note is not None
    (found,) = verify_cosignatures(note, [cosigner.key], now=NOW)
    assert found.time == NOW
    with pytest.raises(ForkedError):
        witness.add(*longer(log))
    times[0] = NOW - timedelta(hours=1)  # "as of this time" must not go back
    with pytest.raises(ClockBackwardsError):
        witness.add(grow(log), log.proof(8, 9))
    assert witness.latest(log.origin) == Checkpoint(log.origin, 8, log.root_at(8))
    # whoever does not know the cosigner still reads the file
    plain = Witness.open(witness.path, known=[KEY.verifying])
    assert plain.latest(log.origin) == witness.latest(log.origin)


def test_reading_the_latest_does_not_grow_with_the_file(witness: Witness, log: SmallLog) -> None:
    file = told(witness, log)
    whole = file.read_bytes()
    with file.open("wb") as handle:  # 64 MB of lines nobody needs to read, then the real ones
        for _ in range(16):
            handle.write((b"x" * 999 + b"\n") * 4000)
        handle.write(whole)
    assert witness.latest(log.origin) == log.head()
    file.write_bytes(b"x" * (1 << 20) + b"\n")
    with pytest.raises(TamperedError):
        witness.latest(log.origin)
