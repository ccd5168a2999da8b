"""A report that its auditor signed: whoever has the auditor's public key knows that nothing was changed.

The signature is a file of its own beside `report.json`, in the format of C2SP signed-note, so that it can be
read and checked without privemo: what it is of, the verdict, and the SHA-256 of `report.json` in base64.

| what is wrong | what is said |
|---|---|
| a byte of `report.json` was changed after signing | the report is not the one that was signed |
| the signature is of another run's report, or its verdict was changed | likewise |
| nobody whose key is known has signed | who has |
| `report.json` is in another form than the canonical one | likewise: one report has one hash |
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from pathlib import Path

from pydantic import ValidationError

from privemo_consent.errors import MalformedError, SignatureError
from privemo_consent.keys import SigningKey
from privemo_consent.note import NoteKey, open_note, sign_note

from .errors import ReportError
from .report import Report

__all__ = ["REPORT", "SIGNATURE", "read_report", "signature_of", "verify_report"]

REPORT, SIGNATURE = "report.json", "report.sig"
_AGAIN = "Ask whoever made the report for it again, or audit the run anew: privemo audit RUN."


def signature_of(report: Report, key: SigningKey) -> bytes:
    """What `report.sig` holds."""
    return sign_note(_text(report), key).encode()


def _text(report: Report) -> str:
    digest = base64.b64encode(hashlib.sha256(report.to_json()).digest()).decode()
    return f"privemo.audit/{report.run.run_id}\n{report.verdict}\n{digest}\n"


def read_report(path: Path | str) -> Report:
    """Read a report.

    Args:
        path: `report.json`, or the folder that it is in.

    Raises:
        ReportError: it cannot be read, is no report, or stands in another form than a report is written in.
    """
    file = _file(path)
    try:
        raw = file.read_bytes()
    except OSError as error:
        raise ReportError(f"{file} cannot be read ({error.strerror})", _AGAIN) from error
    try:
        report = Report.from_json(raw)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "it"
        raise ReportError(
            f"{file} is no report of schema privemo.report/2 ({where}: {first['msg']})", _AGAIN
        ) from error
    if report.to_json() != raw:
        raise ReportError(f"{file} was written anew by something else than privemo", _AGAIN)
    return report


def verify_report(path: Path | str, keys: Iterable[NoteKey]) -> tuple[Report, tuple[str, ...]]:
    """Check that a report is as an auditor signed it.

    Args:
        path: `report.json`, or the folder that it is in; `report.sig` stands beside it.
        keys: of the auditors who are known.

    Returns:
        The report, and the names of the known auditors who signed.

    Raises:
        ReportError: it cannot be read, is not what was signed, or nobody who is known signed it.
    """
    report = read_report(path)
    file = _file(path).with_name(SIGNATURE)
    try:
        note = open_note(file.read_bytes(), keys)
    except OSError as error:
        raise ReportError(f"{file} cannot be read ({error.strerror})", _AGAIN) from error
    except (MalformedError, SignatureError) as error:
        raise ReportError(f"{file} does not hold: {error}", _AGAIN) from error
    if note.text != _text(report):
        raise ReportError(f"{_file(path)} is not the report that was signed", _AGAIN)
    return report, note.verified


def _file(path: Path | str) -> Path:
    found = Path(path)
    return found / REPORT if found.is_dir() else found
