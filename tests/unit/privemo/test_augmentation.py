"""Random changes of pictures: each in its own way, within bounds, and nothing that was not asked for."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from privemo.errors import SettingsError
from privemo.models import to_input
from privemo.training import AUGMENTATIONS, Augmentation
from privemo.training.augmentation import _Draws, _shadow


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(n: int, channels: int = 1) -> Tensor:
    shape = (n, 48, 48) if channels == 1 else (n, 48, 48, channels)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=seeded(9))


def bright_square(n: int) -> Tensor:
    pixels = torch.zeros(n, 48, 48, dtype=torch.uint8)
    pixels[:, 20:28, 20:28] = 200
    return pixels


def test_without_any_change_pictures_are_what_models_read() -> None:
    for channels in (1, 3):
        pixels = noise(5, channels)
        assert torch.equal(AUGMENTATIONS["none"](pixels, seeded()), to_input(pixels))


def test_a_shift_moves_pictures_a_little_and_each_in_its_own_way() -> None:
    moved = Augmentation(shift=3.0)(bright_square(64), seeded())
    weight = moved - moved.amin((1, 2, 3), keepdim=True)
    centre = (weight.sum((1, 2)) * torch.arange(48)).sum(1) / weight.sum((1, 2, 3))
    assert float(centre.min()) >= 20.4
    assert float(centre.max()) <= 26.6
    assert float(centre.std()) > 0.5


@pytest.mark.parametrize("rest", [{}, {"scale": 1e-9}])
def test_a_flip_alone_mirrors_half_of_the_pictures(rest: dict[str, float]) -> None:
    """By exchanging pixels, and through the grid that also turns and scales."""
    pixels = noise(40, 3)
    before, after = to_input(pixels), Augmentation(flip=True, **rest)(pixels, seeded())
    kept = sum(torch.allclose(o, i, atol=1e-3) for o, i in zip(after, before, strict=True))
    mirrored = sum(
        torch.allclose(o, i.flip(-1), atol=1e-3) for o, i in zip(after, before, strict=True)
    )
    assert kept + mirrored == 40
    assert 8 < mirrored < 32


def test_erasing_blanks_one_rectangle_of_some_pictures() -> None:
    after = Augmentation(erase=0.5)(noise(200), seeded())
    blank = (after[:, 0] == 0).float()
    share = blank.mean((1, 2))
    erased = share > 0.01
    assert 70 < int(erased.sum()) < 130
    assert float(share.max()) < 0.25
    for picture in blank[erased][:20]:
        high, wide = int((picture.mean(1) > 0.05).sum()), int((picture.mean(0) > 0.05).sum())
        assert float(picture.sum()) == pytest.approx(high * wide, rel=0.2)


def test_blur_takes_the_fine_grain_away() -> None:
    pixels = noise(20)
    sharp, soft = to_input(pixels), Augmentation(blur=1.0)(pixels, seeded())
    grain = lambda x: x.diff(dim=-1).abs().mean((1, 2, 3))  # noqa: E731
    assert (grain(soft) <= grain(sharp) + 1e-3).all()
    assert float((grain(soft) / grain(sharp)).mean()) < 0.9


def extent(x: Tensor) -> tuple[Tensor, Tensor]:
    """Height and width of what is bright in each picture."""
    bright = x[:, 0] > x.amax((1, 2, 3)).view(-1, 1, 1) / 2
    return bright.any(2).sum(1).float(), bright.any(1).sum(1).float()


def test_closer_only_ever_enlarges() -> None:
    high, wide = extent(Augmentation(closer=1.0)(bright_square(200), seeded()))
    assert float(wide.min()) >= 7
    assert 14 <= float(wide.max()) <= 17
    assert float((high - wide).abs().max()) <= 1
    assert float(wide.std()) > 1.5


def test_stretching_trades_height_for_width() -> None:
    high, wide = extent(Augmentation(stretch=0.9)(bright_square(200), seeded()))
    assert float((high / wide).max()) > 1.5
    assert float((high / wide).min()) < 0.67
    assert float((high * wide).mean()) == pytest.approx(64, rel=0.15)


def test_a_shadow_takes_light_from_one_side_and_never_all_of_it() -> None:
    flat = torch.full((200, 48, 48), 200, dtype=torch.uint8)
    flat[:, ::2] = 190  # so that there is something to standardise
    shares = _shadow(48, _Draws(200, seeded()), 0.8)
    assert shares.shape == (200, 1, 48, 48)
    assert float(shares.min()) >= 0.2
    assert float(shares.max()) <= 1
    darkest, brightest = shares.amin((1, 2, 3)), shares.amax((1, 2, 3))
    assert float((brightest - darkest).max()) > 0.6
    assert float((brightest - darkest).min()) < 0.1
    after = Augmentation(shade=0.8)(flat, seeded())
    assert float((after - to_input(flat)).abs().mean()) > 0.2


def test_sharpening_brings_the_fine_grain_out() -> None:
    pixels = torch.randint(100, 150, (20, 48, 48), dtype=torch.uint8, generator=seeded(9))
    pixels[:, 12:36, 12:36] += 60
    grain = lambda x: x.diff(dim=-1).abs().mean((1, 2, 3))  # noqa: E731
    sharper = Augmentation(sharpen=1.0)(pixels, seeded())
    assert float((grain(sharper) / grain(to_input(pixels))).mean()) > 1.05


@pytest.mark.parametrize(
    "change", [Augmentation(gamma=1.0), Augmentation(contrast=0.5, brightness=120.0)]
)
def test_light_changes_more_than_the_standardising_undoes(change: Augmentation) -> None:
    pixels = noise(20)
    far = (change(pixels, seeded()) - to_input(pixels)).abs().mean((1, 2, 3))
    assert float(far.mean()) > 0.05
    assert len(set(far.tolist())) == 20


@pytest.mark.parametrize("name", AUGMENTATIONS)
@pytest.mark.parametrize("channels", [1, 3])
def test_same_seed_same_pictures_finite_and_of_the_right_shape(name: str, channels: int) -> None:
    change, pixels = AUGMENTATIONS[name], noise(6, channels)  # type: ignore[index]
    once, again = change(pixels, seeded(4)), change(pixels, seeded(4))
    assert torch.equal(once, again)
    assert once.shape == (6, channels, 48, 48)
    assert once.isfinite().all()
    assert change(pixels[:0], seeded()).shape == (0, channels, 48, 48)
    black = torch.zeros_like(pixels)
    assert change(black, seeded()).isfinite().all()
    if name != "none":
        assert not torch.equal(once, change(pixels, seeded(5)))


@pytest.mark.parametrize(
    "bad",
    [
        {"shift": -1.0},
        {"degrees": float("nan")},
        {"scale": 1.5},
        {"closer": -0.1},
        {"stretch": 2.0},
        {"shade": 1.5},
        {"blur": 2.0},
        {"sharpen": float("inf")},
        {"erase": 1.1},
    ],
)
def test_an_impossible_change_is_refused_by_name(bad: dict[str, float]) -> None:
    with pytest.raises(SettingsError, match=next(iter(bad))):
        Augmentation(**bad)  # type: ignore[arg-type]


def test_light_is_taken_before_the_cameras_noise_is_added() -> None:
    """In the dark the noise weighs more: a picture is dimmed, then noised, then standardised."""
    flat = torch.full((200, 48, 48), 128, dtype=torch.uint8)
    flat[:, :, 24:] = 178
    clear = Augmentation(noise=20.0)(flat, seeded())
    dark = Augmentation(noise=20.0, dim=1.0)(flat, seeded())

    def contrast(x: Tensor) -> Tensor:
        return x[..., 24:].mean((1, 2, 3)) - x[..., :24].mean((1, 2, 3))

    assert float(contrast(dark).mean()) < 0.8 * float(contrast(clear).mean())
    assert float(Augmentation(dim=1.0)(flat, seeded()).std((1, 2, 3)).min()) < 0.9


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_a_changed_picture_shows_nothing_of_the_others(name: str) -> None:
    """What acts inside one picture acts before a person's clip; what mixed people would break it."""
    mine, others = noise(8), noise(8)
    others[1:] = 255 - others[1:]
    one, two = (AUGMENTATIONS[name](pixels, seeded()) for pixels in (mine, others))
    assert torch.equal(one[0], two[0])
    assert not torch.equal(one[1], two[1])
