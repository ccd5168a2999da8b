"""`privemo audit`: a run audited again, and reports checked, compared and described."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from privemo.cli import counting
from privemo.cli.commandline import with_default
from privemo.cli.common import complain, out, print_json, print_lines
from privemo.errors import SettingsError

if TYPE_CHECKING:
    from privemo_audits.beside import Read
    from privemo_audits.compare import Difference
    from privemo_audits.signature import Verified
    from privemo_consent.keys import SigningKey, VerifyingKey

__all__ = ["app"]

_DEFAULT = "new"


app = typer.Typer(
    cls=with_default(_DEFAULT),
    no_args_is_help=True,
    help="Repeat the audit of a run (`privemo audit RUN`); check and compare reports.",
)

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
ReportArgument = Annotated[
    Path, typer.Argument(metavar="REPORT", help="report.json, or the folder that it is in.")
]


@app.command(_DEFAULT)
def new(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A finished run folder.")],
    to: Annotated[
        Path | None, typer.Option("--out", help="Folder for the report; the run folder by default.")
    ] = None,
    policy: Annotated[
        Path | None, typer.Option(help="TOML file of thresholds that the run has to meet.")
    ] = None,
    sign: Annotated[
        Path | None, typer.Option(help="The auditor's private key, to sign the report with.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="The auditor's name, where the key does not say it.")
    ] = None,
    beside: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="REPORT", help="A signed report of another run to draw beside; several times."
        ),
    ] = None,
    public: Annotated[
        list[str] | None,
        typer.Option(
            "--key", help="Public key of who signed those, or attacks; your own with --sign."
        ),
    ] = None,
    earlier: Annotated[
        Path | None,
        typer.Option(
            metavar="REPORT",
            help="An earlier report of this run: no attack and no signature it knew of may be gone.",
        ),
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Repeat the audit of a run from its files. Exit code 1 when a required check fails."""
    from privemo.cli.running import print_failures, summary_table
    from privemo_audits import build_report, read_report, write_report
    from privemo_consent.keys import SigningKey

    key = None if sign is None else SigningKey.load(name, sign)
    # With an earlier report, that no signature is there is what is to be found out.
    if public and not beside and earlier is None and not any(run.glob("attacks-*.sig")):
        raise SettingsError(
            "--key is for reports that --beside names and for attacks that were signed, and none is named or "
            "there"
        )
    ring = _ring(public or [], key)
    report = build_report(
        run,
        policy=policy,
        beside=_others(beside or [], ring),
        keys=ring,
        earlier=None if earlier is None else read_report(earlier),
    )
    paths = write_report(report, to or run, run_dir=run, key=key)
    content = json.loads(report.to_json())
    if json_:
        print_json(content)
    else:
        out.print(summary_table(content))
        print_failures(content)
        for path in paths:
            out.print(str(path), soft_wrap=True)
    if not content["passed"]:
        raise typer.Exit(1)


def _ring(public: list[str], own: SigningKey | None) -> list[VerifyingKey]:
    """Whose signatures count.

    Raises:
        MalformedError: one is no public key.
    """
    from privemo_consent.keys import VerifyingKey

    ring = [VerifyingKey.parse(text) for text in public]
    if own is not None and own.verifying not in ring:
        ring.append(own.verifying)
    return ring


def _others(beside: list[Path], ring: list[VerifyingKey]) -> list[Read]:
    """Reports to draw beside a new one, verified.

    Raises:
        SettingsError: whose signatures hold was not said.
        AuditError: one is not as it was signed.
    """
    from privemo_audits import read_beside

    if beside and not ring:
        raise SettingsError(
            "--beside draws signed reports alone: give --key with the public key of who signed them"
        )
    return read_beside(beside, ring) if beside else []


@app.command()
def key(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The new private key.")],
    name: Annotated[str, typer.Option(help="The auditor's name.")] = "auditor",
    json_: JsonOption = False,
) -> None:
    """Make an auditor's key; print the public half, by which others check what it signs."""
    from privemo_consent.keys import SigningKey

    made = SigningKey.generate(name)
    made.save(file)
    if json_:
        print_json({"file": str(file), "public": str(made.verifying)})
    else:
        print_lines(str(made.verifying))


@app.command()
def verify(
    report: ReportArgument,
    public: Annotated[
        list[str], typer.Option("--key", help="An auditor's public key; several times for several.")
    ],
    json_: JsonOption = False,
) -> None:
    """Check that a report and its pages are as an auditor signed them. Exit code 1 when they are not."""
    from privemo_audits import ReportChangedError, verify_report
    from privemo_consent.keys import VerifyingKey

    keys = [VerifyingKey.parse(text) for text in public]
    try:
        found = verify_report(report, keys)
    except ReportChangedError as changed:
        # A verdict, as of `log verify`, and no mistake of the caller.
        if json_:
            print_json({"verified": False, "error": str(changed)})
        complain(str(changed))
        raise typer.Exit(1) from changed
    _show_verified(found, json_)


def _show_verified(found: Verified, json_: bool) -> None:
    names, run_id, verdict = found.signed_by, found.report.run.run_id, found.report.verdict
    if json_:
        facts = {"verified": True, "signed_by": list(names), "run_id": run_id, "verdict": verdict}
        print_json({**facts, "absent": list(found.absent)})
    else:
        print_lines(f"Signed by {', '.join(names)}: run {run_id}, audit {verdict}.")
        if found.absent:
            print_lines(f"Not there, and so not looked at: {', '.join(found.absent)}.")


@app.command()
def diff(
    before: Annotated[Path, typer.Argument(metavar="BEFORE", help="A report, or its folder.")],
    after: Annotated[Path, typer.Argument(metavar="AFTER", help="Another one.")],
    json_: JsonOption = False,
) -> None:
    """Hold two reports against each other."""
    from privemo_audits import compared, read_report

    found = compared(read_report(before), read_report(after))
    if json_:
        print_json(found.model_dump(mode="json"))
    else:
        _show(found)


def _show(found: Difference) -> None:
    table = Table("figure", "before", "after", "95% of the change", "")
    for moved in found.figures:
        values = ["-" if v is None else f"{v:.6g}" for v in (moved.before, moved.after)]
        change = "" if moved.change is None else f"{moved.change[0]:+.3f} to {moved.change[1]:+.3f}"
        table.add_row(moved.what, *values, change, moved.kind)
    out.print(table)
    print_lines(
        f"Audit: {found.verdicts[0]}, then {found.verdicts[1]}.",
        *(f"No longer holds: {name}" for name in found.checks_lost),
        *(f"Holds now: {name}" for name in found.checks_won),
        *found.notes,
    )


app.command("counts")(counting.counts)
app.command("join")(counting.join)
app.command("sum")(counting.summed)


@app.command()
def schema() -> None:
    """Print the JSON schema of a report."""
    from privemo_audits import Report

    print_json(Report.model_json_schema(by_alias=True, mode="serialization"))
