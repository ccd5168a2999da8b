"""EmotionCNN, the model that privemo trains by default."""

from __future__ import annotations

from torch import Tensor, nn

from privemo.errors import SettingsError
from privemo.labels import EMOTIONS, IMAGE_SIZE

__all__ = ["EmotionCNN"]


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
