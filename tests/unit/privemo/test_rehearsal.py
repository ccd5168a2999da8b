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
    privacy = {name: changes.pop(name) for name in ("noise", "may_drop") if name in changes}
    return recipe.settings({"epsilon": 8.0, **privacy}, **{**RUN, **changes})


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
        settings(noise="distributed", stores=3),
        settings(noise="distributed", may_drop=0.4, stores=3),
        RunSettings.of(rounds=1, privacy=None, plain=PlainSettings(epochs=1), **RUN),
    ],
    ids=["central", "two stores", "adam", "distributed", "may drop", "plain"],
)
def test_a_rehearsal_ends_in_the_model_of_the_run(s: RunSettings, tmp_path: Path) -> None:
    faces = table(tmp_path)
    run = simulation.prepare(faces, tmp_path / "run", s)
    simulation.run(run)
    record = measure(
        faces, Cell("plain" if s.privacy is None else "local", s), command="", apart=True
    )
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
    ("stores", "how", "deviation"),
    [
        (1, {}, lambda stores: 1.0),
        (4, {}, lambda stores: 1 / math.sqrt(stores)),
        (4, {"noise": "distributed"}, lambda stores: 1 / stores),
        (4, {"noise": "distributed", "may_drop": 0.4}, lambda stores: math.sqrt(4 / 3) / stores),
    ],
    ids=["central", "local", "distributed", "one of four may drop"],
)
def test_the_average_carries_the_noise_that_it_should(
    stores: int, how: dict[str, Any], deviation: Callable[[int], float], tmp_path: Path
) -> None:
    """Where nobody may be used, noise is all there is: of the sum once, or of each store."""
    s = settings(
        Recipe(rounds=1, steps_per_round=1, sample_rate=0.4, lr=0.5, momentum=0.0),
        stores=stores,
        **how,
    )
    act = rehearsal(s)
    last = act.run(opened(tmp_path, stores), nobody).last
    start, _ = start_of(s, "as shipped", 1)
    moved = np.concatenate([(last[k] - start[k]).ravel() for k in last])
    one_place = 0.5 * act.privacy["noise_multiplier"] / (0.4 * 10)
    assert moved.std() == pytest.approx(one_place * deviation(stores), rel=0.02)


@pytest.mark.parametrize("how", [{}, {"may_drop": 0.4}], ids=["all", "one of four may drop"])
def test_shares_drawn_apart_or_at_once_are_the_same_noise(
    how: dict[str, float], tmp_path: Path
) -> None:
    s = settings(
        Recipe(rounds=1, steps_per_round=1, sample_rate=0.4, lr=0.5, momentum=0.0),
        stores=4,
        noise="distributed",
        **how,
    )
    start, _ = start_of(s, "as shipped", 1)
    spread = []
    for apart in (False, True):
        last = rehearsal(s, apart=apart).run(opened(tmp_path, 4), nobody).last
        spread.append(np.concatenate([(last[k] - start[k]).ravel() for k in last]).std())
    assert spread[0] == pytest.approx(spread[1], rel=0.02)


def test_a_rehearsal_without_a_seed_is_refused() -> None:
    with pytest.raises(SettingsError, match="seed"):
        rehearsal(settings(seed=None))


def test_a_model_driven_to_infinity_is_told_of(tmp_path: Path) -> None:
    act = rehearsal(settings(replace(CENTRAL, lr=1e3, server_lr=1e36, server_momentum=0.0)))
    with pytest.raises(RunError, match=r"Round 1 .* learning rate"), np.errstate(all="ignore"):
        act.run(opened(tmp_path, 1), everybody)
