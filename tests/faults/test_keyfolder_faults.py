"""The key folder under kill -9, failing disks, flipped bits and other processes.

A forked child runs one act and dies at the n-th point of a write; n runs until the act gets
through. Every system call that changes a disk is such a point, and so is the middle of each write.
"""

from __future__ import annotations

import errno
import itertools
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import keyring
import keyring.backend
import pytest

from privemo_consent.errors import (
    ErasedKeyError,
    KeyFileError,
    PlacesPendingError,
    RegistryFullError,
)
from privemo_consent.keyfolder import KeyFolder
from privemo_consent.keyfolder.roots import KeyringRoot, NoRoot, Root
from privemo_consent.keys import SigningKey
from tests.support.consent import KILLED, in_child
from tests.support.interrupt import interrupt

PIDS = range(8)
SIGNERS = [SigningKey.generate("example.org/log") for _ in range(3)]


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def disk_full() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class House:
    """A folder with a mirror, two epochs, two signers and an erased row, made afresh each time."""

    def __init__(self, path: Path) -> None:
        self.template, self.work = path / "template", path / "work"
        self.keys, self.mirror = self.work / "keys", self.work / "mirror"
        self.work.mkdir()
        folder = KeyFolder.create(self.keys)
        folder.add_mirror(self.mirror)
        folder.new_epoch()
        for key in SIGNERS[:2]:
            folder.add_signer(key)
        folder.puncture([0])
        self.true = {
            (epoch, pid): folder.wrap_key(epoch, pid) for epoch in (1, 2) for pid in PIDS if pid
        }
        self.work.rename(self.template)
        self.afresh()

    def afresh(self) -> None:
        shutil.rmtree(self.work, ignore_errors=True)
        shutil.copytree(self.template, self.work)

    def state(self, place: Path) -> tuple[object, ...]:
        """Open a folder and say what it is; no key may have changed, and none be half gone."""
        folder = KeyFolder.open(place)
        for epoch in folder.epochs:
            for pid in PIDS:
                try:
                    key = folder.wrap_key(epoch, pid)
                except ErasedKeyError:
                    assert folder.punctured(pid), "in one epoch and not in the other"
                else:
                    assert not folder.punctured(pid)
                    assert self.true.get((epoch, pid), key) == key
        left = [name for name in os.listdir(place) if name.endswith(".new")]
        assert not left, "what a crash left is gone once it was opened"
        return (
            folder.epochs,
            tuple(pid for pid in PIDS if folder.punctured(pid)),
            folder.signers,
            folder.mirrors if place == self.keys else (),
        )

    def settled(self) -> tuple[object, ...]:
        """The state once mirrors were reached; they must be equal."""
        state = self.state(self.keys)
        folder = KeyFolder.open(self.keys)
        folder.finish()
        assert (folder.pending, folder.behind) == ((), ())
        for mirror in folder.mirrors:
            assert self.state(mirror)[:3] == state[:3]
        return state


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def unmirrored(folder: KeyFolder) -> KeyFolder:
    """A folder of one place: fewer steps, other order of them."""
    folder.remove_mirror(folder.mirrors[0])
    return folder


Act = Callable[[KeyFolder], object]
ACTS: dict[str, Act] = {
    "puncture": lambda f: f.puncture([1, 2]),
    "new_epoch": lambda f: f.new_epoch(),
    "forget_epoch": lambda f: f.forget_epoch(1),
    "add_signer": lambda f: f.add_signer(SIGNERS[2]),
    "drop_signer": lambda f: f.drop_signer(SIGNERS[0].key_id),
    "add_mirror": lambda f: f.add_mirror(f.path.parent / "second"),
    "remove_mirror": lambda f: f.remove_mirror(f.path.parent / "mirror"),
}


def attempt(house: House, name: str, step: int, end: Callable[[], None]) -> int:
    house.afresh()

    def act() -> None:
        folder = KeyFolder.open(house.keys)
        interrupt(step, end)
        ACTS[name](folder)

    return in_child(act)


ALIKE = ("add_mirror", "add_signer", "drop_signer", "remove_mirror", "new_epoch")
"""Acts of kinds that others stand for; all of them run in `make test-all`."""

SOME_ACTS = [pytest.param(name, marks=[pytest.mark.slow] if name in ALIKE else []) for name in ACTS]


@pytest.mark.parametrize("name", SOME_ACTS)
def test_killed_at_any_step_it_happened_or_did_not(house: House, name: str) -> None:
    before, states = house.settled(), []
    for step in range(2000):
        code = attempt(house, name, step, die)
        states.append(settle_after(house, name))
        if code != KILLED:
            assert code == 0
            break
    assert step > 8, "the act was interrupted at several points"
    assert states[0] == before
    after = states[-1]
    assert after != before, "an acknowledged act is there"
    assert set(states) <= {before, after}
    turn = states.index(after)
    assert states == [before] * turn + [after] * (len(states) - turn), "once done, always done"


def settle_after(house: House, name: str) -> tuple[object, ...]:
    """Reopen; a mirror that was half made or half removed is named, and asked for again."""
    try:
        return house.settled()
    except PlacesPendingError as error:
        assert name == "remove_mirror"
        assert error.places == (house.mirror,)  # noqa: PT017  # the error is one of two outcomes
        assert not list(house.mirror.glob("*.key")), "its keys went first"
        KeyFolder.open(house.keys).remove_mirror(house.mirror, lost=True)
        return house.settled()
    except AssertionError:
        folder = KeyFolder.open(house.keys)
        if name != "add_mirror" or folder.behind != (house.work / "second",):
            raise
        folder.add_mirror(house.work / "second")
        return house.settled()


@pytest.mark.parametrize("name", SOME_ACTS)
def test_a_full_disk_at_any_step_loses_nothing(house: House, name: str) -> None:
    before, done = house.settled(), False
    for step in range(2000):
        house.afresh()

        def act(step: int = step) -> None:
            folder = KeyFolder.open(house.keys)
            interrupt(step, disk_full)
            try:
                ACTS[name](folder)
            except (RegistryFullError, PlacesPendingError):
                os._exit(7)

        code = in_child(act)
        assert code in (0, 7)
        state = settle_after(house, name)
        done = code == 0
        assert not done or state != before, "what was acknowledged is there"
        if done and step > 8 and not_reached(house, name, step):
            break
    assert done


def not_reached(house: House, name: str, step: int) -> bool:
    """Tell whether the act has fewer points than ``step``: it lives through a death there."""
    return attempt(house, name, step, die) == 0


def test_made_whole_or_not_at_all(tmp_path: Path) -> None:
    outcomes, path = [], tmp_path / "keys"
    for step in range(200):

        def act(step: int = step) -> None:
            interrupt(step, die)
            KeyFolder.create(path)

        code = in_child(act)
        outcomes.append(path.exists())
        if not path.exists():
            made = KeyFolder.create(path)  # what the dead one left is in nobody's way
            assert os.listdir(tmp_path) == ["keys"], "and it is swept away"
        made = KeyFolder.open(path)
        assert made.epochs == (1,)
        shutil.rmtree(path)
        if code != KILLED:
            assert code == 0
            break
    assert outcomes == sorted(outcomes)
    assert outcomes.count(False) > 20
    assert outcomes[-1]


def test_no_old_byte_goes_before_the_new_ones_are_durable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, calls = KeyFolder.create(tmp_path / "keys"), []

    def record(name: str) -> None:
        real: Callable[..., Any] = getattr(os, name)

        def recorded(first: Any, *others: Any, **named: Any) -> Any:
            place = os.readlink(f"/proc/self/fd/{first}") if isinstance(first, int) else first
            calls.append((name, Path(place).name))
            return real(first, *others, **named)

        monkeypatch.setattr(os, name, recorded)

    for name in ("write", "pwrite", "fsync", "rename"):
        record(name)
    folder.puncture([1])
    assert calls == [
        ("write", "persons-0001.key.new"),
        ("fsync", "persons-0001.key.new"),
        ("fsync", "keys"),  # its name
        ("pwrite", "persons-0001.key"),  # zeros
        ("fsync", "persons-0001.key"),
        ("rename", "persons-0001.key.new"),
        ("fsync", "keys"),
    ]


class FixedKeyring(keyring.backend.KeyringBackend):
    """A keyring in memory, as its documentation says to write one: this machine has none."""

    priority: ClassVar[float] = 1  # type: ignore[assignment]
    entries: ClassVar[dict[tuple[str, str], str]] = {}

    def get_password(self, service: str, username: str) -> str | None:
        return self.entries.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self.entries[service, username] = password


@pytest.fixture(params=["none", "keyring"])
def root(request: pytest.FixtureRequest) -> Iterator[Root]:
    before = keyring.get_keyring()
    keyring.set_keyring(FixedKeyring())
    yield NoRoot() if request.param == "none" else KeyringRoot()
    keyring.set_keyring(before)


def small(path: Path, root: Root) -> tuple[KeyFolder, dict[Path, bytes]]:
    folder = KeyFolder.create(path, root=root)
    folder.add_signer(SIGNERS[0])
    folder.puncture([1])
    return folder, {file: file.read_bytes() for file in sorted(path.iterdir())}


def contents(folder: KeyFolder) -> tuple[object, ...]:
    keys = tuple(folder.wrap_key(1, pid) for pid in (0, 2, 3, 2**31, 2**32 - 1))
    signer = folder.signer(SIGNERS[0].key_id).verifying
    return (
        folder.registry_key,
        folder.lookup_key(1),
        keys,
        folder.punctured(1),
        signer,
        folder.mirrors,
        folder.witness,
    )


def test_a_flipped_bit_is_named_or_harmless(tmp_path: Path, root: Root) -> None:
    folder, files = small(tmp_path / "keys", root)
    want, named = contents(folder), 0
    for file, data in files.items():
        # The tree's file is long and of one kind: one bit of each byte there, every bit elsewhere.
        every = range(8) if len(data) < 600 else (0,)
        for at, bit in itertools.product(range(len(data)), every):
            flipped = bytearray(data)
            flipped[at] ^= 1 << (bit if len(every) > 1 else at % 8)
            file.write_bytes(flipped)
            try:
                assert contents(KeyFolder.open(folder.path, root=root)) == want, (file.name, at)
                assert file.name == "lock", "all others are checked to the last bit"
            except KeyFileError as error:
                assert str(folder.path) in str(error)  # noqa: PT017  # one of two outcomes
                named += 1
        file.write_bytes(data)
    assert named > 2000
    assert contents(KeyFolder.open(folder.path, root=root)) == want


def test_a_file_cut_short_or_grown_is_named(tmp_path: Path, root: Root) -> None:
    folder, files = small(tmp_path / "keys", root)
    for file, data in files.items():
        if file.name == "lock":
            continue
        for changed in (b"", data[:1], data[: len(data) // 2], data[:-1], data + b"\0", data * 2):
            file.write_bytes(changed)
            with pytest.raises(KeyFileError, match=file.name):
                KeyFolder.open(folder.path, root=root)
        file.write_bytes(data)


def test_what_somebody_leaves_as_unfinished_is_not_taken(tmp_path: Path, root: Root) -> None:
    folder, files = small(tmp_path / "keys", root)
    want = contents(folder)
    other, _ = small(tmp_path / "other", root)
    for name in ("registry.key", "persons-0001.key", "folder.json"):
        for data in (b"", files[folder.path / name][:-1], (other.path / name).read_bytes()):
            new = folder.path / f"{name}.new"
            new.write_bytes(data)
            new.chmod(0o600)
            assert contents(KeyFolder.open(folder.path, root=root)) == want
            assert not new.exists()


WORKER = """
import sys
from privemo_consent.keyfolder import KeyFolder
folder = KeyFolder.open(sys.argv[1])
for pid in range(int(sys.argv[2]), int(sys.argv[3]), 2):
    folder.puncture([pid])
    print(pid, flush=True)
"""


def start(folder: KeyFolder, first: int, end: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WORKER, str(folder.path), str(first), str(end)],
        stdout=subprocess.PIPE,
        text=True,
    )


def test_two_processes_puncturing_at_once_lose_nothing(tmp_path: Path) -> None:
    folder = KeyFolder.create(tmp_path / "keys")
    folder.add_mirror(tmp_path / "mirror")
    folder.new_epoch()
    kept = folder.wrap_key(1, 1000)
    workers = [start(folder, first, 60) for first in (0, 1)]
    for pid in range(100, 130):  # and this one, with memory of its own
        folder.puncture([pid])
    for worker in workers:
        told, _ = worker.communicate(timeout=60)
        assert worker.returncode == 0
        assert len(told.split()) == 30
    folder.refresh()
    gone = {*range(60), *range(100, 130)}
    for place in (folder, KeyFolder.open(tmp_path / "keys"), KeyFolder.open(tmp_path / "mirror")):
        assert {pid for pid in range(1000) if place.punctured(pid)} == gone
        assert place.wrap_key(1, 1000) == kept
        for epoch in (1, 2):
            with pytest.raises(ErasedKeyError):
                place.wrap_key(epoch, 59)


@pytest.mark.parametrize("seed", range(6))
def test_killed_at_any_time_what_was_acknowledged_is_destroyed(tmp_path: Path, seed: int) -> None:
    folder = KeyFolder.create(tmp_path / "keys")
    folder.add_mirror(tmp_path / "mirror")
    folder.new_epoch()
    kept = folder.wrap_key(2, 1001)
    worker = start(folder, 0, 100_000)
    assert worker.stdout is not None
    told = [worker.stdout.readline()]
    time.sleep(0.01 + 0.03 * seed)
    worker.kill()
    told += worker.stdout.readlines()
    worker.wait()
    acknowledged = [int(line) for line in told if line.endswith("\n")]
    assert folder.refresh()
    folder.finish()
    for place in (folder, KeyFolder.open(tmp_path / "keys"), KeyFolder.open(tmp_path / "mirror")):
        assert all(place.punctured(pid) for pid in acknowledged)
        assert place.wrap_key(2, 1001) == kept
        assert sum(place.punctured(pid) for pid in range(0, 100_000, 2)) - len(acknowledged) <= 1
    worker.stdout.close()


def test_a_holder_of_old_seeds_lets_go_after_a_crash(house: House) -> None:
    """The writer dies within its act; another process, which holds the keys, ends it."""
    for step in range(1, 2000, 3):
        house.afresh()
        holder = KeyFolder.open(house.keys)

        def act(step: int = step) -> None:
            folder = KeyFolder.open(house.keys)
            interrupt(step, die)
            folder.puncture([1, 2])

        code = in_child(act)
        holder.refresh()
        fresh = KeyFolder.open(house.keys)
        holder.refresh()
        assert [holder.punctured(pid) for pid in PIDS] == [fresh.punctured(pid) for pid in PIDS]
        if code != KILLED:
            break
    assert holder.punctured(1)
    assert step > 20
