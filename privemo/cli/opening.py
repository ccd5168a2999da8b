"""Which registry a command works on: the options that name it, its keys, and how it is opened."""

from __future__ import annotations

import functools
import inspect
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from privemo.cli.common import print_json, print_lines, say
from privemo.errors import RunInterrupted, SettingsError

if TYPE_CHECKING:
    from privemo_consent import ConsentRegistry
    from privemo_consent.keyfolder import KeyFolder
    from privemo_consent.keyfolder.roots import Root

__all__ = ["Place", "Protection", "at_registry", "mode_of", "read_passphrase", "root_for", "unlock"]

_PASSPHRASE = "PRIVEMO_PASSPHRASE"  # noqa: S105 - the name of a variable


class Protection(StrEnum):
    """What protects a key folder beyond its permissions."""

    none = "none"
    passphrase = "passphrase"  # noqa: S105 - the name of a choice
    keyring = "keyring"


RegistryOption = Annotated[
    str | None,
    typer.Option(
        "--registry",
        envvar="PRIVEMO_REGISTRY",
        show_envvar=True,
        metavar="PLACE",
        help="A registry: a file, or postgresql://user@host/database.",
    ),
]
KeysOption = Annotated[
    Path | None,
    typer.Option(
        "--keys",
        envvar="PRIVEMO_KEYS",
        show_envvar=True,
        metavar="DIR",
        help="Its key folder; NAME.keys beside NAME.sqlite by default.",
    ),
]
PassphraseOption = Annotated[
    Path | None,
    typer.Option(
        "--passphrase-file",
        metavar="FILE",
        help=f"Holds the passphrase of the key folder; or set {_PASSPHRASE}.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_COMMON = {
    "registry": (RegistryOption, None),
    "keys": (KeysOption, None),
    "passphrase_file": (PassphraseOption, None),
    "json_": (JsonOption, False),
}


@dataclass(frozen=True, slots=True)
class Place:
    """What the common options said."""

    registry: str | None
    keys: Path | None
    passphrase_file: Path | None
    json: bool

    @property
    def where(self) -> str:
        """The file or the URL.

        Raises:
            SettingsError: neither the option nor the variable names one.

        """
        if not self.registry:
            raise SettingsError(
                "--registry is missing: give a file or a URL, or set PRIVEMO_REGISTRY"
            )
        return self.registry

    @property
    def shown(self) -> str:
        """The file, or the URL without its password: what a message may say.

        Raises:
            SettingsError: none was named.
            MalformedError: it looks like a URL and is none.

        """
        from privemo_consent.storage import shown

        return shown(self.where)

    @property
    def folder(self) -> Path:
        """The key folder, there or not.

        Raises:
            KeyFileError: the registry is on a server and no folder was named.

        """
        from privemo_consent.handle import key_folder_of

        return self.keys or key_folder_of(self.where)

    def key_folder(self) -> KeyFolder:
        """Open the key folder by itself.

        Raises:
            KeyFileError: missing, damaged, open to others, or another passphrase.

        """
        from privemo_consent.keyfolder import KeyFolder

        return KeyFolder.open(self.folder, root=root_for(self.folder, self.passphrase_file))

    @contextmanager
    def open(
        self, *, readonly: bool = False, busy_timeout_ms: int | None = None
    ) -> Iterator[ConsentRegistry]:
        """Open the registry in the mode it was made in, and say so where that is a simulation.

        Args:
            readonly: nothing is written.
            busy_timeout_ms: how long a write waits for another process; the registry's by default.

        Raises:
            ConsentError: as `ConsentRegistry.open`.
            RunInterrupted: Ctrl-C, when a change may be under way.

        """
        from privemo_consent import ConsentRegistry
        from privemo_consent.storage import BUSY_TIMEOUT_MS

        mode = mode_of(self.where)
        folder, root = self._keys(readonly)
        with ConsentRegistry.open(
            self.where,
            mode=mode,  # type: ignore[arg-type]  # held to the two words in mode_of
            keys=folder,
            root=root,
            readonly=readonly,
            busy_timeout_ms=BUSY_TIMEOUT_MS if busy_timeout_ms is None else busy_timeout_ms,
        ) as registry:
            if mode == "simulation":
                say("A simulation registry: nothing in it is anyone's consent.")
            try:
                yield registry
            except KeyboardInterrupt:
                raise RunInterrupted(
                    "Stopped. What was not reported as done was recorded whole or not at all: "
                    "look with `privemo registry show`, or ask again."
                ) from None

    def _keys(self, readonly: bool) -> tuple[Path | None, Root | None]:
        from privemo_consent.handle import key_folder_of
        from privemo_consent.storage import is_url

        folder = self.keys
        if folder is None and (not is_url(self.where) or not readonly):
            folder = key_folder_of(self.where)
        if readonly and self.keys is None and (folder is None or not folder.exists()):
            return None, None  # verifying and proving need no key
        assert folder is not None  # noqa: S101 - key_folder_of raised otherwise
        return folder, root_for(folder, self.passphrase_file)

    def show(self, content: Any, *lines: str) -> None:
        """Print a result: JSON where it was asked for, lines otherwise."""
        if self.json:
            print_json(content)
        else:
            print_lines(*lines)


def at_registry(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that name a registry; it gets them as a `Place`, its first argument."""
    own = inspect.signature(command, eval_str=True)
    kept = list(own.parameters.values())[1:]
    added = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)
        for name, (kind, default) in _COMMON.items()
    ]

    @functools.wraps(command)
    def run(**given: Any) -> None:
        common = {name: given.pop(name) for name in _COMMON}
        place = Place(
            common["registry"], common["keys"], common["passphrase_file"], common["json_"]
        )
        command(place, **given)

    parameters = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in kept] + added
    # What typer reads a command's options from.
    run.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {each.name: each.annotation for each in parameters}
    return run


def mode_of(where: str) -> str:
    """Read off a registry whether it is one of production or of simulation.

    Raises:
        RegistryError: it cannot be read.
        TamperedError: it says neither.

    """
    import sqlalchemy as sa

    from privemo_consent import TamperedError
    from privemo_consent.schema import meta
    from privemo_consent.storage import open_store

    store = open_store(where, readonly=True)
    try:
        with store.read() as connection:
            query = sa.select(meta.c.value).where(meta.c.key == "mode")
            found = connection.execute(query).scalar()
    finally:
        store.close()
    if found not in ("production", "simulation"):
        raise TamperedError("meta mode", "is neither production nor simulation")
    return str(found)


def root_for(folder: Path, passphrase_file: Path | None) -> Root | None:
    """What opens a key folder, as its own record says; None where there is no folder.

    Raises:
        KeyFileError: the record is damaged.
        SettingsError: it needs a passphrase, and none can be had.

    """
    from privemo_consent.keyfolder.files import FOLDER_FILE
    from privemo_consent.keyfolder.record import FolderRecord
    from privemo_consent.keyfolder.roots import root_of

    try:
        data = (folder / FOLDER_FILE).read_bytes()
    except OSError:
        return None  # opening it says what is wrong with it
    kind = FolderRecord.decode(data, folder).root
    needed = kind == Protection.passphrase
    return root_of(kind, passphrase=read_passphrase(passphrase_file) if needed else None)


def unlock(registry: Path, passphrase_file: Path | None) -> None:
    """Let this process open a store's registry, by itself from now on, whatever protects its keys.

    Raises:
        SettingsError: they need a passphrase, and none can be had.

    """
    from privemo.unlocking import hold, is_there, needs_passphrase

    if needs_passphrase(registry) and (passphrase_file is not None or not is_there()):
        hold(read_passphrase(passphrase_file, what=str(registry.with_suffix(".keys"))))


def read_passphrase(
    file: Path | None,
    *,
    variable: str = _PASSPHRASE,
    option: str = "--passphrase-file",
    what: str = "the key folder",
    word: str = "passphrase",
    new: bool = False,
) -> bytes:
    """A passphrase from a file, the environment, or whoever sits at the terminal; never an argument.

    `word` is what it is called.

    Raises:
        SettingsError: none of them has one, or others can read the file.

    """
    if file is not None:
        from privemo.unlocking import read_secret

        found = read_secret(file)
    elif variable in os.environ:
        from privemo.unlocking import from_variable

        found = from_variable(variable)
    elif sys.stdin.isatty():
        asked = typer.prompt(
            f"{word.capitalize()} of {what}", hide_input=True, confirmation_prompt=new, err=True
        )
        found = str(asked).encode()
    else:
        raise SettingsError(f"{what} needs a {word}: give {option}, or set {variable}")
    if not found:
        raise SettingsError(f"the {word} of {what} is empty: give one")
    return found
