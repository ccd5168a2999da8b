"""Registries with somebody in them, copied for each test of a command."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from privemo_consent import ConsentRegistry
from tests.support.consent import PARTY, consent_notice
from tests.surface.registry.commands import ADULT, PERSON, told

OURS = ("PRIVEMO_REGISTRY", "PRIVEMO_KEYS", "PRIVEMO_PASSPHRASE", "PRIVEMO_TRANSFER_PASSPHRASE")


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in OURS:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def controller(tmp_path: Path) -> Path:
    path = tmp_path / "controller.json"
    path.write_text(PARTY.model_dump_json())
    return path


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "consent.sqlite"
    with ConsentRegistry.create(path, mode="production", controller=PARTY) as made:
        made.notice(consent_notice())
    told("consent", "grant", "--registry", path, "--person", PERSON, *ADULT,
         *("--purpose", "training", "--purpose", "fairness_audit"))  # fmt: skip
    return path


@pytest.fixture
def registry(template: Path, tmp_path: Path) -> Path:
    """A production registry in which one person agreed to two purposes."""
    shutil.copytree(template.with_suffix(".keys"), tmp_path / "consent.keys")
    return Path(shutil.copy(template, tmp_path / "consent.sqlite"))
