"""`privemo kiosk`: the web pages where people consent, withdraw, and see what is held of them."""

from __future__ import annotations

import ipaddress
import secrets
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from privemo.cli.common import print_lines, read_record, say
from privemo.cli.opening import Place, read_passphrase
from privemo.errors import SettingsError

if TYPE_CHECKING:
    from privemo_consent import ConsentRegistry
    from privemo_consent.kiosk import KioskSettings, Listening

__all__ = ["kiosk", "kiosk_password"]

_BUSY_MS = 5_000  # nobody at a screen waits longer
_PASSWORD = "PRIVEMO_STAFF_PASSWORD"  # noqa: S105 - the name of a variable
_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


def kiosk(
    registry: Annotated[
        str | None,
        typer.Argument(
            metavar="[REGISTRY]",
            envvar="PRIVEMO_REGISTRY",
            show_envvar=True,
            help="A file, or postgresql://user@host/database.",
        ),
    ] = None,
    jurisdiction: Annotated[
        str | None, typer.Option(help="Where the kiosk stands: ISO 3166, as IE or US-IL.")
    ] = None,
    notice: Annotated[
        str | None, typer.Option(help="Id of the notice shown, where several are in force.")
    ] = None,
    notices: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder of notices, one JSON file for each language."),
    ] = None,
    place: Annotated[str, typer.Option(help="Which kiosk this is; visits carry it.")] = "kiosk",
    screen: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ADDRESS=PLACE",
            help="A screen at which visits are opened, and where it stands; several times.",
        ),
    ] = None,
    valid_days: Annotated[int, typer.Option(help="The term of a consent given here.")] = 365,
    idle: Annotated[float, typer.Option(help="Seconds without a touch that end a session.")] = 300,
    staff: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Password of the staff page, by kiosk-password."),
    ] = None,
    visits: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where the camera's program finds who opened a visit."),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 for any.")] = 8470,
    name: Annotated[
        list[str] | None,
        typer.Option(help="Name in the kiosk's address, besides localhost; several times."),
    ] = None,
    tls_cert: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Chain of certificates, PEM.")
    ] = None,
    tls_key: Annotated[Path | None, typer.Option(metavar="FILE", help="Its key, PEM.")] = None,
    proxy: Annotated[
        str | None,
        typer.Option(help="Address of the proxy that speaks TLS in front of the kiosk."),
    ] = None,
    keys: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            envvar="PRIVEMO_KEYS",
            show_envvar=True,
            help="Key folder of the registry; NAME.keys beside NAME.sqlite by default.",
        ),
    ] = None,
    passphrase_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Holds the passphrase of the key folder.")
    ] = None,
    demo: Annotated[
        bool, typer.Option("--demo", help="A simulated registry in a temporary folder.")
    ] = False,
) -> None:
    """Serve the pages where people consent, withdraw, and see what is held."""
    _check_extra()
    from privemo_consent.kiosk import KioskSettings, Listening

    listening = Listening(host=host, port=port, certificate=tls_cert, key=tls_key, proxy=proxy)
    screens = _screens(screen, listening)
    listening = replace(listening, screens=(*listening.screens, *(screens or ())))
    common: dict[str, Any] = {
        "place": place,
        "screens": screens,
        "valid_for": timedelta(days=valid_days),
        "idle_s": idle,
        "hosts": _hosts(host, name or ()),
        "secure": listening.secure,
    }
    if demo:
        if registry or notices or staff or visits or jurisdiction or notice:
            raise SettingsError("--demo brings its own registry, notices, place and password")
        with _demo_registry(common) as (opened, settings):
            _serve(opened, settings, listening)
        return
    if jurisdiction is None:
        raise SettingsError("--jurisdiction is missing: where the kiosk stands, as IE or US-IL")
    chosen = KioskSettings(
        jurisdiction=jurisdiction,
        notice_id=notice,
        staff_file=staff,
        sessions=visits,
        **common,
    )
    if not registry:
        raise SettingsError("name a registry: privemo kiosk consent.sqlite, or try --demo")
    where = Place(registry, keys, passphrase_file, json=False)
    with where.open(busy_timeout_ms=_BUSY_MS) as opened:
        if notices is not None:
            _register(opened, notices)
        _serve(opened, chosen, listening)


def _check_extra() -> None:
    """Miss what the extra brings before anything is made."""
    for name in ("starlette", "python_multipart", "jinja2", "uvicorn"):
        import_module(name)


def _screens(given: list[str] | None, listening: Listening) -> dict[str, str] | None:
    """Return the screens by address; None for this machine's own, and none behind a proxy.

    A proxy on this machine that forgets to say who asks makes everybody look like this machine.
    """
    if not given:
        return None if listening.proxy is None else {}
    found = {}
    for each in given:
        address, equals, place = each.partition("=")
        try:
            ipaddress.ip_address(address)
        except ValueError as error:
            raise SettingsError(f"--screen: {error}: give it as 192.0.2.7=PLACE") from None
        if not equals:
            raise SettingsError(f"--screen: {each} names no place: give it as {each}=PLACE")
        found[address] = place
    return found


def _hosts(host: str, names: Sequence[str]) -> tuple[str, ...]:
    """Return the names by which a browser may ask: this machine's, the address's, and those given."""
    bare = f"[{host}]" if ":" in host else host
    own = () if host in _LOOPBACK else (bare,)
    return (*_LOOPBACK, *own, *map(str.lower, names))


@contextmanager
def _kept_registry(where: Place, notices: Path | None) -> Iterator[ConsentRegistry]:
    """Open a registry of real people, with the notices of a folder in force."""
    with where.open(busy_timeout_ms=_BUSY_MS) as opened:
        if notices is not None:
            _register(opened, notices)
        yield opened


def _register(registry: ConsentRegistry, folder: Path) -> None:
    """Bring a folder of notices into force; twice is as good as once."""
    from privemo_consent import Notice

    files = sorted(folder.glob("*.json"))
    if not files:
        raise SettingsError(f"{folder} holds no notice: one JSON file for each language")
    for file in files:
        registry.notice(read_record(file, Notice))


@contextmanager
def _demo_registry(common: dict[str, Any]) -> Iterator[tuple[ConsentRegistry, KioskSettings]]:
    """Make a simulated registry that is gone when the kiosk ends."""
    from privemo_consent.kiosk import KioskSettings, write_password
    from privemo_consent.kiosk.demonstration import (
        DEMO_JURISDICTION,
        DEMO_NOTICE,
        make_demo_registry,
    )

    with tempfile.TemporaryDirectory(prefix="privemo-kiosk-") as made:
        folder = Path(made)
        password = secrets.token_urlsafe(12)
        write_password(folder / "staff.json", password.encode())

        settings = KioskSettings(
            jurisdiction=DEMO_JURISDICTION,
            notice_id=DEMO_NOTICE,
            staff_file=folder / "staff.json",
            sessions=folder / "visits",
            **common,
        )
        with make_demo_registry(folder) as registry:
            say(
                "A simulated registry: nothing in it is anyone's consent, and it is gone afterwards."
            )
            print_lines(f"staff page: /en/staff, password {password}")
            yield registry, settings


def _serve(registry: ConsentRegistry, settings: KioskSettings, listening: Listening) -> None:
    from privemo_consent.kiosk import create_app, serve

    app = create_app(registry, settings)
    serve(app, listening, told=lambda url: print_lines(f"kiosk: {url}"))


def kiosk_password(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where to write it.")],
    password_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help=f"Holds the password; or set {_PASSWORD}."),
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Write over the one that is there.")
    ] = False,
) -> None:
    """Set the password of the staff page; only its scrypt hash is kept."""
    from privemo_consent.kiosk import write_password

    password = read_passphrase(
        password_file,
        variable=_PASSWORD,
        option="--password-file",
        what="the staff page",
        word="password",
        new=True,
    )
    write_password(file, password, replace=replace)
    print_lines(f"written: {file}")
