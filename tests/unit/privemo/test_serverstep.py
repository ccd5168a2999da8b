"""The server's momentum, its Adam and its average of models, and that a resumed run cannot tell."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from privemo import weights as w
from privemo.config import RunSettings
from privemo.errors import RunError
from privemo.schedules import lr_factor
from privemo.serverstep import ServerStep

START: w.Weights = {"a": np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3)}


def updates(count: int) -> list[w.Weights]:
    rng = np.random.default_rng(3)
    return [{"a": rng.normal(0, 0.1, (2, 3)).astype(np.float32)} for _ in range(count)]


def settings(**changes: object) -> RunSettings:
    return RunSettings.of(**{"rounds": 8, **changes})


def walk(step: ServerStep, weights: w.Weights, moves: list[w.Weights], first: int = 1) -> w.Weights:
    for number, update in enumerate(moves, start=first):
        weights = step(number, weights, update)
    return weights


def test_by_default_the_average_update_is_added() -> None:
    (update,) = updates(1)
    step = ServerStep(settings())
    assert np.array_equal(step(1, START, update)["a"], START["a"] + update["a"])
    assert step.state() == {}
    assert step.average is None


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("SGD", {"server_momentum": 0.8, "server_lr": 0.5}),
        ("Adam", {"server_optimizer": "adam", "server_momentum": 0.9, "server_lr": 0.05}),
    ],
)
def test_the_server_steps_as_torchs_optimizers_do(name: str, changes: dict[str, object]) -> None:
    chosen = settings(**changes)
    p = torch.nn.Parameter(torch.from_numpy(START["a"].copy()))
    lr = chosen.server_step
    optimizer = (
        torch.optim.SGD([p], lr, momentum=0.8)
        if name == "SGD"
        else torch.optim.Adam([p], lr, betas=(0.9, 0.99))
    )
    for update in updates(8):
        p.grad = -torch.from_numpy(update["a"])
        optimizer.step()
    assert np.allclose(
        walk(ServerStep(chosen), START, updates(8))["a"], p.detach().numpy(), atol=1e-6
    )


def test_yogi_lets_the_second_moment_move_by_no_more_than_a_square() -> None:
    """Reddi et al. 2021, algorithm 2, with the first round's square to begin with."""
    chosen = settings(server_optimizer="yogi", server_momentum=0.9, server_lr=0.05)
    moves = updates(8)
    m, v, expected = np.zeros((2, 3)), None, START["a"].astype(np.float64)
    for number, update in enumerate(moves, start=1):
        u = update["a"].astype(np.float64)
        m = 0.9 * m + 0.1 * u
        v = u**2 if v is None else v - 0.01 * u**2 * np.sign(v - u**2)
        expected = expected + 0.05 * m / (1 - 0.9**number) / (np.sqrt(v) + 1e-8)
    step = ServerStep(chosen)
    assert np.allclose(walk(step, START, moves)["a"], expected, atol=1e-5)
    # A huge update is forgotten by steps of its own size, not by a share of it.
    huge = {"a": np.full((2, 3), 10.0, np.float32)}
    before = step.state()["second/a"].copy()
    step(9, START, huge)
    assert np.allclose(step.state()["second/a"], before + 0.01 * 100, atol=1e-4)


@pytest.mark.parametrize("optimizer", ["adam", "yogi"])
def test_adaptive_memory_survives_a_restart(optimizer: str) -> None:
    chosen = settings(server_optimizer=optimizer, server_momentum=0.5)
    moves = updates(6)
    straight = walk(ServerStep(chosen), START, moves)
    first = ServerStep(chosen)
    middle = walk(first, START, moves[:3])
    again = ServerStep(chosen)
    again.restore(first.state())
    assert np.array_equal(walk(again, middle, moves[3:], first=4)["a"], straight["a"])


def test_adams_own_step_is_scheduled() -> None:
    chosen = settings(server_optimizer="adam", lr_schedule="cosine")
    moves = updates(8)
    step = ServerStep(chosen)
    before = walk(step, START, moves[:7])
    after = step(8, before, moves[7])
    assert lr_factor(chosen, 8) == pytest.approx(0.01)
    assert float(np.abs(after["a"] - before["a"]).max()) < 0.05 * chosen.server_step


def test_the_average_follows_the_models_and_forgets_the_first_ones() -> None:
    step = ServerStep(settings(ema=0.5))
    weights, expected = START, None
    for number, update in enumerate(updates(6), start=1):
        weights = step(number, weights, update)
        decay = min(0.5, (1 + number) / (10 + number))
        a = weights["a"]
        expected = a if expected is None else decay * expected + (1 - decay) * a
    assert step.average is not None
    assert np.allclose(step.average["a"], expected, atol=1e-6)


@pytest.mark.parametrize(
    "changes",
    [
        {"server_momentum": 0.9},
        {"ema": 0.9},
        {"server_optimizer": "adam", "server_momentum": 0.5, "ema": 0.98},
    ],
)
def test_a_resumed_server_makes_the_very_same_models(changes: dict[str, object]) -> None:
    chosen, moves = settings(**changes), updates(8)
    straight = ServerStep(chosen)
    expected = walk(straight, START, moves)
    first = ServerStep(chosen)
    half = walk(first, START, moves[:3])
    second = ServerStep(chosen)
    second.restore(w.from_bytes(w.to_bytes(first.state())))
    assert np.array_equal(walk(second, half, moves[3:], first=4)["a"], expected["a"])
    assert w.sha256(second.state()) == w.sha256(straight.state())


def test_another_servers_state_is_refused() -> None:
    with pytest.raises(RunError, match="third"):
        ServerStep(settings()).restore({"third/a": START["a"]})


def test_what_a_server_keeps_is_not_changed_behind_its_back() -> None:
    """States are files of whole rounds: a later round must not write into an earlier one's arrays."""
    chosen, moves = settings(server_momentum=0.9, ema=0.9), updates(3)
    step = ServerStep(chosen)
    walk(step, START, moves[:2])
    kept = {k: a.copy() for k, a in step.state().items()}
    held = step.state()
    walk(step, START, moves[2:], first=3)
    assert all(np.array_equal(held[k], kept[k]) for k in kept)
