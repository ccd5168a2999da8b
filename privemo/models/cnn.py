"""The study's own small networks: its first one in colour and in gray, and its second."""

from __future__ import annotations

from torch import Tensor, nn

from privemo.labels import EMOTIONS, IMAGE_SIZE
from privemo.models.colour import as_gray, as_rgb, check_channels
from privemo.models.layers import group_norm

__all__ = ["CNN2", "FirstCNN"]


def _same() -> nn.ZeroPad2d:
    """One pixel at the right and at the bottom: a 2x2 convolution then keeps the size of its picture."""
    return nn.ZeroPad2d((0, 1, 0, 1))


class FirstCNN(nn.Module):
    """The study's first network: three 2x2 convolutions (64-32-32), one hidden layer, nothing normalised.

    The study trained it on RGB and on gray pictures and compares the two. Its dropout is left out here: it
    draws from torch's global generator, so that equal seeds would no longer give equal models.

    Input: float32 (n, 1 or 3, 48, 48). Output: logits (n, 4).
    Trainable parameters: 605,572 where it reads RGB, 605,060 where it reads gray.

    Args:
        channels: of the pictures; either kind is turned into what the network reads.
        reads: 1 to read gray, 3 to read RGB.

    Raises:
        SettingsError: `channels` is neither 1 nor 3.
    """

    widths = (64, 32, 32)
    hidden = 512

    def __init__(self, channels: int = 1, *, reads: int) -> None:
        check_channels(channels)
        super().__init__()
        self.reads = reads
        layers: list[nn.Module] = []
        wide_in, side = reads, IMAGE_SIZE
        for wide_out in self.widths:
            layers += [_same(), nn.Conv2d(wide_in, wide_out, 2), nn.ReLU(), nn.MaxPool2d(2)]
            wide_in, side = wide_out, side // 2
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(
            nn.Flatten(),
            nn.Linear(wide_in * side * side, self.hidden),
            nn.ReLU(),
            nn.Linear(self.hidden, len(EMOTIONS)),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Logits (n, 4) of `images` (n, 1 or 3, 48, 48)."""
        x = as_gray(images) if self.reads == 1 else as_rgb(images)
        logits: Tensor = self.classifier(self.features(x))
        return logits


class CNN2(nn.Module):
    """The study's second network: four 2x2 convolutions (256-128-64-32), normalised, leaky, one hidden layer.

    Group normalisation takes the place of batch normalisation, which mixes people.

    Input: float32 (n, channels, 48, 48). Output: logits (n, 4).
    Trainable parameters: 324,516 for gray and 326,564 for RGB.

    Args:
        channels: 1 for gray, 3 for RGB.

    Raises:
        SettingsError: `channels` is neither 1 nor 3.
    """

    widths = (256, 128, 64, 32)
    hidden = 512

    def __init__(self, channels: int = 1) -> None:
        check_channels(channels)
        super().__init__()
        self.channels = channels
        layers: list[nn.Module] = []
        wide_in, side = channels, IMAGE_SIZE
        for wide_out in self.widths:
            layers += [
                _same(),
                nn.Conv2d(wide_in, wide_out, 2),
                group_norm(wide_out),
                nn.LeakyReLU(0.1),
                nn.MaxPool2d(2),
            ]
            wide_in, side = wide_out, side // 2
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(
            nn.Flatten(),
            nn.Linear(wide_in * side * side, self.hidden),
            nn.ReLU(),
            nn.Linear(self.hidden, len(EMOTIONS)),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Logits (n, 4) of `images` (n, channels, 48, 48)."""
        logits: Tensor = self.classifier(self.features(images))
        return logits
