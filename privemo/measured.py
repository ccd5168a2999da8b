"""A store of a deployed run reads its own held-out people with the finished model, and keeps what it found.

What the model said stays in the store's folder (`predictions.csv`, as of a simulated run). What is answered
is that it was done, or why not.

| what happens | what the store does |
|---|---|
| the same model comes again | says that it was done: nobody is read twice |
| another model comes for the same run | refuses: counts of the first may have left |
| another model comes than it signed at the end of the run | refuses: people are read with the run's own |
| a model of another run, another network, or with numbers that are none | refuses |
| a model whose sums overflow on somebody's face | fails no more than on others: else it tells who is there |
| nobody agreed to a fairness audit, or all withdrew | keeps an empty table: that nobody is there stays here |
| it dies before `measured.json` is there | asks the gate and reads again |
| a later run | its predictions take the place of these |
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from privemo import weights as w
from privemo.closing import signed_model, took_part
from privemo.errors import NotMeasured, SettingsError
from privemo.files import read_json, write_json
from privemo.machine import tuned
from privemo.orders import MOST_ZOOM, ZOOM
from privemo.store import Store, threads_of

__all__ = ["FILE", "MeasureOrder", "check_measured", "measure"]

FILE, PREDICTIONS = "measured.json", "predictions.csv"
SCHEMA = "privemo.measured/1"


@dataclass(frozen=True)
class MeasureOrder:
    """What a store is asked to do with the finished model.

    Attributes:
        run_id: of the run.
        model: name of its network.
        flip: average each face with its mirror image.
        threads: most threads to compute with.
        zoom: average it, too, with itself so much closer and further.
    """

    run_id: str
    model: str
    flip: bool
    threads: int | None = None
    zoom: float = ZOOM


def measure(store: Store, weights: w.Weights, order: MeasureOrder) -> None:
    """Read the held-out people of those who agree to a fairness audit as of now (GDPR 7(3)).

    The sensitive columns are deleted from the vault afterwards, where they were opened for it (EU AI Act
    10(5)), and so is what is due to be destroyed, as at the end of a simulated run.

    Raises:
        SettingsError: it is another run, another model than before, or no model.
        NotMeasured: the store trained in the run, and has not signed its end yet.
        RunError: another process works on the store, or a file cannot be written.
        privemo_consent.ConsentError: the registry cannot be read or written.
    """
    config = store.config
    if not 0 <= order.zoom <= MOST_ZOOM:  # NaN as well
        raise SettingsError(f"A zoom is 0 to {MOST_ZOOM}, not {order.zoom}.")
    if order.run_id != config.run_id:
        raise SettingsError(f"{config.name} takes part in another run than {order.run_id}.")
    if not all(np.isfinite(array).all() for array in weights.values()):
        raise SettingsError(f"{config.name} was sent a model with numbers that are none.")
    digest = w.sha256(weights)
    final = signed_model(store.folder, config.run_id)
    if final not in (None, digest):
        raise SettingsError(
            f"{config.name} signed another model at the end of the run than it was sent."
        )
    # People are read once, and what was opened for that is deleted: not for a model before the end.
    if final is None and took_part(store.folder, config.run_id):
        raise NotMeasured(
            f"{config.name} took part in the run and has not signed its end: once it has, it measures."
        )
    with store.alone():
        before = _measured_with(store.folder, config.run_id)
        if before is None:
            # Of another run: they could be taken for this one's.
            (store.folder / PREDICTIONS).unlink(missing_ok=True)
            with tuned(threads_of(order)):
                store.write_predictions(
                    weights,
                    model=order.model,
                    run_id=order.run_id,
                    flip=order.flip,
                    zoom=order.zoom,
                )
            said = {"schema": SCHEMA, "run_id": config.run_id, "model": digest}
            write_json(store.folder / FILE, {**said, "flip": order.flip, "zoom": order.zoom})
        elif before != (digest, order.flip, order.zoom):
            what = "another model of this run" if before[0] != digest else "another flip or zoom"
            raise SettingsError(
                f"{config.name} read its people with {what}: delete {FILE} and {PREDICTIONS} here "
                "if that was a mistake. What was opened for measuring is deleted since, so fewer people may "
                "be there to read, or none."
            )
        if config.sensitive:  # else they are kept for somebody else's audit
            store.forget_demographics()
        store.destroy_overdue()


def check_measured(store: Store, *, signed: bool = False) -> None:
    """Let a store pass that read its people with the finished model of its run.

    Args:
        store: the store.
        signed: it has to be the model whose end the store signed, even where the store took no part in the
            rounds. Noise hides a person from whatever model they were read with; exact counts hide nobody
            whom a model was made to tell from all others.

    Raises:
        NotMeasured: it did not.
    """
    there = (store.folder / PREDICTIONS).exists()
    read = _measured_with(store.folder, store.config.run_id)
    if not there or read is None:
        raise NotMeasured(
            f"{store.config.name} has not read its held-out people with the finished model."
        )
    final = signed_model(store.folder, store.config.run_id)
    if final is None and not signed and not took_part(store.folder, store.config.run_id):
        return
    if read[0] != final:
        raise NotMeasured(
            f"{store.config.name} has not signed the end of the run with the model that it read its people "
            "with" + (", and exact counts take that." if signed else ".")
        )


def _measured_with(folder: Path, run_id: str) -> tuple[str, bool, float] | None:
    """What people were read with in this run, if they were: the model's hash, flip and zoom."""
    path = folder / FILE
    if not path.exists():
        return None
    content = read_json(path, schema=SCHEMA)
    if content.get("run_id") != run_id:
        return None
    return str(content["model"]), bool(content.get("flip")), float(content.get("zoom", 0))
