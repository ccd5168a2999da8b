"""What cannot be undone is asked first, and passphrases are typed where nobody sees them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.surface.registry.commands import PERSON, at_a_terminal, process, told
from tests.surface.test_cli import privemo, refused

FINAL = [
    ("consent", "erase", "--person", PERSON),
    ("consent", "revoke", "--person", PERSON),
    ("keys", "revoke", "{key}"),
    ("keys", "forget", "1"),
]


def standing(registry: Path) -> tuple[object, object, object]:
    keys = told("keys", "list", "--registry", registry)
    shown = told("consent", "show", "--registry", registry, "--person", PERSON)
    return keys["signing"][0]["revoked"], keys["persons"]["epochs"], shown["consents"]


@pytest.mark.parametrize("arguments", FINAL, ids=lambda v: " ".join(v[:2]))
def test_what_cannot_be_undone_is_asked_first(registry: Path, arguments: tuple[str, ...]) -> None:
    told("keys", "rotate", "--registry", registry, "--what", "persons")
    before = standing(registry)
    key = told("keys", "list", "--registry", registry)["signing"][0]["key_id"]
    command = [argument.format(key=key) for argument in arguments]
    refused(process(*command, "--registry", registry), "--yes")
    assert standing(registry) == before
    code, screen = at_a_terminal("n\n", *command, "--registry", registry)
    assert code == 2, screen
    assert "[y/N]" in screen
    assert standing(registry) == before
    code, screen = at_a_terminal("y\n", *command, "--registry", registry)
    assert code == 0, screen
    if command[:2] == ["consent", "erase"]:
        refused(privemo("consent", "show", "--registry", registry, "--person", PERSON), "no record")
    else:
        assert standing(registry) != before
    assert told("log", "verify", registry)["verified"] is True


def new_sealed(tmp_path: Path, controller: Path, **options: Any) -> Path:
    path = tmp_path / "sealed.sqlite"
    done = process(
        *("registry", "new", path, "--mode", "production", "--controller", controller),
        *("--protect", "passphrase"),
        **options,
    )
    assert done.returncode == 0, done.stderr
    return path


def test_a_passphrase_comes_from_environment_file_or_terminal(
    tmp_path: Path, controller: Path
) -> None:
    secret = "correct horse battery staple"  # noqa: S105
    path = new_sealed(tmp_path, controller, env={**os.environ, "PRIVEMO_PASSPHRASE": secret})
    ask = ("keys", "list", "--registry", path)
    refused(process(*ask), "needs a passphrase", "--passphrase-file", "PRIVEMO_PASSPHRASE")
    file = tmp_path / "passphrase.txt"
    file.write_text(f"{secret}\n")
    file.chmod(0o644)
    refused(privemo(*ask, "--passphrase-file", file), "chmod 600")
    file.chmod(0o600)
    assert privemo(*ask, "--passphrase-file", file).returncode == 0
    code, screen = at_a_terminal(f"{secret}\n", *ask)
    assert code == 0, screen
    assert secret not in screen
    file.write_text("incorrect horse\n")
    refused(privemo(*ask, "--passphrase-file", file), "passphrase")
    file.write_text("")
    refused(privemo(*ask, "--passphrase-file", file), "is empty")
    # A wrong passphrase is a mistake, and no proof that anything was changed.
    file.write_text("incorrect horse\n")
    refused(privemo("log", "verify", path, "--passphrase-file", file), "passphrase")


def test_a_new_passphrase_is_typed_twice(tmp_path: Path, controller: Path) -> None:
    command = ("keys", "new", tmp_path / "keys", "--protect", "passphrase")
    code, screen = at_a_terminal("one\ntwo\nthree\nthree\n", *command)
    assert code == 0, screen
    assert "do not match" in screen
    made = ("registry", "new", tmp_path / "r.sqlite", "--keys", tmp_path / "keys")
    rest = ("--mode", "production", "--controller", controller)
    env = {**os.environ, "PRIVEMO_PASSPHRASE": "three"}
    refused(process(*made, *rest, "--protect", "none", env=env), "leave out --protect")
    assert process(*made, *rest, env=env).returncode == 0


def test_no_option_takes_a_passphrase_itself() -> None:
    from tests.surface.test_docs import all_commands, options_of

    options = {option for command in all_commands().values() for option in options_of(command)}
    secret = {option for option in options if "pass" in option or "secret" in option}
    assert secret == {"--passphrase-file", "--transfer-passphrase-file", "--password-file"}
