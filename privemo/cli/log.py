"""`privemo log`: the signed log, shown, proved, exported and verified."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from privemo.cli.common import complain, counted, fact_lines, print_json, say
from privemo.cli.opening import Place, Protection, at_registry, root_for
from privemo.errors import SettingsError

if TYPE_CHECKING:
    from privemo_consent import ConsentRegistry
    from privemo_consent.checkpoint import Checkpoint

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="The signed log: shown, proved, exported, verified.")


@app.command()
@at_registry
def checkpoint(
    place: Place,
    uses: Annotated[bool, typer.Option("--uses", help="Of the log of uses.")] = False,
) -> None:
    """Sign what is not signed yet, and print the newest head of the log: a C2SP signed note."""
    from privemo_consent.checkpoint import Checkpoint

    with place.open() as registry:
        registry.sign_heads()
        note = registry.checkpoint(uses=uses)
    head = Checkpoint.parse(note.rpartition("\n\n")[0] + "\n")
    place.show({**_head(head), "note": note}, note.rstrip("\n"))


def _head(head: Checkpoint) -> dict[str, Any]:
    return {"origin": head.origin, "size": head.size, "root": head.root.hex()}


@app.command()
@at_registry
def prove(
    place: Place,
    seq: Annotated[int, typer.Argument(metavar="SEQ", help="Number of the entry, from 0.")],
) -> None:
    """Prove that an entry is in the log: as JSON, after the proof was verified."""
    from privemo_consent import merkle

    with _judged(place), place.open(readonly=True) as registry:
        note, head = _signed_head(registry)
        if not 0 <= seq < head.size:
            raise SettingsError(f"the log has no event {seq}: want 0 to {head.size - 1}")
        leaf = registry.leaf(seq)
        proof = registry.inclusion_proof(seq, head.size)
        value = merkle.leaf_hash(leaf)
        merkle.verify_inclusion(value, seq, head.size, proof, head.root)
    print_json(
        {
            "seq": seq,
            "leaf": leaf.decode(),
            "leaf_hash": value.hex(),
            **_head(head),
            "proof": [each.hex() for each in proof],
            "checkpoint": note,
            "verified": True,
        }
    )


def _signed_head(
    registry: ConsentRegistry, known: list[str] | None = None
) -> tuple[str, Checkpoint]:
    """The newest head, its signature checked: by the log's own keys, or by those one trusts."""
    from privemo_consent.checkpoint import open_checkpoint
    from privemo_consent.cosign import parse_key

    note = registry.checkpoint()
    ring = tuple(each.key for each in registry.ring.periods if each.revoked is None)
    trusted = ring if not known else tuple(parse_key(each) for each in known)
    head, _ = open_checkpoint(note, trusted, origin=registry.origin)
    return note, head


@app.command()
@at_registry
def verify(
    place: Place,
    target: Annotated[
        str | None,
        typer.Argument(metavar="[TARGET]", help="A registry, or the folder of an export."),
    ] = None,
    key: Annotated[
        list[str] | None,
        typer.Option(help="A public key you trust, from elsewhere; may be given several times."),
    ] = None,
) -> None:
    """Recompute everything. Exit code 1 when anything was changed, naming the entry."""
    place = Place(target or place.where, place.keys, place.passphrase_file, place.json)
    with _judged(place):
        if Path(place.where).is_dir():
            facts = _verify_export(place.where, key)
        else:
            facts = _verify_registry(place, key)
    place.show(facts, *fact_lines(facts))


def _verify_export(folder: str, known: list[str] | None) -> dict[str, Any]:
    from dataclasses import asdict

    from privemo_consent.cosign import parse_key
    from privemo_consent.logexport import verify_export

    found = verify_export(folder, known=[parse_key(each) for each in known] if known else None)
    if not found.pinned:
        say(
            "Shown to agree with itself. Whose it is, its own keys cannot tell: give --key with "
            "the key that the shop publishes."
        )
    return {"verified": True, **asdict(found)}


def _verify_registry(place: Place, known: list[str] | None) -> dict[str, Any]:
    with place.open(readonly=True) as registry:
        # An old copy verifies too: while its witness is away, nobody can say that this is none.
        registry.check_witnessed()
        found = registry.verify()
        _signed_head(registry, known)
        facts = {
            "verified": True,
            "registry_id": registry.registry_id,
            "mode": registry.mode,
            "events": found.events,
            "root": found.root,
            "uses": found.uses,
            "uses_root": found.uses_root,
            "signed": found.signed,
            "pinned": bool(known),
            "named": found.named,
        }
    if not found.named:
        say("Without its keys: whose the entries are, and what the vault holds, stays unchecked.")
    return facts


@contextmanager
def _judged(place: Place) -> Iterator[None]:
    """What is not as it was written is a verdict, exit code 1, and no mistake of the caller.

    A file that is no registry any more, and keys that are no keys any more, are verdicts too. What nobody may
    read is none: a script must be able to tell "no" from "could not look".
    """
    from privemo_consent import (
        ConsentError,
        KeyFileError,
        ProofError,
        RegistryUnreadableError,
        SignatureError,
        TamperedError,
    )

    try:
        yield
    except (TamperedError, ProofError, SignatureError) as error:
        entry = error.entry if isinstance(error, TamperedError) else "checkpoint"
        told: ConsentError = error
    except RegistryUnreadableError as error:
        if not Path(place.where).is_file():
            raise
        entry, told = "database file", error
    except KeyFileError as error:
        if isinstance(error.__cause__, PermissionError) or not _were_keys(place):
            raise
        entry, told = "key folder", error
    else:
        return
    if isinstance(told.__cause__, PermissionError):
        raise told
    if place.json:
        print_json({"verified": False, "entry": entry, "error": str(told)})
    sentence = str(told)
    complain(sentence if sentence.startswith(entry) else f"{entry}: {sentence}")
    raise typer.Exit(1)


def _were_keys(place: Place) -> bool:
    """Whether a key folder was changed: it is there, and does not open though it asks for nothing.

    A passphrase may be another one, and a keyring another user's. Whole keys that do not fit are
    another registry's, which is a mistake and no verdict.
    """
    from privemo_consent import KeyFileError

    if not place.folder.is_dir():
        return False
    try:
        root = root_for(place.folder, place.passphrase_file)
        if root is not None and root.kind != Protection.none:
            return False
        place.key_folder()
    except KeyFileError:
        return True
    return False


@app.command()
@at_registry
def export(
    place: Place,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that is not there yet.")],
) -> None:
    """Write the log as plain files that anyone verifies offline; no entry names a person."""
    with place.open() as registry:
        registry.sign_heads()
        done = registry.export_log(folder)
    facts = {"folder": str(folder), "events": done.events, "uses": done.uses}
    place.show(facts, f"{folder}: {counted(done.events, 'event')}, {counted(done.uses, 'use')}")
