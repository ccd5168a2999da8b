"""`predictions.csv`: what the model says of the held-out faces of one store, for the audit to read.

The file holds pseudonyms, labels and sensitive columns of people who agreed to a fairness audit. It
stays in the store, and whoever is erased is taken out of it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from privemo.errors import RunError
from privemo.faces import Faces
from privemo.files import changing, write_bytes
from privemo.labels import EMOTIONS
from privemo_consent.beside import HEAD, sweep

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "Columns",
    "count_rows",
    "drop_persons",
    "joined",
    "numbers_of",
    "people_in",
    "write_table",
]

Columns = dict[str, NDArray[np.str_]]
"""Sensitive columns by name, each of the length of the faces beside them."""


def joined(
    faces: Faces, found: Mapping[tuple[str, str], Mapping[str, str]], sensitive: Sequence[str]
) -> tuple[Faces, Columns]:
    """The faces that have all sensitive columns, and the columns.

    A face without them is left out: its person withdrew after the gate had admitted the face.

    Args:
        faces: n faces.
        found: the sensitive values by person and face.
        sensitive: names of the columns; for none of them every face stays.
    """
    pairs = list(zip(faces.person.tolist(), faces.face_id.tolist(), strict=True))
    rows = [i for i, pair in enumerate(pairs) if found.get(pair, {}).keys() >= set(sensitive)]
    return faces.take(np.array(rows, dtype=np.int64)), {
        name: np.array([found[pairs[i]][name] for i in rows], dtype=np.str_) for name in sensitive
    }


def numbers_of(probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
    """(n, 4) as a model says them; where it says no number, as much of each: nothing was said.

    Each face by itself, and nothing fails: finite weights can be made so that their sums overflow on one
    person's face alone, and a store that refused then would tell whether that person is there.
    """
    said = np.isfinite(probabilities).all(axis=1, keepdims=True)
    return np.where(said, probabilities, np.float32(1 / len(EMOTIONS)))


def write_table(
    path: Path, store: str, faces: Faces, columns: Columns, probabilities: NDArray[np.float32]
) -> None:
    """Replace the file.

    Args:
        path: of the file.
        store: name of the store.
        faces: n faces.
        columns: the sensitive columns.
        probabilities: (n, 4), in the order of `privemo.EMOTIONS`.

    Raises:
        RunError: it cannot be written; what was there before stays.
    """
    import pandas as pd

    frame = pd.DataFrame(
        {
            "store": store,
            "person": faces.person,
            "face": faces.face_id,
            "label": faces.label,
            "prediction": probabilities.argmax(1),
            **{f"p_{name}": probabilities[:, i].round(5) for i, name in enumerate(EMOTIONS)},
            **columns,
        }
    )
    with changing(path):
        _sweep(path)
        _write(path, frame)


def count_rows(path: Path) -> int:
    """How many faces the file holds.

    Raises:
        RunError: it cannot be read.
    """
    return len(_read(path))


def people_in(path: Path) -> set[str]:
    """Whom the file is about.

    Raises:
        RunError: it cannot be read.
    """
    return set(_read(path)["person"])


def drop_persons(path: Path, persons: Collection[str]) -> int:
    """Take people out of the file; returns how many rows went.

    Raises:
        RunError: it cannot be read or written.
    """
    with changing(path):  # a kiosk that erases somebody takes them out of the same file
        _sweep(path)
        frame = _read(path)
        kept = frame[~frame["person"].isin(list(persons))]
        if len(kept) < len(frame):
            _write(path, kept)
    return len(frame) - len(kept)


def _read(path: Path) -> pd.DataFrame:
    import pandas as pd

    try:
        frame = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8")
        if tuple(frame.columns[: len(HEAD)]) != HEAD:  # somebody else's table of that name
            raise ValueError("another header")
    except (OSError, ValueError) as error:  # pandas' own errors are ValueErrors
        raise RunError(f"{path} cannot be read; restore it, or finish the run again.") from error
    return frame


def _sweep(path: Path) -> None:
    """Delete what a killed writer left beside the file: it holds everybody's rows."""
    try:
        sweep(path)
    except OSError as error:
        raise RunError(f"{path.parent} cannot be written ({error.strerror}).") from error


def _write(path: Path, frame: pd.DataFrame) -> None:
    write_bytes(path, frame.to_csv(index=False, lineterminator="\n").encode())
