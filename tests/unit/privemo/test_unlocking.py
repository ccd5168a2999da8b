"""A store whose keys need a passphrase opens its registry by itself, and nobody else does."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from privemo import unlocking
from privemo.cli import main
from privemo.cli.opening import read_passphrase, unlock
from privemo.errors import SettingsError
from privemo.federation.family import Family
from privemo.federation.identity import enroll
from privemo.federation.invitation import Invitation, join
from privemo.federation.processes import end, start
from privemo.federation.server import init_federation
from privemo.runs import Run
from privemo.store import Store
from privemo.storeconfig import KEY_FILE
from privemo_consent import KeyFileError
from tests.support.sealed import WORD, seal_store
from tests.support.small_runs import small_run

NAME = "store-01"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run whose first store's keys are sealed."""
    run = small_run(tmp_path_factory.mktemp("made"), model="gray-cnn", people=40)
    seal_store(run.folder / "stores" / NAME)
    return run


@pytest.fixture
def store(made: Run) -> Path:
    return made.folder / "stores" / NAME


@pytest.fixture(autouse=True)
def nothing_held(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As a process begins: nobody has given it a passphrase."""
    monkeypatch.setattr(unlocking, "_held", None)
    for name in unlocking.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    yield
    unlocking._held = None


def written(path: Path, word: bytes = WORD + b"\n", mode: int = 0o600) -> Path:
    path.write_bytes(word)
    path.chmod(mode)
    return path


def test_without_a_passphrase_a_store_says_what_to_set(store: Path) -> None:
    with pytest.raises(SettingsError, match=r"consent\.keys needs a passphrase: set PRIVEMO_PASS"):
        Store(store)


def test_a_store_opens_with_the_passphrase_wherever_it_is(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = written(tmp_path / "word")
    # systemd gives the unit's user alone a list of access, whose mask shows as the group's.
    written(tmp_path / unlocking.CREDENTIAL, mode=0o440)
    for name, value in (
        ("PRIVEMO_PASSPHRASE_FILE", str(file)),
        ("CREDENTIALS_DIRECTORY", str(tmp_path)),
        ("PRIVEMO_PASSPHRASE", WORD.decode()),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(unlocking, "_held", None)
            patch.setenv(name, value)
            assert unlocking.is_there()
            opened = Store(store)
            assert opened.registry.persons()
            opened.close()


@pytest.mark.parametrize(
    ("word", "mode", "error", "why"),
    [
        (b"another one", 0o600, KeyFileError, "passphrase"),
        (WORD, 0o640, SettingsError, "can be read by others: chmod 600"),
        (WORD, 0o604, SettingsError, "can be read by others"),
        (b"\n", 0o600, SettingsError, "is empty"),
        (b"x" * 4097 + b"\n", 0o600, SettingsError, "has more than 4096 bytes"),
        (None, 0o600, SettingsError, "cannot be read"),
    ],
)
def test_a_file_with_no_such_passphrase_opens_nothing(
    store: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    word: bytes | None,
    mode: int,
    error: type[Exception],
    why: str,
) -> None:
    file = tmp_path / "word" if word is None else written(tmp_path / "word", word, mode)
    monkeypatch.setenv("PRIVEMO_PASSPHRASE_FILE", str(file))
    with pytest.raises(error, match=why):
        Store(store)


def test_a_credential_that_everybody_reads_is_none(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(tmp_path / unlocking.CREDENTIAL, mode=0o444)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    with pytest.raises(SettingsError, match="can be read by others"):
        Store(store)


def test_a_file_in_the_folder_one_stands_in_is_no_credential(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor is a link in the folder of credentials to a file elsewhere."""
    written(tmp_path / "word", mode=0o640)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingsError, match="word can be read by others"):
        unlocking.read_secret(Path("word"))
    folder = tmp_path / "credentials"
    folder.mkdir()
    (folder / "link").symlink_to(tmp_path / "word")
    written(folder / "real", mode=0o440)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(folder))
    with pytest.raises(SettingsError, match="link can be read by others"):
        unlocking.read_secret(folder / "link")
    assert unlocking.read_secret(Path("credentials/real")) == WORD


def test_a_file_that_is_mended_counts_at_once(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As does another variable, for another store; the key of one word is drawn once."""
    registry = store / "consent.sqlite"
    monkeypatch.setenv("PRIVEMO_PASSPHRASE_FILE", str(written(tmp_path / "word", b"a wrong one")))
    with pytest.raises(KeyFileError, match="passphrase"):
        unlocking.open_registry(registry, "simulation")
    written(tmp_path / "word")
    unlocking.open_registry(registry, "simulation").close()
    held = unlocking._held
    assert unlocking._root(registry) is held
    monkeypatch.delenv("PRIVEMO_PASSPHRASE_FILE")
    monkeypatch.setenv("PRIVEMO_PASSPHRASE", "of another store")
    other = unlocking._root(registry)
    assert other is not None
    assert other.word() == b"of another store"


def test_what_was_typed_counts_before_a_file(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unlocking.hold(WORD)
    file = written(tmp_path / "word", b"a wrong one")
    monkeypatch.setenv("PRIVEMO_PASSPHRASE_FILE", str(file))
    unlocking.open_registry(store / "consent.sqlite", "simulation").close()


def test_a_pipe_is_read_once(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a shell gives one: ``PRIVEMO_PASSPHRASE_FILE=<(pass show store)``."""
    ends = os.pipe()
    os.write(ends[1], WORD + b"\n")
    os.close(ends[1])
    monkeypatch.setenv("PRIVEMO_PASSPHRASE_FILE", f"/dev/fd/{ends[0]}")
    try:
        assert unlocking.is_there()
        for _ in range(2):
            unlocking.open_registry(store / "consent.sqlite", "simulation").close()
    finally:
        os.close(ends[0])


def test_a_variable_is_the_bytes_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Text of another encoding is a passphrase too; a book is none."""
    word = "schlüssel".encode("latin-1")
    monkeypatch.setenv("PRIVEMO_PASSPHRASE", os.fsdecode(word))
    assert unlocking.read_secret(written(tmp_path / "word", word)) == word
    assert unlocking._found() == word
    assert read_passphrase(None) == word
    monkeypatch.setenv("PRIVEMO_PASSPHRASE", "x" * 4097)
    with pytest.raises(SettingsError, match="PRIVEMO_PASSPHRASE has more than 4096 bytes"):
        unlocking.is_there()


def test_a_store_without_one_asks_for_none(made: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    other = made.folder / "stores" / "store-02"
    assert not unlocking.needs_passphrase(other / "consent.sqlite")
    monkeypatch.setenv("PRIVEMO_PASSPHRASE_FILE", "/nowhere")  # nobody looks
    Store(other).close()
    assert unlocking.to_hand_over(other / "consent.sqlite") is None


CHILD = """
import os, sys
from pathlib import Path
from privemo import unlocking
from privemo.cli import main
from privemo.cli.opening import unlock
from privemo.store import Store
unlocking.take_over()
store = Path(sys.argv[1])
for _ in range(2):
    if os.fork() == 0:  # as a message's process is
        opened = Store(store)
        print("opened", len(opened.registry.persons()), os.environ.get(unlocking.PIPE), flush=True)
        os._exit(0)
    os.wait()
"""


def test_what_carries_out_tasks_is_handed_it_and_nothing_else_of_the_store_has_it(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Real processes, started as `federation join` starts its own."""
    monkeypatch.setenv("PRIVEMO_PASSPHRASE", WORD.decode())
    handed = unlocking.to_hand_over(store / "consent.sqlite")
    assert handed is not None
    people = len(Store(store).registry.persons())
    (tmp_path / "flower").mkdir()
    with Family(tmp_path / "flower", "a store", print) as family:
        with (tmp_path / "log").open("ab") as log:
            child = [sys.executable, "-c", CHILD, str(store)]
            tasks = start(child, tmp_path, log, family, secret=handed)
            waiting = [sys.executable, "-c", "import time; time.sleep(600)"]
            node = start(waiting, tmp_path, log, family)
        try:
            for process in (tasks, node):
                seen = Path(f"/proc/{process.pid}/environ").read_bytes()
                line = Path(f"/proc/{process.pid}/cmdline").read_bytes()
                assert WORD not in seen + line
            assert b"PRIVEMO_PASSPHRASE" not in Path(f"/proc/{node.pid}/environ").read_bytes()
            assert tasks.wait(300) == 0, (tmp_path / "log").read_text()
        finally:
            end(node)
            end(tasks)
    said = (tmp_path / "log").read_text().splitlines()
    assert said == [f"opened {people} None"] * 2


def test_a_passphrase_that_is_another_ones_stops_a_store_before_it_takes_part(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRIVEMO_PASSPHRASE", "another one")
    with pytest.raises(KeyFileError, match="passphrase"):
        unlocking.to_hand_over(store / "consent.sqlite")


def test_joining_takes_the_passphrase_as_well(
    made: Run,
    store: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With nobody at a terminal, as a unit of systemd's is."""
    (store / "store.json").unlink()  # of the simulation that it is taken from
    (store / KEY_FILE).unlink()
    card = enroll(store, NAME)
    chain = init_federation(
        tmp_path / "chain", [card], made.settings.model_copy(update={"stores": 1}), hosts=["x"]
    )
    invitation = chain.folder / "invitations" / f"{NAME}.json"
    with pytest.raises(SettingsError, match="needs a passphrase"):
        join(store, Invitation.read(invitation))
    with pytest.raises(
        SettingsError, match=r"consent\.keys needs a passphrase: give --passphrase-"
    ):
        unlock(store / "consent.sqlite", None)  # nobody is at a terminal
    file = written(tmp_path / "word")
    line = ["federation", "join", store, "--invitation", invitation, "--no-start"]
    monkeypatch.setattr("sys.argv", ["privemo", *map(str, (*line, "--passphrase-file", file))])
    with pytest.raises(SystemExit) as done:
        main()
    assert (done.value.code or 0, f"{NAME} agreed" in capsys.readouterr().err) == (0, True)
    assert (store / "store.json").exists()
