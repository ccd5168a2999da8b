"""The networks: sizes, inputs, and that they keep people apart."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from opacus.validators import ModuleValidator
from torch import nn
from torch.nn import functional as F

from privemo.dp import GaussianNoise, PersonBatch, PrivateStepper
from privemo.errors import SettingsError
from privemo.models import LUMA, MODELS, build_model, count_parameters, to_input
from privemo.models.colour import as_gray, as_rgb
from privemo.models.efficientnet import FrozenAffine

ALL = sorted(MODELS)


def pictures(n: int, channels: int = 1, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, channels, 48, 48, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("channels", [1, 3])
def test_the_model_of_the_goals_has_under_a_million_and_a_half_parameters(channels: int) -> None:
    assert count_parameters(build_model(channels=channels)) < 1_500_000


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", ALL)
def test_every_model_gives_four_logits_for_gray_and_for_colour(name: str, channels: int) -> None:
    logits = build_model(name, channels=channels)(pictures(3, channels))
    assert logits.shape == (3, 4)
    assert logits.isfinite().all()
    assert logits.std() < 10, "an untrained model is sure of itself: its start lets values grow"


@pytest.mark.parametrize("name", ALL)
def test_one_persons_output_does_not_depend_on_the_others_in_the_batch(name: str) -> None:
    model = build_model(name)
    batch = pictures(4)
    assert torch.allclose(model.train()(batch)[:1], model(batch[:1]), atol=1e-4)


@pytest.mark.parametrize("name", ALL)
def test_nothing_in_a_model_mixes_people_or_remembers_a_batch(name: str) -> None:
    model = build_model(name).train()
    assert ModuleValidator.validate(model, strict=False) == []
    assert list(model.buffers()) == [], "a buffer is where statistics of a batch are kept"
    assert not any(getattr(module, "inplace", False) for module in model.modules())


@pytest.mark.parametrize("name", ALL)
def test_every_model_takes_a_private_step(name: str) -> None:
    model = build_model(name)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    stepper = PrivateStepper(
        model,
        torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1),
        noise_multiplier=1e-3,
        max_grad_norm=1.0,
        normaliser=2.0,
        noise=GaussianNoise(bytes(32)),
    )
    labels = torch.tensor([0, 1, 2])
    stepper.step([PersonBatch(pictures(3), labels, owner=torch.tensor([0, 0, 1]), people=2)])
    stepper.close()
    trained = {key for key, value in model.named_parameters() if value.requires_grad}
    for key, value in model.state_dict().items():
        assert value.isfinite().all(), key
        assert torch.equal(value, before[key]) != (key in trained), key


@pytest.mark.parametrize("name", ALL)
def test_same_seed_same_model(name: str) -> None:
    a, b, c = (build_model(name, seed=seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert any(not torch.equal(a[key], c[key]) for key in a)


def test_global_random_state_is_left_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    build_model(seed=1)
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize("name", ALL)
def test_unknown_channels_are_refused(name: str) -> None:
    with pytest.raises(SettingsError, match="channels is 2"):
        build_model(name, channels=2)


def test_an_unknown_model_is_refused_with_the_known_ones() -> None:
    with pytest.raises(SettingsError, match=r"emotion-cnn.*efficientnet"):
        build_model("resnet-1000")


@pytest.mark.parametrize("name", ["rgb-cnn", "vgg16-1", "vgg16-2", "resnet-v2", "efficientnet"])
def test_a_model_of_colours_reads_gray_as_three_equal_colours(name: str) -> None:
    model = build_model(name, channels=1)
    gray = pictures(2)
    assert torch.equal(model(gray), model(gray.repeat(1, 3, 1, 1)))


def test_the_gray_model_reads_colours_by_their_luma_alone() -> None:
    model = build_model("gray-cnn", channels=3)
    colour = pictures(2, channels=3)
    luma = (colour * torch.tensor(LUMA).view(1, 3, 1, 1)).sum(1, keepdim=True)
    assert torch.allclose(model(colour), model(luma), atol=1e-6)
    assert as_gray(luma) is luma
    assert as_rgb(colour) is colour


def test_a_frozen_affine_is_batch_normalisation_at_rest() -> None:
    generator = torch.Generator().manual_seed(3)
    norm = nn.BatchNorm2d(5, eps=1e-3).eval()
    for tensor in (norm.weight.data, norm.bias.data, norm.running_mean, norm.running_var):
        assert tensor is not None
        tensor.copy_(torch.rand(5, generator=generator) + 0.1)
    affine = FrozenAffine(5)
    assert norm.running_var is not None
    assert norm.running_mean is not None
    scale = norm.weight.detach() / (norm.running_var + 1e-3).sqrt()
    affine.scale.copy_(scale)
    affine.shift.copy_(norm.bias.detach() - norm.running_mean * scale)
    x = torch.randn(4, 5, 6, 6, generator=generator)
    assert torch.allclose(affine(x), norm(x), atol=1e-6)
    assert list(filter(lambda p: p.requires_grad, affine.parameters())) == []


def test_the_random_start_of_the_efficientnet_keeps_the_size_of_what_passes() -> None:
    """Fifty convolutions with no statistics to rescale them: values must neither die out nor blow up."""
    model = build_model("efficientnet")
    features = model.features(F.interpolate(pictures(4, channels=3), (96, 96)))
    assert 0.02 < float(features.detach().std()) < 2


def test_the_documentation_tells_the_true_number_of_parameters() -> None:
    page = Path(__file__).parents[3] / "docs/explanation/models.md"
    told = dict(
        re.findall(r"^\| `([a-z0-9-]+)` \|.*?\| ([\d,]{7,}) \|", page.read_text(), re.MULTILINE)
    )
    assert {name: int(n.replace(",", "")) for name, n in told.items()} == {
        name: count_parameters(build_model(name)) for name in ALL
    }


def test_a_picture_is_standardised_by_itself_whatever_the_batch() -> None:
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randint(0, 256, (5, 48, 48), generator=generator, dtype=torch.uint8)
    ready = to_input(drawn)
    assert ready.shape == (5, 1, 48, 48)
    assert torch.equal(ready[2:3], to_input(drawn[2:3]))
    assert torch.allclose(ready.mean((1, 2, 3)), torch.zeros(5), atol=1e-4)


def test_brightness_is_taken_out_and_colour_is_kept() -> None:
    generator = torch.Generator().manual_seed(0)
    dark = torch.randint(0, 120, (1, 48, 48, 3), generator=generator, dtype=torch.uint8)
    assert torch.allclose(to_input(dark), to_input(dark + 100), atol=1e-4)
    gray = (dark.float() * torch.tensor(LUMA)).sum(-1).round().to(torch.uint8)
    luma = (to_input(dark) * torch.tensor(LUMA).view(1, 3, 1, 1)).sum(1, keepdim=True)
    assert torch.allclose(luma, to_input(gray), atol=0.05)


def test_a_picture_of_one_gray_is_zero_and_not_infinite() -> None:
    assert to_input(torch.full((1, 48, 48), 7, dtype=torch.uint8)).abs().max() == 0
