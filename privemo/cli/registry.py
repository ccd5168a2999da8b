"""`privemo registry`: make, keep, copy and bring back a registry."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from privemo.cli.common import counted, fact_lines, read_record, say, sure
from privemo.cli.opening import (
    Place,
    Protection,
    at_registry,
    read_passphrase,
    root_for,
)
from privemo.errors import SettingsError

if TYPE_CHECKING:
    from privemo_consent import ConsentRegistry
    from privemo_consent.keyfolder.roots import Root

__all__ = ["ProtectOption", "app", "at_place", "new_root", "root_of_place"]

app = typer.Typer(no_args_is_help=True, help="Make, keep, copy and bring back a registry.")


class ModeName(StrEnum):
    """Whether consent in a registry is real."""

    production = "production"
    simulation = "simulation"


ProtectOption = Annotated[
    Protection | None,
    typer.Option(help="What protects a new key folder beyond its permissions; none by default."),
]


@app.command()
@at_registry
def new(
    place: Place,
    where: Annotated[
        str | None,
        typer.Argument(metavar="[PLACE]", help="A new file, or the URL of an empty database."),
    ] = None,
    mode: Annotated[
        ModeName | None, typer.Option(help="Real consent, or simulated: for good.")
    ] = None,
    controller: Annotated[
        Path | None,
        typer.Option(help="JSON of who answers for it: id, name, address, contact."),
    ] = None,
    protect: ProtectOption = None,
    witness: Annotated[
        Path | None, typer.Option(help="A folder on another disk that remembers the log's heads.")
    ] = None,
) -> None:
    """Make a registry and its key folder."""
    from privemo_consent import ConsentRegistry, Party

    place = at_place(place, where)
    if mode is None or controller is None:
        raise SettingsError("--mode and --controller are both needed: neither has a default")
    party = read_record(controller, Party)
    root = root_of_place(place, protect)
    with ConsentRegistry.create(
        place.where, mode=mode.value, controller=party, keys=place.folder, root=root
    ) as registry:
        if witness is not None:
            _told(registry, witness)
        facts = _identity(registry)
    place.show(facts, *fact_lines(facts))
    if protect is None and root is None:
        say(
            "Its keys are as safe as their folder's permissions: keep them on another disk "
            "than the registry, or use --protect."
        )


def at_place(place: Place, where: str | None) -> Place:
    """The place that the argument names, or else the common option."""
    if where is None:
        return place
    return Place(where, place.keys, place.passphrase_file, place.json)


def root_of_place(place: Place, protect: Protection | None) -> Root | None:
    """The root of a key folder that is there, or of the one to make."""
    if place.folder.exists():
        if protect is not None:
            raise SettingsError(
                f"{place.folder} exists, and how it is protected stays: leave out --protect"
            )
        return root_for(place.folder, place.passphrase_file)
    return new_root(protect or Protection.none, place.passphrase_file)


def new_root(protect: Protection, passphrase_file: Path | None) -> Root | None:
    """What will protect a new key folder; None for its permissions alone.

    Raises:
        SettingsError: a passphrase is needed, and none can be had.

    """
    from privemo_consent.keyfolder.roots import root_of

    if protect is Protection.none:
        return None
    if protect is Protection.passphrase:
        return root_of(protect.value, passphrase=read_passphrase(passphrase_file, new=True))
    return root_of(protect.value)


def _told(registry: ConsentRegistry, witness: Path) -> None:
    from privemo_consent import ConsentError

    try:
        registry.set_witness(witness)
    except ConsentError as error:
        raise SettingsError(
            f"the registry was made, and has no witness yet: {error}; "
            "then run `privemo registry witness`"
        ) from error


def _identity(registry: ConsentRegistry) -> dict[str, Any]:
    keys = registry.keys
    return {
        "registry": registry.where,
        "mode": registry.mode,
        "registry_id": registry.registry_id,
        "controller": registry.controller.name,
        "keys": str(keys.path),
        "witness": None if keys.witness is None else str(keys.witness),
        "signing_keys": [str(key) for key in registry.ring.valid(registry.now())],
    }


@app.command()
@at_registry
def show(place: Place) -> None:
    """What a registry is: mode, sizes, keys, copies of keys, witness, erasures that are pending."""
    with place.open(readonly=True) as registry:
        facts = {**_identity(registry), "sizes": _sizes(place.where), **_key_facts(registry)}
    place.show(facts, *fact_lines({**facts, "sizes": _told_sizes(facts["sizes"])}))


def _told_sizes(sizes: dict[str, int]) -> str:
    nouns = {"people": "person", "people_erased": "person erased"}
    return ", ".join(
        counted(count, nouns.get(what, what.removesuffix("s"))) for what, count in sizes.items()
    )


def _key_facts(registry: ConsentRegistry) -> dict[str, Any]:
    from privemo_consent.keyfolder.files import FOLDER_FILE
    from privemo_consent.keyfolder.record import FolderRecord

    keys = registry.keys
    record = FolderRecord.decode((keys.path / FOLDER_FILE).read_bytes(), keys.path)
    return {
        "protection": record.root,
        "epochs": list(keys.epochs),
        "mirrors": [str(each) for each in keys.mirrors],
        "mirrors_behind": [str(each) for each in keys.behind],
        "erasures_pending": [str(each) for each in keys.pending],
    }


def _sizes(where: str) -> dict[str, int]:
    """How much is held, without opening any of it."""
    import sqlalchemy as sa

    from privemo_consent import schema
    from privemo_consent.storage import open_store

    wanted = {
        "people": sa.select(sa.func.count()).where(schema.persons.c.wrapped.is_not(None)),
        "people_erased": sa.select(sa.func.count()).where(
            schema.persons.c.pid.is_not(None), schema.persons.c.wrapped.is_(None)
        ),
        "notices": sa.select(sa.func.count()).select_from(schema.notices),
        "events": sa.select(sa.func.count()).select_from(schema.events),
        "uses": sa.select(sa.func.count()).select_from(schema.uses),
        "items": sa.select(sa.func.count()).select_from(schema.items),
    }
    store = open_store(where, readonly=True)
    try:
        with store.read() as connection:
            return {
                what: int(connection.execute(query).scalar_one()) for what, query in wanted.items()
            }
    finally:
        store.close()


@app.command()
@at_registry
def migrate(place: Place, protect: ProtectOption = None) -> None:
    """Bring a registry of an earlier version to this one; make its key folder if it has none."""
    from privemo_consent.upgrading import upgrade_registry

    root = root_of_place(place, protect)
    before, after = upgrade_registry(place.where, keys=place.folder, root=root)
    told = f"version {before} to {after}" if before != after else f"is of version {after} already"
    facts = {"from": before, "to": after, "keys": str(place.folder)}
    place.show(facts, f"{place.shown}: {told}")


@app.command()
@at_registry
def witness(
    place: Place,
    folder: Annotated[
        Path | None, typer.Argument(metavar="[DIR]", help="A folder on another disk.")
    ] = None,
    none: Annotated[bool, typer.Option("--none", help="Go on without a witness.")] = False,
) -> None:
    """Let a folder elsewhere remember how far the log had come, so that an old copy is told apart."""
    if (folder is None) != none:
        raise SettingsError("name the folder, or say --none to go on without a witness")
    with place.open() as registry:
        registry.set_witness(folder)
        now = registry.keys.witness
    place.show(
        {"witness": None if now is None else str(now)},
        "no witness any more" if now is None else f"witness: {now}",
    )


@app.command()
@at_registry
def mirror(
    place: Place,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder on another disk.")],
    remove: Annotated[
        bool, typer.Option("--remove", help="Destroy the copy there and strike it off.")
    ] = False,
    lost: Annotated[
        bool,
        typer.Option("--lost", help="With --remove: strike it off, though nobody destroyed it."),
    ] = False,
    promote: Annotated[
        bool,
        typer.Option("--promote", help="DIR is a mirror whose original is lost: make it the one."),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Keep a copy of the key folder elsewhere; erasing a person reaches it too."""
    if lost and not remove:
        raise SettingsError("--lost goes with --remove")
    if promote:
        _promote(place, folder, yes or remove)
        return
    if lost:
        sure(
            "Whoever finds a lost mirror can open, from old copies of the registry, what is "
            "erased from now on. Rotate the keys after this. Strike it off?",
            yes,
        )
    with place.open() as registry:
        if remove:
            registry.keys.remove_mirror(folder, lost=lost)
        else:
            registry.keys.add_mirror(folder)
        found = [str(each) for each in registry.keys.mirrors]
    place.show({"mirrors": found}, *(f"mirror: {each}" for each in found or ["none"]))


def _promote(place: Place, folder: Path, yes: bool) -> None:
    sure(
        "Two key folders that both go on would each miss what the other destroys. Is the original "
        "lost for good?",
        yes,
    )
    keys = Place(place.where, folder, place.passphrase_file, place.json).key_folder()
    keys.promote()
    place.show({"keys": str(folder)}, f"keys: {folder}; name it with --keys from now on")
