"""Compare face detectors on people who do not exist, pasted into frames of 640x480.

    pip install "privemo[edge,synth]" dlib-bin==20.0.1.post1
    python scripts/compare_detectors.py

Prints, for each detector and size of faces, the share that was found, how many faces it saw where there are
none, and milliseconds of the processor on one core. Detectors that are not installed are left out. Drawn
heads are cut off at the edge of their pictures, which makes them harder to find than people in a store.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from privemo.recognizer import faces
from privemo.synthetic import synthesize

PEOPLE, SIZES = 40, (240, 160, 110)
Picture = NDArray[np.uint8]
Boxes = list[tuple[float, float, float, float]]
Detector = Callable[[Picture], Boxes]


def centerface(longest: int) -> Detector:
    """Ours, with regions shrunk to so many pixels."""
    finder = faces.FaceFinder()

    def find(frame: Picture) -> Boxes:
        faces.LONGEST = longest
        return [face.box for face in finder.find(frame) if face.score >= faces.SURE]

    return find


def detectors() -> Iterator[tuple[str, Detector]]:
    """Name and function of each that is here."""
    for longest in (256, 320, 640):
        yield f"CenterFace at {longest}", centerface(longest)
    try:
        import dlib
    except ImportError:
        pass
    else:
        hog = dlib.get_frontal_face_detector()

        def boxes(picture: Picture, scale: int) -> Boxes:
            found = hog(picture, 0)
            return [
                (scale * b.left(), scale * b.top(), scale * b.right(), scale * b.bottom())
                for b in found
            ]

        yield "dlib HOG", lambda frame: boxes(frame, 1)
        half = (320, 240)
        yield "dlib HOG at half size", lambda frame: boxes(cv2.resize(frame, half), 2)
    if hasattr(cv2, "CascadeClassifier"):
        name = cv2.data.haarcascades + "haarcascade_frontalface_alt2.xml"
        haar = cv2.CascadeClassifier(name)

        def cascade(frame: Picture) -> Boxes:
            gray = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
            found = haar.detectMultiScale(gray, 1.15, 3, minSize=(60, 60))
            return [(x, y, x + w, y + h) for x, y, w, h in found]

        yield "OpenCV Haar", cascade


def frames(people: Picture, size: int) -> Iterator[tuple[Picture, int, int]]:
    """Frames with one face each, and where it is."""
    rng = np.random.default_rng(0)
    for picture in people:
        wall = rng.integers(0, 255, (12, 16, 3)).astype(np.uint8)
        frame = cv2.resize(wall, (640, 480), interpolation=cv2.INTER_CUBIC)
        x, y = int(rng.integers(0, 640 - size)), int(rng.integers(0, 480 - size))
        small = cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA)
        frame[y : y + size, x : x + size] = small
        yield frame, x, y


def main() -> None:
    """Measure and print."""
    cv2.setNumThreads(1)
    people = synthesize(PEOPLE, 1, seed=5, channels=3, size=256).images
    for name, detect in detectors():
        for size in SIZES:
            found, elsewhere, took = 0, 0, []
            for frame, x, y in frames(people, size):
                began = time.process_time()
                boxes = detect(frame)
                took.append(time.process_time() - began)
                middles = [((b[0] + b[2]) / 2 - x, (b[1] + b[3]) / 2 - y) for b in boxes]
                right = [0.25 < u / size < 0.75 and 0.25 < v / size < 0.75 for u, v in middles]
                found += any(right)
                elsewhere += len(right) - sum(right)
            ms = float(np.median(took)) * 1e3
            print(f"{name:22} {size:4} {found / PEOPLE:.2f} {elsewhere:3} {ms:6.1f} ms")


if __name__ == "__main__":
    main()
