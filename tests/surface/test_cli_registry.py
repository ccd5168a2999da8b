"""The commands on a registry as their user meets them: real files, real processes, wrong input."""

from __future__ import annotations

import json
import lzma
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from privemo_consent import ConsentRegistry, Context, NewItem, Purpose, Vault
from privemo_consent.receipts import verify_receipt
from tests.support.consent import PARTY, consent_notice, make_registry
from tests.support.postgres import PostgresServer
from tests.surface.test_cli import privemo, refused

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/how-to/registry.md"
COMMAND = Path(sys.executable).with_name("privemo")
PERSON = "p-visible-nowhere"
OURS = ("PRIVEMO_REGISTRY", "PRIVEMO_KEYS", "PRIVEMO_PASSPHRASE", "PRIVEMO_TRANSFER_PASSPHRASE")
FILES = ("", "-wal", "-shm")
ADULT = ("--age-band", "25_34", "--jurisdiction", "IE")


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in OURS:
        monkeypatch.delenv(name, raising=False)


def told(*arguments: str | Path) -> Any:
    """Run a command that must succeed; return what it says in JSON."""
    result = privemo(*arguments, "--json")
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def process(*arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """A process of its own, with nobody at a terminal."""
    return subprocess.run(
        [COMMAND, *map(str, arguments)],
        stdin=options.pop("stdin", subprocess.DEVNULL),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        **options,
    )


def at_a_terminal(answers: str, *arguments: str | Path) -> tuple[int, str]:
    """A process of its own with a terminal, at which someone types; its exit code and the screen."""
    master, slave = os.openpty()
    child = subprocess.Popen(
        [COMMAND, *map(str, arguments)],
        preexec_fn=lambda: os.login_tty(slave),
        env={**os.environ, "TERM": "dumb"},
    )
    os.close(slave)
    screen, typed = b"", answers.encode()
    try:
        while part := os.read(master, 4096):
            screen += part
            # The blank is written last, once what was typed before is discarded.
            if typed and re.search(rb"(folder|confirmation|\[y/N\]): $", screen):
                line, _, typed = typed.partition(b"\n")
                os.write(master, line + b"\n")
    except OSError:  # how Linux says that the other side has closed
        pass
    finally:
        os.close(master)
        if typed:
            child.kill()  # it never asked
        child.wait(timeout=60)
    return child.returncode, screen.decode()


@pytest.fixture
def controller(tmp_path: Path) -> Path:
    path = tmp_path / "controller.json"
    path.write_text(PARTY.model_dump_json())
    return path


@pytest.fixture(scope="module")
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


@pytest.fixture(scope="module")
def rich(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry with an entry of every kind, to be copied and broken."""
    return make_registry(tmp_path_factory.mktemp("rich") / "consent.sqlite")


# -- the page for compliance officers ------------------------------------------------------------


def page_files() -> dict[str, str]:
    """Files that the page asks its reader to save."""
    text = PAGE.read_text(encoding="utf-8")
    return dict(re.findall(r"[Ss]ave as `([\w.]+)`:\n\n```\w+\n(.*?)```", text, re.DOTALL))


def page_script() -> str:
    return "".join(re.findall(r"^```bash\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE))


def test_the_page_runs_from_top_to_bottom(tmp_path: Path) -> None:
    for name, content in page_files().items():
        (tmp_path / name).write_text(content)
    done = subprocess.run(
        ["bash", "-euxc", page_script()],
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=250,
        env={**os.environ, "PATH": f"{COMMAND.parent}:{os.environ['PATH']}"},
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    assert {"controller.json", "answers.csv"} <= set(page_files())
    head = (tmp_path / "head.txt").read_text()
    assert json.loads((tmp_path / "proof.json").read_text())["checkpoint"] == head
    with ConsentRegistry.open(
        tmp_path / "restored.sqlite",
        mode="production",
        keys=tmp_path / "consent.keys",
        readonly=True,
    ) as restored:
        assert set(restored.persons()) == {"p-42", "p-50", "p-51"}
    with ConsentRegistry.open(tmp_path / "new.sqlite", mode="production") as moved:
        assert set(moved.persons()) == {"p-42", "p-50", "p-51"}
        assert not any(event.person == "p-41" for event in moved.history("p-42"))


def test_every_kind_of_command_stands_on_the_page() -> None:
    used = set(re.findall(r"^privemo (\w+ \w+)", page_script(), re.MULTILINE))
    assert len(used) >= 25


# -- kiosks --------------------------------------------------------------------------------------

_LIGHT = """
import sys
heavy = ("torch", "pandas", "opacus", "flwr", "ray", "fairlearn", "matplotlib", "privemo_audits")
for name in heavy:
    sys.modules[name] = None  # importing it raises
from privemo.cli import main
for line in sys.stdin.read().splitlines():
    sys.argv = ["privemo", *line.split()]
    try:
        main()
    except SystemExit as done:
        assert not done.code, line
"""


def test_no_command_on_a_registry_needs_machine_learning(tmp_path: Path, controller: Path) -> None:
    (tmp_path / "notice.json").write_text(consent_notice().model_dump_json(exclude_none=True))
    lines = [
        "registry new --mode production --controller controller.json --witness w",
        "notice check notice.json",
        "notice register notice.json",
        "notice announce --at door",
        f"consent grant --person {PERSON} --purpose training --age-band 25_34 --jurisdiction IE",
        f"consent decide --person {PERSON} --purpose training --jurisdiction IE --age-band 25_34",
        f"consent show --person {PERSON}",
        f"consent receipt --person {PERSON} --svg code.svg",
        f"consent export --person {PERSON}",
        f"consent withdraw --person {PERSON}",
        "consent uses",
        "consent overdue",
        "log verify",
        "log prove 0",
        "log export out",
        "log verify out",
        "keys rotate --what signing",
        "keys rotate --what persons",
        "keys list",
        "registry show",
        f"consent erase --person {PERSON} --yes",
    ]
    done = subprocess.run(
        [sys.executable, "-c", _LIGHT],
        input="\n".join(lines),
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
        timeout=120,
        env={**os.environ, "PRIVEMO_REGISTRY": "consent.sqlite"},
    )
    assert done.returncode == 0, done.stderr


# -- answers ---------------------------------------------------------------------------------------


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


# -- wrong input -------------------------------------------------------------------------------------

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
    (("log", "verify", "{r}", "--key", "nonsense"), ["verifying key"]),
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


# -- asking before what cannot be undone ---------------------------------------------------------------

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


# -- passphrases ---------------------------------------------------------------------------------------


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
    refused(process(*ask, "--passphrase-file", file), "chmod 600")
    file.chmod(0o600)
    assert process(*ask, "--passphrase-file", file).returncode == 0
    code, screen = at_a_terminal(f"{secret}\n", *ask)
    assert code == 0, screen
    assert secret not in screen
    file.write_text("incorrect horse\n")
    wrong = process(*ask, "--passphrase-file", file)
    refused(wrong, "passphrase")
    file.write_text("")
    refused(process(*ask, "--passphrase-file", file), "is empty")
    # A wrong passphrase is a mistake, and no proof that anything was changed.
    file.write_text("incorrect horse\n")
    refused(process("log", "verify", path, "--passphrase-file", file), "passphrase")


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


# -- modes -----------------------------------------------------------------------------------------------


def test_a_simulation_says_so_and_never_becomes_real(tmp_path: Path, controller: Path) -> None:
    path = tmp_path / "simulated.sqlite"
    told("registry", "new", path, "--mode", "simulation", "--controller", controller)
    assert told("registry", "show", "--registry", path)["mode"] == "simulation"
    result = privemo("registry", "show", "--registry", path)
    assert "simulation registry" in result.stderr
    assert "simulation registry" not in privemo("registry", "--help").stderr
    from tests.surface.test_docs import all_commands, options_of

    having = {name for name, command in all_commands().items() if "--mode" in options_of(command)}
    # Of `bench accuracy` it is where the noise is added.
    assert having == {"registry new", "bench accuracy"}


# -- notices ---------------------------------------------------------------------------------------------


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


# -- verification ------------------------------------------------------------------------------------------


def flipped(source: Path, to: Path, offset: int) -> Path:
    body = bytearray(source.read_bytes())
    body[offset] ^= 1
    to.write_bytes(body)
    to.chmod(0o600)
    return to


def verdict(*arguments: str | Path) -> str:
    """The entry that `log verify` names when it exits with 1."""
    result = privemo("log", "verify", *arguments, "--json")
    assert result.returncode == 1, result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    found = json.loads(result.stdout)
    assert found["verified"] is False
    assert found["entry"] in result.stderr
    return str(found["entry"])


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


# -- keys and copies ---------------------------------------------------------------------------------------


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


# -- backups, transfers, imports ----------------------------------------------------------------------------


def live(registry: Path, *keys: str | Path) -> list[str]:
    shown = told("consent", "show", "--registry", registry, "--person", PERSON, *keys)
    return [each["purpose"] for each in shown["consents"] if each["live"]]


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


HEAD = "person,purposes,age_band,jurisdiction,notice,valid_days\n"


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


def test_a_registry_of_the_first_version_is_migrated(tmp_path: Path) -> None:
    path = tmp_path / "consent.sqlite"
    path.write_bytes(lzma.decompress((ROOT / "tests/data/consent-v1.sqlite.xz").read_bytes()))
    refused(privemo("registry", "show", "--registry", path), "privemo registry migrate")
    assert told("registry", "migrate", "--registry", path)["from"] == 1
    assert told("log", "verify", path)["named"] is True
    assert told("registry", "show", "--registry", path)["sizes"]["people"] > 0
    again = told("registry", "migrate", "--registry", path)
    assert (again["from"], again["to"]) == (2, 2)


# -- a server ----------------------------------------------------------------------------------------------


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


# -- what people read ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [r"no\[/x]such", "[/]", "[bold]x", ":smile:", "no\\"])
def test_brackets_in_a_name_are_no_markup(name: str, tmp_path: Path) -> None:
    result = privemo("log", "verify", tmp_path / name)
    refused(result, f"no registry at {tmp_path / name}:")


def test_what_is_shown_as_live_is_what_a_decision_permits(registry: Path) -> None:
    at = ("--registry", registry)
    clerk = ("consent", "grant", *at, "--person", "clerk", "--purpose", "training", *ADULT)
    told(*clerk)
    refused(privemo(*clerk, "--role", "employee"), "staff")
    told("consent", "grant", *at, "--person", "q", "--purpose", "personalisation", *ADULT)
    told("consent", "withdraw", *at, "--person", PERSON, "--purpose", "training")

    def shown(person: str) -> dict[str, tuple[bool, str]]:
        found = told("consent", "show", *at, "--person", person)["consents"]
        return {each["purpose"]: (each["live"], each["reason"]) for each in found}

    assert shown(PERSON) == {
        "fairness_audit": (True, "permitted"),
        "training": (False, "withdrawn"),
    }
    assert shown("clerk") == {"training": (False, "staff")}
    assert shown("q") == {"personalisation": (False, "not_announced")}
    with ConsentRegistry.open(registry, mode="production") as opened:
        opened.notice(consent_notice(2))
    assert shown(PERSON)["fairness_audit"] == (False, "notice_changed")
    result = privemo("consent", "show", *at, "--person", PERSON)
    assert "ConsentGiven, not live: notice_changed\n" in result.stdout
    assert " until " not in result.stdout


def test_a_refused_decision_says_what_to_do(registry: Path) -> None:
    at = ("--registry", registry, "--person", "q", "--purpose", "personalisation")
    told("consent", "grant", *at, *ADULT)
    result = privemo("consent", "decide", *at, *ADULT)
    assert (result.returncode, result.stdout) == (1, "refused: not_announced\n")
    assert "privemo notice announce" in result.stderr
    told("notice", "announce", "--registry", registry, "--at", "door")
    assert told("consent", "decide", *at, *ADULT)["permit"] is True


@pytest.mark.parametrize("command", [("withdraw",), ("erase", "--yes")])
def test_of_many_the_line_without_a_record_is_named_and_not_the_id(
    registry: Path, tmp_path: Path, command: tuple[str, ...]
) -> None:
    people = tmp_path / "people.txt"
    people.write_text(f"{PERSON}\n\nnobody-known\n")
    result = privemo("consent", *command, "--registry", registry, "--people", people)
    refused(result, "people.txt, line 3:", "no record")
    assert "nobody-known" not in result.stderr
    assert live(registry) == ["fairness_audit", "training"]


def test_results_are_plain_words(registry: Path) -> None:
    lines = privemo("log", "verify", registry).stdout.splitlines()
    assert {"verified: yes", "pinned: no", "named: yes"} <= set(lines)
    shown = privemo("registry", "show", "--registry", registry).stdout
    assert "sizes: 1 person, 0 people erased, 1 notice, 4 events, 0 uses, 0 items\n" in shown
    assert "mirrors: none\n" in shown
    export = registry.parent / "export"
    done = privemo("log", "export", "--registry", registry, export)
    assert done.stdout.endswith(": 4 events, 0 uses\n")
    assert "witnesses: none\n" in privemo("log", "verify", export).stdout
    erased = privemo("consent", "erase", "--registry", registry, "--person", PERSON, "--yes")
    assert erased.stdout == "erased: 1 person, 0 items\n"


def test_a_filled_in_template_reads_as_a_sentence(controller: Path) -> None:
    text = json.loads(privemo("notice", "new", "--controller", controller).stdout)["text"]
    assert "the FILL IN" not in text
    assert "complain to the authority for\ndata protection: FILL IN: the authority." in text
