"""A store's registry is opened while nobody is there: where the passphrase of its keys comes from then.

A key folder may be sealed with a passphrase (`privemo registry new --protect passphrase`). Commands that
somebody sits before ask for it. A store that takes part in a federation opens its registry for every message,
and a camera's program whenever it starts:

| the passphrase is in | who puts it there |
|---|---|
| the file that ``PRIVEMO_PASSPHRASE_FILE`` names, for nobody else to read | whoever starts the store |
| ``privemo.passphrase`` in ``CREDENTIALS_DIRECTORY`` | systemd, by ``LoadCredentialEncrypted=`` |
| ``PRIVEMO_PASSPHRASE`` | as of all commands; who may look into the process can read it |
| a pipe from the process that started this one | `privemo federation join`, for what carries out its tasks |

The first that is there counts, whenever a registry is opened: a file that was mended is read again. What was
typed, or came by a pipe, which is read once, counts before all and for as long as the process lives. It is
never an argument, which everybody on the machine can list. Flower's own processes get none of these: they
talk to the network.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path

from privemo.errors import SettingsError
from privemo_consent import ConsentRegistry
from privemo_consent.handle import Mode, key_folder_of
from privemo_consent.keyfolder import KeyFolder
from privemo_consent.keyfolder.roots import PassphraseRoot

__all__ = [
    "CREDENTIAL",
    "PIPE",
    "VARIABLES",
    "from_variable",
    "hold",
    "is_there",
    "needs_passphrase",
    "open_registry",
    "read_secret",
    "take_over",
    "to_hand_over",
]

CREDENTIAL = "privemo.passphrase"
_WORD, _FILE, _FOLDER = "PRIVEMO_PASSPHRASE", "PRIVEMO_PASSPHRASE_FILE", "CREDENTIALS_DIRECTORY"
PIPE = "PRIVEMO_PASSPHRASE_FD"
VARIABLES = (_WORD, _FILE, _FOLDER, PIPE)
"""What a process that needs no passphrase is started without."""

_MOST_BYTES = 4096
"""Of a passphrase: it goes into a pipe before anybody reads that, which holds a few times as much."""

_held: _Remembering | None = None


class _Remembering(PassphraseRoot):
    """Draws the key once: each message opens the registry anew, and scrypt takes half a second on purpose.

    Args:
        passphrase: it.
        given: it cannot be had again, for somebody typed it or it came by a pipe.
    """

    def __init__(self, passphrase: bytes, *, given: bool = False) -> None:
        super().__init__(passphrase)
        self.given = given
        self._drawn: dict[str, bytes] = {}

    def key(self, parameters: Mapping[str, object]) -> bytes:
        name = repr(sorted(parameters.items()))
        if name not in self._drawn:
            self._drawn[name] = super().key(parameters)
        return self._drawn[name]

    def word(self) -> bytes:
        """The passphrase itself, for the process that is handed it."""
        return self._passphrase


def open_registry(file: Path, mode: Mode) -> ConsentRegistry:
    """Open a store's registry, whose keys lie beside it, with the passphrase that they need, if any.

    Args:
        file: the registry.
        mode: what it is taken for.

    Raises:
        SettingsError: the keys need a passphrase and there is none, or others can read its file.
        privemo_consent.ConsentError: as `ConsentRegistry.open`; ``KeyFileError`` for a wrong passphrase.
    """
    return ConsentRegistry.open(file, mode=mode, root=_root(file))


def hold(passphrase: bytes) -> None:
    """Let this process open registries with a passphrase that somebody typed, say."""
    global _held
    _held = _Remembering(passphrase, given=True)


def needs_passphrase(file: Path) -> bool:
    """Whether the keys of a registry are sealed with one, as the key folder's own record says.

    Raises:
        privemo_consent.KeyFileError: the record is damaged.
    """
    from privemo_consent.keyfolder.files import FOLDER_FILE
    from privemo_consent.keyfolder.record import FolderRecord

    folder = key_folder_of(file)
    try:
        data = (folder / FOLDER_FILE).read_bytes()
    except OSError:
        return False  # opening it says what is wrong with it
    return FolderRecord.decode(data, folder).root == "passphrase"


def is_there() -> bool:
    """Whether one of the places has a passphrase.

    Raises:
        SettingsError: one has, and it cannot be read, or others can read it.
    """
    return _given() is not None or _found() is not None


def read_secret(file: Path) -> bytes:
    """A passphrase from a file; the end of its line is no part of it.

    Raises:
        SettingsError: it cannot be read, others can read it, it holds nothing, or more than 4096 bytes.
    """
    try:
        with file.open("rb") as opened:
            mode = os.fstat(opened.fileno()).st_mode
            read = opened.read(_MOST_BYTES + len(b"\r\n") + 1)
    except OSError as error:
        raise SettingsError(f"{file} cannot be read: {error.strerror}") from error
    # systemd lets the unit's user alone read a credential by an access list, whose mask shows as the group's.
    shared = 0o037 if _is_credential(file) else 0o077
    if stat.S_ISREG(mode) and mode & shared:
        raise SettingsError(f"{file} can be read by others: chmod 600 {file}")
    found = read.removesuffix(b"\n").removesuffix(b"\r")
    if not found:
        raise SettingsError(f"the passphrase in {file} is empty: give one")
    return _not_too_long(found, str(file))


def from_variable(name: str) -> bytes:
    """A passphrase from the environment, byte for byte as a file would have it; empty where there is none.

    Raises:
        SettingsError: it has more than 4096 bytes.
    """
    return _not_too_long(os.fsencode(os.environ.get(name, "")), name)


def _not_too_long(found: bytes, where: str) -> bytes:
    if len(found) > _MOST_BYTES:
        raise SettingsError(
            f"{where} has more than {_MOST_BYTES} bytes, which no passphrase needs: is it the right one?"
        )
    return found


def _is_credential(file: Path) -> bool:
    folder = os.environ.get(_FOLDER, "")
    return folder != "" and file.resolve().parent == Path(folder).resolve()


def _root(file: Path) -> _Remembering | None:
    global _held
    if not needs_passphrase(file):
        return None
    if (given := _given()) is not None:
        return given
    found = _found()
    if found is None:
        raise SettingsError(
            f"{key_folder_of(file)} needs a passphrase: set {_FILE} to a file that holds it, or {_WORD}"
        )
    if _held is None or _held.word() != found:
        _held = _Remembering(found)
    return _held


def _given() -> _Remembering | None:
    return _held if _held is not None and _held.given else None


def _found() -> bytes | None:
    """The first place that has one."""
    if named := os.environ.get(_FILE):
        word = read_secret(Path(named))
        if not Path(named).is_file():  # a pipe, which gives it once
            hold(word)
        return word
    if folder := os.environ.get(_FOLDER):
        credential = Path(folder) / CREDENTIAL
        if credential.exists():
            return read_secret(credential)
    return from_variable(_WORD) or None


# -- from a store's process to the one that carries out its tasks ----------------------------------


def to_hand_over(file: Path) -> bytes | None:
    """What that process needs; None where the keys of the registry need nothing.

    Raises:
        As `open_registry`: better before anybody takes part than in the middle of a round.
    """
    root = _root(file)
    if root is None:
        return None
    KeyFolder.open(key_folder_of(file), root=root)
    return os.fsencode(file.resolve()) + b"\0" + root.word()


def take_over() -> None:
    """In the process that was started: take what was handed over, and draw the key for all its forks."""
    number = os.environ.pop(PIPE, None)
    if number is None:
        return
    with os.fdopen(int(number), "rb") as pipe:
        file, _, word = pipe.read().partition(b"\0")
    hold(word)
    KeyFolder.open(key_folder_of(Path(os.fsdecode(file))), root=_held)
