"""A report that its auditor signed: the threat is whoever would rather have another result."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path

import pytest

from privemo_audits import (
    Report,
    ReportError,
    build_report,
    read_report,
    verify_report,
    write_report,
)
from privemo_consent.keys import SigningKey
from tests.support.audit_runs import RunMaker

ANNA, EVE = SigningKey.generate("anna"), SigningKey.generate("eve")


@pytest.fixture(scope="module")
def report(truthful: RunMaker) -> Report:
    return build_report(truthful.directory)


@pytest.fixture
def signed(report: Report, tmp_path: Path) -> Path:
    write_report(report, tmp_path / "out", key=ANNA)
    return tmp_path / "out"


def test_what_was_signed_is_verified_and_read_back(report: Report, signed: Path) -> None:
    for place in (signed, signed / "report.json"):
        assert verify_report(place, [ANNA.verifying]) == (report, ("anna",))
    assert read_report(signed) == report


def test_the_signature_can_be_checked_without_privemo(report: Report, signed: Path) -> None:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    text, _, line = (signed / "report.sig").read_text().rpartition("\n\n")
    origin, verdict, digest = text.split("\n")
    assert (origin, verdict) == (f"privemo.audit/{report.run.run_id}", report.verdict)
    assert (
        base64.b64decode(digest) == hashlib.sha256((signed / "report.json").read_bytes()).digest()
    )
    dash, name, encoded = line.split()
    assert (dash, name) == ("\N{EM DASH}", "anna")
    public = Ed25519PublicKey.from_public_bytes(ANNA.verifying.public)
    public.verify(base64.b64decode(encoded)[4:], (text + "\n").encode())


def changed(signed: Path, **changes: object) -> None:
    """The report with other values, in the very form a report is written in."""
    made = read_report(signed).model_copy(update=changes)
    (signed / "report.json").write_bytes(made.to_json())


def test_a_report_that_was_edited_after_signing_is_named(signed: Path) -> None:
    changed(signed, verdict="failed", passed=False)
    with pytest.raises(ReportError, match=r"report\.json is not the report that was signed"):
        verify_report(signed, [ANNA.verifying])


def test_a_verdict_edited_in_the_signature_does_not_hold(signed: Path) -> None:
    sig = signed / "report.sig"
    sig.write_text(sig.read_text().replace("passed", "failed"))
    with pytest.raises(ReportError, match=r"report\.sig does not hold: anna.*bad signature"):
        verify_report(signed, [ANNA.verifying])


def test_somebody_elses_signature_is_none(report: Report, tmp_path: Path) -> None:
    write_report(report, tmp_path, key=EVE)
    with pytest.raises(ReportError, match=r"no key that is known has signed; signed by eve"):
        verify_report(tmp_path, [ANNA.verifying])


def test_the_signature_of_another_report_is_none(
    report: Report, signed: Path, tmp_path: Path
) -> None:
    other = report.model_copy(update={"limits": ()})
    write_report(other, tmp_path / "other", key=ANNA)
    (signed / "report.sig").write_bytes((tmp_path / "other/report.sig").read_bytes())
    with pytest.raises(ReportError, match="not the report that was signed"):
        verify_report(signed, [ANNA.verifying])


def test_a_report_written_anew_without_a_key_leaves_no_signature(
    report: Report, signed: Path
) -> None:
    write_report(report, signed)
    assert not (signed / "report.sig").exists()
    with pytest.raises(ReportError, match=r"report\.sig cannot be read"):
        verify_report(signed, [ANNA.verifying])


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is no report"),
        (b"{}", "is no report"),
        (b'{"schema":"privemo.report/1"}', "is no report of schema privemo.report/2"),
        (b"\xff\xfe", "is no report"),
    ],
)
def test_what_is_no_report_is_named(tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / "report.json").write_bytes(content)
    with pytest.raises(ReportError, match=says):
        read_report(tmp_path)
    with pytest.raises(ReportError, match="cannot be read"):
        read_report(tmp_path / "nowhere")


def test_one_report_has_one_form(signed: Path) -> None:
    """Else its hash would be a matter of taste."""
    pretty = json.dumps(json.loads((signed / "report.json").read_bytes()), indent=2)
    (signed / "report.json").write_text(pretty)
    with pytest.raises(ReportError, match="written anew by something else"):
        read_report(signed)
