"""A run on disk, as the server sees it: settings, models and round manifests.

A round is whole once its manifest stands in `rounds/`; its model is written before. An interrupted run
goes on from the last whole round, and what a store spent meanwhile stays in that store's ledger.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from privemo import weights as w
from privemo.config import RunSettings
from privemo.errors import RunError
from privemo.files import read_json, write_json
from privemo.orders import PlainRecipe, PrivateRecipe, RoundOrder
from privemo.store import Store

__all__ = ["Run"]

KEPT_CHECKPOINTS = 2


class Run:
    """A run folder that was prepared.

    Args:
        folder: the folder.

    Raises:
        RunError: there is no `run.json`, or it is of another kind.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.facts = read_json(self.folder / "run.json", schema="privemo.run/1")
        try:
            self.settings = RunSettings.of(**self.facts["settings"])
            self.run_id: str = self.facts["run_id"]
            self.stores: list[str] = list(self.facts["stores"])
            self.sizes: dict[str, float] = dict.fromkeys(
                self.stores, float(self.facts["declared_people"])
            )
        except KeyError as error:
            raise RunError(f"{self.folder / 'run.json'} lacks {error}.") from error

    @property
    def model_path(self) -> Path:
        """Where the finished model is."""
        return self.folder / "model.safetensors"

    def store(self, name: str) -> Store:
        """Open one store of a simulated run."""
        return Store(self.folder / "stores" / name)

    def order_for(self, number: int) -> RoundOrder:
        """What every store is asked in round `number` (from 1)."""
        s = self.settings
        recipe: PrivateRecipe | PlainRecipe
        if s.privacy is not None:
            facts = self.facts["privacy"]
            recipe = PrivateRecipe(
                noise_multiplier=facts["noise_multiplier"],
                sample_rate=s.privacy.sample_rate,
                steps=s.steps_per_round,
                max_grad_norm=s.privacy.max_grad_norm,
                normaliser=facts["normaliser"],
                lr=self.facts["lr"],
                momentum=s.momentum,
            )
        elif s.plain is not None:
            recipe = PlainRecipe(
                epochs=s.plain.epochs,
                batch=s.plain.batch,
                lr=self.facts["lr"],
                weight_decay=s.plain.weight_decay,
            )
        else:  # RunSettings allows no third kind
            raise RunError("The run is neither private nor plain.")
        return RoundOrder(
            run_id=self.run_id, round=number, model=s.model, recipe=recipe, threads=s.threads
        )

    # -- rounds ------------------------------------------------------------------------------

    def manifests(self) -> list[dict[str, Any]]:
        """Manifests of the whole rounds, in order."""
        paths = sorted((self.folder / "rounds").glob("[0-9]*.json"))
        return [read_json(path, schema="privemo.round/1") for path in paths]

    def last_whole_round(self) -> tuple[int, w.Weights]:
        """Number of the last whole round (0 before the first) and the model after it.

        Raises:
            RunError: the model does not match the manifest that names it.
        """
        manifests = self.manifests()
        done = len(manifests)
        path = self._checkpoint(done)
        weights = w.load_weights(path)
        expected = manifests[-1]["model_out"] if manifests else self.facts["model"]["initial"]
        if w.sha256(weights) != expected:
            raise RunError(f"{path} is not the model of round {done}; it was changed. Start again.")
        return done, weights

    def keep_round(self, number: int, manifest: dict[str, Any], weights: w.Weights) -> None:
        """Make a round whole: model first, then the manifest, then tidy up."""
        w.save_weights(self._checkpoint(number), weights)
        write_json(self.folder / "rounds" / f"{number:04d}.json", manifest)
        old = self._checkpoint(number - KEPT_CHECKPOINTS)
        old.unlink(missing_ok=True)

    def keep_start(self, weights: w.Weights) -> None:
        """Write the model that the first round starts from."""
        w.save_weights(self._checkpoint(0), weights)

    def finish(self) -> w.Weights:
        """Write the finished model.

        Raises:
            RunError: rounds are missing.
        """
        done, weights = self.last_whole_round()
        if done < self.settings.rounds:
            raise RunError(
                f"The run has {done} of {self.settings.rounds} rounds; resume it with --resume."
            )
        w.save_weights(self.model_path, weights)
        return weights

    def _checkpoint(self, number: int) -> Path:
        return self.folder / "checkpoints" / f"round-{number:04d}.safetensors"
