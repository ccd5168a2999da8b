"""A registry that moves house, as its keeper meets it: closed and moved, or copied and asked again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from privemo_consent import ConsentRegistry, Context, Purpose
from tests.support.consent import PARTY, consent_notice, grant
from tests.surface.test_cli import privemo, refused

PERSON = "p-1"


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("REGISTRY", "KEYS", "PASSPHRASE", "TRANSFER_PASSPHRASE"):
        monkeypatch.delenv(f"PRIVEMO_{name}", raising=False)


@pytest.fixture
def old(tmp_path: Path) -> Path:
    path = tmp_path / "old.sqlite"
    with ConsentRegistry.create(path, mode="production", controller=PARTY) as registry:
        registry.notice(consent_notice())
        registry.grant_many([grant(PERSON)])
    return path


def told(*arguments: str | Path) -> tuple[Any, str]:
    """Run a command that must succeed; return what it says in JSON, and its remarks."""
    result = privemo(*arguments, "--json")
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout), result.stderr


def decides(registry: Path) -> str:
    with ConsentRegistry.open(registry, mode="production") as opened:
        shop = Context(setting="retail", jurisdiction="IE")
        return opened.preview(PERSON, Purpose.TRAINING, shop).reason.value


def signing_key(registry: Path) -> str:
    with ConsentRegistry.open(registry, mode="production", readonly=True) as opened:
        return str(opened.ring.periods[-1].key)


def test_a_move_closes_where_it_starts(old: Path, tmp_path: Path) -> None:
    file, new = tmp_path / "everything", tmp_path / "new.sqlite"
    made, said = told("consent", "export", "--registry", old, "--all", file, "--plain", "--close")
    assert made["closed"] is True
    assert "This registry is closed" in said
    refused(privemo("consent", "withdraw", "--registry", old, "--person", PERSON), "was moved")
    assert decides(old) == "registry_unreadable"
    done, said = told("consent", "import", file, "--registry", new, "--key", signing_key(old))
    assert (done["closed"], done["suspended"], done["pinned"]) == (True, 0, True)
    assert (done["root"], done["events"]) == (made["root"], made["events"])
    assert "no witness and no mirror yet" in said
    assert "--key" not in said
    assert decides(new) == "permitted"
    for registry in (old, new):
        assert told("log", "verify", registry)[0]["named"] is True
    lines = privemo("consent", "import", file, "--registry", tmp_path / "more.sqlite").stdout
    assert "the registry it came from is closed: consents are live here" in lines


def test_a_copy_asks_everyone_again(old: Path, tmp_path: Path) -> None:
    file, new = tmp_path / "everything", tmp_path / "new.sqlite"
    made, said = told("consent", "export", "--registry", old, "--all", file, "--plain")
    assert made["closed"] is False
    assert "everyone is asked again" in said
    assert decides(old) == "permitted"
    told("consent", "withdraw", "--registry", old, "--person", PERSON)
    done, said = told("consent", "import", file, "--registry", new)
    assert (done["closed"], done["suspended"], done["pinned"]) == (False, 1, False)
    assert "say --key" in said
    assert decides(new) == "not_given"
    assert told("log", "verify", new)[0]["named"] is True
    lines = privemo("consent", "import", file, "--registry", tmp_path / "more.sqlite").stdout
    assert "1 consent suspended, ask these people again" in lines


def test_what_makes_no_sense_is_refused(old: Path, tmp_path: Path) -> None:
    file, new = tmp_path / "everything", tmp_path / "new.sqlite"
    refused(privemo("consent", "export", "--registry", old, "--person", PERSON, "--close"), "--all")
    told("consent", "export", "--registry", old, "--all", file, "--plain")
    take_in = ("consent", "import", file, "--registry", new, "--key")
    refused(privemo(*take_in, "no key"), "a public key is one line")
    name, _, rest = signing_key(old).partition("+")
    refused(privemo(*take_in, f"{name}x+{rest}"), "key id")
    with ConsentRegistry.create(
        tmp_path / "other.sqlite", mode="production", controller=PARTY
    ) as other:
        stranger = str(other.ring.periods[0].key)
    refused(privemo(*take_in, stranger), "by none of those that you gave")
    assert not new.exists()
    answers = tmp_path / "answers.csv"
    answers.write_text("person,purposes\n")
    refused(privemo("consent", "import", answers, "--registry", old, "--key", stranger), "--key")


def test_a_file_nested_too_deep_is_told_in_a_sentence(tmp_path: Path) -> None:
    file = tmp_path / "deep"
    file.write_text('{"schema":"privemo.transfer/1","x":' + "[" * 200_000 + "\n")
    refused(privemo("consent", "import", file, "--registry", tmp_path / "n.sqlite"), "too deep")
