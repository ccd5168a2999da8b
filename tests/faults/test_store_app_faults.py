"""Whatever breaks, the store's app goes on: everybody sees the shop's own list; the staff hears it once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

import privemo
from privemo import frames, pictures
from privemo.errors import SettingsError
from privemo.recognizer import Event, Outcome, Reading
from privemo.recognizer.base import FrameReader
from privemo.recommend import Why
from privemo_consent import AgeBand, ConsentRegistry, Context, SigningKey
from tests.support.interrupt import heed_ctrl_c
from tests.support.kiosks import KIOSK, agree, cast, frame, new_registry, signed
from tests.support.recommend import shelf

KEY = SigningKey.generate("chain")
PERSON = "p-41"
HERE = Context(setting="retail", jurisdiction="IE")
Picture = NDArray[np.uint8]


class Clock:
    def __init__(self) -> None:
        self.time = datetime(2026, 3, 1, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.time


@dataclass
class App:
    """What a developer puts together: camera, recognizer, recommender, one registry."""

    folder: Path
    clock: Clock
    registry: ConsentRegistry
    events: list[Event] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.start()
        self.recommender = privemo.Recommender(self.registry, HERE, self.folder / "r", seed=1)

    def start(self) -> None:
        self.reader: FrameReader = privemo.Recognizer.start(
            self.folder / "model.onnx",
            keys=[KEY.verifying],
            registry=self.registry,
            jurisdiction="IE",
            on_event=self.events.append,
        )

    def shown(self, reading: Reading) -> Why:
        """Why the list is as it is; it is the shop's own unless somebody was read."""
        items = shelf()
        emotion = privemo.EmotionEstimate.of(reading)
        ranking = self.recommender.rank(items, person=PERSON, emotion=emotion)
        assert len(ranking.items) == len(items)
        if not reading:
            assert all(a is b for a, b in zip(ranking.items, items, strict=True))
        return ranking.why

    def look(self, picture: object, times: int = 3) -> list[tuple[Outcome, Why]]:
        with self.reader.session(PERSON, age_band=AgeBand.FROM_35, region=KIOSK) as session:
            found = [self.reader.read(picture, session) for _ in range(times)]
        return [(reading.outcome, self.shown(reading)) for reading in found]


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    (tmp_path / "model.onnx").write_bytes(signed(KEY))
    clock = Clock()
    with new_registry(tmp_path / "consent.sqlite", clock=clock) as registry:
        agree(registry, PERSON)
        yield App(tmp_path, clock, registry)


def somebody() -> Picture:
    return frame(at_kiosk=cast().looks_grown[0])


def crowd() -> Picture:
    """Forty faces."""
    scene = frame()
    for k in range(40):
        x, y = KIOSK.x + 37 * (k % 8), KIOSK.y + 60 * (k // 8)
        scene[y : y + 60, x : x + 37] = cv2.resize(cast().looks_grown[k % 4], (37, 60))
    return scene


def clock_back(app: App) -> None:
    app.clock.time -= timedelta(days=2)


def registry_gone(app: App) -> None:
    app.registry.close()
    for path in app.folder.glob("consent.sqlite*"):
        if path.is_file():
            path.unlink()


def disk_full(app: App) -> None:
    """The database may grow no further, and its last pages fill up first."""
    for act in (app.registry._store.read, lambda: app.registry._store.write(durable=False)):
        with act() as connection:
            now = connection.exec_driver_sql("PRAGMA page_count").scalar()
            connection.exec_driver_sql(f"PRAGMA max_page_count = {now}")
    for _ in range(60):
        if app.look(somebody(), 1)[0][0] is Outcome.REFUSED:
            break
    else:
        pytest.fail("the disk never filled up")


def model_corrupt(app: App) -> None:
    path = app.folder / "model.onnx"
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(bytes(raw))
    app.start()


@pytest.mark.parametrize(
    ("breaks", "outcome", "why", "told"),
    [
        (clock_back, Outcome.REFUSED, {Why.NOT_PERMITTED}, "clock was put back"),
        (
            registry_gone,
            Outcome.REFUSED,
            {Why.NOT_PERMITTED, Why.FAILED},
            "registry cannot be read",
        ),
        (disk_full, Outcome.REFUSED, {Why.NOT_PERMITTED, Why.NOT_LOGGED}, "Free some space"),
        (model_corrupt, Outcome.FAILED, {Why.READING_REFUSED}, "it was changed since"),
    ],
)
def test_what_breaks_is_told_once_and_nobody_is_treated_otherwise(
    app: App, breaks: Callable[[App], None], outcome: Outcome, why: set[Why], told: str
) -> None:
    assert app.look(somebody(), 1)[0][0] in (Outcome.READ, Outcome.UNSURE)  # it worked before
    breaks(app)
    for said, shown in app.look(somebody()):
        assert said is outcome
        assert shown in why
    assert len(app.events) == 1
    assert told in app.events[0].text
    assert PERSON not in app.events[0].text


ODD: dict[str, Any] = {
    "floats": np.zeros((480, 640, 3)),
    "five channels": np.zeros((480, 640, 5), np.uint8),
    "one pixel": np.zeros((1, 1, 3), np.uint8),
    "nothing": np.zeros((0, 0, 3), np.uint8),
    "a text": "a frame",
    "none": None,
    "smaller than the region": np.zeros((100, 101, 3), np.uint8),
}


def test_odd_frames_are_told_once_and_the_next_good_one_is_read(app: App) -> None:
    for picture in ODD.values():
        assert app.look(picture, 1) == [(Outcome.BAD_FRAME, Why.READING_REFUSED)]
    assert app.look(somebody(), 1)[0][0] in (Outcome.READ, Outcome.UNSURE)
    assert [event.outcome for event in app.events] == [Outcome.BAD_FRAME, Outcome.READ]


@pytest.mark.parametrize(
    ("scene", "outcome"), [(frame, Outcome.NO_FACE), (crowd, Outcome.SEVERAL_FACES)]
)
def test_nobody_and_a_crowd_are_no_trouble_and_not_read(
    app: App, scene: Callable[[], Picture], outcome: Outcome
) -> None:
    assert {said for said, _ in app.look(scene())} == {outcome}
    assert app.events == []


# -- the camera ----------------------------------------------------------------------------------


def film(path: Path, pictures: int) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (640, 480))
    for _ in range(pictures):
        writer.write(cv2.cvtColor(somebody(), cv2.COLOR_RGB2BGR))
    writer.release()
    return path


def plugged(monkeypatch: pytest.MonkeyPatch, *there: Path | None) -> None:
    """Camera 0 is, each time it is opened, a film that stops, or nothing: by OpenCV's own capture."""
    number, real = count(), pictures._opened

    def opened(module: Any, _: object) -> Any:
        source = there[min(next(number), len(there) - 1)]
        return real(module, 63 if source is None else str(source))

    monkeypatch.setattr(pictures, "_opened", opened)


def test_a_camera_unplugged_in_the_middle_is_opened_again_until_it_is_back(
    app: App, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    video = film(tmp_path / "a.avi", 3)
    plugged(monkeypatch, video, None, None, video)
    found = []
    with app.reader.session(PERSON, age_band=AgeBand.FROM_35, region=KIOSK) as session:
        for reading in app.reader.watch(lambda: frames(0), lambda: session, again=0.01):
            found.append((reading.outcome, app.shown(reading)))
            if len(found) == 9:
                break
    seen = [said in (Outcome.READ, Outcome.UNSURE) for said, _ in found]
    assert seen == [True] * 3 + [False] * 3 + [True] * 3
    assert {said for said, _ in found[3:6]} == {Outcome.NO_CAMERA}
    assert {shown for _, shown in found[3:6]} == {Why.READING_REFUSED}
    assert [event.outcome for event in app.events] == [Outcome.NO_CAMERA, Outcome.READ]
    assert "Plug it in again" in app.events[0].text


def test_a_camera_that_is_back_is_told_also_where_nobody_stands(
    app: App, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugged(monkeypatch, None, None, film(tmp_path / "a.avi", 1))
    watched = app.reader.watch(lambda: frames(0), lambda: None, again=0.01)
    assert [next(watched).outcome for _ in range(3)] == [
        Outcome.NO_CAMERA,
        Outcome.NO_CAMERA,
        Outcome.NO_SESSION,
    ]
    assert [event.outcome for event in app.events] == [Outcome.NO_CAMERA, Outcome.READ]


def test_a_film_that_ends_is_not_opened_again(app: App, tmp_path: Path) -> None:
    video = film(tmp_path / "a.avi", 2)
    found = list(app.reader.watch(lambda: frames(video), lambda: None, again=0.01))
    assert [reading.outcome for reading in found] == [Outcome.NO_SESSION] * 2


@pytest.mark.parametrize("again", [0, -1, 3601, float("nan")])
def test_how_soon_again_is_checked_at_once(app: App, again: float) -> None:
    with pytest.raises(SettingsError, match="tried again after 0 to 3600"):
        app.reader.watch(lambda: frames(0), lambda: None, again=again)


def test_the_example_goes_on_without_a_camera(tmp_path: Path) -> None:
    """Its kiosk answers and its list is the shop's, until Ctrl-C."""
    (tmp_path / "model.onnx").write_bytes(signed(KEY))
    example = Path(__file__).parents[2] / "examples/store_app/store_app.py"
    command = [example, "shop", "--model", "model.onnx", "--key", KEY.verifying, "--camera", "63"]
    with subprocess.Popen(
        [sys.executable, "-u", *map(str, command)],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        preexec_fn=heed_ctrl_c,
    ) as app:
        assert app.stdout is not None
        told: list[str] = []
        for line in app.stdout:
            told.append(line.strip())
            if "(no_session)" in line:
                break
        url = next(line for line in told if line.startswith("kiosk: ")).removeprefix("kiosk: ")
        with urllib.request.urlopen(f"{url}en/notice", timeout=30) as page:  # noqa: S310 - our own
            assert page.status == 200
        assert app.poll() is None
        app.send_signal(signal.SIGINT)
        rest, wrong = app.communicate(timeout=30)
    assert app.returncode == 0, wrong
    assert "Traceback" not in wrong
    staff = [line for line in (*told, *rest.splitlines()) if line.startswith("staff: ")]
    assert len(staff) == 1
    assert "There is no camera 63" in staff[0]
    assert any("no_camera; lamp tea kite mug rug (no_session)" in line for line in told)
