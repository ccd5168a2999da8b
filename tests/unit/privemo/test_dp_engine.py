"""The private step: exact, bounded for each person, blind to how many people there are."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from privemo.dp import GaussianNoise, PersonBatch, PersonIndex, PrivateStepper, sample_people
from privemo.dp.bookkeeping import probe
from privemo.errors import SettingsError
from privemo.models import build_model
from tests.support.people import distance, naive_clipped_sum, people


def small_net(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(1, 4, 3, stride=2, padding=1),
            nn.GroupNorm(2, 4),
            nn.Tanh(),
            nn.Conv2d(4, 6, 3, padding=1, groups=2),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Linear(24, 4),
        )


def moved(model: nn.Module, batches: list[PersonBatch], **changes: object) -> list[Tensor]:
    """How far one step moved each parameter (lr 1, so this is the noisy mean gradient)."""
    before = parameters(model)
    private = stepper(model, **changes)
    private.step(batches)
    private.close()
    return [b - a for a, b in zip(parameters(model), before, strict=True)]


def stepper(model: nn.Module, **changes: object) -> PrivateStepper:
    arguments: dict[str, object] = {
        "noise_multiplier": 1e-12,
        "max_grad_norm": 1.0,
        "normaliser": 1.0,
        "noise": GaussianNoise(bytes(32)),
        **changes,
    }
    optimizer = arguments.pop("optimizer", None) or torch.optim.SGD(model.parameters(), lr=1.0)
    return PrivateStepper(model, optimizer, **arguments)  # type: ignore[arg-type]


def parameters(model: nn.Module) -> list[Tensor]:
    return [p.detach().clone() for p in model.parameters()]


@settings(max_examples=15, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 7), min_size=1, max_size=9),
    clip=st.floats(0.05, 20.0),
    seed=st.integers(0, 1000),
)
def test_the_clipped_sum_equals_the_naive_loop(sizes: list[int], clip: float, seed: int) -> None:
    batch = people(sizes, seed)
    ours = moved(small_net(seed), [batch], max_grad_norm=clip)
    # The step itself rounds: a weight minus its move is a float32 again.
    assert distance(ours, naive_clipped_sum(small_net(seed), batch, clip)) < 1e-4


@settings(max_examples=15, deadline=None)
@given(images=st.integers(1, 40), seed=st.integers(0, 100))
def test_a_person_moves_the_model_by_at_most_the_clip_however_many_images(
    images: int, seed: int
) -> None:
    others, one = people([2, 3], seed), people([images], seed + 1)
    loud = PersonBatch(one.images * 50, one.labels, one.owner, 1)
    without = moved(small_net(seed), [others], max_grad_norm=0.5)
    with_them = moved(small_net(seed), [others, loud], max_grad_norm=0.5)
    apart = sum(float(((a - b) ** 2).sum()) for a, b in zip(with_them, without, strict=True))
    assert math.sqrt(apart) <= 0.5 * (1 + 1e-4)


def test_many_views_of_a_picture_count_as_much_as_one() -> None:
    """A person's loss is a mean: augmentation multiplicity averages before the clip, at no cost."""
    one = people([1, 2])
    views = PersonBatch(
        one.images.repeat_interleave(3, 0),
        one.labels.repeat_interleave(3),
        one.owner.repeat_interleave(3),
        2,
    )
    for clip in (0.05, 1e6):
        once = moved(small_net(), [one], max_grad_norm=clip)
        assert distance(moved(small_net(), [views], max_grad_norm=clip), once) < 1e-4


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e30])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_broken_picture_is_bounded_to_its_person(value: float, precision: str) -> None:
    healthy, bad = people([2, 1, 3]), people([2])
    broken = PersonBatch(torch.full_like(bad.images, value), bad.labels, bad.owner, 1)
    both = PersonBatch(
        torch.cat([healthy.images, broken.images]),
        torch.cat([healthy.labels, broken.labels]),
        torch.cat([healthy.owner, broken.owner + 3]),
        4,
    )
    for batches in ([both], [healthy, broken]):
        with_them = moved(small_net(), batches, precision=precision)
        if math.isfinite(value):  # group normalisation calms even such a picture: it is clipped
            apart = sum(
                float(((a - b) ** 2).sum())
                for a, b in zip(
                    with_them, moved(small_net(), [healthy], precision=precision), strict=True
                )
            )
            assert math.sqrt(apart) <= 1 + 1e-4
        else:
            alone = moved(small_net(), [healthy], precision=precision)
            assert distance(with_them, alone) < 1e-4


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


def test_noise_is_made_of_four_draws_and_rounded_after_it_is_added() -> None:
    model = small_net()
    with torch.no_grad():
        for p in model.parameters():
            p.zero_()  # so that a move is the noise itself
    noise = moved(model, [], noise_multiplier=1.5, normaliser=2.0)
    count = sum(p.numel() for p in model.parameters())
    expected = GaussianNoise(bytes(32)).draw_secure(count) * 1.5 / 2.0
    assert torch.equal(torch.cat([n.flatten() for n in noise]), expected.float())


def test_noise_comes_once_however_many_parts_there_are() -> None:
    parts = [people([1], seed) for seed in range(4)]
    still = [PersonBatch(p.images, p.labels, p.owner, 1) for p in parts]
    noise = moved(small_net(), still, noise_multiplier=1e4, max_grad_norm=1e-3)
    flat = torch.cat([n.flatten() for n in noise])
    assert float(flat.std()) == pytest.approx(1e4 * 1e-3, rel=0.1)


def test_any_optimizer_steps_on_the_noised_gradient() -> None:
    batch = people([2, 1])
    model = small_net()
    adam = torch.optim.Adam(model.parameters(), lr=0.01)
    private = stepper(model, optimizer=adam)
    before = parameters(model)
    private.step([batch])
    private.close()
    # Adam's first step is the rate in the direction of each gradient's sign, whatever its size.
    steps = torch.cat(
        [(a - b).abs().flatten() for a, b in zip(parameters(model), before, strict=True)]
    )
    assert float(steps.max()) == pytest.approx(0.01, rel=1e-3)


def test_momentum_lives_on_between_steps() -> None:
    model = small_net()
    private = stepper(model, optimizer=torch.optim.SGD(model.parameters(), lr=1.0, momentum=0.5))
    batch, points = people([2]), [parameters(model)]
    for batches in ([batch], []):
        private.step(batches)
        points.append(parameters(model))
    first, second = ([b - a for a, b in zip(points[i], points[i + 1], strict=True)] for i in (0, 1))
    assert distance(second, [0.5 * f.double() for f in first]) < 1e-4


def test_parts_that_break_off_release_nothing_and_leave_no_rest() -> None:
    model = small_net()
    private = stepper(model)
    before = parameters(model)

    def parts() -> Iterator[PersonBatch]:
        yield people([3, 1], seed=5)
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="disk"):
        private.step(parts())
    assert all(torch.equal(a, b) for a, b in zip(parameters(model), before, strict=True))
    private.step([people([2])])
    ours = [b - a for a, b in zip(parameters(model), before, strict=True)]
    assert distance(ours, naive_clipped_sum(small_net(), people([2]), 1.0)) < 1e-4


def test_the_normaliser_is_the_public_constant_and_not_the_number_of_people() -> None:
    """Opacus issue 819: dividing by a private count both leaks it and breaks the accounting."""
    one = people([1])
    alone = moved(small_net(), [one], normaliser=8.0)
    doubled = moved(small_net(), [one, one], normaliser=8.0)
    assert distance(doubled, [2 * a for a in alone]) < 1e-4


def test_the_model_is_a_plain_module_again_after_close() -> None:
    model = small_net()
    moved(model, [people([2])])
    F.cross_entropy(model(torch.randn(3, 1, 12, 12)), torch.zeros(3, dtype=torch.long)).backward()
    assert all(p.grad is not None for p in model.parameters())
    names = ("grad_sample", "summed_grad", "_forward_counter")
    assert not any(hasattr(p, name) for p in model.parameters() for name in names)
    assert not any(m._forward_hooks for m in model.modules())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"max_grad_norm": 0.0}, "clipping norm"),
        ({"max_grad_norm": -1.0}, "clipping norm"),
        ({"max_grad_norm": float("inf")}, "clipping norm"),
        ({"noise_multiplier": 0.0}, "noise multiplier"),
        ({"noise_multiplier": float("nan")}, "noise multiplier"),
        ({"normaliser": 0.0}, "normaliser"),
        ({"precision": "float16"}, "float32 or bfloat16, not 'float16'"),
    ],
)
def test_impossible_settings_are_refused(change: dict[str, object], says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        stepper(small_net(), **change)


def test_the_optimizer_holds_just_what_is_trained() -> None:
    model = small_net()
    some = torch.optim.SGD(list(model.parameters())[1:], lr=1.0)
    with pytest.raises(SettingsError, match=r"optimizer lacks 0\.weight"):
        stepper(model, optimizer=some)
    stranger = torch.optim.SGD([*model.parameters(), nn.Parameter(torch.zeros(2))], lr=1.0)
    with pytest.raises(SettingsError, match="does not train"):
        stepper(model, optimizer=stranger)
    model[0].weight.requires_grad_(False)  # type: ignore[index, union-attr]
    moved(model, [people([2])], optimizer=torch.optim.SGD(model.parameters(), lr=1.0))
    with pytest.raises(SettingsError, match="no trainable parameters"):
        stepper(model.requires_grad_(False), optimizer=some)
    with pytest.raises(SettingsError, match="needs float32"):
        stepper(small_net().double())


def test_a_layer_that_mixes_people_is_refused_by_name() -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4))
    with pytest.raises(SettingsError, match=r"'1' \(BatchNorm2d\).*GroupNorm"):
        stepper(model)


def test_a_model_that_mixes_people_in_its_own_code_is_refused_at_the_first_step() -> None:
    class Centred(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(144, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(x.flatten(1) - x.flatten(1).mean(0))

    model = Centred()
    before = parameters(model)
    with pytest.raises(SettingsError, match="mixes people"):
        moved(model, [people([1, 2])])
    assert all(torch.equal(a, b) for a, b in zip(parameters(model), before, strict=True))


# -- batches -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"owner": torch.tensor([0, 0, 2, 2]), "people": 3}, "position 1 of a batch has no image"),
        ({"people": 3}, "position 2 of a batch has no image"),
        ({"owner": torch.tensor([1, 0, 1, 1])}, "not sorted"),
        ({"owner": torch.tensor([0, 0, 1, 2]), "people": 2}, "outside 0 to people - 1"),
        ({"owner": torch.tensor([-1, 0, 1, 1])}, "outside 0 to people - 1"),
        ({"owner": torch.tensor([0, 0, 1])}, "owner of 4 images"),
        ({"labels": torch.zeros(4)}, "labels of 4 images are int64"),
        ({"images": torch.zeros(0, 1, 12, 12)}, "no batch at all"),
        ({"images": torch.zeros(4, 12, 12)}, "float32"),
        ({"images": torch.zeros(4, 1, 12, 12, dtype=torch.uint8)}, "float32"),
    ],
)
def test_a_batch_that_is_none_is_refused(change: dict[str, object], says: str) -> None:
    facts: dict[str, object] = {
        "images": torch.zeros(4, 1, 12, 12),
        "labels": torch.zeros(4, dtype=torch.int64),
        "owner": torch.tensor([0, 0, 0, 1]),
        "people": 2,
        **change,
    }
    with pytest.raises(SettingsError, match=says):
        PersonBatch(**facts)  # type: ignore[arg-type]


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


def test_a_layer_unfrozen_later_is_refused_and_what_others_left_does_not_move() -> None:
    net = small_net()
    layers = [m for m in net.modules() if list(m.parameters(recurse=False))]
    for p in layers[0].parameters():
        p.requires_grad_(False)
        p.grad = torch.ones_like(p)  # of somebody's own backward pass
    before = [p.clone() for p in layers[0].parameters()]
    stepper = PrivateStepper(
        net,
        torch.optim.SGD(net.parameters(), lr=1.0),
        noise_multiplier=1.0,
        max_grad_norm=1.0,
        normaliser=1.0,
        noise=GaussianNoise(bytes(32)),
    )
    stepper.step([people([1, 2])])
    assert all(torch.equal(a, b) for a, b in zip(before, layers[0].parameters(), strict=True))
    for p in layers[0].parameters():
        p.requires_grad_(True)
    with pytest.raises(SettingsError, match="frozen or unfrozen"):
        stepper.step([people([1, 2])])


def test_a_probe_refuses_weights_that_overflow_and_pictures_that_do_not_fit() -> None:
    net = build_model()
    with torch.no_grad():
        net.classifier[1].weight.mul_(1e30)
        net.classifier[3].weight.mul_(1e30)
    with pytest.raises(SettingsError, match="no finite number"):
        probe(net, torch.Size((1, 48, 48)))
    with pytest.raises(SettingsError, match="does not read pictures of shape 3x48x48"):
        probe(net, torch.Size((3, 48, 48)))
