"""`privemo keys`: the keys that sign the log, and the keys that hold people's data."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from privemo.cli.common import print_json, print_lines, sure
from privemo.cli.opening import PassphraseOption, Place, Protection, at_registry
from privemo.errors import SettingsError

if TYPE_CHECKING:
    from privemo_consent.keys import KeyPeriod

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="The keys of a registry: made, changed, ended.")


class WhichKeys(StrEnum):
    """Two kinds of keys."""

    signing = "signing"
    persons = "persons"


YesOption = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


@app.command()
def new(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that is not there yet.")],
    protect: Annotated[
        Protection, typer.Option(help="What protects it beyond its permissions.")
    ] = Protection.none,
    passphrase_file: PassphraseOption = None,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Make a key folder for a registry that `registry new` or `registry migrate` then makes."""
    from privemo.cli.registry import new_root
    from privemo_consent.keyfolder import KeyFolder

    made = KeyFolder.create(folder, root=new_root(protect, passphrase_file))
    facts = {"keys": str(made.path), "folder_id": made.folder_id, "protection": protect.value}
    if json_:
        print_json(facts)
    else:
        print_lines(f"{made.path}: protected by {_by(protect)}")


def _by(protect: Protection) -> str:
    return "its permissions alone" if protect is Protection.none else f"a {protect.value}"


@app.command(name="list")
@at_registry
def list_(place: Place) -> None:
    """The keys of a registry and when each may sign. Publish those in use: receipts need them."""
    with place.open(readonly=True) as registry:
        held = set(registry.keys.signers)
        signing = [
            {**_period(each), "held": each.key.key_id in held} for each in registry.ring.periods
        ]
        epoch, epochs = registry.keys.epoch, list(registry.keys.epochs)
    place.show(
        {"signing": signing, "persons": {"epoch": epoch, "epochs": epochs}},
        *(
            f"{each['key_id']}: {_state(each)}; {each['public']}{'' if each['held'] else '; destroyed'}"
            for each in signing
        ),
        f"keys of persons: epoch {epoch}, of {_listed(epochs)}",
    )


def _period(period: KeyPeriod) -> dict[str, Any]:
    moments = {
        name: None if moment is None else moment.isoformat()
        for name, moment in (
            ("begins", period.begins),
            ("ends", period.ends),
            ("revoked", period.revoked),
        )
    }
    return {"key_id": period.key.key_id.hex(), "public": str(period.key), **moments}


def _state(key: dict[str, Any]) -> str:
    if key["revoked"]:
        return f"revoked {key['revoked']}"
    if key["ends"]:
        return f"from {key['begins']} to {key['ends']}"
    return f"in use since {key['begins']}"


@app.command()
@at_registry
def rotate(
    place: Place,
    what: Annotated[
        WhichKeys | None, typer.Option(help="Keys that sign the log, or that hold people's data.")
    ] = None,
    overlap_days: Annotated[
        float, typer.Option(help="How long an old signing key goes on beside the new one.")
    ] = 7.0,
) -> None:
    """Begin a new signing key, or wrap everyone's key anew; no face is decrypted."""
    if what is None:
        raise SettingsError("--what is missing: signing or persons")
    with place.open() as registry:
        if what is WhichKeys.persons:
            epoch = registry.rotate_person_keys()
            place.show({"epoch": epoch}, f"keys of persons: epoch {epoch}")
            return
        key = registry.rotate_signing_key(overlap=_days(overlap_days))
    place.show(
        {"key_id": key.key_id.hex(), "public": str(key)}, f"in use: {key}", "publish this key"
    )


def _days(count: float) -> timedelta:
    try:
        return timedelta(days=count)
    except (OverflowError, ValueError):
        raise SettingsError("--overlap-days: want a number of days") from None


@app.command()
@at_registry
def revoke(
    place: Place,
    key_id: Annotated[str, typer.Argument(metavar="KEYID", help="Eight digits: see `keys list`.")],
    yes: YesOption = False,
) -> None:
    """End all trust in a signing key at once: whatever it signed, at any time, counts no more."""
    sure(f"Receipts that {key_id} signed will not verify any more. Revoke it?", yes)
    with place.open() as registry:
        registry.revoke_signing_key(key_id.lower())
        new_keys = [str(key) for key in registry.ring.valid(registry.now())]
    place.show(
        {"revoked": key_id.lower(), "signing": new_keys},
        f"revoked: {key_id.lower()}",
        *(f"in use: {key}" for key in new_keys),
    )


def _listed(epochs: Iterable[int]) -> str:
    return ", ".join(map(str, epochs))


@app.command()
@at_registry
def forget(
    place: Place,
    epoch: Annotated[int, typer.Argument(metavar="EPOCH", help="See `keys list`.")],
    yes: YesOption = False,
) -> None:
    """Destroy the keys of persons of an earlier epoch."""
    sure(f"Backups made under epoch {epoch} cannot be restored any more. Destroy its keys?", yes)
    with place.open() as registry:
        held = registry.keys.epochs
        if epoch == registry.keys.epoch:
            raise SettingsError(
                f"epoch {epoch} is in use: begin another with `privemo keys rotate --what persons`"
            )
        if epoch not in held:
            raise SettingsError(f"there is no epoch {epoch}: want one of {_listed(held)}")
        registry.forget_person_keys(epoch)
        epochs = list(registry.keys.epochs)
    place.show({"forgotten": epoch, "epochs": epochs}, f"forgotten: epoch {epoch}")
