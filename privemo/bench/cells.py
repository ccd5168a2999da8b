"""One measured training: what defines it, and its figures.

A cell is trained on what a gate admits of the training part and measured on what it admits of the validation
part, once, at the end. Nothing is ever chosen by the validation part: no stopping, no best of several.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
import rfc8785
from torch import nn

from privemo import weights as w
from privemo.admission import SIMULATED, admitted
from privemo.bench.provenance import versions_and_machine
from privemo.bench.rehearsal import Rehearsal, Trained
from privemo.bench.variants import Variant, network_of, start_of
from privemo.config import RunSettings
from privemo.dp import spent
from privemo.errors import RunError
from privemo.faces import Faces, FaceTable
from privemo.facts import new_run_id, planned
from privemo.labels import EMOTIONS
from privemo.machine import tuned
from privemo.skew import shared_out
from privemo.training import predict
from privemo_consent import Purpose

__all__ = ["MODES", "Cell", "Mode", "measure"]

Mode = Literal["central", "local", "distributed", "plain"]

MODES: dict[str, str] = {
    "central": "all people in one place, one noise",
    "local": "each store adds all of its noise by itself",
    "distributed": "each store adds a share of the noise; the sum carries all of it",
    "plain": "no privacy",
}

_ASSUMES = (
    "secure aggregation (privemo.secagg): the server learns the sum over the stores alone, and every store "
    "does its part; here the sum was taken without it, with the noise that it would have"
)


@dataclass(frozen=True)
class Cell:
    """What defines one training.

    Attributes:
        mode: whose noise; see `MODES`.
        settings: of the run, with seed and split seed.
        variant: of the network.
        row: what a comparison calls it; no part of the key, nor are the words.
        words: what it is, for tables.
    """

    mode: Mode
    settings: RunSettings
    variant: Variant = "as shipped"
    row: str = ""
    words: str = ""

    def key(self, table: FaceTable, start: w.Weights) -> str:
        """A name for everything that the outcome depends on, but for versions: 16 hex digits."""
        named = {
            "mode": self.mode,
            "settings": _published(self.settings),
            "variant": self.variant,
            "data": table.digest,
            "start": w.sha256(start),
        }
        return hashlib.sha256(rfc8785.dumps(named)).hexdigest()[:16]


def measure(
    table: FaceTable,
    cell: Cell,
    *,
    command: str,
    on_round: Callable[[int], None] = lambda _: None,
    apart: bool = False,
) -> dict[str, Any]:
    """Train a cell and measure it; returns its record, plain JSON values.

    Args:
        table: the faces.
        cell: what to train.
        command: that asked for it; written down.
        on_round: called with the number of each round that is done.
        apart: see `Rehearsal`.

    Accuracies and F1 are fractions; `interval` is 95%, over the people held out. `last` has the same figures
    of the last round's model, where a moving average was what the run finished with, and `one_size` those of
    the same model that reads faces at one size, where it reads them at several. `spent` is epsilon at
    `delta` under both accountants, for any one person.

    Raises:
        NoFacesAdmitted: the gate let nobody of a part through.
        SettingsError, BudgetUnreachable: the settings cannot be met.
        RunError: training drove the model to infinity.
    """
    s = cell.settings
    start, origin = start_of(s, cell.variant, table.channels)
    network = network_of(s.model, cell.variant, table.channels)
    rehearsal = Rehearsal(
        s,
        start,
        network,
        people=s.public_people(len(np.unique(table.person))),
        run_id=new_run_id(table, s),
        apart=apart,
    )
    *stores, held_out = _rows(table, s)
    asked = [(rows, Purpose.TRAINING) for rows in stores] + [(held_out, Purpose.FAIRNESS_AUDIT)]
    with admitted(table, asked, challenge_age=s.challenge_age) as let_in, tuned(s.threads):
        *seen, unseen = let_in.parts
        began = time.perf_counter()
        trained = rehearsal.run(seen, let_in.permitted_now, on_round)
        seconds = time.perf_counter() - began
        figures = _figures(trained, network, unseen, s)
    return {
        "key": cell.key(table, start),
        "row": cell.row,
        "words": cell.words,
        "mode": cell.mode,
        "epsilon": None if s.privacy is None else s.privacy.epsilon,
        "seed": s.seed,
        **figures,
        **_promise(rehearsal, s),
        "assumes": _ASSUMES if cell.mode == "distributed" else None,
        "faces": {"trained": sum(map(len, seen)), "validated": len(unseen)},
        "people": sum(len(np.unique(part.person)) for part in seen),
        "refused": let_in.refused,
        "consents": SIMULATED,
        "seconds": round(seconds, 1),
        "lr": rehearsal.lr,
        "start": {"words": origin, "sha256": w.sha256(start)},
        "model_sha256": w.sha256(trained.model),
        "variant": cell.variant,
        "settings": _published(s),
        "data": {"name": table.name, "digest": table.digest, "faces": len(table)},
        "command": command,
        "finished": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        **versions_and_machine(),
    }


def _published(settings: RunSettings) -> dict[str, Any]:
    """Settings as JSON values; a file to start from by its name, for a path tells of a machine."""
    said = {"init": Path(settings.init).name, "zoom": settings.zoom}
    return settings.model_dump(mode="json") | said


def _rows(table: FaceTable, s: RunSettings) -> list[np.ndarray[Any, np.dtype[np.int64]]]:
    """Rows of each store, and the validation part, as a run with these settings cuts a table."""
    seed = s.seed_of_split
    if seed is None:
        raise RunError("A cell is repeatable: give it a seed.")
    train, held_out = table.split(s.test_fraction, seed=seed)
    return [*shared_out(table, train, s.stores, seed=seed, settings=s), held_out]


def _figures(
    trained: Trained, network: Callable[[w.Weights], nn.Module], unseen: Faces, s: RunSettings
) -> dict[str, Any]:
    """Of the model that the run finished with, and `last` and `one_size` beside it."""
    return {
        **_scores(network(trained.model), unseen, s),
        "last": _scores(network(trained.last), unseen, s) if s.ema else None,
        "one_size": _scores(network(trained.model), unseen, s, zoom=0.0) if s.zoom else None,
    }


def _scores(
    model: nn.Module, faces: Faces, s: RunSettings, zoom: float | None = None
) -> dict[str, Any]:
    import pandas as pd

    from privemo_audits import evaluate_predictions

    size = s.zoom if zoom is None else zoom
    said = predict(model, faces.images, flip=s.flip, zoom=size).argmax(1)
    measured = evaluate_predictions(
        pd.DataFrame({"person": faces.person, "label": faces.label, "prediction": said})
    )
    f1 = {name: measured["f1"][name] for name in EMOTIONS}
    lowest = min(EMOTIONS, key=lambda name: math.inf if f1[name] is None else f1[name])
    return {
        "accuracy": measured["accuracy"],
        "interval": list(measured["accuracy_ci"]),
        "interval_method": measured["accuracy_ci_method"],
        "n": measured["n"],
        "f1": f1,
        "lowest_f1": f1[lowest],
        "lowest_f1_emotion": lowest,
    }


def _promise(rehearsal: Rehearsal, s: RunSettings) -> dict[str, Any]:
    if s.privacy is None:
        return {"spent": None, "noise_multiplier": None, "sample_rate": None, "steps": None}
    # Everything of a person is in one store, so this is what anyone in any of them loses.
    both = spent(planned(s, rehearsal.privacy), delta=s.privacy.delta)
    return {
        "spent": {"rdp": both.rdp, "prv": both.prv, "delta": both.delta},
        "noise_multiplier": rehearsal.privacy["noise_multiplier"],
        "sample_rate": s.privacy.sample_rate,
        "steps": s.total_steps,
    }
