"""A picture from an update: what does a server see of a face?

The worst case for the person: they are alone in the step. Then the update *is* their gradient, and the
gradient of a dense layer is an outer product: of how wrong the layer's outputs were, which its bias has
too, and of what came in. So what the network made of the picture can be read off exactly (Phong, Aono,
Hayashi, Wang & Moriai 2018, doi:10.1109/TIFS.2017.2787987). The attacker turns that into a picture by ridge
regression, learned from patterns of their own. With the noise of a run in the update, the same steps lead
to something else.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from privemo import weights as w
from privemo.attacks.canaries import Canaries
from privemo.attacks.gradients import clipped_gradients
from privemo.dp import GaussianNoise
from privemo.errors import SettingsError
from privemo.runs import Run
from privemo.secagg.gradients import trained_names

__all__ = ["Decoder", "attempts", "read_off"]

PICTURES, OWN = 50, 1000
"""Pictures to be made out, and patterns that the attacker learns from."""

SOFT = 6.0  # pixels: shapes as large as an eye or half a mouth

_RIDGE = 0.1

_AT_ONCE = 25


def attempts(run: Run, noise_multiplier: float) -> dict[str, Any]:
    """Try to make out some pictures, each from its gradient alone and from that with the noise of a run.

    Args:
        run: for the architecture and the clip.
        noise_multiplier: of the run.

    Returns:
        mean correlation of what came out with the picture that went in, `without_noise` and `with_noise`; 1
        is the picture itself, and 0 is chance.

    Raises:
        SettingsError: the network has no dense layer with a bias.
    """
    p = run.settings.privacy
    assert p is not None  # noqa: S101 - only private runs come here
    name, channels = run.settings.model, run.facts["model"]["channels"]
    rng = np.random.default_rng()
    weights, _ = w.initial_weights(
        "scratch", model=name, channels=channels, seed=int(rng.integers(2**31))
    )
    model = w.model_for(name, weights).eval()
    decoder = Decoder(model, Canaries.drawn(OWN, channels=channels, rng=rng, soft=SOFT))
    pictures = Canaries.drawn(PICTURES, channels=channels, rng=rng, soft=SOFT)
    # All of a gradient is clipped together; the dense layer's columns come first.
    rest = [each for each in trained_names(model) if each not in decoder.names]
    noise = GaussianNoise()
    found: dict[str, list[float]] = {"without_noise": [], "with_noise": []}
    for at in range(0, PICTURES, _AT_ONCE):
        part = slice(at, at + _AT_ONCE)
        gradients = clipped_gradients(
            model,
            pictures.inputs[part],
            pictures.labels[part],
            (*decoder.names, *rest),
            clip=p.max_grad_norm,
        )[:, : decoder.size]
        for gradient, true in zip(gradients, pictures.inputs[part], strict=True):
            drawn = noise_multiplier * noise.draw(len(gradient))  # both in units of the clip
            for kind, sent in (("without_noise", gradient), ("with_noise", gradient + drawn)):
                found[kind].append(_alike(decoder.picture(sent), true))
    return {
        "pictures": PICTURES,
        **{kind: round(float(np.mean(values)), 4) for kind, values in found.items()},
    }


class Decoder:
    """From the gradient of a network's first dense layer to a picture.

    Args:
        model: the network.
        own: patterns of the attacker.

    Attributes:
        names: of the layer's weights and biases.
        size: how many numbers they are.

    Raises:
        SettingsError: the network has no dense layer with a bias.
    """

    def __init__(self, model: nn.Module, own: Canaries) -> None:
        layer, self.names = _first_dense(model)
        self._outputs = layer.out_features
        self.size = layer.out_features * (layer.in_features + 1)
        inputs = own.inputs
        seen = F.normalize(_what_comes_in(model, layer, inputs))
        self._middle, self._picture = seen.mean(0), inputs.flatten(1).mean(0)
        self._own, self._shape = seen - self._middle, inputs.shape[1:]
        inner = self._own @ self._own.T
        inner += _RIDGE * inner.diagonal().mean() * torch.eye(len(own))
        self._learned = torch.linalg.solve(inner, inputs.flatten(1) - self._picture)

    def picture(self, gradient: Tensor) -> Tensor:
        """(channels, 48, 48) from a gradient of the dense layer, weights first and then biases."""
        weight, bias = gradient[: -self._outputs], gradient[-self._outputs :]
        seen = F.normalize(read_off(weight.view(self._outputs, -1), bias), dim=0)
        inner = self._own @ (seen - self._middle)
        picture: Tensor = inner @ self._learned + self._picture
        return picture.view(self._shape)


def read_off(weight: Tensor, bias: Tensor) -> Tensor:
    """(inputs,) what came into a dense layer: from its gradients, (outputs, inputs) and (outputs,)."""
    return bias @ weight / (bias @ bias).clamp(min=1e-30)


def _first_dense(model: nn.Module) -> tuple[nn.Linear, tuple[str, str]]:
    for name, layer in model.named_modules():
        if isinstance(layer, nn.Linear) and layer.bias is not None:
            return layer, (f"{name}.weight", f"{name}.bias")
    raise SettingsError("The network has no dense layer with a bias to read a picture off.")


@torch.no_grad()
def _what_comes_in(model: nn.Module, layer: nn.Linear, inputs: Tensor) -> Tensor:
    """(n, inputs of the layer)."""
    seen: list[Tensor] = []
    hook = layer.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    try:
        for part in torch.split(inputs, 4 * _AT_ONCE):
            model(part)
    finally:
        hook.remove()
    return torch.cat(seen)


def _alike(one: Tensor, other: Tensor) -> float:
    """Pearson correlation of two pictures; 0 where one of them is flat."""
    return float(
        torch.nan_to_num(torch.corrcoef(torch.stack([one.flatten(), other.flatten()]))[0, 1])
    )
