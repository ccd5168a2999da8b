"""The table of held-out faces: reading and validating it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .errors import PredictionsError, RunFilesError

if TYPE_CHECKING:
    import pandas as pd

    from .runfiles import Run

_AGAIN = "Evaluate the run again so that the file is written anew."


def load_predictions(run: Run) -> pd.DataFrame:
    """Join the stores' predictions into one table.

    A store without the file, or with an empty one, admitted nobody for FAIRNESS_AUDIT; that is
    allowed for some stores, not for all.

    Returns:
        One row per face: store, person, face (strings), label, prediction (int64 indices of
        `run.info.label_names`), p_* (float64) and every sensitive column (strings).

    Raises:
        PredictionsError: no predictions at all, a column missing, a value that is none of the
            emotions, NaN, a face twice, one class only.
        RunFilesError: a file cannot be read.
    """
    import pandas as pd

    parts = [part for store in run.info.stores if (part := _one_store(run, store)) is not None]
    if not parts:
        raise PredictionsError(
            "the run holds no predictions: no store's predictions.csv has a row",
            "Evaluate the model on people who agreed to the fairness audit, then audit again.",
        )
    frame = pd.concat(parts, ignore_index=True)
    twice = frame.duplicated(["store", "face"])
    if twice.any():
        row = frame[twice].iloc[0]
        raise PredictionsError(
            f"stores/{row['store']}/predictions.csv names face {row['face']!r} twice", _AGAIN
        )
    return validate(frame, run.info.label_names, "the predictions")


def validate(
    frame: pd.DataFrame, label_names: Sequence[str], where: str, *, alone: bool = True
) -> pd.DataFrame:
    """Check a table of predictions and return it with integer labels.

    Args:
        frame: has `label` and `prediction`, each an index or a name of `label_names`; may have
            `p_<name>` probabilities, and `abstained`, true or false.
        label_names: the emotions, in index order.
        where: what to call the table in an error.
        alone: it is measured by itself, which takes two emotions; not so a part of a table.

    Raises:
        PredictionsError: as in `load_predictions`.
    """
    for column in ("label", "prediction"):
        if column not in frame.columns:
            raise PredictionsError(f"{where}: column {column!r} is missing", _AGAIN)
    if frame.empty:
        raise PredictionsError(f"{where}: there are no rows", "Evaluate at least one face.")
    out = frame.copy()
    for column in ("label", "prediction"):
        out[column] = _indices(out[column], label_names, f"{where}: column {column!r}")
    for name in label_names:
        if f"p_{name}" in out.columns:
            out[f"p_{name}"] = _probabilities(out[f"p_{name}"], f"{where}: column 'p_{name}'")
    if "abstained" in out.columns:
        out["abstained"] = _yes_or_no(out["abstained"], f"{where}: column 'abstained'")
    if alone and out["label"].nunique() < 2:
        only = label_names[int(out["label"].iloc[0])]
        raise PredictionsError(
            f"{where}: every face is labelled {only!r}, so telling emotions apart cannot be "
            "measured",
            "Evaluate on faces of at least two emotions.",
        )
    return out


def _one_store(run: Run, store: str) -> pd.DataFrame | None:
    path, name = run.store_file(store, "predictions.csv"), f"stores/{store}/predictions.csv"
    if not path.is_file():
        return None
    try:
        run.files[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise RunFilesError(f"{name} cannot be read ({error})", _AGAIN) from error
    return read_store(path, store, run.info.sensitive, name=name)


def read_store(
    path: Path, store: str, sensitive: Sequence[str], *, name: str
) -> pd.DataFrame | None:
    """Read one store's predictions, as strings; None where it has no rows.

    Args:
        path: of the file.
        store: whose they are.
        sensitive: columns that must be there.
        name: what to call the file in an error.

    Raises:
        PredictionsError: a column is missing, or a face is of another store.
        RunFilesError: the file cannot be read.
    """
    import pandas as pd

    try:
        frame = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8")
    except (OSError, UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise RunFilesError(f"{name} cannot be read ({error})", _AGAIN) from error
    needed = ["store", "person", "face", "label", "prediction", *sensitive]
    if missing := [c for c in needed if c not in frame.columns]:
        remedy = f"Evaluate with --sensitive {','.join(sensitive)}, or restore the file."
        raise PredictionsError(f"{name}: columns missing: {', '.join(missing)}", remedy)
    if (frame["store"] != store).any():
        other = frame.loc[frame["store"] != store, "store"].iloc[0]
        raise PredictionsError(f"{name} holds a face of store {other!r}", _AGAIN)
    return frame if len(frame) else None


def _indices(column: pd.Series[str], label_names: Sequence[str], where: str) -> pd.Series[int]:
    """Turn names or indices into indices."""
    text = column.map(lambda value: str(value).strip())
    known = {str(i): i for i in range(len(label_names))}
    known |= {f"{i}.0": i for i in range(len(label_names))}
    known |= {name: i for i, name in enumerate(label_names)}
    found = text.map(known)
    if found.isna().any():
        raise _first_bad(text, found.isna(), where, f"none of {', '.join(label_names)}")
    return found.astype(np.int64)


def _yes_or_no(column: pd.Series[str], where: str) -> pd.Series[bool]:
    known = {"true": True, "1": True, "false": False, "0": False}
    found = column.map(lambda value: known.get(str(value).strip().lower()))
    if found.isna().any():
        raise _first_bad(column, found.isna(), where, "neither true nor false")
    return found.astype(bool)


def _probabilities(column: pd.Series[str], where: str) -> pd.Series[float]:
    import pandas as pd

    values = pd.to_numeric(column, errors="coerce").astype(float)
    bad = ~((values >= 0) & (values <= 1 + 1e-6))
    if bad.any():
        raise _first_bad(column, bad, where, "no probability")
    return values


def _first_bad(
    column: pd.Series[str], bad: pd.Series[bool], where: str, what: str
) -> PredictionsError:
    row = int(np.flatnonzero(bad.to_numpy())[0])
    return PredictionsError(f"{where}, row {row + 1}: {column.iloc[row]!r} is {what}", _AGAIN)
