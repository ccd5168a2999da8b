"""A registry on a PostgreSQL, and a password that is in no message."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.consent import consent_notice
from tests.support.postgres import PostgresServer
from tests.surface.registry.commands import ADULT, HEAD, PERSON, told
from tests.surface.test_cli import privemo


def test_a_registry_on_a_server(postgres: PostgresServer, tmp_path: Path, controller: Path) -> None:
    url, keys = postgres.fresh(), tmp_path / "keys"
    at = ("--registry", url, "--keys", keys)
    notice = tmp_path / "notice.json"
    notice.write_text(consent_notice().model_dump_json(exclude_none=True))
    told("registry", "new", *at, "--mode", "production", "--controller", controller)
    told("notice", "register", *at, notice)
    told("consent", "grant", *at, "--person", PERSON, "--purpose", "training", *ADULT)
    asked = ("--purpose", "training", "--jurisdiction", "IE", "--age-band", "25_34")
    assert told("consent", "decide", *at, "--person", PERSON, *asked)["permit"] is True
    assert told("registry", "show", *at)["sizes"]["people"] == 1
    told("log", "export", *at, tmp_path / "export")
    assert told("log", "verify", tmp_path / "export")["events"] == 3
    assert told("log", "verify", *at)["named"] is True
    assert told("consent", "erase", *at, "--person", PERSON, "--yes")["people"] == 1


SECRET = "hunter2secret"  # noqa: S105
URLS = {
    "a server that is away": f"postgresql://shop:{SECRET}@127.0.0.1:1/none",
    "a password in the query": f"postgresql://shop@127.0.0.1:1/none?password={SECRET}",
    "a slash too few": f"postgresql:/shop:{SECRET}@127.0.0.1/none",
    "no slash": f"postgresql:shop:{SECRET}@127.0.0.1/none",
    "no colon": f"postgresql//shop:{SECRET}@127.0.0.1/none",
    "a leading blank": f" postgresql://shop:{SECRET}@127.0.0.1:1/none",
    "a leading quote": f"'postgresql://shop:{SECRET}@127.0.0.1:1/none'",
    "another database": f"mysql://shop:{SECRET}@127.0.0.1/none",
    "a scheme with a slip": f"postgersql:/shop:{SECRET}@127.0.0.1/none",
    "an @ in the password": f"postgresql://shop:p@{SECRET}@127.0.0.1:1/none",
    "a slash before the password": f"postgresql:///shop:{SECRET}@127.0.0.1/none",
    "no number for a port": f"postgresql://shop:{SECRET}@127.0.0.1:port/none",
}
WITH_A_PLACE = [
    ("registry", "show"),
    ("registry", "show", "{url}"),  # no such argument: the parser quotes it
    ("registry", "show", "--keys", "keys", "--person", "{url}"),
    ("registry", "new", "{url}", "--mode", "production", "--controller", "controller.json"),
    ("registry", "migrate", "--keys", "keys"),
    ("registry", "restore", "backup.sqlite", "{url}", "--keys", "consent.keys"),
    ("consent", "import", "all.transfer", "--keys", "new.keys"),
    ("consent", "import", "answers.csv", "--keys", "consent.keys"),
    ("consent", "show", "--person", PERSON),
    ("consent", "erase", "--person", PERSON, "--yes", "--keys", "consent.keys"),
    ("log", "verify", "{url}"),
    ("log", "verify", "{url}", "--json"),
    ("keys", "list"),
]


@pytest.mark.parametrize("url", URLS.values(), ids=URLS.keys())
def test_the_password_of_a_server_is_in_no_message(
    url: str, registry: Path, controller: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(registry.parent)
    assert controller.name == "controller.json"
    told("registry", "backup", "--registry", registry, "backup.sqlite")
    told("consent", "export", "--registry", registry, "--all", "all.transfer", "--plain")
    Path("answers.csv").write_text(f"{HEAD}p,training,25_34,IE,faces,90\n")
    before = {path.name for path in registry.parent.iterdir()}
    for command in WITH_A_PLACE:
        arguments = [argument.format(url=url) for argument in command]
        result = privemo(*arguments, *(() if url in arguments else ("--registry", url)))
        assert result.returncode == 2, (command, result.stdout, result.stderr)
        assert "Traceback" not in result.stderr
        assert SECRET not in result.stdout + result.stderr, command
    assert {path.name for path in registry.parent.iterdir()} == before


def with_password(url: str) -> str:
    """The URL of a server that asks for none, with one."""
    return f"{url}{'&' if '?' in url else '?'}password={SECRET}"


def test_the_password_of_a_server_is_in_no_result(
    postgres: PostgresServer, registry: Path, controller: Path, tmp_path: Path
) -> None:
    backup, everything = tmp_path / "backup.sqlite", tmp_path / "everything"
    told("registry", "backup", "--registry", registry, backup)
    told("consent", "export", "--registry", registry, "--all", everything, "--plain")
    first, second, third = (with_password(postgres.fresh()) for _ in range(3))
    keys, mine = tmp_path / "1.keys", registry.with_suffix(".keys")
    at = ("--registry", first, "--keys", keys)
    for command in [
        ("registry", "new", *at, "--mode", "production", "--controller", controller),
        ("registry", "show", *at),
        ("registry", "migrate", *at),
        ("log", "verify", *at),
        ("consent", "import", everything, "--registry", second, "--keys", tmp_path / "2.keys"),
        ("registry", "restore", backup, third, "--keys", mine),
    ]:
        for form in ([], ["--json"]):
            result = privemo(*command, *form)
            written = result.stdout + result.stderr
            assert result.returncode == 0 or "holds" in written or "exists" in written, written
            assert SECRET not in written, command
