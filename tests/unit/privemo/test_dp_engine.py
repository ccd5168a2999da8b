"""The private step: exact, bounded for each person, blind to how many people there are."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from privemo.dp import GaussianNoise, PersonIndex, PrivateStepper, sample_people
from privemo.errors import SettingsError
from privemo.models import build_model

Person = tuple[Tensor, Tensor]


def small_net(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(1, 4, 3, stride=2, padding=1),
            nn.GroupNorm(2, 4),
            nn.ReLU(),
            nn.Conv2d(4, 6, 3, padding=1, groups=2),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Linear(24, 4),
        )


def people(sizes: list[int], seed: int = 0, size: int = 12) -> list[Person]:
    g = torch.Generator().manual_seed(seed)
    return [
        (torch.randn(k, 1, size, size, generator=g), torch.randint(0, 4, (k,), generator=g))
        for k in sizes
    ]


def stepper(model: nn.Module, **changes: object) -> PrivateStepper:
    arguments: dict[str, object] = {
        "lr": 1.0,
        "momentum": 0.0,
        "noise_multiplier": 1e-12,
        "max_grad_norm": 1.0,
        "normaliser": 1.0,
        "noise": GaussianNoise(bytes(32)),
        **changes,
    }
    return PrivateStepper(model, **arguments)  # type: ignore[arg-type]


def parameters(model: nn.Module) -> list[Tensor]:
    return [p.detach().clone() for p in model.parameters()]


def moved(model: nn.Module, batch: list[Person], **changes: object) -> list[Tensor]:
    """How far one step moved each parameter (lr 1, so this is the noisy mean gradient)."""
    before = parameters(model)
    private = stepper(model, **changes)
    private.step(batch)
    private.close()
    return [b - a for a, b in zip(parameters(model), before, strict=True)]


def naive_clipped_sum(model: nn.Module, batch: list[Person], clip: float) -> list[Tensor]:
    """The definition: one person after the other, in float64, clipped whole."""
    model = model.double()
    total = [torch.zeros_like(p) for p in model.parameters()]
    for x, y in batch:
        model.zero_grad()
        F.cross_entropy(model(x.double()), y, reduction="sum").backward()
        grads = [p.grad for p in model.parameters()]
        norm = math.sqrt(sum(float((g**2).sum()) for g in grads if g is not None))
        for t, g in zip(total, grads, strict=True):
            assert g is not None
            t += min(1.0, clip / (norm + 1e-6)) * g
    return total


@settings(max_examples=20, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 7), min_size=1, max_size=9),
    clip=st.floats(0.05, 20.0),
    at_once=st.integers(1, 16),
    seed=st.integers(0, 1000),
)
def test_the_clipped_sum_equals_the_naive_loop(
    sizes: list[int], clip: float, at_once: int, seed: int
) -> None:
    batch = people(sizes, seed)
    ours = moved(small_net(seed), batch, max_grad_norm=clip, images_at_once=at_once)
    truth = naive_clipped_sum(small_net(seed), batch, clip)
    scale = max(float(t.abs().max()) for t in truth)
    for a, b in zip(ours, truth, strict=True):
        assert torch.allclose(a.double(), b, rtol=1e-4, atol=1e-5 * max(scale, 1.0))


@settings(max_examples=15, deadline=None)
@given(images=st.integers(1, 40), seed=st.integers(0, 100))
def test_a_person_moves_the_model_by_at_most_the_clip_however_many_images(
    images: int, seed: int
) -> None:
    others = people([2, 3], seed)
    one = people([images], seed + 1)
    loud = [(one[0][0] * 50, one[0][1])]
    without = moved(small_net(seed), others, max_grad_norm=0.5)
    with_them = moved(small_net(seed), others + loud, max_grad_norm=0.5)
    distance = math.sqrt(
        sum(float(((a - b) ** 2).sum()) for a, b in zip(with_them, without, strict=True))
    )
    assert distance <= 0.5 * (1 + 1e-4)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_broken_picture_is_bounded_to_its_person(value: float) -> None:
    batch = people([2, 1, 3])
    broken = [*batch, (torch.full((2, 1, 12, 12), value), torch.tensor([0, 1]))]
    for a, b in zip(moved(small_net(), broken), moved(small_net(), batch), strict=True):
        assert torch.allclose(a, b, atol=1e-6)


def test_an_empty_batch_is_a_step_of_pure_noise() -> None:
    noise = moved(small_net(), [], noise_multiplier=2.0, max_grad_norm=3.0, normaliser=4.0)
    flat = torch.cat([n.flatten() for n in noise])
    assert float(flat.std()) == pytest.approx(2.0 * 3.0 / 4.0, rel=0.1)


def test_noise_has_the_accounted_size_and_a_fresh_draw_each_step() -> None:
    model = build_model()
    private = stepper(model, noise_multiplier=1.5, max_grad_norm=2.0, normaliser=10.0)
    steps = []
    for _ in range(2):
        before = torch.cat([p.flatten() for p in parameters(model)])
        private.step([])
        steps.append(before - torch.cat([p.flatten() for p in parameters(model)]))
    for step in steps:
        # 1.4 million draws: the standard deviation is known to 0.2% (five sigma of its error).
        assert float(step.std()) == pytest.approx(1.5 * 2.0 / 10.0, rel=0.003)
    correlation = float(torch.corrcoef(torch.stack(steps))[0, 1])
    assert abs(correlation) < 0.005


def test_the_normaliser_is_the_public_constant_and_not_the_number_of_people() -> None:
    """Opacus issue 819: dividing by a private count both leaks it and breaks the accounting."""
    one = people([1])
    alone = moved(small_net(), one, normaliser=8.0)
    doubled = moved(small_net(), one * 2, normaliser=8.0)
    for a, b in zip(alone, doubled, strict=True):
        assert torch.allclose(2 * a, b, atol=1e-6)


def test_the_model_is_a_plain_module_again_after_close() -> None:
    model = small_net()
    moved(model, people([2]))
    F.cross_entropy(model(torch.randn(3, 1, 12, 12)), torch.zeros(3, dtype=torch.long)).backward()
    assert not any(hasattr(p, "grad_sample") for p in model.parameters())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"max_grad_norm": 0.0}, "clipping norm"),
        ({"max_grad_norm": -1.0}, "clipping norm"),
        ({"noise_multiplier": 0.0}, "noise multiplier"),
        ({"noise_multiplier": float("nan")}, "noise multiplier"),
        ({"normaliser": 0.0}, "normaliser"),
        ({"lr": float("inf")}, "learning rate"),
    ],
)
def test_impossible_settings_are_refused(change: dict[str, float], says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        stepper(small_net(), **change)


def test_a_layer_that_mixes_people_is_refused_by_name() -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4))
    with pytest.raises(SettingsError, match=r"BatchNorm.*GroupNorm"):
        stepper(model)


@given(st.lists(st.sampled_from("abcdef"), min_size=1, max_size=40))
def test_an_index_gives_every_row_to_its_person_once(who: list[str]) -> None:
    person = np.array(who)
    index = PersonIndex.of(person)
    rows = [index.rows(i) for i in range(len(index))]
    assert sorted(np.concatenate(rows).tolist()) == list(range(len(who)))
    for name, mine in zip(index.people, rows, strict=True):
        assert set(person[mine]) == {name}


def test_people_join_independently_at_the_rate() -> None:
    rng = np.random.default_rng(1)
    draws = [sample_people(200, 0.2, rng) for _ in range(2000)]
    sizes = np.array([len(d) for d in draws])
    # Binomial(200, 0.2): mean 40, variance 32. Shuffled batches would have variance 0.
    assert sizes.mean() == pytest.approx(40, abs=0.6)
    assert sizes.var() == pytest.approx(32, rel=0.15)
    joined = np.zeros((2000, 200), dtype=bool)
    for row, draw in zip(joined, draws, strict=True):
        row[draw] = True
    assert np.abs(np.corrcoef(joined[:, :20].T) - np.eye(20)).max() < 0.12


def test_sampling_may_draw_nobody() -> None:
    rng = np.random.default_rng(0)
    assert any(len(sample_people(3, 0.1, rng)) == 0 for _ in range(50))
