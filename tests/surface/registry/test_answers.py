"""Answers and notices come in, are shown, decided and withdrawn, one at a time and by the file."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from privemo_consent import Purpose
from privemo_consent.receipts import verify_receipt
from tests.support.consent import PARTY, consent_notice
from tests.surface.registry.commands import COMMAND, HEAD, PERSON, told
from tests.surface.test_cli import privemo, refused


def test_answers_are_recorded_shown_and_decided(registry: Path) -> None:
    at = ("--registry", registry, "--person", PERSON)
    shown = told("consent", "show", *at)
    assert {each["purpose"]: each["live"] for each in shown["consents"]} == {
        "training": True,
        "fairness_audit": True,
    }
    asked = ("--purpose", "training", "--jurisdiction", "IE", "--age-band", "25_34")
    assert told("consent", "decide", *at, *asked)["reason"] == "permitted"
    assert len(told("consent", "withdraw", *at, "--purpose", "training")["events"]) == 1
    answer = privemo("consent", "decide", *at, *asked, "--json")
    assert (answer.returncode, json.loads(answer.stdout)["reason"]) == (1, "withdrawn")
    assert told("consent", "renew", *at, "--purpose", "fairness_audit")["events"]
    assert told("consent", "refuse", *at)["events"]
    shown = told("consent", "show", *at)
    assert not any(each["live"] for each in shown["consents"])
    assert told("log", "verify", registry)["uses"] == 2


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        (("--purpose", "personalisation", "--age-band", "25_34"), "wrong_purpose"),
        (("--purpose", "training", "--age-band", "16_17"), "minor"),
        (("--purpose", "training", "--age-band", "unknown"), "unknown_age"),
        (
            ("--purpose", "training", "--age-band", "25_34", "--estimated-age", "19"),
            "suspected_minor",
        ),
        (
            ("--purpose", "training", "--age-band", "25_34", "--setting", "workplace"),
            "wrong_context",
        ),
    ],
)
def test_a_refused_decision_is_exit_code_1(
    registry: Path, asked: tuple[str, ...], reason: str
) -> None:
    place = ("--registry", registry, "--person", PERSON, "--jurisdiction", "IE")
    answer = privemo("consent", "decide", *place, *asked)
    assert (answer.returncode, answer.stdout) == (1, f"refused: {reason}\n")


def test_a_preview_is_not_logged(registry: Path) -> None:
    asked = ("--person", PERSON, "--purpose", "training", "--jurisdiction", "IE", "--preview")
    answer = told("consent", "decide", "--registry", registry, "--age-band", "25_34", *asked)
    assert answer["permit"] is True
    assert answer["logged"] is False
    assert told("log", "verify", registry)["uses"] == 0


def test_many_are_withdrawn_together_or_not_at_all(registry: Path, tmp_path: Path) -> None:
    people = tmp_path / "people.txt"
    people.write_text(f"{PERSON}\nnobody-known\n")
    refused(privemo("consent", "withdraw", "--registry", registry, "--people", people), "no record")
    assert told("consent", "show", "--registry", registry, "--person", PERSON)["consents"][0][
        "live"
    ]
    people.write_text(f"\ufeff{PERSON}\r\n\r\n", encoding="utf-8")
    assert told("consent", "withdraw", "--registry", registry, "--people", people)["events"] == 2


def test_an_id_can_be_given_on_standard_input(registry: Path) -> None:
    done = subprocess.run(
        [COMMAND, "consent", "withdraw", "--registry", registry, "--person", "-"],
        input=f"{PERSON}\n", capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "ConsentWithdrawn" in done.stdout


def test_the_receipt_verifies_with_the_published_key(registry: Path, tmp_path: Path) -> None:
    from privemo_consent.keys import VerifyingKey

    paths = [tmp_path / name for name in ("r.jws", "r.svg", "r.png")]
    result = privemo("consent", "receipt", "--registry", registry, "--person", PERSON,
                     "--out", paths[0], "--svg", paths[1], "--png", paths[2])  # fmt: skip
    assert result.returncode == 0, result.stderr
    key = told("keys", "list", "--registry", registry)["signing"][0]["public"]
    found = verify_receipt(paths[0].read_text().strip(), [VerifyingKey.parse(key)])
    assert found.person == PERSON
    assert {event.purpose for event in found.events} == {Purpose.TRAINING, Purpose.FAIRNESS_AUDIT}
    assert all(path.stat().st_mode & 0o077 == 0 for path in paths)
    again = ("consent", "receipt", "--registry", registry, "--person", PERSON)
    for option, path in zip(("--out", "--svg", "--png"), paths, strict=True):
        before = path.read_bytes()
        refused(privemo(*again, option, path), "exists")
        assert path.read_bytes() == before


def test_a_template_is_refused_until_it_is_filled_in(
    registry: Path, tmp_path: Path, controller: Path
) -> None:
    path = tmp_path / "notice.json"
    assert privemo("notice", "new", path).returncode == 0
    refused(privemo("notice", "check", path), "FILL IN", "controller")
    refused(privemo("notice", "register", "--registry", registry, path), "FILL IN")
    refused(privemo("notice", "new", path), "exists")
    printed = json.loads(privemo("notice", "new", "--controller", controller).stdout)
    assert printed["controller"]["name"] == PARTY.name


def test_a_notice_that_is_not_fit_is_exit_code_1(registry: Path, tmp_path: Path) -> None:
    path = tmp_path / "notice.json"
    whole = json.loads(consent_notice(2).model_dump_json(exclude_none=True))
    path.write_text(json.dumps({k: v for k, v in whole.items() if k != "authority"}))
    result = privemo("notice", "check", path, "--json")
    found = json.loads(result.stdout)
    assert (result.returncode, found["fit"]) == (1, False)
    assert ("GDPR 13(2)(d)", "authority") in {(f["clause"], f["item"]) for f in found["findings"]}
    refused(privemo("notice", "register", "--registry", registry, path), "GDPR 13(2)(d)")
    path.write_text(json.dumps(whole))
    assert privemo("notice", "check", path).returncode == 0
    told("notice", "register", "--registry", registry, path)
    listed = told("notice", "list", "--registry", registry)
    assert [each["in_force"] for each in listed] == [False, True]
    answer = privemo("consent", "decide", "--registry", registry, "--person", PERSON,
                     "--purpose", "training", "--jurisdiction", "IE", "--age-band", "25_34")  # fmt: skip
    assert (answer.returncode, answer.stdout) == (1, "refused: notice_changed\n")
    renewed = ("consent", "renew", "--registry", registry, "--person", PERSON)
    told(*renewed, "--notice", listed[1]["hash"][:8])


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("visitor,training,25_34,IE,faces", ["line 3"]),
        ("visitor,selling,25_34,IE,faces,90", ["line 3", "purposes"]),
        ("visitor,training,adult,IE,faces,90", ["line 3", "age_band"]),
        ("visitor,training,25_34,Ireland,faces,90", ["line 3", "jurisdiction"]),
        ("visitor,training,25_34,IE,faces,forever", ["line 3", "valid_days"]),
        ("visitor,training,25_34,IE,nothing,90", ["line 3", "notice"]),
    ],
)
def test_a_wrong_row_stops_the_whole_import(
    registry: Path, tmp_path: Path, row: str, words: list[str]
) -> None:
    file = tmp_path / "answers.csv"
    file.write_text(f"{HEAD}first,training,25_34,IE,faces,90\n{row}\n")
    before = told("log", "verify", registry)["root"]
    result = privemo("consent", "import", "--registry", registry, file)
    refused(result, "answers.csv", *words)
    assert "visitor" not in result.stderr
    assert told("log", "verify", registry)["root"] == before


def test_many_answers_come_in_and_minors_are_counted(registry: Path, tmp_path: Path) -> None:
    file = tmp_path / "answers.jsonl"
    row = {"purposes": ["training"], "jurisdiction": "IE", "notice": "faces", "valid_days": 90}
    bands = ["25_34", "35_44", "13_15", "unknown"]
    lines = [{"person": f"v{i}", "age_band": bands[i % 4], **row} for i in range(400)]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    done = told("consent", "import", "--registry", registry, file)
    assert (done["granted"], done["refused"]) == (200, {"minor": 100, "unknown_age": 100})
    assert told("registry", "show", "--registry", registry)["sizes"]["people"] == 201
