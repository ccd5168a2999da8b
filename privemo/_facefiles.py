"""Readers for the three layouts of a face table; see `privemo.faces`.

Each returns the raw columns by name, with at least `images`, `label` and `label_names`, or raises
`DataError`. Checking what they mean is the caller's part.
"""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from privemo.errors import DataError, MissingExtra
from privemo.labels import EMOTIONS, IMAGE_SIZE

__all__ = ["read_csv", "read_folder", "read_npz"]

Raw = dict[str, NDArray[np.generic]]

_IMAGE_ENDINGS = {".png", ".jpg", ".jpeg", ".bmp", ".pgm", ".webp"}


def read_npz(path: Path) -> Raw:
    """Columns of an npz file. Pickled objects are never loaded: they can run code."""
    try:
        # Opened here, because numpy leaves a file that is no archive open.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            raw = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(
            f"{path} cannot be read as an npz file: it is truncated, of another kind, or holds Python "
            "objects, which are never loaded. Write it again with numpy.savez, as numbers and text alone."
        ) from error
    missing = [name for name in ("images", "label", "label_names") if name not in raw]
    if missing:
        raise DataError(
            f"{path.name} lacks {', '.join(missing)}; it has {', '.join(sorted(raw)) or 'nothing'}."
        )
    return raw


def read_csv(path: Path) -> Raw:
    """Columns of a csv file whose `pixels` column holds 2,304 gray values."""
    try:
        import pandas as pd
    except ImportError as error:
        raise MissingExtra(
            "Reading csv files needs pandas: pip install 'privemo[train]'"
        ) from error
    try:
        frame = pd.read_csv(path)
    except (OSError, ValueError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as csv ({error}).") from error
    missing = [name for name in ("pixels", "label") if name not in frame.columns]
    if missing:
        raise DataError(f"{path.name} lacks the column(s) {', '.join(missing)}.")
    if frame.empty:
        raise DataError(f"{path.name} holds no faces.")
    names, label = np.unique(frame["label"].astype(str).to_numpy(np.str_), return_inverse=True)
    raw: Raw = {
        "images": np.stack(
            [_pixels(path, row, text) for row, text in enumerate(frame["pixels"].astype(str))]
        ),
        "label": label,
        "label_names": names,
    }
    for name in frame.columns.difference(["pixels", "label"]):
        column = frame[name].to_numpy()
        raw[str(name)] = column if column.dtype != object else column.astype(np.str_)
    return raw


def _pixels(path: Path, row: int, text: str) -> NDArray[np.uint8]:
    parts = text.split()
    # Line 1 is the header, so row 0 stands on line 2.
    where = f"{path.name}, line {row + 2}"
    if len(parts) != IMAGE_SIZE**2:
        raise DataError(f"{where}: {len(parts)} pixels; a 48x48 face has {IMAGE_SIZE**2}.")
    try:
        values = np.array(parts, dtype=np.int64)
    except ValueError as error:
        raise DataError(f"{where}: a pixel is not a whole number ({error}).") from error
    if values.min() < 0 or values.max() > 255:
        raise DataError(
            f"{where}: pixels range from {values.min()} to {values.max()}, not 0 to 255."
        )
    return values.astype(np.uint8).reshape(IMAGE_SIZE, IMAGE_SIZE)


def read_folder(path: Path) -> Raw:
    """Gray faces of a folder with one subfolder for each emotion."""
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError as error:
        raise MissingExtra(
            "Reading image folders needs Pillow: pip install 'privemo[train]'"
        ) from error
    folders = sorted(p for p in path.iterdir() if p.is_dir())
    if not folders:
        raise DataError(f"{path} has no subfolders; expected some of: {', '.join(EMOTIONS)}.")
    images, label = [], []
    for index, folder in enumerate(folders):
        for file in sorted(f for f in folder.iterdir() if f.suffix.lower() in _IMAGE_ENDINGS):
            try:
                with Image.open(file) as picture:
                    pixels = np.asarray(picture.convert("L"), dtype=np.uint8)
            except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
                raise DataError(f"{file} cannot be read as an image ({error}).") from error
            if pixels.shape != (IMAGE_SIZE, IMAGE_SIZE):
                raise DataError(
                    f"{file} is {pixels.shape[1]}x{pixels.shape[0]}; faces are 48x48. "
                    "Crop and resize them first."
                )
            images.append(pixels)
            label.append(index)
    if not images:
        raise DataError(f"{path}: no images in {', '.join(f.name for f in folders)}.")
    return {
        "images": np.stack(images),
        "label": np.array(label, dtype=np.int64),
        "label_names": np.array([folder.name for folder in folders], dtype=np.str_),
    }
