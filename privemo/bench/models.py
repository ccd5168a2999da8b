"""The study's eight models, trained by the same functions as `privemo train` and held against its figures."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from torch import nn

from privemo import weights as w
from privemo.admission import SIMULATED, Admitted, admitted
from privemo.bench.parts import split_rows
from privemo.bench.provenance import versions_and_machine
from privemo.bench.starts import Start, Starts, plain_recipe
from privemo.config import RunSettings
from privemo.dp import GaussianNoise
from privemo.errors import SettingsError
from privemo.faces import Faces, FaceTable
from privemo.facts import privacy_facts
from privemo.labels import EMOTIONS
from privemo.models import MODELS, count_parameters
from privemo.orders import Precision
from privemo.recipes import central_recipe, default_lr
from privemo.training import PrivateRecipe, Randomness, predict, train_plain, train_private
from privemo_consent import Purpose

__all__ = ["STUDY", "STUDY_LOWEST_F1", "Plan", "compare", "epochs_in", "facts", "noise_of"]

STUDY: Mapping[str, tuple[str, int, int, int]] = {
    "emotion-cnn": ("CNN Model 3", 69, 73, 73),
    "cnn-2": ("CNN Model 2", 62, 68, 66),
    "rgb-cnn": ("RGB Model", 60, 68, 68),
    "gray-cnn": ("Grayscale Model", 63, 71, 66),
    "vgg16-1": ("VGG16 Model 1", 48, 52, 51),
    "vgg16-2": ("VGG16 Model 2", 42, 47, 70),
    "resnet-v2": ("ResNet V2 Model", 52, 57, 55),
    "efficientnet": ("EfficientNet Model", 27, 37, 25),
}
"""Model -> its name in the study and the study's accuracy on training, validation and test part, in %."""

STUDY_LOWEST_F1 = 0.59
"""Of the study's best model (CNN Model 3), for sad."""


@dataclass(frozen=True)
class Plan:
    """What a comparison does.

    Attributes:
        models: names out of `MODELS`.
        epochs: passes over the training part.
        minutes: instead: about how long to train each model; a plain step is timed beforehand. With privacy,
            where neither is given, the steps are those of `privemo train`.
        epsilon: with differential privacy for each person; None trains without.
        delta: probability that the bound may fail.
        seed: of random weights, shuffling and, with privacy, noise: never release such a model.
        split_seed: who is held out.
        challenge_age: years; refuse whoever is estimated to be younger.
        precision: of the passes of training, with privacy or without; models are read in float32.
        starts: where models start from.

    Raises:
        SettingsError: an unknown model, or a value out of range, by name.
    """

    models: tuple[str, ...] = tuple(STUDY)
    epochs: int | None = None
    minutes: float | None = None
    epsilon: float | None = None
    delta: float = 1e-5
    seed: int = 0
    split_seed: int = 0
    challenge_age: float = 25.0
    precision: Precision = "float32"
    starts: Starts = field(default_factory=Starts)

    def __post_init__(self) -> None:
        unknown = [name for name in self.models if name not in MODELS]
        if unknown or not self.models:
            raise SettingsError(
                f"There is no model {', '.join(map(repr, unknown)) or 'named'}; choose among "
                f"{', '.join(MODELS)}."
            )
        if self.epochs is not None and self.minutes is not None:
            raise SettingsError("Say how long to train in epochs or in minutes, not in both.")
        if self.epochs is None and self.minutes is None and self.epsilon is None:
            raise SettingsError("Say how long to train: a number of epochs, or minutes.")
        if self.epochs is not None and self.epochs < 1:
            raise SettingsError(f"Training takes 1 epoch at least, not {self.epochs}.")
        if self.minutes is not None and not 0 < self.minutes < math.inf:
            raise SettingsError(f"Training takes more than 0 minutes, not {self.minutes}.")


def compare(table: FaceTable, plan: Plan) -> Iterator[dict[str, Any]]:
    """Train one model after the other; yields what each one reached.

    Yields:
        `model`, `study_name`, `parameters`, `start`, `start_words`, `epochs`, `seconds` of training,
        `seconds_per_1000` faces seen once (of computing, so that other work on the machine is not counted)
        and `epsilon` (None without privacy); accuracy in % as `train` (of as many of those faces as are
        validated), `validation` and `test`, with `validation_interval` (95%, over people where they have
        several faces); on the validation part `f1` of each emotion, `lowest_f1` and `lowest_f1_emotion`;
        `faces` of each part, `refused` by reason, and `study`, its three figures in %.

    Raises:
        NoFacesAdmitted: the gate let nobody of a part through.
        SettingsError, DataError, RunError: see `Starts` and the training functions.
    """
    train, validation, test = split_rows(table, plan.split_seed)
    asked = [
        (train, Purpose.TRAINING),
        (validation, Purpose.FAIRNESS_AUDIT),
        (test, Purpose.FAIRNESS_AUDIT),
    ]
    people = RunSettings.of(stores=1).public_people(len(np.unique(table.person)))
    with admitted(table, asked, challenge_age=plan.challenge_age) as let_in:
        for name in plan.models:
            start = plan.starts.of(name, table.channels)
            yield _one(name, start, let_in, plan, people)


def _one(name: str, start: Start, let_in: Admitted, plan: Plan, people: int) -> dict[str, Any]:
    model = w.model_for(name, start.weights)
    epochs = plan.epochs
    if plan.minutes is not None:
        epochs = epochs_in(plan, name, start, let_in)
    began, began_computing = time.perf_counter(), time.process_time()
    passes = _train(model, start, let_in, plan, epochs, people)
    seconds, computing = time.perf_counter() - began, time.process_time() - began_computing
    study_name, *study = STUDY.get(name, (None,))
    return {
        "model": name,
        "study_name": study_name,
        "parameters": count_parameters(model),
        "start": start.kind,
        "start_words": start.words,
        "epochs": round(passes, 1),
        "seconds": round(seconds, 1),
        "seconds_per_1000": round(1000 * computing / (passes * len(let_in.parts[0])), 2),
        "epsilon": plan.epsilon,
        **_scores(model, _to_read(let_in.parts, plan.split_seed)),
        "faces": [len(part) for part in let_in.parts],
        "refused": let_in.refused,
        "study": study,
    }


def _train(
    model: nn.Module, start: Start, let_in: Admitted, plan: Plan, epochs: int | None, people: int
) -> float:
    """Train in place; how often each face was seen, on average."""
    chance = Randomness(np.random.default_rng(plan.seed), noise_of(plan.seed))
    faces, ask = let_in.parts[0], let_in.permitted_now
    if plan.epsilon is not None:
        recipe = _private_recipe(plan, epochs, people, count_parameters(model))
        train_private(model, faces, recipe, chance, ask)
        return recipe.steps * recipe.sample_rate
    train_plain(model, faces, plain_recipe(epochs or 1, start.kind, plan.precision), chance, ask)
    return epochs or 1


def noise_of(seed: int) -> GaussianNoise:
    """Repeatable, as the whole comparison is; such a model is measured and thrown away, never released."""
    return GaussianNoise(hashlib.sha256(f"bench-models/{seed}".encode()).digest())


def _private_recipe(plan: Plan, epochs: int | None, people: int, parameters: int) -> PrivateRecipe:
    """As `privemo train --private` trains in one place, from public numbers alone; its rounds become one.

    Momentum is then the store's instead of the server's, which comes to the same. The moving average over
    rounds is left out.
    """
    central = central_recipe(people)
    steps = central.rounds if epochs is None else math.ceil(epochs / central.sample_rate)
    recipe = replace(
        central,
        rounds=1,
        steps_per_round=steps,
        momentum=central.server_momentum,
        server_momentum=0.0,
        ema=0.0,
        rate_growth=1.0,
    )
    settings = recipe.settings(
        {"epsilon": plan.epsilon, "delta": plan.delta},
        stores=1,
        declared_people=people,
        seed=plan.seed,
    )
    known = privacy_facts(settings, people)
    noise, normaliser = known["noise_multiplier"], known["normaliser"]
    return PrivateRecipe(
        noise_multiplier=noise,
        sample_rate=recipe.sample_rate,
        steps=steps,
        max_grad_norm=recipe.max_grad_norm,
        normaliser=normaliser,
        lr=default_lr(
            settings, noise_multiplier=noise, normaliser=normaliser, parameters=parameters
        ),
        momentum=settings.local_momentum,
        optimizer=recipe.optimizer,
        views=recipe.views,
        images_per_person=recipe.images_per_person,
        augment=recipe.augment,
        precision=plan.precision,
    )


def epochs_in(plan: Plan, name: str, start: Start, let_in: Admitted, few: int = 512) -> int:
    """How many epochs fit into `plan.minutes`: a copy of the model is timed on a few faces, seen twice."""
    faces = let_in.parts[0]
    sample = faces.take(np.arange(min(few, len(faces)), dtype=np.int64))
    model, seconds = w.model_for(name, start.weights), 0.0
    for _ in range(2):
        chance = Randomness(np.random.default_rng(0), GaussianNoise())
        began = time.perf_counter()
        recipe = plain_recipe(1, start.kind, plan.precision)
        train_plain(model, sample, recipe, chance, let_in.permitted_now)
        seconds = time.perf_counter() - began
    return max(1, int(60 * (plan.minutes or 0.0) / (seconds * len(faces) / len(sample))))


def _to_read(parts: list[Faces], seed: int) -> list[Faces]:
    """Of those trained on, a random few: reading all, six times each, would take as long as training."""
    trained, *others = parts
    many = min(len(trained), len(others[0]))
    some = np.random.default_rng(seed).choice(len(trained), many, replace=False)
    return [trained.take(np.sort(some)), *others]


def _scores(model: nn.Module, parts: list[Faces]) -> dict[str, Any]:
    import pandas as pd

    from privemo_audits import evaluate_predictions

    said = [predict(model, part.images).argmax(1) for part in parts]
    train, validation, test = (
        100 * float((a == part.label).mean()) for a, part in zip(said, parts, strict=True)
    )
    frame = pd.DataFrame(
        {"person": parts[1].person, "label": parts[1].label, "prediction": said[1]}
    )
    measured = evaluate_predictions(frame)
    f1 = {name: measured["f1"][name] for name in EMOTIONS}
    lowest = min(EMOTIONS, key=lambda name: math.inf if f1[name] is None else f1[name])
    return {
        "train": round(train, 1),
        "validation": round(validation, 1),
        "validation_interval": [round(100 * bound, 1) for bound in measured["accuracy_ci"]],
        "test": round(test, 1),
        "f1": {name: None if v is None else round(v, 3) for name, v in f1.items()},
        "lowest_f1": f1[lowest] if f1[lowest] is None else round(f1[lowest], 3),
        "lowest_f1_emotion": lowest,
    }


def facts(table: FaceTable, plan: Plan, command: str) -> dict[str, Any]:
    """What the results were made with: command, data, seeds, versions, machine."""
    return {
        "schema": "privemo.bench-models/1",
        "command": command,
        "data": {"name": table.name, "digest": table.digest, "faces": len(table)},
        "seed": plan.seed,
        "split_seed": plan.split_seed,
        "challenge_age": plan.challenge_age,
        "precision": plan.precision,
        "consents": SIMULATED,
        "delta": None if plan.epsilon is None else plan.delta,
        **versions_and_machine(),
    }
