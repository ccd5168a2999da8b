"""Where each model of a comparison starts from, and its training on people who do not exist."""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from privemo import weights as w
from privemo.admission import admitted
from privemo.dp import GaussianNoise
from privemo.errors import DataError, MissingExtra
from privemo.faces import FaceTable
from privemo.models import build_model
from privemo.orders import Precision
from privemo.recipes import PLAIN, PLAIN_LR
from privemo.training import PlainRecipe, Randomness, train_plain
from privemo_consent import Purpose

__all__ = ["Start", "Starts", "plain_recipe"]

TRANSFER_LR = 5e-4
"""For AdamW on ImageNet's weights: a larger step would forget what they know."""


@dataclass(frozen=True)
class Start:
    """The weights that a model starts from.

    Attributes:
        weights: by name.
        kind: `imagenet`, `nobody` or `scratch`.
        words: a sentence that says so.
    """

    weights: w.Weights
    kind: str
    words: str


def plain_recipe(epochs: int, kind: str, precision: Precision = "float32") -> PlainRecipe:
    """Training without privacy as `privemo train` does it, on every model alike."""
    settings = PLAIN.model_dump() | {"epochs": epochs, "precision": precision}
    return PlainRecipe(lr=TRANSFER_LR if kind == "imagenet" else PLAIN_LR, **settings)


@dataclass(frozen=True)
class Starts:
    """Chooses a start for each model: ImageNet where its weights are installed, else people who do not exist.

    Attributes:
        scratch: start all of them from random weights instead.
        people: a table of people who do not exist, to train models on first that ship no weights; None to
            start those from random weights.
        epochs: passes over that table.
        cache: folder that keeps what was trained on it; None keeps nothing.
        seed: of random weights and of that training.
        precision: of that training's passes.
    """

    scratch: bool = False
    people: FaceTable | None = None
    epochs: int = 3
    cache: Path | None = None
    seed: int = 0
    precision: Precision = "float32"

    def of(self, model: str, channels: int) -> Start:
        """The start of a model.

        Args:
            model: its name.
            channels: of the pictures it will be trained on.

        Raises:
            DataError: the people who do not exist have another number of channels.
            RunError: weights that ship with the package, or were kept, cannot be used.
        """
        if self.scratch:
            return self._random(model, channels, "")
        if model == "efficientnet":
            try:
                return self._shipped("imagenet", model, channels)
            except MissingExtra:
                return self._random(model, channels, "; privemo[transfer] is not installed")
        if model == "emotion-cnn":
            return self._shipped("nobody", model, channels)
        if self.people is None:
            return self._random(model, channels, "")
        return self._trained(model, channels, self.people)

    def _shipped(self, kind: str, model: str, channels: int) -> Start:
        weights, words = w.initial_weights(kind, model=model, channels=channels, seed=self.seed)
        return Start(weights, kind, words)

    def _random(self, model: str, channels: int, why: str) -> Start:
        weights, words = w.initial_weights(
            "scratch", model=model, channels=channels, seed=self.seed
        )
        return Start(weights, "scratch", words + why)

    def _trained(self, model: str, channels: int, people: FaceTable) -> Start:
        if people.channels != channels:
            raise DataError(
                f"{people.name} has {people.channels} channel(s), the photographs have {channels}; draw "
                f"people to match (privemo synth{' --rgb' if channels == 3 else ''})."
            )
        words = f"trained on {people.name} for {self.epochs} epoch(s)"
        fresh = w.from_model(build_model(model, channels=channels, seed=self.seed))
        with tempfile.TemporaryDirectory() as nowhere:
            kept = (self.cache or Path(nowhere)) / f"{model}-{self._key(fresh, people)}.safetensors"
            if not kept.exists():
                kept.parent.mkdir(parents=True, exist_ok=True)
                w.save_weights(kept, self._train(model, fresh, people))
            return Start(w.load_weights(kept), "nobody", words)

    def _key(self, fresh: w.Weights, people: FaceTable) -> str:
        """Everything that the outcome depends on: another architecture, table or recipe is another file."""
        recipe = plain_recipe(self.epochs, "scratch", self.precision)
        named = f"{w.sha256(fresh)}/{people.digest}/{recipe}/{self.seed}"
        return hashlib.sha256(named.encode()).hexdigest()[:16]

    def _train(self, model: str, fresh: w.Weights, people: FaceTable) -> w.Weights:
        network = w.model_for(model, fresh)
        rows = np.arange(len(people), dtype=np.int64)
        chance = Randomness(np.random.default_rng(self.seed), GaussianNoise())
        with admitted(people, [(rows, Purpose.TRAINING)], challenge_age=18.0) as let_in:
            train_plain(
                network,
                let_in.parts[0],
                plain_recipe(self.epochs, "scratch", self.precision),
                chance,
                let_in.permitted_now,
            )
        return w.from_model(network)
