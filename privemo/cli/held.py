"""The half of `privemo consent` about what is held: shown, handed over, falling due, erased."""

from __future__ import annotations

from collections import Counter
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from privemo.cli.common import counted, say, sure, write_new
from privemo.cli.consent import app
from privemo.cli.opening import Place, at_registry
from privemo.cli.people import (
    PeopleOption,
    PersonOption,
    lines_named,
    moment,
    people_of,
    person_of,
)
from privemo.errors import SettingsError
from privemo_consent.terms import AgeBand, Setting

if TYPE_CHECKING:
    from privemo_consent import ConsentEvent, ConsentRegistry, Use
    from privemo_consent.erasing import Erased
    from privemo_consent.holdings import Destroyed, Overdue

__all__ = ["app"]

YesOption = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


class CauseName(StrEnum):
    """Why someone is erased."""

    request = "request"
    retention = "retention"
    controller = "controller"


@app.command()
@at_registry
def show(place: Place, person: PersonOption = None) -> None:
    """What a person agreed to, now and before, and how much is held of them."""
    from privemo_consent import UnknownPersonError
    from privemo_consent.holdings import predictions_of
    from privemo_consent.items import ItemKind
    from privemo_consent.vault import Vault

    who = person_of(person)
    with place.open(readonly=True) as registry:
        history = registry.history(who)
        if not history:
            raise UnknownPersonError("no record under this person id: check the id")
        vault = Vault(registry)
        facts: dict[str, Any] = {
            "person": who,
            "mode": registry.mode,
            "consents": [_consent(registry, event) for event in _last(history)],
            "items": {kind.value: len(vault.of_person(who, kind=kind)) for kind in ItemKind},
            "predictions": len(predictions_of(registry, who)),
            "history": [event.model_dump(mode="json") for event in history],
        }
    place.show(
        facts,
        *(f"{each['purpose']}: {each['status']}, {_standing(each)}" for each in facts["consents"]),
        *(f"held: {count} of kind {kind}" for kind, count in facts["items"].items() if count),
        *([f"held: {facts['predictions']} of kind prediction"] if facts["predictions"] else []),
        *(
            f"{event.at:%Y-%m-%d %H:%M} {event.purpose.value}: {event.status.value} "
            f"(event {event.seq}, notice {event.notice[:12]})"
            for event in history
        ),
    )


def _last(history: tuple[ConsentEvent, ...]) -> list[ConsentEvent]:
    return sorted({event.purpose: event for event in history}.values(), key=lambda e: e.purpose)


#: Who asks is no matter here, only what is recorded: any adult's answer in a shop.
_ADULT = AgeBand.FROM_25


def _consent(registry: ConsentRegistry, event: ConsentEvent) -> dict[str, Any]:
    """One purpose as a decision for an adult in a shop would see it."""
    from privemo_consent import Context

    context = Context(setting=Setting.RETAIL, jurisdiction=event.jurisdiction)
    found = registry.preview(event.person, event.purpose, context, attested_age_band=_ADULT)
    return {
        "purpose": event.purpose.value,
        "status": event.status.value,
        "live": found.permit,
        "reason": found.reason.value,
        "since": event.at.isoformat(),
        "until": None if event.expires is None else event.expires.isoformat(),
        "notice": event.notice,
    }


def _standing(consent: dict[str, Any]) -> str:
    if not consent["live"]:
        return f"not live: {consent['reason']}"
    return f"live until {consent['until'][:10]}"


@app.command()
@at_registry
def receipt(
    place: Place,
    person: PersonOption = None,
    to: Annotated[
        Path | None, typer.Option("--out", help="Where to write the token; printed otherwise.")
    ] = None,
    svg: Annotated[Path | None, typer.Option(help="Write its QR code as SVG.")] = None,
    png: Annotated[Path | None, typer.Option(help="Write its QR code as PNG.")] = None,
) -> None:
    """The receipt a person takes home: a signed token that anyone verifies offline."""
    who = person_of(person)
    for path in (to, svg, png):
        if path is not None and path.exists():
            raise SettingsError(f"{path} exists: choose another place")
    with place.open(readonly=True) as registry:
        token = registry.receipt(who)
    if to is not None:
        write_new(to, token.encode() + b"\n")
    if svg is not None:
        from privemo_consent.qr import qr_svg

        write_new(svg, qr_svg(token).encode())
    if png is not None:
        _write_png(token, png)
    written = [str(path) for path in (to, svg, png) if path is not None]
    say("A receipt is a personal document: hand it to the person and keep no copy.")
    place.show({"receipt": token, "files": written}, *(written if to else (token, *written)))


def _write_png(token: str, path: Path) -> None:
    from privemo_consent.qr import qr_png

    try:
        qr_png(token, path)
    except OSError as error:
        raise SettingsError(f"{path} cannot be written: {error.strerror}") from error


@app.command()
@at_registry
def uses(place: Place, person: PersonOption = None) -> None:
    """Which batches were used, and how decisions were answered; all, or those of one person."""
    who = None if person is None else person_of(person)
    with place.open(readonly=True) as registry:
        if who is not None:
            _known(registry, who)
        batches = [_use(use) for use in registry.uses() if who is None or who in use.persons]
        answers = Counter(
            (each.purpose.value, each.reason.value)
            for each in registry.decisions()
            if who is None or each.person == who
        )
    decisions = [
        {"purpose": purpose, "reason": reason, "count": count}
        for (purpose, reason), count in sorted(answers.items())
    ]
    place.show(
        {"uses": batches, "decisions": decisions},
        *(
            f"{each['at']} {each['purpose']}: run {each['run']}, round {each['round']}, "
            f"{each['store']}, batch {each['batch']}, {counted(each['people'], 'person')}"
            for each in batches
        ),
        *(
            f"decided {counted(count, 'time')} for {purpose}: {reason}"
            for (purpose, reason), count in sorted(answers.items())
        ),
        *(() if batches or decisions else ("no use and no decision",)),
    )


def _known(registry: ConsentRegistry, person: str) -> None:
    from privemo_consent import UnknownPersonError

    if not registry.history(person):
        raise UnknownPersonError("no record under this person id: check the id")


def _use(use: Use) -> dict[str, Any]:
    return {
        "seq": use.seq,
        "at": use.at.isoformat(),
        "purpose": use.purpose.value,
        "run": use.run,
        "round": use.round,
        "store": use.store,
        "batch": use.batch,
        "people": len(use.persons),
        "log_seq": use.log_seq,
    }


# -- erasing ---------------------------------------------------------------------------------------


@app.command()
@at_registry
def erase(
    place: Place,
    person: PersonOption = None,
    people: PeopleOption = None,
    cause: Annotated[CauseName, typer.Option(help="Why.")] = CauseName.request,
    yes: YesOption = False,
) -> None:
    """Destroy a person's key and data, in backups too. Exit code 1 while some place is out of reach."""
    who = people_of(person, people)
    sure(f"Nobody can undo this. Erase {_people(len(who))} and all that is held of them?", yes)
    with place.open() as registry, lines_named(registry, people):
        done = registry.erase_many(who, cause=cause.value)
    _erased(place, done)


def _people(count: int) -> str:
    return "this person" if count == 1 else counted(count, "person")


def _erased(place: Place, done: Erased | Destroyed) -> None:
    place.show(
        {"people": done.people, "items": done.items, "pending": list(done.pending)},
        f"erased: {counted(done.people, 'person')}, {counted(done.items, 'item')}",
        *(f"pending: {each}" for each in done.pending),
    )
    if done.pending:
        raise typer.Exit(1)


def _due(registry: ConsentRegistry, at: str | None, destroy: bool) -> tuple[Overdue, ...] | None:
    """What is due; None where a table hides of whom, and the rest is to be destroyed all the same."""
    from privemo_consent import RegistryUnreadableError

    try:
        return registry.overdue(moment(at))
    except RegistryUnreadableError:
        if not destroy:
            raise
        return None


@app.command()
@at_registry
def overdue(
    place: Place,
    at: Annotated[
        str | None, typer.Option(metavar="TIME", help="As of then; now by default.")
    ] = None,
    destroy: Annotated[bool, typer.Option("--destroy", help="Destroy it now.")] = False,
    yes: YesOption = False,
) -> None:
    """What should be gone, of whom, and by which rule; or let it go."""
    if destroy and at is not None:
        raise SettingsError("--destroy goes by the clock: leave out --at")
    with place.open(readonly=not destroy) as registry:
        found = _due(registry, at, destroy)
        if destroy or found is None:
            whose = "" if found is None else f" of {_people(len({each.person for each in found}))}"
            sure(f"Nobody can undo this. Destroy what is due{whose}?", yes or found == ())
            # Asked again by the registry: someone may have renewed while the question stood.
            done = registry.destroy_overdue()
    if found is None or destroy:
        _erased(place, done)
        return
    place.show(
        [
            {
                "person": each.person,
                "what": each.what.value,
                "since": each.since.isoformat(),
                "rule": each.rule.value,
            }
            for each in found
        ],
        *(
            f"{each.person}: {each.what.value}, since {each.since:%Y-%m-%d}, {each.rule.value}"
            for each in found
        ),
        *(() if found else ("nobody",)),
    )
