"""Accuracy of a finished model on a labelled file, behind the gate like everything else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from privemo import weights as w
from privemo.admission import admitted
from privemo.errors import DataError
from privemo.faces import Faces, load_faces
from privemo.labels import EMOTIONS
from privemo.machine import tuned
from privemo.training import predict
from privemo_consent import Purpose

__all__ = ["evaluate_file"]


def evaluate_file(
    weights: Path, data: Path, *, model: str = "emotion-cnn", challenge_age: float = 25.0
) -> dict[str, Any]:
    """Accuracy, its 95% interval, and F1 for each emotion.

    People are taken as adults who agreed, unless the table says otherwise (their consents are simulated,
    and the result says so): whoever it calls a minor or of unknown age, or whose estimated age is under
    the challenge age, is refused all the same.

    Raises:
        RunError: the model cannot be read.
        DataError: the faces cannot be read, or do not fit the model.
        NoFacesAdmitted: everyone was refused.
    """
    from privemo_audits import evaluate_predictions

    network = w.model_for(model, w.load_weights(weights))
    table = load_faces(data)
    if getattr(network, "channels", table.channels) != table.channels:
        raise DataError(
            f"{table.name} has {table.channels} channel(s), but {weights.name} reads "
            f"{getattr(network, 'channels', '?')}."
        )
    everything = np.arange(len(table), dtype=np.int64)
    asked = [(everything, Purpose.FAIRNESS_AUDIT)]
    with admitted(table, asked, challenge_age=challenge_age) as let_in, tuned():
        faces = let_in.parts[0]
        probabilities = predict(network, faces.images)
    result = evaluate_predictions(_frame(faces, probabilities))
    return {
        **result,
        "asked": len(table),
        "refused": let_in.refused,
        "simulated_consent": True,
        "model_sha256": w.sha256(w.from_model(network)),
        "data_digest": table.digest,
    }


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
