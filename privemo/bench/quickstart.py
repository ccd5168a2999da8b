"""Flower's quickstart, with our network and our private steps: a federation that keeps no promise.

A ClientApp that has its part of the data at hand, trains, and returns its weights with the number of its
examples; a ServerApp that starts `FedAvg`. No registry, gate, ledger, signature or manifest, and the server
learns how many faces each store has: this is what a run is measured against, and nothing to release. The
server's momentum and average are not there either, so it ends in a model of its own.

`serve` lays out one file for each store and one for the work, which Ray's actors find by a variable.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import time
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from privemo import weights as w
from privemo.dp import GaussianNoise
from privemo.errors import RunError
from privemo.faces import Faces
from privemo.flower import (
    ArrayRecord,
    ClientApp,
    Context,
    FedAvg,
    Grid,
    Message,
    MetricRecord,
    RecordDict,
    ServerApp,
    aggregate_metricrecords,
)
from privemo.orders import PrivateRecipe
from privemo.ray_engine import serve_on_ray
from privemo.training import Randomness, train_private

__all__ = ["serve"]

_FOLDER = "PRIVEMO_BENCH_QUICKSTART"

client_app = ClientApp()


@lru_cache(maxsize=256)
def _faces(path: Path) -> Faces:
    with np.load(path) as table:
        images, label, person = table["images"], table["label"], table["person"]
    return Faces(images, label, person, np.array([f"f{i}" for i in range(len(label))]))


def _everyone(_: int, drawn: NDArray[np.str_]) -> NDArray[np.bool_]:
    return np.ones(len(drawn), np.bool_)


@client_app.train()
def train(message: Message, context: Context) -> Message:
    """One round in one store."""
    folder, store = Path(os.environ[_FOLDER]), int(str(context.node_config["partition-id"]))
    model_name, recipe = pickle.loads((folder / "work.pickle").read_bytes())  # noqa: S301 - our own file
    arrays = message.content["arrays"]
    assert isinstance(arrays, ArrayRecord)  # noqa: S101 - as `FedAvg` sends it
    weights = {name: np.asarray(array.numpy()) for name, array in arrays.items()}
    model, faces = w.model_for(model_name, weights), _faces(folder / f"{store}.npz")
    key = hashlib.sha256(f"{store}/{message.metadata.message_id}".encode()).digest()
    chance = Randomness(np.random.default_rng(int.from_bytes(key)), GaussianNoise(key))
    train_private(model, faces, recipe, chance, _everyone)
    content = {
        "arrays": ArrayRecord(model.state_dict()),
        "metrics": MetricRecord({"num-examples": len(faces)}),
    }
    return Message(RecordDict(content), reply_to=message)  # type: ignore[arg-type]


def serve(
    folder: Path,
    stores: Sequence[Faces],
    recipe: PrivateRecipe,
    *,
    model: str,
    start: w.Weights,
    rounds: int,
) -> tuple[float, float]:
    """Run it on Ray, its start included.

    Args:
        folder: an empty one, for the stores' files.
        stores: faces of people who do not exist, for each store.
        recipe: of every round.
        model: name of the architecture.
        start: weights of the first round.
        rounds: how many.

    Returns:
        Seconds on the clock: of all, and until the first round was whole.

    Raises:
        RunError: the engine stopped, or a store failed.
    """
    for number, faces in enumerate(stores):
        np.savez(
            folder / f"{number}.npz", images=faces.images, label=faces.label, person=faces.person
        )
    (folder / "work.pickle").write_bytes(pickle.dumps((model, recipe)))
    whole: list[float] = []
    answered: list[int] = []

    def count(replies: list[RecordDict], weight: str) -> MetricRecord:
        answered.append(len(replies))  # `FedAvg` goes on with whoever did not fail
        return aggregate_metricrecords(replies, weight)

    def note(number: int, _: ArrayRecord) -> None:
        if number:  # before the first round it is called with 0
            whole.append(time.perf_counter() - began)

    server_app = ServerApp()

    @server_app.main()
    def main(grid: Grid, _: Context) -> None:
        FedAvg(fraction_evaluate=0.0, train_metrics_aggr_fn=count).start(
            grid,
            initial_arrays=ArrayRecord(w.model_for(model, start).state_dict()),
            num_rounds=rounds,
            timeout=24 * 3600,
            evaluate_fn=note,
        )

    began = time.perf_counter()
    serve_on_ray(server_app, client_app, nodes=len(stores), told={_FOLDER: str(folder.resolve())})
    took = time.perf_counter() - began
    if answered != [len(stores)] * rounds:
        raise RunError(f"Of {len(stores)} stores of the quickstart {answered} answered.")
    return took, whole[0]
