"""Where faces are in a picture, and one of them cut out upright.

The detector is CenterFace (Xu et al. 2019, arXiv 1911.03599): a heat map of centres, and at each of them
size, offset and five points of the face. It gets the pixels of the session's region and no others; so nobody
who stands beside it is looked at.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from privemo.errors import MissingExtra
from privemo.labels import IMAGE_SIZE, LUMA
from privemo.recognizer.runtime import bundled_network

if TYPE_CHECKING:
    from types import ModuleType

__all__ = [
    "AGE_POINTS",
    "EMOTION_POINTS",
    "Face",
    "FaceFinder",
    "cut_out",
    "face_for_models",
    "opencv",
]

Picture = NDArray[np.uint8]
Points = NDArray[np.float64]

LONGEST = 256
"""A region is shrunk until its longer side has so many pixels, of which a face needs about 60."""

STEP, STRIDE = 32, 4
"""Sides that the network takes are multiples of one; its maps are smaller by the other."""

SURE, PERHAPS = 0.35, 0.2
"""A face is at least as likely as the first. A second one counts from the other on: whether somebody else
looks over the shoulder is decided against reading."""

OVERLAP = 0.3
"""Two boxes that share more of their area are one face."""

EMOTION_POINTS: Points = (
    np.array([[15.9, 16.8], [32.1, 16.8], [24.0, 25.7], [17.1, 33.2], [30.9, 33.2]]) / IMAGE_SIZE
)
"""Eyes, tip of the nose and corners of the mouth in a picture that models are trained on, as shares of its
side: medians of what this detector finds in people who do not exist, made symmetric."""

_PADDING = 0.2
AGE_POINTS: Points = (np.array([[0.2273, 0.2214], [0.7528, 0.2212]]) + _PADDING) / (
    1 + 2 * _PADDING
)
"""The same of the eyes, as the age network was trained: dlib's face chips, padding 0.2
(dlib/image_transforms/interpolation.h, `get_face_chip_details`), middles of the corners of each eye."""


def opencv() -> ModuleType:
    """OpenCV, computing on one core.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        import cv2
    except ImportError as error:
        raise MissingExtra(
            "Pictures of a camera need OpenCV, which is not installed: pip install 'privemo[edge]'"
        ) from error
    cv2.setNumThreads(1)
    return cv2


@dataclass(frozen=True, eq=False)
class Face:
    """A face in a picture.

    Attributes:
        score: how likely it is one, 0 to 1.
        box: left, top, right, bottom in pixels.
        points: (5, 2) x and y of the eye on the left, the eye on the right, the nose, and the corners of the
            mouth on the left and right, in pixels.
    """

    score: float
    box: tuple[float, float, float, float]
    points: Points


class FaceFinder:
    """Finds faces.

    Raises:
        MissingExtra: ONNX Runtime or OpenCV is not installed.
    """

    def __init__(self) -> None:
        self._cv2 = opencv()
        self._session = bundled_network("centerface.onnx")
        self._input = self._session.get_inputs()[0].name

    def find(self, picture: Picture) -> list[Face]:
        """Faces in a picture, the likeliest first, with those that are only perhaps one.

        Args:
            picture: uint8, (height, width, 3) RGB.
        """
        high, wide = picture.shape[:2]
        scale = min(1.0, LONGEST / max(high, wide))
        size = max(1, round(wide * scale)), max(1, round(high * scale))
        shrunk = self._cv2.resize(picture, size, interpolation=self._cv2.INTER_AREA)
        # Black below and to the right: the network takes multiples of 32.
        canvas = np.zeros((1, 3, -(-size[1] // STEP) * STEP, -(-size[0] // STEP) * STEP), "f4")
        canvas[0, :, : size[1], : size[0]] = shrunk.transpose(2, 0, 1)
        heat, scales, offset, marks = self._session.run(None, {self._input: canvas})
        factor = np.array([wide / size[0], high / size[1]])
        found = [
            face
            for face in _decoded(heat, scales, offset, marks, factor)
            if _inside(face, wide, high)
        ]
        return _apart(found)


def _decoded(
    heat: NDArray[np.float32],
    scale: NDArray[np.float32],
    offset: NDArray[np.float32],
    marks: NDArray[np.float32],
    factor: NDArray[np.float64],
) -> list[Face]:
    """Faces of the network's maps, (1, channels, rows, columns) each."""
    faces = []
    for row, column in zip(*np.nonzero(heat[0, 0] > PERHAPS), strict=True):
        size = np.exp(scale[0, ::-1, row, column].astype(np.float64)) * STRIDE  # width, height
        centre = (np.array([column, row]) + offset[0, ::-1, row, column] + 0.5) * STRIDE
        corner = centre - size / 2
        points = marks[0, :, row, column].reshape(5, 2)[:, ::-1] * size + corner
        low, high = corner * factor, (corner + size) * factor
        box = float(low[0]), float(low[1]), float(high[0]), float(high[1])
        faces.append(Face(float(heat[0, 0, row, column]), box, points * factor))
    return sorted(faces, key=lambda face: -face.score)


def _inside(face: Face, wide: int, high: int) -> bool:
    """Whether the middle of the face lies in the picture, and not in the black around it."""
    left, top, right, bottom = face.box
    return 0 <= (left + right) / 2 < wide and 0 <= (top + bottom) / 2 < high


def _apart(faces: list[Face]) -> list[Face]:
    """Each face once: of boxes that overlap the likeliest."""
    kept: list[Face] = []
    for face in faces:
        if all(_shared(face.box, other.box) <= OVERLAP for other in kept):
            kept.append(face)
    return kept


def _shared(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    wide = min(a[2], b[2]) - max(a[0], b[0])
    high = min(a[3], b[3]) - max(a[1], b[1])
    both = max(0.0, wide) * max(0.0, high)
    area = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both
    return both / area if area > 0 else 0.0


def cut_out(picture: Picture, face: Face, to: Points, size: int) -> Picture:
    """A face, upright and of one size.

    Args:
        picture: uint8, (height, width, 3).
        face: in it.
        to: (k, 2) where the first k of its points come to lie, as shares of the side; the turn, size and
            shift that bring them nearest are used (Umeyama 1991, without reflection).
        size: side of the result in pixels.

    Returns:
        uint8, (size, size, 3). What lies outside the picture repeats its edge: no other pixel is read.
    """
    cv2 = opencv()
    here, there = face.points[: len(to)], to * size
    # As complex numbers, a turn and a size are one factor; least squares gives it in closed form.
    a = (here - here.mean(0)) @ np.array([1, 1j])
    b = (there - there.mean(0)) @ np.array([1, 1j])
    factor = complex((np.conj(a) * b).sum() / max(float((np.abs(a) ** 2).sum()), 1e-9))
    turn = np.array([[factor.real, -factor.imag], [factor.imag, factor.real]])
    shift = there.mean(0) - turn @ here.mean(0)
    matrix = np.column_stack([turn, shift])
    # Where a face is much larger than the result, its pixels are averaged first, or it would be grainy.
    step = int(1 / max(abs(factor), 1e-6))
    if step >= 2:
        smaller = cv2.resize(picture, None, fx=1 / step, fy=1 / step, interpolation=cv2.INTER_AREA)
        scale = np.array([smaller.shape[1] / picture.shape[1], smaller.shape[0] / picture.shape[0]])
        # Pixels are counted from the middle of the first: x = (x' + 0.5) / scale - 0.5.
        shift = shift + turn @ (0.5 / scale - 0.5)
        matrix, picture = np.column_stack([turn / scale, shift]), smaller
    out = cv2.warpAffine(
        picture, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(out, dtype=np.uint8)


def face_for_models(picture: Picture, face: Face, channels: int) -> Picture:
    """A face as models read it, and as they are trained on it.

    Args:
        picture: uint8, (height, width, 3) RGB.
        face: in it.
        channels: 1 for gray, 3 for RGB.

    Returns:
        uint8, (48, 48) or (48, 48, 3).
    """
    cut = cut_out(picture, face, EMOTION_POINTS, IMAGE_SIZE)
    if channels == 3:
        return cut
    gray = cut.astype(np.float32) @ np.array(LUMA, dtype=np.float32)
    return np.asarray(np.rint(gray), dtype=np.uint8)
