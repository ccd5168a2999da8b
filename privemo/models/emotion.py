"""EmotionCNN, the model that privemo trains by default."""

from __future__ import annotations

from torch import Tensor, nn

from privemo.errors import SettingsError
from privemo.labels import EMOTIONS, IMAGE_SIZE
from privemo.models.layers import WSConv2d, group_norm

__all__ = ["EmotionCNN"]


class EmotionCNN(nn.Module):
    """Four stages of two weight-standardised 3x3 convolutions, one hidden layer, four emotions.

    Each stage halves the picture (48 -> 24 -> 12 -> 6 -> 3) and normalises only after that: at a quarter of
    the positions normalising costs a quarter, and standardised weights hold the scale until there.

    Input: float32 of shape (n, channels, 48, 48), as `to_input` makes it.
    Output: logits of shape (n, 4) in the order of `privemo.EMOTIONS`.
    Trainable parameters: 1,403,544 for gray and 1,404,120 for RGB.

    Args:
        channels: 1 for gray, 3 for RGB.

    Raises:
        SettingsError: `channels` is neither 1 nor 3.
    """

    widths = (32, 64, 128, 256)
    hidden = 100

    def __init__(self, channels: int = 1) -> None:
        if channels not in (1, 3):
            raise SettingsError(f"channels is {channels}: an EmotionCNN reads gray (1) or RGB (3).")
        super().__init__()
        self.channels = channels
        layers: list[nn.Module] = []
        wide_in = channels
        for wide in self.widths:
            layers += [
                WSConv2d(wide_in, wide, kernel_size=3, padding=1),
                nn.ReLU(),
                WSConv2d(wide, wide, kernel_size=3, padding=1),
                nn.MaxPool2d(2),
                group_norm(wide),
                nn.ReLU(),
            ]
            wide_in = wide
        self.features = nn.Sequential(*layers)
        side = IMAGE_SIZE // 2 ** len(self.widths)
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
