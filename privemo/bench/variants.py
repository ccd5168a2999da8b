"""Networks that a comparison changes in one way; the registry of models holds none of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import nn

from privemo import weights as w
from privemo.config import RunSettings
from privemo.models import build_model
from privemo.models.layers import WSConv2d

__all__ = ["Variant", "network_of", "start_of"]

Variant = Literal["as shipped", "plain convolutions"]


def network_of(model: str, variant: Variant, channels: int) -> Callable[[w.Weights], nn.Module]:
    """What makes a network of that variant carry weights."""

    def network(weights: w.Weights) -> nn.Module:
        if variant == "as shipped":
            return w.model_for(model, weights)
        made = _without_standardising(build_model(model, channels=channels))
        made.load_state_dict({name: torch.from_numpy(a.copy()) for name, a in weights.items()})
        return made

    return network


def start_of(settings: RunSettings, variant: Variant, channels: int) -> tuple[w.Weights, str]:
    """Where a run of the variant starts, and a sentence that says so.

    Without standardising, the standardised weights become the weights themselves: at the start both networks
    say the same of every face.

    Raises:
        SettingsError, RunError: as `privemo.weights.initial_weights`.
    """
    weights, origin = w.initial_weights(
        settings.init, model=settings.model, channels=channels, seed=settings.seed or 0
    )
    if variant == "as shipped":
        return weights, origin
    folded = _without_standardising(w.model_for(settings.model, weights))
    return w.from_model(folded), f"{origin}, standardised once"


def _without_standardising(model: nn.Module) -> nn.Module:
    """The same function with plain convolutions; `model` is changed."""
    for name, layer in list(model.named_children()):
        if isinstance(layer, WSConv2d):
            setattr(model, name, _plain(layer))
        else:
            _without_standardising(layer)
    return model


def _plain(layer: WSConv2d) -> nn.Conv2d:
    plain = nn.Conv2d(
        layer.in_channels,
        layer.out_channels,
        layer.kernel_size,  # type: ignore[arg-type]  # torch says tuple[int, ...]; it has two
        stride=layer.stride,  # type: ignore[arg-type]  # as above
        padding=layer.padding,  # type: ignore[arg-type]  # as above
        dilation=layer.dilation,  # type: ignore[arg-type]  # as above
        groups=layer.groups,
        bias=layer.bias is not None,
        padding_mode=layer.padding_mode,
    )
    with torch.no_grad():
        plain.weight.copy_(layer.standardised())
        if layer.bias is not None and plain.bias is not None:
            plain.bias.copy_(layer.bias)
    return plain
