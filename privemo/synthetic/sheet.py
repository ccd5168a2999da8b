"""Contact sheets: many pictures at a glance."""

from __future__ import annotations

import os

import numpy as np
from numpy.typing import NDArray

from privemo.errors import MissingExtra, SettingsError
from privemo.synthetic.table import NotSaved, SyntheticPeople

__all__ = ["contact_sheet", "save_png"]


def contact_sheet(
    people: SyntheticPeople, rows: int, cols: int, *, scale: int = 3
) -> NDArray[np.uint8]:
    """Pictures in a grid: rows go through the emotions, columns through the people.

    Returns (rows * s * scale, cols * s * scale) uint8, with a last axis of 3 for colour, where s is the
    pictures' size. Places without a picture stay black. Raises SettingsError (a ValueError) for a sheet
    of no size.
    """
    if min(rows, cols, scale) < 1:
        raise SettingsError(f"rows, cols and scale must be at least 1, not {rows}, {cols}, {scale}")
    size = people.images.shape[1]
    sheet = np.zeros((rows, cols, *people.images.shape[1:]), dtype=np.uint8)
    emotions = len(people.label_names)
    for emotion in range(emotions):
        places = [(r, c) for r in range(emotion, rows, emotions) for c in range(cols)]
        for place, at in zip(places, np.flatnonzero(people.label == emotion), strict=False):
            sheet[place] = people.images[at]
    grid = sheet.swapaxes(1, 2).reshape(rows * size, cols * size, *sheet.shape[4:])
    return grid.repeat(scale, axis=0).repeat(scale, axis=1)


def save_png(sheet: NDArray[np.uint8], path: str | os.PathLike[str], *, colours: int = 0) -> None:
    """Write a sheet (h, w) or (h, w, 3) as PNG; `colours` > 0 limits it to a palette, for a small file.

    Raises MissingExtra (an ImportError) without Pillow, and NotSaved.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingExtra(
            "saving a picture needs Pillow, which is not installed: pip install 'privemo[audit]'"
        ) from error
    picture = Image.fromarray(sheet)
    if colours:
        picture = picture.quantize(colours)
    try:
        picture.save(os.fspath(path), format="PNG", optimize=True)
    except OSError as error:
        raise NotSaved(f"{os.fspath(path)} could not be written ({error})") from error
