"""The network: its size, its inputs, and that it keeps people apart."""

from __future__ import annotations

import pytest
import torch
from opacus.validators import ModuleValidator

from privemo.errors import SettingsError
from privemo.models import LUMA, build_model, count_parameters, to_input


@pytest.mark.parametrize("channels", [1, 3])
def test_size_and_shapes(channels: int) -> None:
    model = build_model(channels=channels)
    assert 1_401_716 <= count_parameters(model) < 1_500_000
    assert model(torch.zeros(5, channels, 48, 48)).shape == (5, 4)


@pytest.mark.parametrize("channels", [1, 3])
def test_opacus_finds_nothing_to_complain_about(channels: int) -> None:
    assert ModuleValidator.validate(build_model(channels=channels), strict=False) == []


def test_one_persons_output_does_not_depend_on_the_others_in_the_batch() -> None:
    model = build_model()
    batch = torch.randn(6, 1, 48, 48, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(model(batch)[:1], model(batch[:1]), atol=1e-5)


def test_same_seed_same_model_and_global_state_left_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    a, b, c = build_model(seed=1), build_model(seed=1), build_model(seed=2)
    assert torch.equal(torch.rand(1), expected)
    first = [next(iter(m.parameters())) for m in (a, b, c)]
    assert torch.equal(first[0], first[1])
    assert not torch.equal(first[0], first[2])


def test_unknown_model_or_channels_are_refused() -> None:
    with pytest.raises(SettingsError, match="emotion-cnn"):
        build_model("resnet-1000")
    with pytest.raises(SettingsError, match="channels is 2"):
        build_model(channels=2)


def test_a_picture_is_standardised_by_itself_whatever_the_batch() -> None:
    generator = torch.Generator().manual_seed(0)
    pictures = torch.randint(0, 256, (5, 48, 48), generator=generator, dtype=torch.uint8)
    ready = to_input(pictures)
    assert ready.shape == (5, 1, 48, 48)
    assert torch.equal(ready[2:3], to_input(pictures[2:3]))
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
