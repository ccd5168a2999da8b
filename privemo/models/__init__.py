"""Networks that read an emotion from a 48x48 face, all compatible with differential privacy.

Compatible means: no layer mixes people. Batch normalisation shares statistics between the images
of a batch, so one person's gradient would depend on another's; group normalisation (Wu & He 2018,
arXiv 1803.08494) normalises within one image and takes its place.

`MODELS` holds the study's eight, each in a form that can be trained privately; docs/explanation/models.md
tells what each one is and how it does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import nn

from privemo.errors import SettingsError
from privemo.models.cnn import CNN2, FirstCNN
from privemo.models.efficientnet import EfficientNetLite0
from privemo.models.emotion import EmotionCNN
from privemo.models.inputs import LUMA, to_input
from privemo.models.resnet import ResNetV2
from privemo.models.vgg import VGG16

__all__ = ["LUMA", "MODELS", "EmotionCNN", "build_model", "count_parameters", "to_input"]

MODELS: Mapping[str, Callable[[int], nn.Module]] = {
    "emotion-cnn": EmotionCNN,  # CNN Model 3 in the study
    "cnn-2": CNN2,
    "rgb-cnn": partial(FirstCNN, reads=3),
    "gray-cnn": partial(FirstCNN, reads=1),
    "vgg16-1": partial(VGG16, depth=5, hidden=(256, 128)),
    "vgg16-2": partial(VGG16, depth=4, hidden=(256,)),
    "resnet-v2": ResNetV2,
    "efficientnet": EfficientNetLite0,
}
"""Name of a model -> how to build it from the number of channels of the pictures, 1 (gray) or 3 (RGB)."""


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
