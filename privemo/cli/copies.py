"""What leaves a registry as a file and what comes in: exports, imports, backups."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from privemo.cli.common import counted, print_json, read_input, write_new
from privemo.cli.held import app as consent_app
from privemo.cli.moving import (
    OPTION,
    TransferOption,
    export_all,
    import_all,
    in_its_mode,
    kind_of,
    read_word,
)
from privemo.cli.opening import Place, Protection, at_registry
from privemo.cli.people import PersonOption, person_of
from privemo.cli.registry import ProtectOption, at_place
from privemo.cli.registry import app as registry_app
from privemo.errors import SettingsError

if TYPE_CHECKING:
    from privemo_consent.keyfolder import KeyFolder
    from privemo_consent.reader import LogHead

__all__ = ["consent_app", "registry_app"]


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
    close: Annotated[
        bool,
        typer.Option(
            "--close", help="With --all: move. This registry decides and records nothing more."
        ),
    ] = False,
) -> None:
    """Everything held of a person; or the record of processing; or a whole registry."""
    if (person is not None) + processing + (all_ is not None) != 1:
        raise SettingsError("say one of --person ID, --processing and --all FILE")
    if close and all_ is None:
        raise SettingsError("--close ends a registry that moves: say --all FILE as well")
    if all_ is not None:
        if to is not None:
            raise SettingsError("--all names its file itself: leave out --out")
        export_all(place, all_, transfer_passphrase_file, plain=plain, close=close)
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


@consent_app.command(name="import")
@at_registry
def import_(
    place: Place,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Answers, or a whole registry.")],
    transfer_passphrase_file: TransferOption = None,
    protect: ProtectOption = None,
    key: Annotated[
        list[str] | None,
        typer.Option(
            help="A signing key of the registry that moves, as `keys list` shows it there: it must have "
            "signed the file. May be given several times."
        ),
    ] = None,
) -> None:
    """Take in a file of answers; or the file of `export --all`, into a registry that is not there yet."""
    kind = kind_of(file)
    if kind != "answers":
        word = read_word(transfer_passphrase_file) if kind == "sealed" else None
        import_all(place, file, word, protect, key)
        return
    if protect is not None or transfer_passphrase_file is not None or key:
        told = _no_transfer(protect, key)
        raise SettingsError(f"{file} is no file of `consent export --all`: {told}")
    from privemo_consent.intake import import_grants

    with place.open() as registry:
        done = import_grants(registry, file)
        mode = registry.mode
    refused = {reason.value: count for reason, count in done.refused.items() if count}
    place.show(
        {"mode": mode, "granted": done.granted, "events": done.events, "refused": refused},
        f"{counted(done.granted, 'person')}, {counted(done.events, 'event')}",
        *(f"not taken, {reason}: {count:,}" for reason, count in refused.items()),
    )


def _no_transfer(protect: Protection | None, keys: list[str] | None) -> str:
    return f"leave out {'--protect' if protect is not None else '--key' if keys else OPTION}"


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
        f"{made.path}: {counted(made.events, 'event')}, {counted(made.uses, 'use')}, root {made.root}",
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
    suspend: Annotated[
        bool,
        typer.Option(
            "--suspend", help="Ask everyone anew, whatever the witness says: it may have been away."
        ),
    ] = False,
) -> None:
    """Bring a backup back. Who was erased stays erased; what may have been withdrawn is asked anew."""
    from privemo_consent.copies.backup import restore as bring_back

    place = at_place(place, where)
    keys = _keys_of_backup(place)
    heads = dict(_signed_head(keys, file) for file in newest or ())
    mode, done = in_its_mode(
        lambda mode: bring_back(
            source,
            place.where,
            keys=keys,
            mode=mode,
            newest=heads.get("events"),
            newest_uses=heads.get("uses"),
            suspend=suspend,
        )
    )
    facts = {
        name: getattr(done, name)
        for name in ("events", "root", "uses", "whole", "origin", "suspended", "erased")
    }
    place.show(
        {"registry": place.shown, "mode": mode, **facts},
        f"{place.shown}: mode {mode}, {counted(done.events, 'event')}, {counted(done.uses, 'use')}",
        f"erased since the backup: {counted(done.erased, 'person')}",
        "nothing was lost"
        if done.whole
        else f"nobody knows what came after the backup: {done.suspended:,} consents are suspended, "
        "ask these people again",
    )


def _keys_of_backup(place: Place) -> KeyFolder:
    if place.keys is None and not place.folder.exists():
        raise SettingsError(
            "--keys is missing: a backup holds no keys; name the key folder of the registry that "
            "was backed up, or a mirror of it"
        )
    return place.key_folder()


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
