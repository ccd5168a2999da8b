"""The store's app goes on: whatever breaks, nobody is read, and the staff hears of it once."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from privemo.errors import CameraError, SettingsError
from privemo.recognizer import Event, Outcome, Recognizer
from privemo.recognizer.base import FrameReader
from privemo_consent import AgeBand, ConsentRegistry, Reason, SigningKey
from tests.support.kiosks import KIOSK, Seen, agree, cast, frame, new_registry, signed

KEY = SigningKey.generate("chain")
PUBLIC = str(KEY.verifying)


class Clock:
    def __init__(self) -> None:
        self.time = datetime(2026, 3, 1, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def shop(tmp_path: Path, clock: Clock) -> Iterator[ConsentRegistry]:
    (tmp_path / "model.onnx").write_bytes(signed(KEY))
    with new_registry(tmp_path / "consent.sqlite", clock=clock) as registry:
        agree(registry, "ann")
        yield registry


@pytest.fixture
def events() -> list[Event]:
    return []


def loaded(folder: Path, registry: ConsentRegistry, events: list[Event]) -> Recognizer:
    return Recognizer.load(
        folder / "model.onnx",
        keys=[PUBLIC],
        registry=registry,
        jurisdiction="IE",
        on_event=events.append,
    )


def scene() -> NDArray[np.uint8]:
    return frame(at_kiosk=cast().looks_grown[0])


def outcomes(reader: FrameReader, times: int = 3) -> list[tuple[Outcome, Reason | None]]:
    picture = scene()  # drawn before the session, which ends without a face
    with reader.session("ann", age_band=AgeBand.FROM_35, region=KIOSK) as session:
        found = [reader.read(picture, session) for _ in range(times)]
    return [(reading.outcome, reading.reason) for reading in found]


def test_a_clock_put_back_refuses_until_it_is_right_again(
    tmp_path: Path, shop: ConsentRegistry, clock: Clock, events: list[Event]
) -> None:
    recognizer = loaded(tmp_path, shop, events)
    clock.time -= timedelta(days=2)
    seen = Seen(recognizer)
    assert set(outcomes(recognizer)) == {(Outcome.REFUSED, Reason.CLOCK_BACKWARDS)}
    assert seen.counts == (0, 0, 0)
    clock.time += timedelta(days=3)
    assert outcomes(recognizer, 1)[0][0] in (Outcome.READ, Outcome.UNSURE)
    assert [event.outcome for event in events] == [Outcome.REFUSED, Outcome.READ]
    assert "clock was put back" in events[0].text
    assert "ann" not in "".join(event.text for event in events)


def test_a_registry_that_is_gone_refuses(
    tmp_path: Path, shop: ConsentRegistry, events: list[Event]
) -> None:
    recognizer = loaded(tmp_path, shop, events)
    assert outcomes(recognizer, 1)[0][0] in (Outcome.READ, Outcome.UNSURE)
    shop.close()
    for path in tmp_path.glob("consent.sqlite*"):
        if path.is_file():
            path.unlink()
    seen = Seen(recognizer)
    assert set(outcomes(recognizer)) == {(Outcome.REFUSED, Reason.REGISTRY_UNREADABLE)}
    assert seen.counts == (0, 0, 0)
    assert [event.outcome for event in events] == [Outcome.REFUSED]
    assert "registry cannot be read" in events[0].text


def test_what_cannot_be_logged_is_not_read(
    tmp_path: Path, shop: ConsentRegistry, clock: Clock, events: list[Event]
) -> None:
    shop.close()
    where = tmp_path / "consent.sqlite"
    with ConsentRegistry.open(where, mode="production", readonly=True, clock=clock) as readonly:
        recognizer = loaded(tmp_path, readonly, events)
        seen = Seen(recognizer)
        refused = set(outcomes(recognizer))
    assert refused <= {
        (Outcome.REFUSED, Reason.NOT_LOGGED),
        (Outcome.REFUSED, Reason.REGISTRY_UNREADABLE),
    }
    assert seen.counts == (0, 0, 0)
    assert len(events) == 1


def test_a_full_disk_reads_nobody_and_the_app_goes_on_when_there_is_space_again(
    tmp_path: Path, shop: ConsentRegistry, events: list[Event]
) -> None:
    recognizer = loaded(tmp_path, shop, events)

    def most(pages: int) -> None:
        """Let the database grow no further than to so many pages; 0 for no further than now."""
        for store_act in (shop._store.read, lambda: shop._store.write(durable=False)):
            with store_act() as connection:
                now = connection.exec_driver_sql("PRAGMA page_count").scalar()
                connection.exec_driver_sql(f"PRAGMA max_page_count = {pages or now}")

    most(0)
    found: list[tuple[Outcome, Reason | None]] = []
    for _ in range(60):  # the last pages fill up first
        found += outcomes(recognizer, 1)
        if found[-1][0] is Outcome.REFUSED:
            break
    assert found[-1] == (Outcome.REFUSED, Reason.NOT_LOGGED)
    seen = Seen(recognizer)
    assert outcomes(recognizer, 1) == [(Outcome.REFUSED, Reason.NOT_LOGGED)]
    assert seen.counts == (0, 0, 0)
    most(100_000)
    assert outcomes(recognizer, 1)[0][0] in (Outcome.READ, Outcome.UNSURE)
    assert [event.outcome for event in events] == [Outcome.REFUSED, Outcome.READ]
    assert "Free some space" in events[0].text
    shop.verify()


def test_a_camera_unplugged_in_the_middle_ends_in_one_event(
    tmp_path: Path, shop: ConsentRegistry, events: list[Event]
) -> None:
    picture = scene()

    def camera() -> Iterator[NDArray[np.uint8]]:
        yield picture
        yield picture
        raise CameraError("Camera 0 gives no more pictures. Plug it in again.")

    recognizer = loaded(tmp_path, shop, events)
    with recognizer.session("ann", age_band=AgeBand.FROM_35, region=KIOSK) as session:
        found = [reading.outcome for reading in recognizer.follow(camera(), lambda: session)]
    assert found[-1] is Outcome.NO_CAMERA
    assert len(found) == 3
    assert [event.outcome for event in events] == [Outcome.NO_CAMERA]
    assert "Plug it in again" in events[0].text


def test_no_camera_at_all(tmp_path: Path, shop: ConsentRegistry, events: list[Event]) -> None:
    from privemo import frames

    recognizer = loaded(tmp_path, shop, events)
    found = [reading.outcome for reading in recognizer.follow(frames(63), lambda: None)]
    assert found == [Outcome.NO_CAMERA]
    assert len(events) == 1


def test_a_defect_on_the_way_reads_nobody(
    tmp_path: Path, shop: ConsentRegistry, events: list[Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    recognizer = loaded(tmp_path, shop, events)

    def broken(_: object) -> None:
        raise RuntimeError("ann stood here")

    monkeypatch.setattr(recognizer._classifier, "probabilities", broken)
    assert set(outcomes(recognizer)) == {(Outcome.FAILED, None)}
    assert [event.outcome for event in events] == [Outcome.FAILED]
    assert "RuntimeError" in events[0].text
    assert "ann" not in events[0].text


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def changed(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[2_000_000] ^= 1
    path.write_bytes(bytes(raw))


@pytest.mark.parametrize(
    ("breaks", "told"),
    [
        (truncated, "nobody signed it|is damaged"),
        (changed, "it was changed since"),
        (Path.unlink, "cannot be read"),
    ],
)
def test_an_app_starts_without_a_model_and_reads_nobody(
    tmp_path: Path,
    shop: ConsentRegistry,
    events: list[Event],
    breaks: Callable[[Path], object],
    told: str,
) -> None:
    breaks(tmp_path / "model.onnx")
    reader = Recognizer.start(
        tmp_path / "model.onnx",
        keys=[PUBLIC],
        registry=shop,
        jurisdiction="IE",
        on_event=events.append,
    )
    assert set(outcomes(reader)) == {(Outcome.FAILED, None)}
    assert reader.read(scene(), None).outcome is Outcome.FAILED
    assert len(events) == 1
    assert re.search(told, events[0].text)
    assert list(shop.decisions()) == []


def test_an_app_starts_without_a_registry_and_reads_nobody(
    tmp_path: Path, events: list[Event]
) -> None:
    (tmp_path / "model.onnx").write_bytes(signed(KEY))
    reader = Recognizer.start(
        tmp_path / "model.onnx",
        keys=[PUBLIC],
        registry=tmp_path / "gone.sqlite",
        jurisdiction="IE",
        on_event=events.append,
    )
    assert set(outcomes(reader)) == {(Outcome.FAILED, None)}
    assert len(events) == 1
    assert "gone.sqlite" in events[0].text
    reader.close()


def test_an_app_that_starts_well_reads_and_closes_what_it_opened(
    tmp_path: Path, events: list[Event]
) -> None:
    (tmp_path / "model.onnx").write_bytes(signed(KEY))
    with new_registry(tmp_path / "consent.sqlite") as registry:
        agree(registry, "ann")
    reader = Recognizer.start(
        tmp_path / "model.onnx",
        keys=[PUBLIC],
        registry=tmp_path / "consent.sqlite",
        jurisdiction="IE",
        on_event=events.append,
    )
    assert outcomes(reader, 1)[0][0] in (Outcome.READ, Outcome.UNSURE)
    reader.close()
    assert outcomes(reader, 1) == [(Outcome.FAILED, None)]
    with ConsentRegistry.open(tmp_path / "consent.sqlite", mode="production") as registry:
        signed_to = registry.checkpoint(uses=True).splitlines()[1]
        assert int(signed_to) == registry.uses_head().seq == 2


def test_a_mistake_in_the_program_is_not_hidden(tmp_path: Path, shop: ConsentRegistry) -> None:
    with pytest.raises(SettingsError, match="abstain_below"):
        Recognizer.start(
            tmp_path / "model.onnx",
            keys=[PUBLIC],
            registry=shop,
            jurisdiction="IE",
            abstain_below=0.1,
        )


BLOCKED = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Blocked())
import privemo
"""
HEAVY = ("torch", "pandas", "onnx", "fairlearn", "scipy", "matplotlib", "flwr", "opacus")


def in_fresh_process(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def test_a_store_reads_with_torch_and_the_audit_absent(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(signed(KEY))
    with new_registry(tmp_path / "consent.sqlite") as registry:
        agree(registry, "ann")
    np.save(tmp_path / "scene.npy", scene())
    code = (
        BLOCKED.format(blocked=HEAVY)
        + f"""
import numpy as np
reader = privemo.Recognizer.start({str(tmp_path / "model.onnx")!r}, keys=[{PUBLIC!r}],
    registry={str(tmp_path / "consent.sqlite")!r}, jurisdiction="IE")
here = privemo.Region({KIOSK.x}, {KIOSK.y}, {KIOSK.width}, {KIOSK.height})
with reader.session("ann", age_band="35_44", region=here) as session:
    for frame in privemo.frames(np.load({str(tmp_path / "scene.npy")!r})):
        print(reader.read(frame, session).outcome)
"""
    )
    done = in_fresh_process(code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() in ("read", "unsure")


@pytest.mark.parametrize(("package", "extra"), [("onnxruntime", "edge"), ("cv2", "edge")])
def test_a_missing_extra_is_named(tmp_path: Path, package: str, extra: str) -> None:
    (tmp_path / "model.onnx").write_bytes(signed(KEY))
    new_registry(tmp_path / "consent.sqlite").close()
    code = (
        BLOCKED.format(blocked=(package,))
        + f"""
registry = privemo.ConsentRegistry.open({str(tmp_path / "consent.sqlite")!r}, mode="production")
try:
    privemo.Recognizer.load({str(tmp_path / "model.onnx")!r}, keys=[{PUBLIC!r}], registry=registry,
        jurisdiction="IE")
except privemo.MissingExtra as error:
    print(error)
"""
    )
    done = in_fresh_process(code)
    assert done.returncode == 0, done.stderr
    assert f"pip install 'privemo[{extra}]'" in done.stdout
