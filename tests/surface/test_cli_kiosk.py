"""`privemo kiosk` as whoever sets it up meets it: real processes, signals, TLS, wrong input."""

from __future__ import annotations

import os
import re
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

import httpx
import pytest

from privemo_consent import ConsentRegistry
from privemo_consent.kiosk.codes import person_of
from privemo_consent.kiosk.demonstration import demo_notice
from privemo_consent.kiosk.staff import StaffDoor
from tests.support.certificates import certificate
from tests.support.consent import PARTY
from tests.support.kiosk import PASSWORD, Shopper
from tests.surface.test_cli import privemo, refused

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PRIVEMO_REGISTRY", "PRIVEMO_KEYS", "PRIVEMO_STAFF_PASSWORD"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def registry(tmp_path: Path) -> Path:
    path = tmp_path / "consent.sqlite"
    with ConsentRegistry.create(path, mode="production", controller=PARTY) as made:
        made.notice(demo_notice("en", PARTY))
    return path


@contextmanager
def served(
    *arguments: str | Path, end: int = signal.SIGTERM, **env: str
) -> Iterator[dict[str, str]]:
    """A kiosk in a process of its own; yields what it printed, by the word before the colon."""
    process = subprocess.Popen(
        [sys.executable, "-m", "privemo", "kiosk", *map(str, arguments), "--port", "0"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1", **env},
    )
    said: dict[str, str] = {}
    try:
        for line in cast("IO[str]", process.stdout):
            name, _, rest = line.strip().partition(": ")
            said[name] = rest
            if name == "kiosk":
                break
        else:
            pytest.fail(cast("IO[str]", process.stderr).read())
        yield said
        process.send_signal(end)
        _, said["stderr"] = process.communicate(timeout=30)
        assert process.returncode == 0, said["stderr"]
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


@pytest.mark.parametrize(
    "end",
    [
        signal.SIGTERM,
        pytest.param(signal.SIGINT, marks=pytest.mark.slow),
    ],
    ids=["SIGTERM", "Ctrl-C"],
)
def test_the_demonstration_shows_everything_and_leaves_nothing(tmp_path: Path, end: int) -> None:
    with served("--demo", end=end, TMPDIR=str(tmp_path)) as said:
        assert len(list(tmp_path.iterdir())) == 1
        password = said["staff page"].rpartition(" ")[2]
        with Shopper(said["kiosk"].rstrip("/"), "fr") as shopper:
            code = shopper.decide()
            assert "simulé" in shopper.get("mine").text
            shopper.post("visit")
            shopper.get("staff")
            assert "Personnes avec un dossier" in shopper.post("staff", {"password": password}).text
    assert list(tmp_path.iterdir()) == []
    assert "simulated" in said["stderr"]
    assert code not in said["stderr"]
    assert "GET" not in said["stderr"]


def test_a_registry_is_served_and_what_people_answer_stands_in_it(
    registry: Path, tmp_path: Path
) -> None:
    (tmp_path / "notices").mkdir()
    for language in ("en", "ar"):
        body = demo_notice(language, PARTY).model_dump_json(exclude_none=True)
        (tmp_path / "notices" / f"{language}.json").write_text(body)
    (tmp_path / "password").write_text(PASSWORD)
    (tmp_path / "password").chmod(0o600)
    made = privemo(
        "kiosk-password", tmp_path / "staff.json", "--password-file", tmp_path / "password"
    )
    assert made.returncode == 0, made.stderr
    options = (
        *("--jurisdiction", "IE", "--notices", tmp_path / "notices"),
        *("--staff", tmp_path / "staff.json", "--visits", tmp_path / "visits"),
        *("--place", "by the door"),
    )
    with served(registry, *options) as said, Shopper(said["kiosk"].rstrip("/"), "ar") as shopper:
        code = shopper.decide()
        shopper.get("staff")
        assert shopper.post("staff", {"password": PASSWORD}).status_code == 200
        shopper.post("visit")  # nobody was told yet that expressions are read
        assert list((tmp_path / "visits").iterdir()) == []
    assert said["stderr"] == ""
    with ConsentRegistry.open(registry, mode="production") as found:
        assert len(found.history(person_of(code))) == 3
        found.verify()


def test_the_password_is_set_once_and_replaced_when_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "staff.json"
    monkeypatch.setenv("PRIVEMO_STAFF_PASSWORD", "short")
    refused(privemo("kiosk-password", path), "12 to")
    monkeypatch.setenv("PRIVEMO_STAFF_PASSWORD", PASSWORD)
    result = privemo("kiosk-password", path)
    assert (result.returncode, result.stdout) == (0, f"written: {path}\n")
    refused(privemo("kiosk-password", path), "exists", "--replace")
    assert privemo("kiosk-password", path, "--replace").returncode == 0
    assert StaffDoor(path).is_right(PASSWORD)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), ["--jurisdiction"]),
        (("--jurisdiction", "IE"), ["name a registry", "--demo"]),
        (("REGISTRY", "--jurisdiction", "Ireland"), ["jurisdiction"]),
        (("REGISTRY", "--jurisdiction", "US-IL"), ["no notice in force is for US-IL"]),
        (("nowhere.sqlite", "--jurisdiction", "IE"), ["no registry at nowhere.sqlite"]),
        (("REGISTRY", "--jurisdiction", "IE", "--notice", "x"), ["no notice in force"]),
        (("REGISTRY", "--jurisdiction", "IE", "--notices", "nowhere"), ["holds no notice"]),
        (("REGISTRY", "--jurisdiction", "IE", "--staff", "nowhere"), ["kiosk-password"]),
        (("REGISTRY", "--jurisdiction", "IE", "--visits", "no/where"), ["no/where"]),
        (("REGISTRY", "--jurisdiction", "IE", "--idle", "1"), ["idle"]),
        (("REGISTRY", "--jurisdiction", "IE", "--valid-days", "0"), ["validity"]),
        (("REGISTRY", "--jurisdiction", "IE", "--name", "a/b"), ["host"]),
        (("REGISTRY", "--jurisdiction", "IE", "--host", "192.0.2.1"), ["192.0.2.1", "in the open"]),
        (("REGISTRY", "--jurisdiction", "IE", "--tls-cert", "c.pem"), ["both"]),
        (
            ("REGISTRY", "--jurisdiction", "IE", "--tls-cert", "c.pem", "--tls-key", "k.pem"),
            ["c.pem and k.pem"],
        ),
        (("REGISTRY", "--jurisdiction", "IE", "--screen", "kiosk=door"), ["--screen", "kiosk"]),
        (("REGISTRY", "--jurisdiction", "IE", "--screen", "192.0.2.7"), ["--screen", "PLACE"]),
        (("REGISTRY", "--jurisdiction", "IE", "--screen", "192.0.2.7="), ["place"]),
        (("REGISTRY", "--demo"), ["--demo brings its own"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_each_mistake_is_one_sentence(
    registry: Path, arguments: tuple[str, ...], words: list[str]
) -> None:
    given = [str(registry) if each == "REGISTRY" else each for each in arguments]
    result = privemo("kiosk", *given)
    refused(result, *words)


def test_behind_a_proxy_no_screen_is_taken_for_granted() -> None:
    from privemo.cli.kiosk import _screens
    from privemo_consent.kiosk import Listening

    behind = Listening(proxy="127.0.0.1")
    assert _screens(None, behind) == {}
    assert _screens(None, Listening()) is None
    assert _screens(["192.0.2.7=by the door"], behind) == {"192.0.2.7": "by the door"}


def test_a_port_that_is_taken_is_named(registry: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        refused(privemo("kiosk", registry, "--jurisdiction", "IE", "--port", port), port, "--port")


def test_without_the_extra_the_command_names_it() -> None:
    code = (
        "import sys; sys.modules['starlette'] = None\n"
        "from privemo import KioskSettings, SessionBook\n"  # these need nothing beyond the base
        "from privemo.cli import main; sys.argv = ['privemo', 'kiosk', '--demo']; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 2
    assert "pip install 'privemo[kiosk]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_over_tls_cookies_are_bound_to_it(registry: Path, tmp_path: Path) -> None:
    chain, key = certificate(tmp_path)
    options = ("--jurisdiction", "IE", "--tls-cert", chain, "--tls-key", key)
    with served(registry, *options) as said:
        assert said["kiosk"].startswith("https://127.0.0.1:")
        trust = ssl.create_default_context(cafile=str(chain))
        answer = httpx.get(f"{said['kiosk']}en/notice", verify=trust)
        assert answer.status_code == 200
        assert answer.headers["set-cookie"].startswith("__Host-privemo_kiosk=")
        assert "Secure" in answer.headers["set-cookie"]
        assert "strict-transport-security" in answer.headers


def test_a_proxy_speaks_for_whoever_asks_and_nobody_else_does(registry: Path) -> None:
    options = ("--jurisdiction", "IE", "--proxy", "127.0.0.1", "--name", "kiosk.shop.example")

    def asks(url: str, source: str, headers: dict[str, str]) -> httpx.Response:
        with httpx.Client(transport=httpx.HTTPTransport(local_address=source)) as client:
            answer = client.get(f"{url}en/return", headers=headers)
            token = re.search(r'name="csrf" value="([^"]*)"', answer.text)
            assert token
            cookie = answer.headers["set-cookie"].partition(";")[0]
            form = {"csrf": token[1], "receipt": "x"}
            more = {"cookie": cookie, "origin": "https://kiosk.shop.example"}
            return client.post(f"{url}en/return", data=form, headers=headers | more)

    with served(registry, *options) as said:
        url = said["kiosk"]
        ours: dict[str, Any] = {"host": "kiosk.shop.example", "x-forwarded-proto": "https"}
        found = [
            asks(url, "127.0.0.1", ours | {"x-forwarded-for": f"192.0.2.{n}"}).status_code
            for n in range(12)
        ]
        assert found == [422] * 12  # twelve people, each with tries of their own
        forged = asks(url, "127.0.0.9", ours | {"x-forwarded-for": "192.0.2.99"})
        assert forged.status_code == 403  # its https is not believed, so the origin is another
