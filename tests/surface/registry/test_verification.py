"""`log` on a registry that was changed, on an old copy, and on files without a registry."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from tests.support.consent import make_registry
from tests.surface.registry.commands import FILES, PERSON, told, verdict
from tests.surface.test_cli import privemo, refused


@pytest.fixture(scope="module")
def rich(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry with an entry of every kind, to be copied and broken."""
    return make_registry(tmp_path_factory.mktemp("rich") / "consent.sqlite")


def flipped(source: Path, to: Path, offset: int) -> Path:
    body = bytearray(source.read_bytes())
    body[offset] ^= 1
    to.write_bytes(body)
    to.chmod(0o600)
    return to


@pytest.mark.parametrize(
    ("stored", "entry"),
    [
        (b'"status":"ConsentWithdrawn"', r"event \d+"),
        (b'"round":1,"run":"run-1"', r"use \d+"),
        (b"pictures of your face", r"notice 0"),
        (b"production", r"meta mode|event 0|database file"),
        (b"privemo.consent/", r".*checkpoint.*|event.*"),
        (b"CREATE TRIGGER", r".+"),
        (b"SQLite format 3", r"database file"),
    ],
)
def test_a_changed_byte_is_exit_code_1_and_named(
    rich: Path, tmp_path: Path, stored: bytes, entry: str
) -> None:
    offset = rich.read_bytes().index(stored) + len(stored) // 2
    changed = flipped(rich, tmp_path / "changed.sqlite", offset)
    assert re.fullmatch(entry, verdict(changed, "--keys", rich.with_suffix(".keys")))


def test_wherever_a_byte_is_changed_the_verdict_is_sound(rich: Path, tmp_path: Path) -> None:
    """Free space may be changed unseen; anything else is exit code 1, and nothing is a traceback."""
    keys = rich.with_suffix(".keys")
    root = told("log", "verify", rich, "--keys", keys)["root"]
    named = 0
    for offset in range(61, rich.stat().st_size, 1499):
        changed = flipped(rich, tmp_path / "changed.sqlite", offset)
        result = privemo("log", "verify", changed, "--keys", keys, "--json")
        assert result.returncode in (0, 1), (offset, result.stderr)
        found = json.loads(result.stdout)
        if result.returncode:
            named += bool(found["entry"])
        else:
            assert found["root"] == root, offset
        for suffix in FILES:
            Path(f"{changed}{suffix}").unlink(missing_ok=True)
    assert named > 10


def test_changed_keys_are_named_too(rich: Path, tmp_path: Path) -> None:
    copy = tmp_path / "consent.sqlite"
    shutil.copy(rich, copy)
    for file in sorted(rich.with_suffix(".keys").iterdir()):
        if not file.stat().st_size or file.name == "lock":
            continue
        keys = tmp_path / f"{file.name}.keys"
        shutil.copytree(rich.with_suffix(".keys"), keys)
        flipped(file, keys / file.name, file.stat().st_size // 2)
        assert verdict(copy, "--keys", keys)


def test_keys_of_another_registry_are_a_mistake_and_no_verdict(rich: Path, registry: Path) -> None:
    refused(privemo("log", "verify", rich, "--keys", registry.with_suffix(".keys")), "another")


def test_an_old_copy_is_told_by_the_witness(registry: Path, tmp_path: Path) -> None:
    told("registry", "witness", "--registry", registry, tmp_path / "witness")
    old = tmp_path / "old.sqlite"
    shutil.copy(registry, old)
    told("consent", "withdraw", "--registry", registry, "--person", PERSON)
    for suffix in FILES:
        Path(f"{registry}{suffix}").unlink(missing_ok=True)
    shutil.copy(old, registry)
    assert verdict(registry).startswith("event ")
    refused(privemo("consent", "show", "--registry", registry, "--person", PERSON), "old copy")
    (tmp_path / "witness").rename(tmp_path / "gone")
    refused(privemo("log", "verify", registry), "witness")


def test_a_proof_verifies_without_the_registry(registry: Path) -> None:
    from privemo_consent import merkle

    for seq in range(4):
        found = json.loads(privemo("log", "prove", str(seq), "--registry", registry).stdout)
        assert merkle.leaf_hash(found["leaf"].encode()).hex() == found["leaf_hash"]
        merkle.verify_inclusion(
            bytes.fromhex(found["leaf_hash"]),
            seq,
            found["size"],
            [bytes.fromhex(each) for each in found["proof"]],
            bytes.fromhex(found["root"]),
        )
        assert PERSON not in found["leaf"]


def test_an_export_is_verified_offline_and_pinned(rich: Path, tmp_path: Path) -> None:
    export = tmp_path / "export"
    sizes = told("log", "export", "--registry", rich, export)
    assert sizes["uses"] == 18
    key = told("keys", "list", "--registry", rich)["signing"][0]["public"]
    found = told("log", "verify", export)
    assert found["pinned"] is False
    assert found["root"] == told("log", "verify", rich)["root"]
    assert told("log", "verify", export, "--key", key)["pinned"] is True
    stranger = make_registry(tmp_path / "stranger.sqlite", people=4)
    other = told("keys", "list", "--registry", stranger)["signing"][0]["public"]
    assert verdict(export, "--key", other) == "checkpoint"
    assert verdict(rich, "--key", other) == "checkpoint"
    lines = (export / "events.jsonl").read_bytes().splitlines(keepends=True)
    lines[5] = lines[5].replace(b"IE", b"US")
    (export / "events.jsonl").write_bytes(b"".join(lines))
    assert verdict(export) == "event 5"


def test_decisions_since_the_last_signature_are_signed_before_they_leave(
    registry: Path, tmp_path: Path
) -> None:
    asked = ("--purpose", "training", "--jurisdiction", "IE", "--age-band", "25_34")
    told("consent", "decide", "--registry", registry, "--person", PERSON, *asked)
    refused(privemo("log", "checkpoint", "--uses", "--registry", tmp_path / "no.sqlite"), "no")
    assert told("log", "export", "--registry", registry, tmp_path / "export")["uses"] == 1
    assert told("log", "verify", tmp_path / "export")["uses"] == 1
    assert told("log", "checkpoint", "--uses", "--registry", registry)["size"] == 1


def test_a_registry_without_its_keys_verifies_and_says_what_it_could_not(
    rich: Path, tmp_path: Path
) -> None:
    alone = tmp_path / "alone.sqlite"
    shutil.copy(rich, alone)
    result = privemo("log", "verify", alone, "--json")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["named"] is False
    assert "unchecked" in result.stderr
    refused(privemo("consent", "show", "--registry", alone, "--person", "p02"), "key")


def test_what_nobody_may_read_is_no_verdict(rich: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a script takes a mistake of rights for a change."""

    def denied(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", denied)
    refused(privemo("log", "verify", rich), "Permission denied")
