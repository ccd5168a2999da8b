"""A report that its auditor signed: whoever has the auditor's public key knows that nothing was changed.

The signature is a file of its own beside `report.json`, in the format of C2SP signed-note, so that it can be
read and checked without privemo: what it is of, the verdict, the SHA-256 of `report.json` in base64, and a
line with name and SHA-256 for each page and text that was written with it.

| what is wrong | what is said |
|---|---|
| a byte of `report.json` was changed after signing | the report is not the one that was signed |
| a byte of a page, the Markdown or the model card was | the page is not the one that was signed, by name |
| the signature is of another run's report, or its verdict was changed | likewise |
| nobody whose key is known has signed | who has |
| `report.json` is in another form than the canonical one | likewise: one report has one hash |
| a page is not there | nothing is wrong: its name is returned, for whoever wanted to read it |
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from privemo_consent.errors import MalformedError, SignatureError
from privemo_consent.keys import SigningKey
from privemo_consent.note import Note, NoteKey, open_note, sign_note

from .errors import ReportChangedError, ReportError
from .report import Report

__all__ = [
    "PAGES",
    "REPORT",
    "SIGNATURE",
    "Verified",
    "read_report",
    "signature_of",
    "verify_report",
]

REPORT, SIGNATURE = "report.json", "report.sig"
PAGES = ("report.html", "report-plain.html", "report-regulator.html", "report.md", "model_card.md")
"""What is written with a report: the same in words, and signed with it."""

_AGAIN = "Ask whoever made the report for it again, or audit the run anew: privemo audit RUN."


class Verified(NamedTuple):
    """A report that is as it was signed.

    Attributes:
        report: the report.
        signed_by: names of the known auditors who signed.
        absent: pages that were signed with it and are not beside it.
    """

    report: Report
    signed_by: tuple[str, ...]
    absent: tuple[str, ...]


def signature_of(report: Report, pages: Mapping[str, bytes], key: SigningKey) -> bytes:
    """What `report.sig` holds.

    Args:
        report: what is signed.
        pages: content of each of `PAGES`.
        key: the auditor's.
    """
    lines = (f"{name} {_digest(pages[name])}\n" for name in PAGES)
    return sign_note(_head(report) + "".join(lines), key).encode()


def _head(report: Report) -> str:
    digest = _digest(report.to_json())
    return f"privemo.audit/{report.run.run_id}\n{report.verdict}\n{digest}\n"


def _digest(content: bytes) -> str:
    return base64.b64encode(hashlib.sha256(content).digest()).decode()


def read_report(path: Path | str) -> Report:
    """Read a report.

    Args:
        path: `report.json`, or the folder that it is in.

    Raises:
        ReportError: it cannot be read, is no report, or stands in another form than a report is written in.
    """
    file = _file(path)
    return _parsed(_read(file), file)


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise ReportError(f"{file} cannot be read ({error.strerror})", _AGAIN) from error


def _parsed(raw: bytes, file: Path) -> Report:
    try:
        report = Report.from_json(raw)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "it"
        raise ReportError(
            f"{file} is no report of schema privemo.report/3 ({where}: {first['msg']})", _AGAIN
        ) from error
    if report.to_json() != raw:
        raise ReportError(f"{file} was written anew by something else than privemo", _AGAIN)
    return report


def verify_report(path: Path | str, keys: Iterable[NoteKey]) -> Verified:
    """Check that a report, and each page beside it, is as an auditor signed it.

    Args:
        path: `report.json`, or the folder that it is in; `report.sig` stands beside it.
        keys: of the auditors who are known.

    Raises:
        ReportChangedError: it is not what was signed, or nobody who is known signed it.
        ReportError: it, or its signature, is not there or is none.
    """
    file = _file(path)
    raw, note = _read(file), _opened(file.with_name(SIGNATURE), keys)
    lines = note.text.split("\n")
    # The bytes before what they say: whatever was made of them, they are not what was signed.
    if len(lines) < 3 or lines[2] != _digest(raw):
        raise ReportChangedError(f"{file} is not the report that was signed", _AGAIN)
    report = _parsed(raw, file)
    if not note.text.startswith(_head(report)):
        raise ReportChangedError(f"{file} is not the report that was signed", _AGAIN)
    return Verified(report, note.verified, _absent(file, lines[3:]))


def _opened(file: Path, keys: Iterable[NoteKey]) -> Note:
    raw = _read(file)
    try:
        return open_note(raw, keys)
    except (MalformedError, SignatureError) as error:
        raise ReportChangedError(f"{file} does not hold: {error}", _AGAIN) from error


def _absent(file: Path, lines: list[str]) -> tuple[str, ...]:
    """Pages that are not there; those that are, are as they were signed.

    Raises:
        ReportChangedError: one is not.
    """
    signed = dict(line.split(" ") for line in lines if line.count(" ") == 1)
    if tuple(signed) != PAGES:
        raise ReportError(
            f"{file.with_name(SIGNATURE)} does not sign the pages {', '.join(PAGES)}", _AGAIN
        )
    absent, changed = [], []
    for name, digest in signed.items():
        page = file.with_name(name)
        if not page.exists():
            absent.append(name)
        elif _digest(_read(page)) != digest:
            changed.append(str(page))
    if changed:
        what = "is not the page that was" if len(changed) == 1 else "are not the pages that were"
        raise ReportChangedError(f"{', '.join(changed)} {what} signed", _AGAIN)
    return tuple(absent)


def _file(path: Path | str) -> Path:
    found = Path(path)
    return found / REPORT if found.is_dir() else found
