"""Registries that are restored, moved and migrated; who was erased does not come back."""

from __future__ import annotations

import lzma
import os
from pathlib import Path

from tests.surface.registry.commands import PERSON, ROOT, live, process, told
from tests.surface.test_cli import privemo, refused


def test_a_backup_that_is_not_the_newest_suspends_everyone(registry: Path, tmp_path: Path) -> None:
    backup, restored = tmp_path / "backup.sqlite", tmp_path / "restored.sqlite"
    made = told("registry", "backup", "--registry", registry, backup)
    assert made["events"] == told("log", "verify", registry)["events"]
    assert backup.stat().st_mode & 0o077 == 0
    told("consent", "withdraw", "--registry", registry, "--person", PERSON)
    keys = ("--keys", registry.with_suffix(".keys"))
    done = told("registry", "restore", backup, restored, *keys)
    assert (done["whole"], done["suspended"], done["mode"]) == (False, 2, "production")
    assert live(restored, *keys) == []
    assert told("log", "verify", restored, *keys)["named"] is True
    refused(privemo("registry", "restore", backup, restored, *keys), "exists")


def test_a_signed_head_shows_that_a_backup_is_the_newest(registry: Path, tmp_path: Path) -> None:
    backup, restored, head = (tmp_path / name for name in ("b.sqlite", "r.sqlite", "head.txt"))
    told("registry", "backup", "--registry", registry, backup)
    printed = privemo("log", "checkpoint", "--registry", registry).stdout
    place = ("registry", "restore", backup, restored, "--keys", registry.with_suffix(".keys"))
    name, size, rest = printed.split("\n", 2)
    head.write_text(f"{name}\n{int(size) + 1}\n{rest}")
    refused(privemo(*place, "--newest", head), "signature")
    head.write_text(f"another.log/1\n{size}\n{rest}")
    refused(privemo(*place, "--newest", head), "no signed head of this registry")
    head.write_text(printed)
    assert not restored.exists()
    done = told(*place, "--newest", head)
    assert (done["whole"], done["suspended"]) == (True, 0)
    assert live(restored, "--keys", registry.with_suffix(".keys")) == ["fairness_audit", "training"]


def test_who_was_erased_does_not_come_back(registry: Path, tmp_path: Path) -> None:
    backup, restored = tmp_path / "backup.sqlite", tmp_path / "restored.sqlite"
    told("registry", "backup", "--registry", registry, backup)
    told("consent", "erase", "--registry", registry, "--person", PERSON, "--yes")
    keys = ("--keys", registry.with_suffix(".keys"))
    assert told("registry", "restore", backup, restored, *keys)["erased"] == 1
    asked = ("--registry", restored, *keys, "--person", PERSON)
    refused(privemo("consent", "show", *asked), "no record")


def test_a_registry_moves_house_sealed(registry: Path, tmp_path: Path) -> None:
    file, moved = tmp_path / "everything", tmp_path / "moved.sqlite"
    secret = tmp_path / "secret.txt"
    secret.write_text("three horses in a field\n")
    secret.chmod(0o600)
    export = ("consent", "export", "--registry", registry, "--all", file)
    refused(process(*export), "--transfer-passphrase-file", "PRIVEMO_TRANSFER_PASSPHRASE")
    made = told(*export, "--transfer-passphrase-file", secret, "--close")
    assert made["sealed"] is True
    assert PERSON.encode() not in file.read_bytes()
    take_in = ("consent", "import", file, "--registry", moved)
    refused(process(*take_in), "PRIVEMO_TRANSFER_PASSPHRASE")
    wrong = {**os.environ, "PRIVEMO_TRANSFER_PASSPHRASE": "two horses"}
    refused(process(*take_in, env=wrong), "passphrase")
    assert not moved.exists()
    assert not moved.with_suffix(".keys").exists()
    done = told(*take_in, "--transfer-passphrase-file", secret)
    assert (done["root"], done["mode"], done["people"]) == (made["root"], "production", 1)
    assert live(moved) == ["fairness_audit", "training"]
    assert told("log", "verify", moved)["events"] > made["events"]


def test_a_simulation_that_moves_stays_one(tmp_path: Path, controller: Path) -> None:
    old, new, file = tmp_path / "old.sqlite", tmp_path / "new.sqlite", tmp_path / "everything"
    told("registry", "new", old, "--mode", "simulation", "--controller", controller)
    told("consent", "export", "--registry", old, "--all", file, "--plain")
    assert told("consent", "import", file, "--registry", new)["mode"] == "simulation"
    assert told("registry", "show", "--registry", new)["mode"] == "simulation"


def test_a_registry_of_the_first_version_is_migrated(tmp_path: Path) -> None:
    path = tmp_path / "consent.sqlite"
    path.write_bytes(lzma.decompress((ROOT / "tests/data/consent-v1.sqlite.xz").read_bytes()))
    refused(privemo("registry", "show", "--registry", path), "privemo registry migrate")
    assert told("registry", "migrate", "--registry", path)["from"] == 1
    assert told("log", "verify", path)["named"] is True
    assert told("registry", "show", "--registry", path)["sizes"]["people"] > 0
    again = told("registry", "migrate", "--registry", path)
    assert (again["from"], again["to"]) == (2, 2)
