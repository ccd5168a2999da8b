"""How well a finished model reads the held-out faces of a store that runs on a machine of its own.

The server never asks for it: what is measured stays here, in the store's `predictions.csv`, of people who
agreed to a fairness audit. Counts of groups leave only through `privemo.counting`, noised and paid for.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from privemo import weights as w
from privemo.errors import NoFacesAdmitted
from privemo.machine import tuned
from privemo.store import Store

__all__ = ["measure_store"]


def measure_store(
    folder: str | Path, model: str | Path, *, network: str = "emotion-cnn"
) -> dict[str, Any]:
    """Read the held-out faces, write `predictions.csv`, and say how well.

    Args:
        folder: of the store.
        model: the run's `model.safetensors`, carried here; a store with layers of its own adds them.
        network: name of the architecture.

    Returns:
        What `privemo_audits.evaluate_predictions` returns; ``people``, ``store``, ``run_id`` and
        ``model_sha256``.

    Raises:
        RunError: the folder or the model cannot be read, or the file cannot be written.
        NoFacesAdmitted: the vault holds no face that may be measured.
        privemo_audits.PredictionsError: the faces show a single emotion.
        privemo_consent.ConsentError: the registry cannot be opened.
    """
    import pandas as pd

    from privemo_audits import evaluate_predictions

    weights = w.load_weights(Path(model))
    store = Store(folder)
    try:
        with tuned():
            n = store.write_predictions(weights, model=network, run_id=store.config.run_id)
        if not n:
            raise NoFacesAdmitted(
                f"{store.config.name} holds no face of anybody who agreed to be measured: bring some in with "
                "`privemo capture sitting --part test`."
            )
        frame = pd.read_csv(store.folder / "predictions.csv", dtype={"person": str, "face": str})
        return {
            **evaluate_predictions(frame),
            "people": int(frame["person"].nunique()),
            "store": store.config.name,
            "run_id": store.config.run_id,
            "model_sha256": w.sha256(weights),
        }
    finally:
        store.close()
