"""A run once more, on canaries: the road from the gate to the server, and what the server sees of it."""

from __future__ import annotations

from collections.abc import Callable
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
from privemo.runs import Run

__all__ = ["Rehearsal", "Seen", "rehearsal_settings", "rehearse"]

BoolArray = NDArray[np.bool_]

_DECLARED = 0.4
"""Declared people over canaries. About half of them take part; a store trains on no fewer than its largest
step expects."""


@dataclass(frozen=True)
class Seen:
    """One private step as somebody sees it who has the models before and after, and knows the recipe.

    Attributes:
        number: of the round.
        before: the model that gradients were taken at.
        noisy_sum: (parameters,) what the stores' clipped gradients and noise came to, in units of the
            clipping norm: a person adds a vector of length 1 at most, and noise has the noise multiplier as
            its standard deviation.
        drawn: (canaries,) who was in it.
    """

    number: int
    before: w.Weights
    noisy_sum: NDArray[np.float32]
    drawn: BoolArray

    @property
    def names(self) -> tuple[str, ...]:
        """Of the parameters, in the order of `noisy_sum`: a file of weights keeps none."""
        return tuple(sorted(self.before))


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
    another way; pictures that are not changed at random; one step to a round; and a server that adds up.

    Args:
        settings: of the run.
        canaries: how many there are.
        coins: seed of the coins that decide who takes part.

    Raises:
        SettingsError: the run is not private.
    """
    p = settings.privacy
    if p is None:
        raise SettingsError("The run is not private: there is no guarantee to attack.")
    shared = p.noise == "distributed"
    stores = (
        settings.stores if shared else 1
    )  # local noise: each store's release is whole by itself
    privacy = p.model_copy(
        update={"augment": "none", "views": 1, "images_per_person": 1, "optimizer": "sgd"}
        | {"spare_rounds": p.spare_rounds * settings.steps_per_round}
    )
    return RunSettings.of(
        privacy=PrivacySettings.of(**privacy.model_dump()),
        stores=stores,
        rounds=settings.total_steps,
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


def rehearse(
    settings: RunSettings,
    canaries: Canaries,
    folder: Path,
    on_step: Callable[[Seen], None],
) -> Rehearsal:
    """Run all steps; `on_step` is called after each of them.

    Args:
        settings: from `rehearsal_settings`.
        canaries: who is asked; those whose coin fell right take part.
        folder: an empty place for the run, to be thrown away.
        on_step: looks at what the server saw.

    Raises:
        RunError, SettingsError: the run cannot be made or does not go through.
    """
    table = canaries.table(folder)
    run = simulation.prepare(table, folder / "run", settings)
    assert settings.split_seed is not None  # noqa: S101 - set by rehearsal_settings
    training, _ = table.split(settings.test_fraction, seed=settings.split_seed)
    took_part = np.zeros(len(canaries), dtype=np.bool_)
    took_part[training] = True
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

    def __call__(self, event: dict[str, Any]) -> None:
        if event["event"] != "round":
            return
        number, after = self._run.last_whole_round()
        recipe = self._run.order_for(number).recipe
        # The server's model moved by -lr * sum / (normaliser * stores): undone, in units of the clip.
        scale = -len(self._run.stores) * recipe.normaliser / recipe.lr / recipe.max_grad_norm  # type: ignore[union-attr]
        moved = [(after[name] - self.model[name]).ravel() for name in sorted(after)]
        seen = Seen(
            number,
            self.model,
            np.float32(scale) * np.concatenate(moved),
            self._drawn(number),
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
