"""`privemo consent`: the answers people give, and whether someone may be used."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from privemo.cli.common import counted, say, sure
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
from privemo_consent.terms import AgeBand, Purpose, Role, Setting

if TYPE_CHECKING:
    from privemo_consent import ConsentEvent, ConsentRegistry

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="What people agreed to, and what is held of them.")

PurposeOption = Annotated[
    list[Purpose] | None, typer.Option(help="May be given several times; all by default.")
]
NoticeOption = Annotated[
    str | None,
    typer.Option(
        help="The notice shown: its hash or its id; may be left out where one is in force."
    ),
]
AtOption = Annotated[
    str | None, typer.Option(metavar="TIME", help="As 2026-01-31T09:30:00+00:00; now by default.")
]
DaysOption = Annotated[int, typer.Option(help="The term of the consent.")]


def _valid(days: int) -> timedelta:
    from privemo_consent.policy import MAX_VALIDITY

    if not 0 < days <= MAX_VALIDITY.days:
        raise SettingsError(
            f"--valid-days {days}: want 1 to {MAX_VALIDITY.days} days, for an endless consent is none"
        )
    return timedelta(days=days)


def _written(place: Place, registry: ConsentRegistry, events: Sequence[ConsentEvent]) -> None:
    facts: dict[str, Any] = {
        "mode": registry.mode,
        "events": [event.model_dump(mode="json") for event in events],
        "log": registry.head().seq,
    }
    place.show(facts, *(_line(event) for event in events) if events else ("nothing changed",))


def _line(event: ConsentEvent) -> str:
    term = "" if event.expires is None else f" until {event.expires:%Y-%m-%d}"
    return f"{event.purpose.value}: {event.status.value}{term} (event {event.seq})"


# -- answers ---------------------------------------------------------------------------------------


@app.command()
@at_registry
def grant(
    place: Place,
    person: PersonOption = None,
    purpose: Annotated[
        list[Purpose] | None, typer.Option(help="Each is agreed to alone; several times.")
    ] = None,
    age_band: Annotated[AgeBand | None, typer.Option(help="What the person stated.")] = None,
    jurisdiction: Annotated[str | None, typer.Option(help="ISO 3166, as IE or US-IL.")] = None,
    notice: NoticeOption = None,
    valid_days: DaysOption = 365,
    role: Annotated[Role, typer.Option(help="Only shoppers are ever read.")] = Role.SHOPPER,
    at: AtOption = None,
) -> None:
    """Record a person's explicit yes."""
    from privemo.cli.notice import find_notice

    who = person_of(person)
    if not purpose or age_band is None or jurisdiction is None:
        raise SettingsError("--purpose, --age-band and --jurisdiction are needed")
    with place.open() as registry:
        events = registry.grant(
            who,
            purpose,
            age_band=age_band,
            jurisdiction=jurisdiction,
            notice=find_notice(registry, notice),
            valid_for=_valid(valid_days),
            role=role,
            at=moment(at),
        )
        _written(place, registry, events)


@app.command()
@at_registry
def renew(
    place: Place,
    person: PersonOption = None,
    purpose: PurposeOption = None,
    notice: NoticeOption = None,
    valid_days: DaysOption = 365,
    at: AtOption = None,
) -> None:
    """Record that a person agrees again, to the notice in force."""
    from privemo.cli.notice import find_notice

    who = person_of(person)
    with place.open() as registry:
        shown = None if notice is None else find_notice(registry, notice)
        events = registry.renew(
            who, purpose or None, notice=shown, valid_for=_valid(valid_days), at=moment(at)
        )
        _written(place, registry, events)


@app.command()
@at_registry
def refuse(
    place: Place,
    person: PersonOption = None,
    purpose: PurposeOption = None,
    age_band: Annotated[
        AgeBand | None, typer.Option(help="What the person stated; needed for a first record.")
    ] = None,
    jurisdiction: Annotated[
        str | None, typer.Option(help="ISO 3166; needed for a first record.")
    ] = None,
    notice: NoticeOption = None,
    role: Annotated[Role | None, typer.Option(help="Unchanged by default.")] = None,
    at: AtOption = None,
) -> None:
    """Record a person's no; where consent was live, it is withdrawn."""
    from privemo.cli.notice import find_notice

    who = person_of(person)
    with place.open() as registry:
        first = notice is not None or age_band is not None
        events = registry.refuse(
            who,
            purpose or None,
            age_band=age_band,
            jurisdiction=jurisdiction,
            notice=find_notice(registry, notice) if first else None,
            role=role,
            at=moment(at),
        )
        _written(place, registry, events)


@app.command()
@at_registry
def withdraw(
    place: Place,
    person: PersonOption = None,
    people: PeopleOption = None,
    purpose: PurposeOption = None,
    at: AtOption = None,
) -> None:
    """Withdraw: on the disk when this returns, and no later decision permits."""
    who = people_of(person, people)
    when = moment(at)
    with place.open() as registry:
        if people is None:
            _written(place, registry, registry.withdraw(who[0], purpose or None, at=when))
            return
        if when is not None:
            raise SettingsError("--at goes with --person")
        with lines_named(registry, people):
            written = registry.withdraw_many(who, purpose or None)
    place.show(
        {"people": len(who), "events": written},
        f"{counted(len(who), 'person')}, {counted(written, 'event')}",
    )


@app.command()
@at_registry
def revoke(
    place: Place,
    person: PersonOption = None,
    purpose: PurposeOption = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """End consent from the controller's side, for good cause; acts as a withdrawal does."""
    who = person_of(person)
    sure("The person is not asked. End the consent?", yes)
    with place.open() as registry:
        _written(place, registry, registry.revoke(who, purpose or None))


# -- deciding --------------------------------------------------------------------------------------

_REMEDIES = {
    "not_announced": "Nobody is told yet, where they enter, that expressions are read: hang the "
    "notice there, then log it with `privemo notice announce`.",
    "notice_changed": "The person agreed to an earlier notice: show the one in force, then record "
    "the answer with `privemo consent renew`.",
    "unknown_age": "Nobody said how old the person is: give --age-band as stated in this session.",
}


@app.command()
@at_registry
def decide(
    place: Place,
    person: PersonOption = None,
    purpose: Annotated[Purpose | None, typer.Option(help="What for.")] = None,
    setting: Annotated[Setting, typer.Option(help="The kind of place.")] = Setting.RETAIL,
    jurisdiction: Annotated[str | None, typer.Option(help="Of the place, as IE or US-IL.")] = None,
    age_band: Annotated[
        AgeBand | None, typer.Option(help="What the person states in this session.")
    ] = None,
    estimated_age: Annotated[
        float | None, typer.Option(help="Under the challenge age it refuses, whatever was stated.")
    ] = None,
    challenge_age: Annotated[
        float, typer.Option(help="Refuse whoever is estimated to be younger; 18 at least.")
    ] = 25.0,
    at: AtOption = None,
    preview: Annotated[
        bool, typer.Option("--preview", help="Show the answer without logging it: no permission.")
    ] = False,
) -> None:
    """May this person be used for this, here, now? Logged; exit code 1 when the answer is no."""
    from privemo_consent import Context

    who = person_of(person)
    if purpose is None or jurisdiction is None:
        raise SettingsError("--purpose and --jurisdiction are needed")
    with place.open(readonly=preview) as registry:
        found = (registry.preview if preview else registry.decide)(
            who,
            purpose,
            Context(setting=setting, jurisdiction=_code(jurisdiction)),
            moment(at),
            estimated_age,
            attested_age_band=age_band,
            challenge_age=challenge_age,
        )
        facts = {
            "mode": registry.mode,
            "permit": found.permit,
            "reason": found.reason.value,
            "purpose": found.purpose.value,
            "at": found.at.isoformat(),
            "log_seq": found.log_seq,
            "logged": not preview,
        }
    place.show(facts, "permitted" if found.permit else f"refused: {found.reason.value}")
    if found.reason.value in _REMEDIES:
        say(_REMEDIES[found.reason.value])
    if not found.permit:
        raise typer.Exit(1)


def _code(text: str) -> str:
    """A code of a jurisdiction, before a record is made of it.

    Raises:
        SettingsError: none.

    """
    import re

    from privemo_consent.records import JURISDICTION

    if re.fullmatch(JURISDICTION, text) is None:
        raise SettingsError("--jurisdiction: want ISO 3166, as IE or US-IL")
    return text
