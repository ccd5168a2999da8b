"""An audit repeated by someone else, from a run's files alone. Needs the extra `audit`, and no torch.

    python examples/regulator/regulator_audit.py RUN [OUT]

RUN holds each store's consent.sqlite with its key folder consent.keys beside it, since people's ids are
sealed under those keys. Builds the report again from RUN, prints what was checked, and compares with
RUN/report.json if the operator handed one over. With OUT, writes report.json and report.html there. Exit
code 1 when a required check fails or the two reports differ, 2 when the files cannot be audited.
"""

# ruff: noqa: T201 - an example talks to whoever runs it
from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from privemo_audits import AuditError, Report, build_report, write_report


def differences(mine: Any, theirs: Any, where: str = "") -> list[str]:
    """Where two JSON values differ: the paths of all leaves that are not equal."""
    if isinstance(mine, dict) and isinstance(theirs, dict):
        keys = sorted({*mine, *theirs})
        return [d for k in keys for d in differences(mine.get(k), theirs.get(k), f"{where}.{k}")]
    return [] if mine == theirs else [where.removeprefix(".")]


def show(report: Report) -> None:
    """Print every check with its evidence, then what the report does not show."""
    for check in report.checks:
        mark = "ok  " if check.passed else ("FAIL" if check.required else "warn")
        print(f"{mark} {check.title} [{check.clause}]\n     {check.evidence}")
    print("\nThis report does not show:")
    for limit in report.limits:
        print(f"  - {limit}")


def compare(report: Report, handed_over: Path) -> bool:
    """Whether the operator's report says the same; names the places where it does not."""
    if not handed_over.exists():
        print(f"\nNo {handed_over.name} was handed over; nothing to compare.")
        return True
    mine = report.to_json()
    if handed_over.read_bytes() == mine:
        print(f"\n{handed_over} is byte for byte what these files give.")
        return True
    print(f"\n{handed_over} differs from what these files give, at:")
    for place in differences(json.loads(mine), json.loads(handed_over.read_bytes())):
        print(f"  - {place}")
    return False


def main(run: Path, out: Path | None) -> int:
    """Audit `run`; return the exit code."""
    try:
        report = build_report(run)
        show(report)
        same = compare(report, run / "report.json")
        if out is not None:
            write_report(report, out, run_dir=run)
    except AuditError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"\nThe audit {report.verdict}.")
    return 0 if report.passed and same else 1


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit("usage: python examples/regulator/regulator_audit.py RUN [OUT]")
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) == 3 else None))
