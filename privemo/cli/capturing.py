"""`privemo capture`: a real store's vault is filled with faces of people who agreed."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from privemo.cli.common import print_json, print_lines, read_input, say
from privemo.cli.opening import PassphraseOption, unlock
from privemo.cli.options import JsonOption
from privemo.errors import SettingsError
from privemo_consent.terms import AgeBand

if TYPE_CHECKING:
    from privemo.booth import Captured
    from privemo.recognizer import Region

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Faces of people who agreed, into a store's vault.")


class PartName(StrEnum):
    """What faces are captured for."""

    train = "train"
    test = "test"


StoreArgument = Annotated[
    Path, typer.Argument(metavar="STORE", help="Folder of a store that joined a federation.")
]
PartOption = Annotated[
    PartName, typer.Option(help="For training, or for measuring; a person is in one of them.")
]


@app.command()
def sitting(
    store: StoreArgument,
    receipt: Annotated[
        str,
        typer.Option(
            metavar="FILE",
            help="Holds the receipt, its code or the scan of its QR code; - for standard input.",
        ),
    ],
    label: Annotated[str, typer.Option(help="What the person was asked to show, as happy.")],
    age_band: Annotated[AgeBand, typer.Option(help="What the person says of their age now.")],
    source: Annotated[
        str, typer.Option(help="Number of a camera, a video, or a folder of pictures.")
    ] = "0",
    part: PartOption = PartName.train,
    faces: Annotated[int, typer.Option(help="Most faces taken.")] = 4,
    channels: Annotated[int, typer.Option(help="Of the pictures: 1 gray, 3 colour.")] = 1,
    region: Annotated[
        str | None,
        typer.Option(
            metavar="LEFT,TOP,WIDTH,HEIGHT", help="Where the person sits, in pixels of the picture."
        ),
    ] = None,
    said: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="What the person says of themselves, for measuring; several times.",
        ),
    ] = None,
    passphrase_file: PassphraseOption = None,
    json_: JsonOption = False,
) -> None:
    """Photograph one person who presents a receipt and sits before the camera alone."""
    from privemo.booth import Booth
    from privemo.pictures import frames

    answers = dict(_answer(each) for each in said or ())
    where = None if region is None else _region(region)
    unlock(store / "consent.sqlite", passphrase_file)
    presented = _presented(receipt)
    with Booth(store) as booth:
        person = booth.holder(presented)
        camera = frames(int(source) if source.isdecimal() else source, per_second=2)
        done = booth.sit(
            person,
            camera,
            label=label,
            part=part.value,
            age_band=age_band,
            most=faces,
            channels=channels,
            region=where,
            said=answers,
        )
    _tell(done, json_)


def _answer(given: str) -> tuple[str, str]:
    name, equals, value = given.partition("=")
    if not (name and equals and value):
        raise SettingsError(f"--said: got {given!r}: give it as NAME=VALUE")
    return name, value


def _region(given: str) -> Region:
    from privemo.recognizer import Region

    try:
        left, top, width, height = map(int, given.split(","))
    except ValueError:
        raise SettingsError(f"--region: got {given}: give it as LEFT,TOP,WIDTH,HEIGHT") from None
    return Region(left, top, width, height)


def _presented(file: str) -> str:
    """A receipt from a file or a scanner that types; never an argument, which others can list."""
    if file == "-":
        return sys.stdin.readline()
    return read_input(Path(file)).decode("ascii", "replace")


@app.command()
def table(
    store: StoreArgument,
    data: Annotated[Path, typer.Option(help="Faces: npz or csv, with identity and est_age.")],
    part: PartOption = PartName.train,
    passphrase_file: PassphraseOption = None,
    json_: JsonOption = False,
) -> None:
    """Take in a table that the store's own program made, of people of its registry."""
    from privemo.booth import Booth
    from privemo.faces import load_faces

    unlock(store / "consent.sqlite", passphrase_file)
    with Booth(store) as booth:
        done = booth.take(load_faces(data), part.value)
    _tell(done, json_)
    say(f"{data} still holds these faces in the clear: delete it.")


def _tell(done: Captured, json_: bool) -> None:
    facts = {
        "kept": done.kept,
        "turned_away": dict(done.turned_away),
        "noted": done.noted,
        "unusable": dict(done.unusable),
        "refused": None if done.refused is None else done.refused.value,
    }
    if json_:
        print_json(facts)
    elif done.refused is not None:
        print_lines(f"refused: {done.refused.value}; the camera was not opened")
    else:
        print_lines(
            f"kept: {done.kept}",
            *(f"turned away, {reason}: {count}" for reason, count in done.turned_away.items()),
            *([f"turned away, noted with their record: {done.noted}"] if done.noted else []),
            *(f"pictures of no use, {what}: {count}" for what, count in done.unusable.items()),
        )
    if not done.kept:
        raise typer.Exit(1)
