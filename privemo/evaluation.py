"""Accuracy of a finished model on a labelled file, behind the gate like everything else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from privemo import weights as w
from privemo.admission import admitted
from privemo.config import RunSettings
from privemo.errors import DataError, RunError
from privemo.faces import Faces, FaceTable, load_faces
from privemo.labels import EMOTIONS
from privemo.machine import tuned
from privemo.runs import Run
from privemo.training import predict
from privemo_consent import Purpose

__all__ = ["evaluate_file"]


def evaluate_file(
    weights: Path, data: Path, *, model: str | None = None, challenge_age: float = 25.0
) -> dict[str, Any]:
    """Accuracy, its 95% interval, and F1 for each emotion.

    Args:
        weights: a safetensors file, or the folder of a finished run.
        data: the faces.
        model: architecture; by default that of the run, and of a file `emotion-cnn`.
        challenge_age: whoever is estimated to be younger is refused.

    People are taken as adults who agreed, unless the table says otherwise (their consents are simulated,
    and the result says so): whoever it calls a minor or of unknown age, or whose estimated age is under
    the challenge age, is refused all the same.

    Of the very table that a run was trained on, only what it held out is read: faces that a model was trained
    on say little of it. Where that cannot be told, because the run has no seed, all are read, and `part` says
    `partly_trained_on`; else `part` is `held_out`, or `file`.

    Raises:
        RunError: the model cannot be read, or the run has not finished.
        DataError: the faces cannot be read, or do not fit the model.
        NoFacesAdmitted: everyone was refused.
    """
    from privemo_audits import evaluate_predictions

    weights, model, run = _model_at(weights, model)
    network = w.model_for(model, w.load_weights(weights))
    table = load_faces(data)
    if getattr(network, "channels", table.channels) != table.channels:
        raise DataError(
            f"{table.name} has {table.channels} channel(s), but {weights.name} reads "
            f"{getattr(network, 'channels', '?')}."
        )
    rows, part = _unseen(table, run)
    asked = [(rows, Purpose.FAIRNESS_AUDIT)]
    settings = RunSettings.of() if run is None else run.settings
    with admitted(table, asked, challenge_age=challenge_age) as let_in, tuned():
        faces = let_in.parts[0]
        probabilities = predict(network, faces.images, flip=settings.flip, zoom=settings.zoom)
    result = evaluate_predictions(_frame(faces, probabilities))
    return {
        **result,
        "asked": len(rows),
        "part": part,
        "refused": let_in.refused,
        "simulated_consent": True,
        "model_sha256": w.sha256(w.from_model(network)),
        "data_digest": table.digest,
    }


def _unseen(table: FaceTable, run: Run | None) -> tuple[NDArray[np.int64], str]:
    """Rows to read, and what they are: `held_out`, `partly_trained_on`, or all of a `file`."""
    everything = np.arange(len(table), dtype=np.int64)
    if run is None or run.facts.get("data", {}).get("digest") != table.digest:
        return everything, "file"
    seed = run.settings.seed_of_split
    if seed is None:
        return everything, "partly_trained_on"
    return table.split(run.settings.test_fraction, seed=seed)[1], "held_out"


def _model_at(path: Path, model: str | None) -> tuple[Path, str, Run | None]:
    """The file of the weights, their architecture, and the run that they are of, where it is there."""
    if not path.exists():
        raise RunError(
            f"{path} does not exist: give a model.safetensors, or the folder of a finished run."
        )
    if not path.is_dir():
        beside = Run(path.parent) if (path.parent / "run.json").exists() else None
        if beside is None or path.resolve() != beside.model_path.resolve():
            return path, model or "emotion-cnn", None
        return path, model or beside.settings.model, beside
    if not (path / "run.json").exists():
        raise RunError(
            f"{path} is a folder without a run.json: give the folder of a run, or a model.safetensors."
        )
    run = Run(path)
    if not run.model_path.is_file():
        raise RunError(
            f"{path} has no finished model yet: go on with {run.resume_command}, or give a model.safetensors."
        )
    return run.model_path, model or run.settings.model, run


def _frame(faces: Faces, probabilities: np.ndarray[Any, np.dtype[np.float32]]) -> Any:
    import pandas as pd

    return pd.DataFrame(
        {
            "person": faces.person,
            "label": faces.label,
            "prediction": probabilities.argmax(1),
            **{f"p_{name}": probabilities[:, i] for i, name in enumerate(EMOTIONS)},
        }
    )
