"""`privemo attack`, `audit counts` and `audit join` as their users meet them."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from privemo import models
from privemo_audits import attempts
from tests.support.small_runs import small_run
from tests.surface.test_cli import privemo, refused


def tiny(channels: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(channels, 4, 8, stride=8), nn.Flatten(), nn.Linear(144, 4))


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished run of a small network."""
    from privemo import simulation

    monkeypatch.setattr(models, "MODELS", {**models.MODELS, "tiny": tiny})
    made = small_run(tmp_path, people=120, model="tiny")
    simulation.run(made)
    simulation.finish(made)
    return made.folder


@pytest.fixture
def hardly_by_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounds hold but for a chance of 5%, and these tests are run every day."""
    monkeypatch.setattr(attempts, "ALPHA", 1e-6)


@pytest.mark.usefixtures("hardly_by_chance")
def test_an_attack_is_told_and_the_next_audit_reports_it(run: Path) -> None:
    told = privemo("attack", run, "--canaries", "60")
    assert told.returncode == 0, told.stderr
    for words in (
        "in this step?",
        "in this run?",
        "calculated, by PLD",
        "Pictures made from updates",
    ):
        assert words in told.stdout
    audited = privemo("audit", run, "--json")
    report = json.loads(audited.stdout)
    assert "privacy.attacks_whole" not in report["failed_checks"]
    attacked = report["privacy"]["attacked"]
    assert attacked["persons"] == 60
    assert attacked["within"]


def test_an_attack_made_again_is_told_to_be_the_second(run: Path) -> None:
    told = [privemo("attack", run, "--canaries", "50") for _ in range(2)]
    assert {each.returncode for each in told} <= {0, 1}  # 1 by chance, once in a long while
    first, second = (" ".join(each.stdout.split()) for each in told)
    assert "attack 1" not in first
    assert "The model itself was not attacked" in first
    assert "pairs of steps" in first
    assert "This is attack 2 that was finished on the run, judged at 99.17%" in second


@pytest.mark.usefixtures("hardly_by_chance")
def test_an_attack_is_signed_and_the_audit_says_by_whom(run: Path) -> None:
    key = run.parent / "anna.key"
    public = privemo("audit", "key", key, "--name", "anna").stdout.strip()
    told = unwrapped(privemo("attack", run, "--canaries", "50", "--sign", key))
    assert "The history of attacks has 2 entries" in told
    assert "signed by store-01 and anna." in told
    evidence = signed_by(privemo("audit", run, "--json"))
    assert "store-01 (to entry 2)" in evidence
    assert "nobody named that key" in evidence
    again = run.parent / "again"
    known = privemo("audit", run, "--json", "--key", public, "--out", again, "--earlier", run)
    assert "anna (to entry 2)" in signed_by(known)
    (run / "stores" / "store-01" / "store.key").unlink()
    (run / "stores" / "store-02" / "store.key").unlink()
    unsigned = unwrapped(privemo("attack", run, "--canaries", "50"))
    assert "nobody signed it: --sign KEY does" in unsigned
    assert "signed the last 2 of 4 entries" in signed_by(privemo("audit", run, "--json"))
    for note in run.glob("attacks-*.sig"):
        note.unlink()
    line = ("audit", run, "--key", public, "--out", run.parent / "last", "--earlier", again)
    gone = privemo(*line)
    assert gone.returncode == 1
    assert "was there when an earlier report was made" in " ".join(gone.stdout.split())


def signed_by(audited: Any) -> str:
    assert audited.returncode == 0, audited.stderr
    checks = json.loads(audited.stdout)["checks"]
    (one,) = [c for c in checks if c["id"] == "privacy.attacks_signed"]
    return str(one["evidence"])


def test_an_attack_that_is_stopped_does_not_say_that_nothing_was_written(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(import_module("privemo.attacks.attack"), "rehearse", stopped)
    refused(privemo("attack", run, "--canaries", "50"), "Stopped", "attacks.jsonl")
    assert '"event":"begun"' in (run / "attacks.jsonl").read_text()


def unwrapped(told: Any) -> str:
    assert told.returncode == 0, told.stderr
    return " ".join(told.stdout.split())


def test_the_model_of_people_who_may_exist_is_not_attacked(run: Path) -> None:
    refused(
        privemo("attack", run, "--canaries", "50", "--data", run.parent / "faces.npz"),
        "people do not exist",
    )
    assert not (run / "attacks.jsonl").exists()


def test_ages_that_the_rules_exclude_are_asked_about_and_the_next_audit_reports_it(
    run: Path, tmp_path: Path
) -> None:
    told = unwrapped(privemo("excluded", run, "--people", "20", "--seed", "1"))
    for words in ("20 people who do not exist", "under 13", "13 to 17", "25 and over", "always"):
        assert words in told
    as_json = json.loads(privemo("excluded", run, "--people", "20", "--seed", "1", "--json").stdout)
    report = json.loads(privemo("audit", run, "--json").stdout)
    assert report["excluded"]["ages"] == as_json["ages"]
    refused(privemo("excluded", run, "--people", "3"), "20 people or more")
    refused(privemo("excluded", tmp_path / "nowhere"), "nowhere", "a run folder?")


@pytest.mark.usefixtures("hardly_by_chance")
def test_an_attack_as_json_and_what_it_cannot_attack(run: Path, tmp_path: Path) -> None:
    told = privemo("attack", run, "--canaries", "60", "--json")
    assert told.returncode == 0, told.stderr
    found = json.loads(told.stdout)
    assert found["epsilon_at_least"] <= found["epsilon_claimed"]
    refused(privemo("attack", run, "--canaries", "5"), "50 canaries or more")
    refused(privemo("attack", tmp_path / "nowhere"), "is", "nowhere", "a run folder?")


@pytest.mark.usefixtures("hardly_by_chance")
def test_an_attack_that_found_too_much_is_exit_code_1(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from privemo.dp import GaussianNoise

    monkeypatch.setattr(GaussianNoise, "draw_secure", lambda self, n: self.draw(n).double() / 1e3)
    told = privemo("attack", run, "--canaries", "60")
    assert told.returncode == 1, told.stderr
    assert "calculated, by PLD" in told.stdout
    assert privemo("audit", run).returncode == 1


def test_stores_count_and_an_auditor_joins(run: Path, tmp_path: Path) -> None:
    files = []
    for store in ("store-01", "store-02"):
        file = tmp_path / f"{store}.json"
        told = privemo("audit", "counts", run / "stores" / store, "--out", file)
        assert told.returncode == 0, told.stderr
        assert "for the auditor alone" in told.stdout
        files.append(file)
    joined = privemo("audit", "join", *files, "--out", tmp_path / "joined.json")
    assert joined.returncode == 0, joined.stderr
    assert "everyone" in joined.stdout
    content = json.loads((tmp_path / "joined.json").read_text())
    assert content["stores"] == ["store-01", "store-02"]
    as_json = privemo("audit", "join", *files, "--json")
    assert json.loads(as_json.stdout) == content
    refused(privemo("audit", "join", files[0], files[0]), "comes twice")
    refused(privemo("audit", "counts", run / "stores" / "store-01", "--out", files[0]), "exists")
    refused(privemo("audit", "join", tmp_path / "no.json"), "no.json", "cannot be read")
