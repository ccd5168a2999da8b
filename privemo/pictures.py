"""Pictures from a camera, a video, a folder or memory, one after the other, as RGB arrays.

No picture is written or kept: each is the caller's alone.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from privemo.errors import CameraError, SettingsError
from privemo.recognizer.faces import opencv

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["frames"]

PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff")


def frames(
    source: int | str | Path | NDArray[np.uint8] | Iterable[NDArray[np.uint8]],
    *,
    per_second: float | None = None,
) -> Iterator[NDArray[np.uint8]]:
    """Frames of a source.

    Args:
        source: number of a camera; path of a video, of a picture or of a folder of pictures (in the order of
            their names); one array (height, width, 3), or (n, height, width, 3); or anything that yields
            arrays.
        per_second: at most so many frames of a camera or video each second; those between are let go. None
            for all.

    Yields:
        uint8 (height, width, 3) RGB. Arrays come as they are: what they hold is checked where they are read.

    Raises:
        SettingsError: `per_second` is not above 0.
        CameraError: with a frame: there is no such camera or file, it cannot be read, or it stopped in the
            middle. A file that ends is no error.
        MissingExtra: OpenCV is not installed, and a camera or file was asked for.
    """
    if per_second is not None and not per_second > 0:
        raise SettingsError(f"per_second is {per_second}: ask for more than 0 frames a second.")
    if isinstance(source, np.ndarray):
        return iter(source if source.ndim == 4 else source[None])
    if isinstance(source, int):
        return _camera(source, per_second)
    if isinstance(source, str | Path):
        return _file(Path(source), per_second)
    return iter(source)


def _file(path: Path, per_second: float | None) -> Iterator[NDArray[np.uint8]]:
    """A file or folder; whatever is wrong with it is said with its first frame, as of a camera."""
    if path.is_dir():
        yield from _folder(path)
    elif not path.is_file():
        raise CameraError(f"{path} does not exist: name a video, a picture or a folder.")
    elif path.suffix.lower() in PICTURES:
        yield _picture(opencv(), path)
    else:
        yield from _video(path, per_second)


def _camera(number: int, per_second: float | None) -> Iterator[NDArray[np.uint8]]:
    cv2 = opencv()
    device = _opened(cv2, number)
    pause, due = 1 / per_second if per_second else 0.0, 0.0
    try:
        if not device.isOpened():
            raise CameraError(f"There is no camera {number}. Plug it in, or name another one.")
        while True:
            there, frame = device.read()
            if not there or frame is None:
                raise CameraError(f"Camera {number} gives no more pictures. Plug it in again.")
            now = time.monotonic()
            if now >= due:
                due = now + pause
                yield _rgb(cv2, frame)
    finally:
        device.release()


def _video(path: Path, per_second: float | None) -> Iterator[NDArray[np.uint8]]:
    cv2 = opencv()
    film = _opened(cv2, str(path))
    try:
        if not film.isOpened():
            raise CameraError(f"{path} cannot be read as a video.")
        own = float(film.get(cv2.CAP_PROP_FPS)) or 25.0
        every = max(1, round(own / per_second)) if per_second else 1
        count = 0
        while True:
            there, frame = film.read()
            if not there or frame is None:
                break
            if count % every == 0:
                yield _rgb(cv2, frame)
            count += 1
        if not count:
            raise CameraError(f"{path} holds no picture: it is damaged, or no video.")
    finally:
        film.release()


def _opened(cv2: ModuleType, source: int | str) -> Any:
    """OpenCV's capture; what it would write to standard error, we say in an error."""
    talk = cv2.utils.logging
    before = talk.getLogLevel()
    talk.setLogLevel(talk.LOG_LEVEL_SILENT)
    try:
        return cv2.VideoCapture(source)
    finally:
        talk.setLogLevel(before)


def _folder(path: Path) -> Iterator[NDArray[np.uint8]]:
    cv2 = opencv()
    pictures = sorted(each for each in path.iterdir() if each.suffix.lower() in PICTURES)
    if not pictures:
        raise CameraError(f"{path} holds no picture ({', '.join(PICTURES)}).")
    for each in pictures:
        yield _picture(cv2, each)


def _picture(cv2: ModuleType, path: Path) -> NDArray[np.uint8]:
    frame = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if frame is None:
        raise CameraError(f"{path} cannot be read as a picture.")
    return _rgb(cv2, frame)


def _rgb(cv2: ModuleType, frame: Any) -> NDArray[np.uint8]:
    return np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), dtype=np.uint8)
