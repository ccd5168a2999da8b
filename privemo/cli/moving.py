"""A whole registry into a file, and out of it: what `consent export --all` and `import` do with it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import typer

from privemo.cli.common import counted, say
from privemo.cli.opening import Place, Protection, read_passphrase
from privemo.cli.registry import root_of_place
from privemo.errors import SettingsError

__all__ = [
    "OPTION",
    "TransferOption",
    "export_all",
    "import_all",
    "in_its_mode",
    "kind_of",
    "read_word",
]

VARIABLE = "PRIVEMO_TRANSFER_PASSPHRASE"
OPTION = "--transfer-passphrase-file"
TransferOption = Annotated[
    Path | None,
    typer.Option(
        OPTION,
        metavar="FILE",
        help=f"Holds the passphrase of the file of --all; or set {VARIABLE}.",
    ),
]
Mode = Literal["production", "simulation"]
Done = TypeVar("Done")

_CLOSED = (
    "This registry is closed: it decides and records nothing more. Read the file once, verify the new "
    "registry, then destroy this one with its keys, and the file."
)
_GOES_ON = (
    "This registry goes on, and people may withdraw in it: where the file is read, everyone is asked "
    "again. To move without asking, say --close."
)
_NOT_YET = (
    "The new registry has no witness and no mirror yet: see `privemo registry witness` and "
    "`privemo registry mirror`."
)
_UNPINNED = (
    "Whose file it is, it says alone: say --key to hold it to a key that you know from elsewhere."
)


def export_all(
    place: Place, file: Path, passphrase_file: Path | None, *, plain: bool, close: bool
) -> None:
    """Write the file of `--all`, and with ``close`` end the registry.

    Raises:
        SettingsError: a passphrase where none is used.
        ConsentError: as `write_transfer`.

    """
    from privemo_consent.copies.transfer import write_transfer

    if plain and passphrase_file is not None:
        raise SettingsError(f"--plain seals nothing: leave out {OPTION}")
    passphrase = None if plain else read_word(passphrase_file, new=True)
    with place.open(readonly=not close) as registry:
        made = write_transfer(registry, file, passphrase=passphrase, close=close)
    facts = {"out": str(made.path), "events": made.events, "uses": made.uses, "root": made.root}
    place.show(
        {**facts, "sealed": made.sealed, "closed": made.closed},
        f"{made.path}: {counted(made.events, 'event')}, {counted(made.uses, 'use')}, root {made.root}",
    )
    say(_CLOSED if made.closed else _GOES_ON)
    if plain:
        say("Whoever has this file has everything: destroy it once it was taken in.")


def read_word(file: Path | None, *, new: bool = False) -> bytes:
    """Return the passphrase of a transfer's file, from a file, the environment or the terminal."""
    return read_passphrase(
        file, variable=VARIABLE, option=OPTION, what="the transfer's file", new=new
    )


def kind_of(file: Path) -> Literal["answers", "plain", "sealed"]:
    """Tell a whole registry from answers, by its first line.

    Raises:
        SettingsError: it cannot be read.

    """
    try:
        with file.open("rb") as opened:
            first = opened.readline(1 << 16)
    except OSError as error:
        raise SettingsError(f"{file} cannot be read: {error.strerror}") from error
    if b'"privemo.transfer-sealed/' in first:
        return "sealed"
    return "plain" if b'"privemo.transfer/' in first else "answers"


def import_all(
    place: Place,
    file: Path,
    passphrase: bytes | None,
    protect: Protection | None,
    keys: list[str] | None,
) -> None:
    """Make a registry out of the file of `--all`, and tell what became of consents.

    Raises:
        ConsentError: as `read_transfer`.

    """
    from privemo_consent.copies.reading_transfer import read_transfer
    from privemo_consent.keys import VerifyingKey

    known = [VerifyingKey.parse(each) for each in keys] if keys else None
    root = root_of_place(place, protect)
    mode, done = in_its_mode(
        lambda mode: read_transfer(
            file,
            place.where,
            keys=place.folder,
            mode=mode,
            passphrase=passphrase,
            known=known,
            root=root,
        )
    )
    place.show(
        {
            "registry": place.shown,
            "keys": str(place.folder),
            "mode": mode,
            "events": done.events,
            "root": done.root,
            "uses": done.uses,
            "people": done.persons,
            "items": done.items,
            "origin": done.origin,
            "closed": done.closed,
            "suspended": done.suspended,
            "pinned": done.pinned,
        },
        f"{place.shown}: mode {mode}, {counted(done.events, 'event')}, {counted(done.uses, 'use')}, "
        f"{counted(done.persons, 'person')}, {counted(done.items, 'item')}",
        f"root as it came: {done.root}",
        "the registry it came from is closed: consents are live here"
        if done.closed
        else f"the registry it came from was not closed: {counted(done.suspended, 'consent')} "
        "suspended, ask these people again",
    )
    say(_NOT_YET)
    if not done.pinned:
        say(_UNPINNED)


def in_its_mode(act: Callable[[Mode], Done]) -> tuple[Mode, Done]:
    """Do something with a file in the mode that it says it is of; tell which that was.

    Nothing is written before the mode is held against the file's own word.
    """
    from privemo_consent import ModeMismatchError

    try:
        return "production", act("production")
    except ModeMismatchError:
        say("Of a simulation: nothing in it is anyone's consent.")
        return "simulation", act("simulation")
