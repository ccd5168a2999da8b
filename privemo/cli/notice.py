"""`privemo notice`: what people are shown, checked before it is shown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from privemo.cli.common import print_json, print_lines, read_record, write_new
from privemo.cli.opening import Place, at_registry
from privemo.errors import SettingsError

if TYPE_CHECKING:
    from privemo_consent import ConsentRegistry, Notice

__all__ = ["app", "find_notice", "in_force"]

app = typer.Typer(no_args_is_help=True, help="What people are shown: written, checked, in force.")

#: Stands wherever a template waits for its author; no notice with it is ever shown.
_BLANK = "FILL IN"
FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="A notice, as JSON.")]
_TEXT = """{name} asks whether it may use pictures of your face. You decide.

We ask for three things, and you may agree to each alone:
- to train a model that reads four expressions;
- to suit what this shop shows you to your mood;
- to check that the model works for everyone.

We use the pictures only with your explicit consent. They stay in the store for 365 days.
Then they are deleted. Nobody else receives them, and they do not leave the country.
You may say no: you shop here just as before. You can take your yes back at any time: {withdrawal}.

You can see what we hold, have it put right, have it deleted, have its use put on hold, or take
it with you. Ask {contact}. You can also complain to the authority for
data protection: {authority}.
"""
_TOLD = {
    "training": "to train a model that reads four expressions",
    "personalisation": "to suit what this shop shows you to your mood",
    "fairness_audit": "to check that the model works for everyone",
    "lawful_basis": "only with your explicit consent",
    "access": "see what we hold",
    "rectification": "have it put right",
    "erasure": "have it deleted",
    "restriction": "have its use put on hold",
    "portability": "take it with you",
}


@app.command()
def new(
    to: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="Where to write it; printed otherwise.")
    ] = None,
    controller: Annotated[
        Path | None, typer.Option(help="JSON of who answers for the data: filled in from there.")
    ] = None,
) -> None:
    """A template of a notice that tells all of GDPR 13, with blanks to fill in."""
    content = _template(controller)
    if to is None:
        print_json(content)
        return
    write_new(to, json.dumps(content, indent=2, ensure_ascii=False).encode() + b"\n")
    print_lines(f"{to}: look for {_BLANK}, then run `privemo notice check {to}`")


def _template(controller: Path | None) -> dict[str, Any]:
    from privemo_consent import Party

    if controller is None:
        party = {name: f"{_BLANK}: {name}" for name in ("id", "name", "address", "contact")} | {
            "type": "controller"
        }
    else:
        party = read_record(controller, Party).model_dump(mode="json")
    authority = f"{_BLANK}: the authority"
    withdrawal = f"{_BLANK}: how, as easily as saying yes"
    text = _TEXT.format(
        name=party["name"], contact=party["contact"], authority=authority, withdrawal=withdrawal
    )
    return {
        "schema_version": "privemo.notice/2",
        "notice_id": "faces",
        "version": 1,
        "language": "en",
        "text": text,
        "controller": party,
        "purposes": ["fairness_audit", "personalisation", "training"],
        "jurisdictions": ["IE"],
        "recipients": "none",
        "storage_location": "in the store",
        "retention_days": 365,
        "withdrawal_method": withdrawal,
        "representative": "none",
        "data_protection_officer": "none",
        "transfers": "none",
        "rights": ["access", "rectification", "erasure", "restriction", "portability"],
        "authority": {
            "id": f"{_BLANK}: id",
            "name": authority,
            "address": f"{_BLANK}: address",
            "contact": f"{_BLANK}: contact",
            "type": "authority",
        },
        "data_required": False,
        "refusal": "you shop here just as before",
        "automated_decisions": "none",
        "told": _TOLD,
    }


@app.command()
def check(
    file: FileArgument,
    translation: Annotated[
        list[Path] | None,
        typer.Option(help="The same notice in another language; may be given several times."),
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Does a notice tell all of GDPR 13? Exit code 1 when it is not fit to be shown."""
    from privemo_consent.notices import UNCHECKED, check_notice

    notice = _read(file)
    report = check_notice(notice, translations=[_read(each) for each in translation or ()])
    if json_:
        print_json(
            {
                "notice_id": report.notice_id,
                "version": report.version,
                "language": report.language,
                "hash": notice.hash,
                "fit": not report.errors,
                "minutes": None if report.reading is None else round(report.reading.minutes, 1),
                "findings": [
                    {
                        "severity": each.severity,
                        "clause": each.clause,
                        "item": each.item,
                        "remedy": each.remedy,
                    }
                    for each in report.findings
                ],
                "unchecked": list(UNCHECKED),
            }
        )
    else:
        print_lines(
            *(f"{each.severity}: {each}" for each in report.findings),
            f"{notice.notice_id} version {notice.version} ({notice.language}), hash {notice.hash}",
            "not fit to be shown" if report.errors else "fit to be shown, as far as a program sees",
            *(f"not checked: {each}" for each in UNCHECKED),
        )
    if report.errors:
        raise typer.Exit(1)


@app.command()
@at_registry
def register(place: Place, file: FileArgument) -> None:
    """Bring a notice into force; a higher version supersedes the lower ones at once."""
    notice = _read(file)
    with place.open() as registry:
        digest = registry.notice(notice)
    name = f"{notice.notice_id} version {notice.version} ({notice.language})"
    place.show(
        {"notice_id": notice.notice_id, "version": notice.version, "hash": digest},
        f"in force: {name}, hash {digest}",
    )


@app.command(name="list")
@at_registry
def list_(place: Place) -> None:
    """Every notice that ever was in force, oldest first."""
    with place.open(readonly=True) as registry:
        found, current = registry.notices(), {each.hash for each in in_force(registry)}
    place.show(
        [
            {
                "notice_id": each.notice_id,
                "version": each.version,
                "language": each.language,
                "hash": each.hash,
                "in_force": each.hash in current,
            }
            for each in found
        ],
        *(
            f"{each.notice_id} version {each.version} ({each.language}), hash {each.hash}"
            f"{'' if each.hash in current else ', superseded'}"
            for each in found
        ),
    )


@app.command()
@at_registry
def announce(
    place: Place,
    notice: Annotated[
        str | None, typer.Argument(metavar="[NOTICE]", help="Its hash or its id; if one is, that.")
    ] = None,
    at: Annotated[str, typer.Option(help="Where it hangs, as the staff would say it.")] = "",
) -> None:
    """Log that people are told, where they enter, that expressions are read (EU AI Act 50(3))."""
    if not at.strip() or not at.isprintable():
        raise SettingsError("--at: say where the notice hangs, as --at 'beside the entrance'")
    with place.open() as registry:
        digest = find_notice(registry, notice)
        registry.announce_reading(digest, place=at)
    place.show({"notice": digest, "at": at}, f"announced: {at}, notice {digest}")


def in_force(registry: ConsentRegistry) -> list[Notice]:
    """The newest version of each notice, in each of its languages."""
    found = registry.notices()
    newest = {each.notice_id: each.version for each in sorted(found, key=lambda n: n.version)}
    return [each for each in found if each.version == newest[each.notice_id]]


def find_notice(registry: ConsentRegistry, named: str | None) -> str:
    """The hash of the notice that is meant: by hash, by the start of one, by id, or the only one.

    Raises:
        SettingsError: none, or several.

    """
    current = in_force(registry)
    if named is None:
        found = current
    else:
        found = [each for each in current if each.notice_id == named] or [
            each for each in registry.notices() if len(named) >= 8 and each.hash.startswith(named)
        ]
    if len(found) == 1:
        return found[0].hash
    which = "; ".join(f"{each.notice_id} ({each.language}) {each.hash}" for each in current)
    if not current:
        raise SettingsError("no notice is in force: run `privemo notice register` first")
    several = "several notices are meant" if found else "no such notice"
    raise SettingsError(f"{several}: name one by its hash, of {which}")


def _read(file: Path) -> Notice:
    """A notice without blanks.

    Raises:
        SettingsError: unreadable, no notice, or still a template.

    """
    from privemo_consent import Notice

    notice = read_record(file, Notice)
    blanks = sorted(name for name, value in notice if _BLANK in str(value))
    if blanks:
        raise SettingsError(f"{file} still says {_BLANK} in {', '.join(blanks)}")
    return notice
