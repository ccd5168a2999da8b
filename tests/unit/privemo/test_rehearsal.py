"""A run in memory against a run in a folder, and the noise that each way of sharing it leaves."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from privemo import simulation
from privemo import weights as w
from privemo.bench.cells import Cell, measure
from privemo.bench.rehearsal import Rehearsal
from privemo.bench.variants import network_of, start_of
from privemo.config import PlainSettings, RunSettings
from privemo.errors import RunError, SettingsError
from privemo.faces import FaceTable, load_faces
from privemo.orders import PrivateRecipe
from privemo.recipes import Recipe
from tests.conftest import noise_faces

CENTRAL = Recipe(rounds=2, steps_per_round=1, sample_rate=0.4, server_momentum=0.9, ema=0.9)
RUN = {
    "stores": 1,
    "declared_people": 10,
    "seed": 3,
    "split_seed": 1,
    "threads": 1,
    "model": "gray-cnn",
    "init": "scratch",
    "consents": "everyone",
}


def settings(recipe: Recipe = CENTRAL, **changes: Any) -> RunSettings:
    return recipe.settings({"epsilon": 8.0}, **{**RUN, **changes})


def table(folder: Path, people: int = 40) -> FaceTable:
    path = folder / "faces.npz"
    np.savez(path, **noise_faces(people))
    return load_faces(path)


@pytest.mark.parametrize(
    "s",
    [
        settings(),
        settings(
            replace(CENTRAL, steps_per_round=2, views=2, lr_schedule="cosine", rate_growth=2.0),
            stores=2,
        ),
        settings(replace(CENTRAL, server_optimizer="adam", ema=0.0), stores=2),
        RunSettings.of(rounds=1, privacy=None, plain=PlainSettings(epochs=1), **RUN),
    ],
    ids=["central", "two stores", "adam", "plain"],
)
def test_a_rehearsal_ends_in_the_model_of_the_run(s: RunSettings, tmp_path: Path) -> None:
    faces = table(tmp_path)
    run = simulation.prepare(faces, tmp_path / "run", s)
    simulation.run(run)
    record = measure(faces, Cell("plain" if s.privacy is None else "local", s), command="")
    assert record["model_sha256"] == w.sha256(run.finish())
    assert record["noise_multiplier"] == run.facts["privacy"].get("noise_multiplier")
    assert record["lr"] == run.facts["lr"]


def rehearsal(s: RunSettings, **more: Any) -> Rehearsal:
    start, _ = start_of(s, "as shipped", 1)
    network = network_of(s.model, "as shipped", 1)
    return Rehearsal(s, start, network, people=10, run_id="here", **more)


def nobody(_: int, drawn: NDArray[np.str_]) -> NDArray[np.bool_]:
    return np.zeros(len(drawn), dtype=np.bool_)


def everybody(_: int, drawn: NDArray[np.str_]) -> NDArray[np.bool_]:
    return np.ones(len(drawn), dtype=np.bool_)


def opened(folder: Path, stores: int) -> list[Any]:
    faces = table(folder)
    every = np.arange(len(faces), dtype=np.int64)
    return [faces._take(rows) for rows in faces.partition(every, stores, seed=0)]


@pytest.mark.parametrize(
    ("stores", "shared", "deviation"),
    [
        (1, False, lambda stores: 1.0),
        (4, False, lambda stores: 1 / math.sqrt(stores)),
        (4, True, lambda stores: 1 / stores),
    ],
    ids=["central", "local", "distributed"],
)
def test_the_average_carries_the_noise_that_it_should(
    stores: int, shared: bool, deviation: Callable[[int], float], tmp_path: Path
) -> None:
    """Where nobody may be used, noise is all there is: of the sum once, or of each store."""
    s = settings(
        Recipe(rounds=1, steps_per_round=1, sample_rate=0.4, lr=0.5, momentum=0.0), stores=stores
    )
    act = rehearsal(s, shared_noise=shared)
    last = act.run(opened(tmp_path, stores), nobody).last
    start, _ = start_of(s, "as shipped", 1)
    moved = np.concatenate([(last[k] - start[k]).ravel() for k in last])
    one_place = 0.5 * act.privacy["noise_multiplier"] / (0.4 * 10)
    assert moved.std() == pytest.approx(one_place * deviation(stores), rel=0.01)


def test_stores_that_share_the_noise_are_asked_for_their_share_alone() -> None:
    s = settings(CENTRAL, stores=9)
    recipe = rehearsal(s, shared_noise=True).order_for(1).recipe
    assert isinstance(recipe, PrivateRecipe)
    whole = rehearsal(s).order_for(1).recipe
    assert isinstance(whole, PrivateRecipe)
    assert recipe.noise_multiplier == pytest.approx(whole.noise_multiplier / 3)
    assert recipe.normaliser == whole.normaliser


def test_shared_noise_over_several_steps_is_refused() -> None:
    with pytest.raises(SettingsError, match="one step to a round"):
        rehearsal(settings(replace(CENTRAL, steps_per_round=2), stores=2), shared_noise=True)


def test_shared_noise_under_adam_in_the_stores_is_refused() -> None:
    """Adam divides by a store's own share of the noise: a sum of its steps hides less than all shares."""
    with pytest.raises(SettingsError, match="step by sgd"):
        rehearsal(settings(replace(CENTRAL, optimizer="adam"), stores=2), shared_noise=True)


def test_a_rehearsal_without_a_seed_is_refused() -> None:
    with pytest.raises(SettingsError, match="seed"):
        rehearsal(settings(seed=None))


def test_a_model_driven_to_infinity_is_told_of(tmp_path: Path) -> None:
    act = rehearsal(settings(replace(CENTRAL, lr=1e3, server_lr=1e36, server_momentum=0.0)))
    with pytest.raises(RunError, match=r"Round 1 .* learning rate"), np.errstate(all="ignore"):
        act.run(opened(tmp_path, 1), everybody)
