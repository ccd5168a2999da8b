"""Wrong input is one sentence, and changes nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.surface.registry.commands import ADULT, PERSON, told
from tests.surface.test_cli import privemo, refused

WRONG = [
    (("consent", "show", "--person", PERSON), ["--registry is missing", "PRIVEMO_REGISTRY"]),
    (("consent", "show", "--registry", "none.sqlite", "--person", PERSON),
     ["no registry at", "privemo registry new"]),
    (("consent", "show", "--registry", "mysql://x/y", "--person", PERSON), ["postgresql://"]),
    (("consent", "show", "--registry", "{r}"), ["--person is missing"]),
    (("consent", "show", "--registry", "{r}", "--person", "stranger"), ["no record"]),
    (("consent", "show", "--registry", "{notes}", "--person", PERSON), ["notes.txt"]),
    (("consent", "show", "--registry", "{r}", "--keys", "nowhere", "--person", PERSON), ["nowhere"]),
    (("consent", "receipt", "--registry", "{r}", "--person", "stranger"), ["no record"]),
    (("consent", "export", "--registry", "{r}", "--person", "stranger"), ["no record"]),
    (("consent", "export", "--registry", "{r}"), ["--person", "--all", "--processing"]),
    (("consent", "uses", "--registry", "{r}", "--person", "stranger"), ["no record"]),
    (("consent", "withdraw", "--registry", "{r}", "--person", "stranger"), ["no record"]),
    (("consent", "withdraw", "--registry", "{r}"), ["--person", "--people"]),
    (("consent", "withdraw", "--registry", "{r}", "--people", "none.txt"), ["none.txt"]),
    (("consent", "withdraw", "--registry", "{r}", "--people", "{empty}"), ["names nobody"]),
    (("consent", "erase", "--registry", "{r}", "--person", "stranger", "--yes"), ["no record"]),
    (("consent", "overdue", "--registry", "{r}", "--at", "yesterday"), ["2026-01-31T09:30"]),
    (("consent", "overdue", "--registry", "{r}", "--at", "2026-01-31T09:30:00"), ["zone"]),
    (("consent", "import", "--registry", "{r}", "none.csv"), ["none.csv"]),
    (("consent", "import", "--registry", "{r}", "{notes}"), ["notes.txt"]),
    (("consent", "grant", "--registry", "{r}", "--person", "p"), ["--purpose", "--age-band"]),
    (("consent", "grant", "--registry", "{r}", "--person", "p", "--purpose", "sale", *ADULT),
     ["sale", "training"]),
    (("consent", "grant", "--registry", "{r}", "--person", "p", "--purpose", "training", *ADULT,
      "--valid-days", "4000"), ["732 days"]),
    (("consent", "grant", "--registry", "{r}", "--person", "p", "--purpose", "training", *ADULT,
      "--valid-days", "0"), ["--valid-days 0", "1 to 732 days"]),
    (("consent", "grant", "--registry", "{r}", "--person", "p", "--purpose", "training", *ADULT,
      "--notice", "another"), ["no such notice"]),
    (("consent", "grant", "--registry", "{r}", "--person", "p", "--purpose", "training", *ADULT,
      "--at", "2020-01-01T00:00:00+00:00"), ["date events back"]),
    (("consent", "grant", "--registry", "{r}", "--person", "p", "--purpose", "training",
      "--age-band", "25_34", "--jurisdiction", "Ireland"), ["Ireland"]),
    (("consent", "grant", "--registry", "{r}", "--person", "p", "--purpose", "training",
      "--age-band", "13_15", "--jurisdiction", "IE"), ["minors are never read"]),
    (("consent", "decide", "--registry", "{r}", "--person", "p", "--purpose", "training",
      "--jurisdiction", "here"), ["--jurisdiction"]),
    (("consent", "decide", "--registry", "{r}", "--person", "p", "--purpose", "training",
      "--jurisdiction", "IE", "--challenge-age", "12"), ["challenge"]),
    (("notice", "check", "none.json"), ["none.json"]),
    (("notice", "check", "{notes}"), ["is no notice", "JSON"]),
    (("notice", "check", "{controller}"), ["is no notice", "notice_id", "more"]),
    (("notice", "register", "--registry", "{r}", "{notes}"), ["is no notice"]),
    (("notice", "announce", "--registry", "{r}"), ["--at", "where the notice hangs"]),
    (("notice", "announce", "--registry", "{r}", "--at", " "), ["--at", "where the notice hangs"]),
    (("log", "prove", "--registry", "{r}", "999"), ["no event 999", "0 to 3"]),
    (("log", "prove", "--registry", "{r}", "--", "-1"), ["no event -1", "0 to 3"]),
    (("log", "prove", "--registry", "{r}", "first"), ["integer"]),
    (("log", "verify", "none.sqlite"), ["no registry at"]),
    (("log", "verify", "{r}", "--key", "nonsense"), ["a public key is one line"]),
    (("log", "export", "--registry", "{r}", "{folder}"), ["exists"]),
    (("keys", "new", "{folder}"), ["exists"]),
    (("keys", "rotate", "--registry", "{r}"), ["--what"]),
    (("keys", "rotate", "--registry", "{r}", "--what", "signing", "--overlap-days", "-1"),
     ["overlap"]),
    (("keys", "rotate", "--registry", "{r}", "--what", "signing", "--overlap-days", "nan"),
     ["--overlap-days"]),
    (("keys", "revoke", "--registry", "{r}", "00000000", "--yes"), ["no key"]),
    (("keys", "forget", "--registry", "{r}", "1", "--yes"),
     ["epoch 1 is in use", "keys rotate --what persons"]),
    (("keys", "forget", "--registry", "{r}", "9", "--yes"), ["no epoch 9", "one of 1"]),
    (("registry", "new", "new.sqlite", "--controller", "{controller}"), ["--mode"]),
    (("registry", "new", "new.sqlite", "--mode", "production"), ["--controller"]),
    (("registry", "new", "new.sqlite", "--mode", "test", "--controller", "{controller}"), ["test"]),
    (("registry", "new", "new.sqlite", "--mode", "production", "--controller", "{notes}"),
     ["is no party"]),
    (("registry", "new", "{r}", "--mode", "production", "--controller", "{controller}"),
     ["exists", "--registry"]),
    (("registry", "new", "nowhere/new.sqlite", "--mode", "production", "--controller",
      "{controller}"), ["nowhere"]),
    (("registry", "new", "postgresql://localhost/x", "--mode", "production", "--controller",
      "{controller}"), ["--keys DIR"]),
    (("registry", "migrate", "--registry", "none.sqlite"), ["no registry"]),
    (("registry", "witness", "--registry", "{r}"), ["--none"]),
    (("registry", "witness", "--registry", "{r}", "{folder}"), ["folder"]),
    (("registry", "mirror", "--registry", "{r}", "{folder}"), ["exists"]),
    (("registry", "mirror", "--registry", "{r}", "nowhere", "--remove"), ["no mirror"]),
    (("registry", "mirror", "--registry", "{r}", "nowhere", "--lost"), ["--remove"]),
    (("registry", "backup", "--registry", "{r}", "{notes}"), ["exists"]),
    (("registry", "restore", "{r}", "new.sqlite"), ["--keys is missing", "mirror"]),
    (("registry", "restore", "none.sqlite", "new.sqlite", "--keys", "{keys}"), ["none.sqlite"]),
    (("registry", "restore", "{r}", "new.sqlite", "--keys", "{keys}"), ["backup"]),
    (("registry", "restore", "{notes}", "new.sqlite", "--keys", "{keys}"), ["notes.txt"]),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "words"), WRONG, ids=lambda v: " ".join(map(str, v))[:60])
def test_wrong_input_is_one_sentence(
    registry: Path,
    controller: Path,
    arguments: tuple[str, ...],
    words: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    here = registry.parent
    monkeypatch.chdir(here)
    (here / "notes.txt").write_text("buy milk\n")
    (here / "empty.txt").write_text("\n\n")
    (here / "folder").mkdir()
    (here / "folder/letter.txt").write_text("keep me")
    places = {
        "r": registry,
        "keys": registry.with_suffix(".keys"),
        "notes": here / "notes.txt",
        "empty": here / "empty.txt",
        "folder": here / "folder",
        "controller": controller,
    }
    before = {path.name for path in here.iterdir()} | {"consent.sqlite-wal", "consent.sqlite-shm"}
    result = privemo(*(argument.format_map(places) for argument in arguments))
    refused(result, *words)
    assert PERSON not in result.stderr
    assert "stranger" not in result.stderr
    assert {path.name for path in here.iterdir()} <= before
    assert (here / "notes.txt").read_text() == "buy milk\n"
    assert (here / "folder/letter.txt").read_text() == "keep me"
    assert told("log", "verify", registry)["verified"] is True
    assert told("consent", "show", "--registry", registry, "--person", PERSON)["consents"][0][
        "live"
    ]
