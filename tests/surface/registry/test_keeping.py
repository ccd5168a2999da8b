"""Keys that are rotated and forgotten, mirrors that were away, what is overdue, what is held."""

from __future__ import annotations

import json
from pathlib import Path

from privemo_consent import ConsentRegistry, Context, NewItem, Vault
from tests.support.consent import PARTY
from tests.surface.registry.commands import PERSON, process, told, verdict
from tests.surface.test_cli import privemo, refused


def test_keys_are_rotated_revoked_and_forgotten(registry: Path, tmp_path: Path) -> None:
    at = ("--registry", registry)
    first = told("keys", "list", *at)["signing"][0]
    second = told("keys", "rotate", *at, "--what", "signing", "--overlap-days", "0")
    assert told("keys", "rotate", *at, "--what", "persons")["epoch"] == 2
    done = told("keys", "revoke", *at, first["key_id"], "--yes")
    assert done["signing"] == [second["public"]]
    assert told("keys", "forget", *at, "1", "--yes")["epochs"] == [2]
    listed = told("keys", "list", *at)["signing"]
    assert [(bool(each["revoked"]), each["held"]) for each in listed] == [
        (True, False),
        (False, True),
    ]
    assert told("log", "verify", registry, "--key", second["public"])["verified"] is True
    assert verdict(registry, "--key", first["public"]) == "checkpoint"


def test_an_erasure_that_misses_a_mirror_is_exit_code_1_until_it_is_reached(
    registry: Path, tmp_path: Path
) -> None:
    stick, away = tmp_path / "stick", tmp_path / "away"
    told("registry", "mirror", "--registry", registry, stick)
    stick.rename(away)
    erase = ("consent", "erase", "--registry", registry, "--person", PERSON, "--yes")
    result = privemo(*erase, "--json")
    assert result.returncode == 1, result.stderr
    assert json.loads(result.stdout)["people"] == 1
    assert str(stick) in json.loads(result.stdout)["pending"][0]
    shown = told("registry", "show", "--registry", registry)
    assert shown["erasures_pending"] == [str(stick)]
    assert shown["sizes"]["people_erased"] == 1
    away.rename(stick)
    told("keys", "rotate", "--registry", registry, "--what", "persons")
    assert told("registry", "show", "--registry", registry)["erasures_pending"] == []
    told("registry", "mirror", "--registry", registry, stick, "--remove")
    assert not list(stick.glob("*.key"))


def test_what_is_overdue_is_listed_and_destroyed_and_the_record_stays(registry: Path) -> None:
    at = ("--registry", registry)
    assert told("consent", "overdue", *at) == []
    later = told("consent", "overdue", *at, "--at", "2100-01-01T00:00:00+00:00")
    assert [(each["person"], each["what"]) for each in later] == [(PERSON, "consent_record")]
    with ConsentRegistry.open(registry, mode="production") as opened:
        face = NewItem(person=PERSON, item_id="f", body=b"pixels")
        Vault(opened).put([face], Context(setting="retail", jurisdiction="IE"))
    told("consent", "withdraw", *at, "--person", PERSON)
    (found,) = told("consent", "overdue", *at)
    assert (found["what"], found["rule"]) == ("face", "purpose_satisfied")
    refused(process("consent", "overdue", *at, "--destroy"), "--yes")
    done = told("consent", "overdue", *at, "--destroy", "--yes")
    assert (done["people"], done["items"]) == (0, 1)
    assert told("consent", "overdue", *at) == []
    (table := registry.with_name("predictions.csv")).write_bytes(b"\xff\xfe\x00")
    left = process("consent", "overdue", *at, "--destroy", "--yes")
    assert left.returncode == 1
    assert "predictions.csv cannot be read" in left.stdout
    table.unlink()
    assert told("consent", "overdue", *at, "--destroy", "--yes")["items"] == 0
    assert told("consent", "show", *at, "--person", PERSON)["consents"]


def test_everything_held_is_exported(registry: Path, tmp_path: Path) -> None:
    at = ("--registry", registry)
    held = json.loads(privemo("consent", "export", *at, "--person", PERSON).stdout)
    assert held["person"] == PERSON
    file = tmp_path / "held.json"
    told("consent", "export", *at, "--person", PERSON, "--out", file)
    assert file.stat().st_mode & 0o077 == 0
    assert json.loads(file.read_text())["record"] == held["record"]
    record = json.loads(privemo("consent", "export", *at, "--processing").stdout)
    assert record["controller"]["name"] == PARTY.name
    assert PERSON not in json.dumps(record)
