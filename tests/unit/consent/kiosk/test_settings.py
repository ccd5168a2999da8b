"""Settings that make no sense are named, and it listens elsewhere only over TLS."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from privemo_consent import (
    MalformedError,
)
from privemo_consent.kiosk import KioskSettings, Listening


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"jurisdiction": "Ireland"}, "jurisdiction"),
        ({"place": " "}, "place"),
        ({"place": "a\nb"}, "place"),
        ({"screens": {"192.0.2.7": ""}}, "place"),
        ({"idle_s": 5}, "idle"),
        ({"idle_s": float("nan")}, "idle"),
        ({"hosts": ("kiosk.example:80",)}, "host"),
        ({"hosts": ("*",)}, "host"),
        ({"hosts": ()}, "hosts"),
    ],
)
def test_impossible_settings_are_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(MalformedError, match=message):
        KioskSettings(**({"jurisdiction": "IE"} | changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"host": "0.0.0.0"}, "reached from elsewhere"),  # noqa: S104 - what is refused
        ({"host": "::"}, "reached from elsewhere"),
        ({"host": "192.0.2.1"}, "reached from elsewhere"),
        ({"host": "kiosk"}, "address"),
        ({"port": 70000}, "port"),
        ({"certificate": Path("c")}, "both"),
        ({"certificate": Path("c"), "key": Path("k"), "proxy": "127.0.0.1"}, "either"),
        ({"proxy": "*"}, "address"),
    ],
)
def test_it_listens_elsewhere_only_over_tls(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(MalformedError, match=message):
        Listening(**changes)


def test_behind_tls_or_a_proxy_it_may_listen_elsewhere() -> None:
    assert Listening(host="0.0.0.0", proxy="192.0.2.1").secure  # noqa: S104 - with a proxy in front
    assert Listening(host="::", certificate=Path("c"), key=Path("k")).secure
    assert not Listening().secure


def test_by_default_the_screen_of_this_machine_is_the_only_one() -> None:
    settings = KioskSettings(jurisdiction="IE", place="by the door")
    for address in ("127.0.0.1", "::1", "::ffff:127.0.0.1"):
        assert settings.place_at(address) == "by the door"
    for address in ("127.0.0.2", "192.0.2.1", "unknown", ""):
        assert settings.place_at(address) is None
    assert KioskSettings(jurisdiction="IE", screens={}).place_at("127.0.0.1") is None
