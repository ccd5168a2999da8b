"""Networks that read an emotion from a 48x48 face, all compatible with differential privacy.

Compatible means: no layer mixes people. Batch normalisation shares statistics between the images
of a batch, so one person's gradient would depend on another's; group normalisation (Wu & He 2018,
arXiv 1803.08494) normalises within one image and takes its place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from privemo.errors import SettingsError
from privemo.labels import EMOTIONS, IMAGE_SIZE

__all__ = ["LUMA", "MODELS", "EmotionCNN", "build_model", "count_parameters", "to_input"]


class EmotionCNN(nn.Module):
    """Five 3x3 convolutions (32-64-128-256-256), one hidden layer, four emotions.

    Input: float32 of shape (n, channels, 48, 48), as `to_input` makes it.
    Output: logits of shape (n, 4) in the order of `privemo.EMOTIONS`.
    Trainable parameters: 1,404,252 for gray and 1,404,828 for RGB.

    Args:
        channels: 1 for gray, 3 for RGB.

    Raises:
        SettingsError: `channels` is neither 1 nor 3.
    """

    widths = (32, 64, 128, 256, 256)
    hidden = 184

    def __init__(self, channels: int = 1) -> None:
        if channels not in (1, 3):
            raise SettingsError(f"channels is {channels}: an EmotionCNN reads gray (1) or RGB (3).")
        super().__init__()
        self.channels = channels
        layers: list[nn.Module] = []
        wide_in = channels
        for block, wide_out in enumerate(self.widths):
            layers += [
                nn.Conv2d(wide_in, wide_out, kernel_size=3, padding=1),
                nn.GroupNorm(min(32, wide_out // 8), wide_out),
                nn.ReLU(),
            ]
            if block != 3:  # 48 -> 24 -> 12 -> 6, twice convolved at 6, -> 3
                layers.append(nn.MaxPool2d(2))
            wide_in = wide_out
        self.features = nn.Sequential(*layers)
        side = IMAGE_SIZE // 2**4
        self.classifier = nn.Sequential(
            nn.Flatten(),
            nn.Linear(self.widths[-1] * side * side, self.hidden),
            nn.ReLU(),
            nn.Linear(self.hidden, len(EMOTIONS)),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Logits (n, 4) of `images` (n, channels, 48, 48)."""
        logits: Tensor = self.classifier(self.features(images))
        return logits


LUMA = (0.299, 0.587, 0.114)
"""Share of red, green and blue in gray (ITU-R BT.601), as the renderer mixes them."""

MODELS: Mapping[str, Callable[[int], nn.Module]] = {"emotion-cnn": EmotionCNN}


def build_model(name: str = "emotion-cnn", *, channels: int = 1, seed: int = 0) -> nn.Module:
    """A freshly initialised model, the same for the same seed; global random state is left alone.

    Raises:
        SettingsError: no model has that name.
    """
    if name not in MODELS:
        raise SettingsError(f"There is no model {name!r}; choose one of {', '.join(MODELS)}.")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return MODELS[name](channels)


def count_parameters(model: nn.Module) -> int:
    """Number of trainable parameters."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def to_input(images: Tensor) -> Tensor:
    """Turn uint8 pixels into what the models read: each picture standardised by itself.

    Brightness and contrast are the light's and the skin's, not the expression's. Each picture uses its
    own mean and deviation alone; those of the data would be a release of private faces.

    Args:
        images: uint8, (n, 48, 48) for gray or (n, 48, 48, 3) for RGB.

    Returns:
        float32, (n, channels, 48, 48); the luma of each picture has mean 0 and deviation about 1.
    """
    x = images.to(torch.float32)
    x = x.unsqueeze(1) if x.ndim == 3 else x.permute(0, 3, 1, 2)
    luma = x if x.shape[1] == 1 else (x * x.new_tensor(LUMA).view(1, 3, 1, 1)).sum(1, keepdim=True)
    mean = luma.mean((2, 3), keepdim=True)
    # Eight gray levels keep a picture of one single gray from being blown up into noise.
    deviation = luma.std((2, 3), keepdim=True) + 8.0
    return (x - mean) / deviation
