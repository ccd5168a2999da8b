"""Networks that read an emotion from a 48x48 face, all compatible with differential privacy.

Compatible means: no layer mixes people. Batch normalisation shares statistics between the images
of a batch, so one person's gradient would depend on another's; group normalisation (Wu & He 2018,
arXiv 1803.08494) normalises within one image and takes its place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import nn

from privemo.errors import SettingsError
from privemo.models.emotion import EmotionCNN
from privemo.models.inputs import LUMA, to_input

__all__ = ["LUMA", "MODELS", "EmotionCNN", "build_model", "count_parameters", "to_input"]

MODELS: Mapping[str, Callable[[int], nn.Module]] = {"emotion-cnn": EmotionCNN}
"""Name of a model -> how to build it from the number of channels, 1 (gray) or 3 (RGB)."""


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
