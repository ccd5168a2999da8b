"""A report that its auditor signed: the threat is whoever would rather have another result."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
from pathlib import Path

import pytest

from privemo_audits import (
    Report,
    ReportChangedError,
    ReportError,
    build_report,
    read_report,
    verify_report,
    write_report,
)
from privemo_audits.signature import PAGES
from privemo_consent.keys import SigningKey
from privemo_consent.note import sign_note
from tests.support.audit_runs import RunMaker

ANNA, EVE = SigningKey.generate("anna"), SigningKey.generate("eve")


@pytest.fixture(scope="module")
def report(truthful: RunMaker) -> Report:
    return build_report(truthful.directory)


@pytest.fixture(scope="module")
def written(report: Report, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("signed") / "out"
    write_report(report, folder, key=ANNA)
    return folder


@pytest.fixture
def signed(written: Path, tmp_path: Path) -> Path:
    """A copy to tamper with."""
    return Path(shutil.copytree(written, tmp_path / "out"))


def test_what_was_signed_is_verified_and_read_back(report: Report, signed: Path) -> None:
    for place in (signed, signed / "report.json"):
        assert verify_report(place, [ANNA.verifying]) == (report, ("anna",), ())
    assert read_report(signed) == report


def test_the_signature_can_be_checked_without_privemo(report: Report, signed: Path) -> None:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    text, _, line = (signed / "report.sig").read_text().rpartition("\n\n")
    origin, verdict, digest, *pages = text.split("\n")
    assert (origin, verdict) == (f"privemo.audit/{report.run.run_id}", report.verdict)
    hashes = {"report.json": digest} | dict(page.split() for page in pages)
    assert set(hashes) == {p.name for p in signed.iterdir()} - {"report.sig"}
    for name, encoded in hashes.items():
        assert base64.b64decode(encoded) == hashlib.sha256((signed / name).read_bytes()).digest(), (
            name
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


@pytest.mark.parametrize("page", PAGES)
def test_a_page_that_was_edited_after_signing_is_named(signed: Path, page: str) -> None:
    (signed / page).write_bytes(
        (signed / page).read_bytes().replace(b"passed", b"failed", 1) + b" "
    )
    with pytest.raises(ReportChangedError, match=f"{page} is not the page that was signed"):
        verify_report(signed, [ANNA.verifying])


def test_all_edited_pages_are_named(signed: Path) -> None:
    for page in PAGES[:2]:
        (signed / page).write_text("all is well")
    with pytest.raises(
        ReportChangedError, match=r"report\.html, .*report-plain\.html are not the pages"
    ):
        verify_report(signed, [ANNA.verifying])


def test_a_page_of_another_signed_report_is_not_this_ones(
    report: Report, signed: Path, tmp_path: Path
) -> None:
    write_report(report.model_copy(update={"limits": ()}), tmp_path / "other", key=ANNA)
    page = "report-regulator.html"
    (signed / page).write_bytes((tmp_path / "other" / page).read_bytes())
    with pytest.raises(ReportChangedError, match=page):
        verify_report(signed, [ANNA.verifying])


def test_a_page_that_is_not_there_is_said_and_nothing_is_wrong(signed: Path) -> None:
    (signed / "model_card.md").unlink()
    assert verify_report(signed, [ANNA.verifying]).absent == ("model_card.md",)


def test_a_signature_that_leaves_pages_out_covers_none(report: Report, signed: Path) -> None:
    """As if an auditor had been talked into signing less."""
    note = (signed / "report.sig").read_text().split("\n\n")[0].split("\n")
    (signed / "report.sig").write_text(sign_note("\n".join(note[:3]) + "\n", ANNA))
    with pytest.raises(ReportError, match=r"does not sign the pages report\.html"):
        verify_report(signed, [ANNA.verifying])


def test_a_page_cannot_be_read_is_said(signed: Path) -> None:
    (signed / "report.md").unlink()
    (signed / "report.md").mkdir()
    with pytest.raises(ReportError, match=r"report\.md cannot be read"):
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
        (b'{"schema":"privemo.report/1"}', "is no report of schema privemo.report/3"),
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
    with pytest.raises(ReportChangedError, match="not the report that was signed"):
        verify_report(signed, [ANNA.verifying])
