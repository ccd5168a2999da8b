"""Pictures from cameras, files, folders and memory."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from privemo import frames
from privemo.errors import CameraError, SettingsError

RED = (255, 0, 0)


def film(path: Path, count: int = 10, *, fps: float = 10.0) -> Path:
    """A film whose k-th picture is of brightness 20 k."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), fps, (64, 48))
    assert writer.isOpened()
    for k in range(count):
        writer.write(np.full((48, 64, 3), 20 * k, np.uint8))
    writer.release()
    return path


def test_a_video_gives_its_pictures_in_order_and_ends(tmp_path: Path) -> None:
    seen = [int(frame.mean()) for frame in frames(film(tmp_path / "a.avi"))]
    np.testing.assert_allclose(seen, 20 * np.arange(10), atol=3)


def test_a_video_can_be_watched_at_a_slower_pace(tmp_path: Path) -> None:
    seen = [int(frame.mean()) for frame in frames(film(tmp_path / "a.avi"), per_second=2.5)]
    np.testing.assert_allclose(seen, [0, 80, 160], atol=3)


def test_a_folder_gives_its_pictures_by_name_in_red_green_blue(tmp_path: Path) -> None:
    for k, colour in ((2, (0, 0, 255)), (1, RED)):
        picture = np.full((40, 50, 3), colour[::-1], np.uint8)  # OpenCV writes blue first
        cv2.imwrite(str(tmp_path / f"{k}.png"), picture)
    (tmp_path / "notes.txt").write_text("no picture")
    seen = list(frames(tmp_path))
    assert [tuple(frame[0, 0]) for frame in seen] == [RED, (0, 0, 255)]
    assert [frame.shape for frame in frames(tmp_path / "1.png")] == [(40, 50, 3)]


def test_arrays_come_as_they_are() -> None:
    one = np.zeros((40, 50, 3), np.uint8)
    assert next(frames(one)) is not None
    assert [f.shape for f in frames(np.stack([one, one]))] == [(40, 50, 3)] * 2
    assert [f is one for f in frames([one, one])] == [True, True]


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("gone.avi", r"gone\.avi does not exist"),
        ("empty", "holds no picture"),
        ("noise.avi", "cannot be read as a video"),
        ("noise.png", "cannot be read as a picture"),
        (63, "There is no camera 63"),
    ],
)
def test_what_gives_no_pictures_is_named(
    tmp_path: Path, source: str | int, told: str, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("noise.avi", "noise.png"):
        (tmp_path / name).write_bytes(b"no picture at all" * 50)
    with pytest.raises(CameraError, match=told):
        list(frames(source if isinstance(source, int) else tmp_path / source))
    assert capfd.readouterr().err == ""  # what is wrong is said once, in our own words


@pytest.mark.parametrize("share", [0.5, 0.05])
def test_a_video_that_was_cut_off_is_named(tmp_path: Path, share: float) -> None:
    whole = film(tmp_path / "a.avi").read_bytes()
    (tmp_path / "b.avi").write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(CameraError, match=r"b\.avi"):
        list(frames(tmp_path / "b.avi"))


@pytest.mark.parametrize("pace", [0, -1, float("nan")])
def test_a_pace_is_above_nothing(pace: float) -> None:
    with pytest.raises(SettingsError, match="per_second"):
        frames(0, per_second=pace)
