"""What leaves a registry as a file and what comes in: exports, imports, backups."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar

import typer

from privemo.cli.common import print_json, read_input, say, write_new
from privemo.cli.held import app as consent_app
from privemo.cli.opening import Place, Protection, at_registry, read_passphrase
from privemo.cli.people import PersonOption, person_of
from privemo.cli.registry import ProtectOption, at_place, root_of_place
from privemo.cli.registry import app as registry_app
from privemo.errors import SettingsError

if TYPE_CHECKING:
    from privemo_consent.keyfolder import KeyFolder
    from privemo_consent.reader import LogHead

__all__ = ["consent_app", "registry_app"]

_VARIABLE = "PRIVEMO_TRANSFER_PASSPHRASE"
_OPTION = "--transfer-passphrase-file"
TransferOption = Annotated[
    Path | None,
    typer.Option(
        _OPTION,
        metavar="FILE",
        help=f"Holds the passphrase of the file of --all; or set {_VARIABLE}.",
    ),
]
Done = TypeVar("Done")


# -- privemo consent ---------------------------------------------------------------------------------


@consent_app.command()
@at_registry
def export(
    place: Place,
    person: PersonOption = None,
    processing: Annotated[
        bool, typer.Option("--processing", help="The record of processing (GDPR 30).")
    ] = False,
    all_: Annotated[
        Path | None,
        typer.Option("--all", metavar="FILE", help="Everything, to move it into a new registry."),
    ] = None,
    to: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Where to write it.")
    ] = None,
    transfer_passphrase_file: TransferOption = None,
    plain: Annotated[
        bool, typer.Option("--plain", help="With --all: do not seal the file with a passphrase.")
    ] = False,
) -> None:
    """Everything held of a person; or the record of processing; or a whole registry."""
    if (person is not None) + processing + (all_ is not None) != 1:
        raise SettingsError("say one of --person ID, --processing and --all FILE")
    if all_ is not None:
        if to is not None:
            raise SettingsError("--all names its file itself: leave out --out")
        _export_all(place, all_, transfer_passphrase_file, plain)
        return
    with place.open(readonly=True) as registry:
        content = (
            registry.processing_record() if person is None else registry.export(person_of(person))
        )
    if to is None:
        print_json(content)
        return
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    write_new(to, text.encode() + b"\n")
    place.show({"out": str(to)}, str(to))


def _export_all(place: Place, file: Path, passphrase_file: Path | None, plain: bool) -> None:
    from privemo_consent.copies.transfer import write_transfer

    if plain and passphrase_file is not None:
        raise SettingsError(f"--plain seals nothing: leave out {_OPTION}")
    passphrase = None if plain else _passphrase(passphrase_file, new=True)
    with place.open(readonly=True) as registry:
        made = write_transfer(registry, file, passphrase=passphrase)
    facts = {"out": str(made.path), "events": made.events, "uses": made.uses, "root": made.root}
    place.show(
        {**facts, "sealed": made.sealed},
        f"{made.path}: {made.events:,} events, {made.uses:,} uses, root {made.root}",
    )
    if plain:
        say("Whoever has this file has everything: destroy it once it was taken in.")


def _passphrase(file: Path | None, *, new: bool = False) -> bytes:
    return read_passphrase(
        file, variable=_VARIABLE, option=_OPTION, what="the transfer's file", new=new
    )


@consent_app.command(name="import")
@at_registry
def import_(
    place: Place,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Answers, or a whole registry.")],
    transfer_passphrase_file: TransferOption = None,
    protect: ProtectOption = None,
) -> None:
    """Take in a file of answers; or the file of `export --all`, into a registry that is not there yet."""
    kind = _kind_of(file)
    if kind != "answers":
        sealed = kind == "sealed"
        _import_all(place, file, _passphrase(transfer_passphrase_file) if sealed else None, protect)
        return
    if protect is not None or transfer_passphrase_file is not None:
        raise SettingsError(f"{file} is no file of `consent export --all`: {_no_transfer(protect)}")
    from privemo_consent.intake import import_grants

    with place.open() as registry:
        done = import_grants(registry, file)
        mode = registry.mode
    refused = {reason.value: count for reason, count in done.refused.items() if count}
    place.show(
        {"mode": mode, "granted": done.granted, "events": done.events, "refused": refused},
        f"{done.granted:,} people, {done.events:,} events",
        *(f"not taken, {reason}: {count:,}" for reason, count in refused.items()),
    )


def _no_transfer(protect: Protection | None) -> str:
    return f"leave out {'--protect' if protect is not None else _OPTION}"


def _kind_of(file: Path) -> Literal["answers", "plain", "sealed"]:
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


def _import_all(
    place: Place, file: Path, passphrase: bytes | None, protect: Protection | None
) -> None:
    from privemo_consent.copies.reading_transfer import read_transfer

    root = root_of_place(place, protect)
    mode, done = _in_its_mode(
        lambda mode: read_transfer(
            file, place.where, keys=place.folder, mode=mode, passphrase=passphrase, root=root
        )
    )
    place.show(
        {
            "registry": place.where,
            "keys": str(place.folder),
            "mode": mode,
            "events": done.events,
            "root": done.root,
            "uses": done.uses,
            "people": done.persons,
            "items": done.items,
            "origin": done.origin,
        },
        f"{place.where}: mode {mode}, {done.events:,} events, {done.uses:,} uses, "
        f"{done.persons:,} people, {done.items:,} items",
        f"root as it came: {done.root}",
    )


Mode = Literal["production", "simulation"]


def _in_its_mode(act: Callable[[Mode], Done]) -> tuple[Mode, Done]:
    """Do something with a file in the mode that it says it is of; tell which that was.

    Nothing is written before the mode is held against the file's own word.
    """
    from privemo_consent import ModeMismatchError

    try:
        return "production", act("production")
    except ModeMismatchError:
        say("Of a simulation: nothing in it is anyone's consent.")
        return "simulation", act("simulation")


# -- privemo registry --------------------------------------------------------------------------------


@registry_app.command()
@at_registry
def backup(
    place: Place,
    to: Annotated[Path, typer.Argument(metavar="FILE", help="A file that is not there yet.")],
) -> None:
    """Write one consistent copy, without keys: whoever is erased is erased from it too."""
    with place.open(readonly=True) as registry:
        made = registry.backup(to)
    place.show(
        {
            "backup": str(made.path),
            "events": made.events,
            "uses": made.uses,
            "root": made.root,
            "checkpoint": made.checkpoint,
        },
        f"{made.path}: {made.events:,} events, {made.uses:,} uses, root {made.root}",
    )


@registry_app.command()
@at_registry
def restore(
    place: Place,
    source: Annotated[Path, typer.Argument(metavar="FROM", help="A backup.")],
    where: Annotated[
        str | None, typer.Argument(metavar="[PLACE]", help="Where nothing is yet.")
    ] = None,
    newest: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="The newest signed head, as `log checkpoint` printed it; and that of --uses.",
        ),
    ] = None,
) -> None:
    """Bring a backup back. Who was erased stays erased; what may have been withdrawn is asked anew."""
    from privemo_consent.copies.backup import restore as bring_back

    place = at_place(place, where)
    keys = place.key_folder()
    heads = dict(_signed_head(keys, file) for file in newest or ())
    mode, done = _in_its_mode(
        lambda mode: bring_back(
            source,
            place.where,
            keys=keys,
            mode=mode,
            newest=heads.get("events"),
            newest_uses=heads.get("uses"),
        )
    )
    facts = {
        name: getattr(done, name)
        for name in ("events", "root", "uses", "whole", "origin", "suspended", "erased")
    }
    place.show(
        {"registry": place.where, "mode": mode, **facts},
        f"{place.where}: mode {mode}, {done.events:,} events, {done.uses:,} uses",
        f"erased since the backup: {done.erased:,} people",
        "nothing was lost"
        if done.whole
        else f"nobody knows what came after the backup: {done.suspended:,} consents are suspended, "
        "ask these people again",
    )


def _signed_head(keys: KeyFolder, file: Path) -> tuple[str, LogHead]:
    """The head in a file, once a key of this registry has vouched for it; and of which log it is.

    Raises:
        SignatureError, MalformedError: no head, or signed by another registry.

    """
    from privemo_consent import LogHead, MalformedError
    from privemo_consent.checkpoint import open_checkpoint, uses_origin

    note = read_input(file)
    known = [keys.signer(key_id).verifying for key_id in keys.signers]
    origin = note.partition(b"\n")[0].decode(errors="replace")
    logs = {key.name: "events" for key in known} | {uses_origin(key.name): "uses" for key in known}
    if origin not in logs:
        raise MalformedError(f"{file} is no signed head of this registry's logs")
    head, _ = open_checkpoint(note, known, origin=origin)
    return logs[origin], LogHead(head.size, head.root.hex())
