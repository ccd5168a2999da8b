"""A run once more, on canaries: the road from the gate to the server, and what the server sees of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from privemo import simulation
from privemo import weights as w
from privemo.attacks.canaries import Canaries
from privemo.config import PrivacySettings, RunSettings
from privemo.errors import SettingsError
from privemo.models import build_model
from privemo.releases import Release
from privemo.runs import Run
from privemo.schedules import steps_at_each_rate
from privemo.secagg.gradients import trained_names

__all__ = ["Rehearsal", "Seen", "rehearsal_settings", "rehearse"]

BoolArray = NDArray[np.bool_]

MOST_PICTURES = 2
"""Of a person, and views of each: enough to tell a clip for each picture from one for the person."""

_DECLARED = 0.3
"""Declared people over canaries. About half of them take part; a store trains on no fewer than its largest
step expects."""


@dataclass(frozen=True)
class Seen:
    """One private step as somebody sees it who has the models before and after, and knows the recipe.

    Attributes:
        number: of the round.
        before: the model that gradients were taken at.
        names: of the parameters that are trained, in the order of `noisy_sum`.
        noisy_sum: (parameters,) what the stores' clipped gradients and noise came to, in units of the
            clipping norm: a person adds a vector of length 1 at most, and noise has the noise multiplier as
            its standard deviation.
        drawn: (canaries,) who was in it, by the stores' own logs.
        rate: with which everybody who takes part was to be drawn.
    """

    number: int
    before: w.Weights
    names: tuple[str, ...]
    noisy_sum: NDArray[np.float32]
    drawn: BoolArray
    rate: float


@dataclass(frozen=True)
class Rehearsal:
    """What is known after a rehearsal.

    Attributes:
        took_part: (canaries,) a fair coin for each decided.
        privacy: facts of the mechanism that was rehearsed, as in `run.json`.
        model: the last round's.
    """

    took_part: BoolArray
    privacy: dict[str, Any]
    model: w.Weights


def rehearsal_settings(settings: RunSettings, canaries: int, *, coins: int) -> RunSettings:
    """Those of a run, for canaries: the same noise, rates and steps, and all else as an attacker wants it.

    The guarantee holds for any faces, any model to start from, and whatever is done to an update once it is
    noised. So an attacker may choose these: a model that learned nothing yet, in which every canary pulls
    another way; pictures of a person that are all the same; one step to a round; and a server that adds up.

    Args:
        settings: of the run.
        canaries: how many there are.
        coins: seed of the coins that decide who takes part.

    Raises:
        SettingsError: the run is not private, or its steps cannot be taken one by one.
    """
    p = settings.privacy
    if p is None:
        raise SettingsError("The run is not private: there is no guarantee to attack.")
    shared = p.noise == "distributed"
    stores = (
        settings.stores if shared else 1
    )  # local noise: each store's release is whole by itself
    privacy = p.model_copy(
        update={
            "augment": "none",
            "views": min(p.views, MOST_PICTURES),
            "images_per_person": min(p.images_per_person, MOST_PICTURES),
            "optimizer": "sgd",
            "spare_rounds": 0,
        }
    )
    asked = RunSettings.of(
        privacy=PrivacySettings.of(**privacy.model_dump()),
        stores=stores,
        rounds=settings.total_steps + p.spare_rounds * settings.steps_per_round,
        steps_per_round=1,
        momentum=0.0,
        declared_people=max(1, int(_DECLARED * canaries / stores)),
        test_fraction=0.5,
        split_seed=coins,
        init="scratch",
        model=settings.model,
        consents="everyone",
        jurisdiction=settings.jurisdiction,
        threads=settings.threads,
    )
    if steps_at_each_rate(asked) != steps_at_each_rate(settings):
        raise SettingsError(
            "The run's batches grow over rounds of several steps: that cannot be rehearsed step by step."
        )
    return asked


def rehearse(
    settings: RunSettings,
    canaries: Canaries,
    folder: Path,
    on_step: Callable[[Seen], None],
    *,
    before: Sequence[Release] = (),
) -> Rehearsal:
    """Run all steps; `on_step` is called after each of them.

    Args:
        settings: from `rehearsal_settings`.
        canaries: who is asked; those whose coin fell right take part.
        folder: an empty place for the run, to be thrown away.
        on_step: looks at what the server saw.
        before: what the people of the run had lost before it: noise is raised as it was for them.

    Raises:
        RunError, SettingsError: the run cannot be made or does not go through.
    """
    assert settings.privacy is not None  # noqa: S101 - set by rehearsal_settings
    table = canaries.table(folder, pictures=settings.privacy.images_per_person)
    run = simulation.prepare(table, folder / "run", settings, before=before)
    assert settings.split_seed is not None  # noqa: S101 - set by rehearsal_settings
    training, _ = table.split(settings.test_fraction, seed=settings.split_seed)
    took_part = np.zeros(len(canaries), dtype=np.bool_)
    took_part[table.person[training].astype(int)] = True
    _, model = run.last_whole_round()
    watcher = _Watcher(run, len(canaries), model, on_step)
    simulation.run(run, listener=watcher)
    return Rehearsal(took_part, dict(run.facts["privacy"]), watcher.model)


class _Watcher:
    """Puts a step together from two models and the stores' own records."""

    def __init__(
        self, run: Run, canaries: int, model: w.Weights, on_step: Callable[[Seen], None]
    ) -> None:
        self._run, self._canaries, self._on_step = run, canaries, on_step
        self.model = model
        channels = run.facts["model"]["channels"]
        self._names = tuple(trained_names(build_model(run.settings.model, channels=channels)))

    def __call__(self, event: dict[str, Any]) -> None:
        if event["event"] != "round":
            return
        number, after = self._run.last_whole_round()
        recipe = self._run.order_for(number).recipe
        # The server's model moved by -lr * sum / (normaliser * stores): undone, in units of the clip.
        scale = -len(self._run.stores) * recipe.normaliser / recipe.lr / recipe.max_grad_norm  # type: ignore[union-attr]
        moved = [(after[name] - self.model[name]).ravel() for name in self._names]
        seen = Seen(
            number,
            self.model,
            self._names,
            np.float32(scale) * np.concatenate(moved),
            self._drawn(number),
            recipe.sample_rate,  # type: ignore[union-attr]
        )
        self.model = after
        self._on_step(seen)

    def _drawn(self, number: int) -> BoolArray:
        """Who was in a step, by the logs of the stores."""
        drawn = np.zeros(self._canaries, dtype=np.bool_)
        for name in self._run.stores:
            store = self._run.store(name)
            try:
                for use in store.registry.uses():
                    if use.round == number:
                        drawn[[int(person) for person in use.persons if person is not None]] = True
            finally:
                store.close()
        return drawn
