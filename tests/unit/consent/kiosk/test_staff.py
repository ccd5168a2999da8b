"""The staff's password, and the page behind it."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from privemo_consent import (
    ConsentRegistry,
    KeyFileError,
    MalformedError,
    RegistryExistsError,
)
from privemo_consent.kiosk.codes import person_of
from privemo_consent.kiosk.staff import StaffDoor, write_password
from tests.support.kiosk import PASSWORD, Shopper, running, settings_for


def test_the_password_opens_and_nothing_else_does(tmp_path: Path) -> None:
    path = tmp_path / "staff.json"
    write_password(path, PASSWORD.encode())
    door = StaffDoor(path)
    assert door.is_right(PASSWORD)
    for wrong in ("", PASSWORD + " ", "x" * 2000):
        assert not door.is_right(wrong)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert PASSWORD not in path.read_text()


def test_a_password_is_long_and_not_written_over_by_accident(tmp_path: Path) -> None:
    with pytest.raises(MalformedError, match="12"):
        write_password(tmp_path / "a", b"short")
    write_password(tmp_path / "a", PASSWORD.encode())
    with pytest.raises(RegistryExistsError):
        write_password(tmp_path / "a", b"another phrase of theirs")
    write_password(tmp_path / "a", b"another phrase of theirs", replace=True)
    assert StaffDoor(tmp_path / "a").is_right("another phrase of theirs")
    write_password(
        tmp_path / "b", b"another phrase of theirs"
    )  # salted: the same one looks another
    assert json.loads((tmp_path / "b").read_text())["hash"] not in (tmp_path / "a").read_text()


@pytest.mark.parametrize(
    "body", ["", "{}", "[]", '{"schema":"privemo.kiosk-staff/1","salt":"","hash":""}']
)
def test_a_damaged_password_file_lets_nobody_in(tmp_path: Path, body: str) -> None:
    path = tmp_path / "staff.json"
    path.write_text(body)
    path.chmod(0o600)
    with pytest.raises(KeyFileError, match="kiosk-password"):
        StaffDoor(path)


def test_a_password_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "staff.json"
    write_password(path, PASSWORD.encode())
    path.chmod(0o644)
    with pytest.raises(KeyFileError, match="chmod 600"):
        StaffDoor(path)
    with pytest.raises(KeyFileError):
        StaffDoor(tmp_path / "missing")


def test_the_staff_see_figures_and_the_health_of_the_log(
    kiosk: str, registry: ConsentRegistry
) -> None:
    with Shopper(kiosk) as shopper:
        code = shopper.decide()
    with Shopper(kiosk) as staff:
        staff.get("staff")
        page = staff.post("staff", {"password": PASSWORD})
        assert "People with a record" in page.text
        assert "not since the kiosk was started" in page.text
        page = staff.post("staff/verify")
        assert "All as written" in page.text
        assert registry.head().root in page.text
        assert person_of(code) not in page.text
        assert "Password" in staff.post("staff/leave").text


def test_without_a_password_file_there_is_no_staff_page(
    registry: ConsentRegistry, tmp_path: Path
) -> None:
    with running(registry, settings_for(tmp_path, staff_file=None)) as url, Shopper(url) as shopper:
        assert shopper.get("staff").status_code == 404
        assert shopper.post("staff", {"password": ""}).status_code in (403, 404)
