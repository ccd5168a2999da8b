"""Which pixels an answer rests on, by captum: integrated gradients, or Grad-CAM."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from privemo.errors import MissingExtra, SettingsError
from privemo.models import to_input

__all__ = [
    "METHODS",
    "Attribution",
    "Margin",
    "Method",
    "attribute",
    "coarse_layer",
    "without_details",
]

Method = Literal["integrated_gradients", "grad_cam"]
METHODS: tuple[Method, ...] = ("integrated_gradients", "grad_cam")

STEPS = 24
"""Points of the path, by Gauss and Legendre."""

AGAIN, TOLERANCE = 4, 0.1
"""A picture whose sum misses its margin by more than this share of it (of 1, when it is smaller) is done
again with so many times as many points."""

BLUR = 1 / 12
"""Deviation of the blur that takes the details from a picture, in widths of it: 4 pixels of 48."""

COARSEST = 6
"""Fewest places a side in the layer that Grad-CAM reads: eyes and mouth must not fall into one."""


@dataclass(frozen=True, eq=False)
class Attribution:
    """What the answers to n pictures rest on.

    Attributes:
        signed: float32, (n, s, s): what each pixel adds to the margin of the asked emotion, colours summed.
        margin: float32, (n,): that margin, less the one of the same picture without its details.
        unexplained: float32, (n,): `margin` less the sum of `signed`; None for Grad-CAM: it promises no sum.
    """

    signed: NDArray[np.float32]
    margin: NDArray[np.float32]
    unexplained: NDArray[np.float32] | None

    def shares(self, part: NDArray[np.integer], parts: int) -> NDArray[np.float64]:
        """Share of attention, the absolute attribution, that lies on each part: (n, parts).

        Rows sum to 1. Where nothing at all was attributed, the row is NaN.

        Args:
            part: (n, s, s), the part each pixel belongs to.
            parts: how many there are.
        """
        mass = np.abs(self.signed).astype(np.float64)
        on = np.stack([np.where(part == k, mass, 0).sum((1, 2)) for k in range(parts)], axis=1)
        whole = on.sum(axis=1, keepdims=True)
        share = np.full_like(on, np.nan)
        np.divide(on, whole, out=share, where=whole > 0)
        return share


class Margin(nn.Module):
    """How far each emotion's logit stands above the mean of all: what softmax sees, and no more.

    A number added to all logits changes no answer; attributed logits would show what adds it.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        """Margins (n, 4) of inputs (n, channels, s, s)."""
        logits: Tensor = self.model(x)
        return logits - logits.mean(1, keepdim=True)


def attribute(
    model: nn.Module,
    images: NDArray[np.uint8],
    label: NDArray[np.integer],
    *,
    method: Method = "integrated_gradients",
    steps: int = STEPS,
    refine: bool = True,
    batch: int = 8,
    listener: Callable[[int, int], None] = lambda done, of: None,
) -> Attribution:
    """Attribute the margin of one emotion in each picture to its pixels.

    Integrated gradients (Sundararajan et al. 2017, arXiv 1703.01365) go from a picture without its details to
    the picture and add up to the difference between the two. Grad-CAM (Selvaraju et al. 2017, arXiv
    1610.02391) weighs the maps of a late layer, enlarged: coarse, positive parts only.

    Args:
        model: read; a copy in evaluation mode is what is asked.
        images: uint8, (n, s, s) or (n, s, s, 3).
        label: (n,), the emotion asked about, an index into `privemo.EMOTIONS`.
        method: one of `METHODS`.
        steps: points of the path of integrated gradients.
        refine: take more of them where sums miss their margin (`AGAIN`).
        batch: pictures at once.
        listener: called with pictures done and pictures in all.

    Raises:
        SettingsError: no such method, no step, or a network too coarse for Grad-CAM.
        MissingExtra: captum is not installed.
    """
    if method not in METHODS:
        raise SettingsError(f"There is no method {method!r}; choose one of {', '.join(METHODS)}.")
    if steps < 1 or batch < 1:
        raise SettingsError(f"steps and batch must be at least 1, not {steps} and {batch}.")
    # A copy: no gradient of a weight is asked for, which saves a third of the time, and none is left behind.
    asked = Margin(copy.deepcopy(model)).eval().requires_grad_(False)
    explain = (
        _integrated(asked, steps, AGAIN if refine else 0)
        if method == METHODS[0]
        else _grad_cam(asked, images[:1])
    )
    signed, margins = [], []
    for start in range(0, len(images), batch):
        x = to_input(torch.from_numpy(images[start : start + batch]))
        y = torch.from_numpy(label[start : start + batch].astype(np.int64))
        margin = _margin(asked, x, y)
        signed.append(explain(x, y, margin))
        margins.append(margin)
        listener(min(start + batch, len(images)), len(images))
    found, margin = torch.cat(signed), torch.cat(margins)
    rest = margin - found.sum((1, 2)) if method == METHODS[0] else None
    return Attribution(found.numpy(), margin.numpy(), None if rest is None else rest.numpy())


def without_details(x: Tensor) -> Tensor:
    """Pictures (n, channels, s, s) blurred so far that light and shape of a head are left, and no expression.

    An empty picture would be the usual start of the path. A network that normalises its layers says the
    same of a faint picture as of a strong one, so along that path all that matters happens at its very
    beginning.
    """
    deviation = BLUR * x.shape[-1]
    reach = min(int(3 * deviation), x.shape[-1] - 1)
    at = torch.arange(-reach, reach + 1, dtype=x.dtype)
    kernel = torch.exp(-0.5 * (at / deviation) ** 2)
    row = (kernel / kernel.sum()).expand(x.shape[1], 1, 1, -1)
    x = F.conv2d(F.pad(x, (reach, reach, 0, 0), "replicate"), row, groups=x.shape[1])
    column = row.transpose(2, 3)
    return F.conv2d(F.pad(x, (0, 0, reach, reach), "replicate"), column, groups=x.shape[1])


@torch.no_grad()
def _margin(asked: Margin, x: Tensor, y: Tensor) -> Tensor:
    rows = torch.arange(len(y))
    found: Tensor = asked(x)[rows, y] - asked(without_details(x))[rows, y]
    return found


Explain = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Inputs (n, channels, s, s), emotions (n,) and margins (n,) -> attributions (n, s, s)."""


def _captum() -> Any:
    try:
        import captum.attr
    except ImportError as error:
        raise MissingExtra(
            "saying where a model looks needs captum, which is not installed: "
            "pip install 'privemo[explain]'"
        ) from error
    return captum.attr


def _integrated(asked: Margin, steps: int, again: int) -> Explain:
    method = _captum().IntegratedGradients(asked)

    def once(x: Tensor, y: Tensor, points: int) -> Tensor:
        start = without_details(x)
        found = method.attribute(x, baselines=start, target=y, n_steps=points).detach()
        return torch.as_tensor(found.sum(1), dtype=torch.float32)

    def explain(x: Tensor, y: Tensor, margin: Tensor) -> Tensor:
        found = once(x, y, steps)
        missed = (margin - found.sum((1, 2))).abs() > TOLERANCE * margin.abs().clamp(min=1.0)
        for row in missed.nonzero().flatten().tolist() if again else ():
            found[row] = once(x[row : row + 1], y[row : row + 1], again * steps)[0]
        return found

    return explain


def _grad_cam(asked: Margin, example: NDArray[np.uint8]) -> Explain:
    attr = _captum()
    layer = coarse_layer(asked.model, to_input(torch.from_numpy(example)))
    method = attr.LayerGradCam(asked, layer)

    def explain(x: Tensor, y: Tensor, _: Tensor) -> Tensor:
        # Weights are frozen: the pictures must ask for a gradient, or there is none to weigh maps by.
        x = x.clone().requires_grad_()
        found = method.attribute(x, target=y, relu_attributions=True).detach()
        enlarged = attr.LayerAttribution.interpolate(found, x.shape[-2:], "bilinear")
        return torch.as_tensor(enlarged.sum(1), dtype=torch.float32)

    return explain


@torch.no_grad()
def coarse_layer(model: nn.Module, example: Tensor) -> nn.Module:
    """The last layer whose maps have at least `COARSEST` places a side.

    Args:
        model: looked into.
        example: (n, channels, s, s).

    Raises:
        SettingsError: it has none.
    """
    seen: list[nn.Module] = []

    def look(layer: nn.Module, _: Any, said: Any) -> None:
        if isinstance(said, Tensor) and said.ndim == 4 and said.shape[-1] >= COARSEST:
            seen.append(layer)

    handles = [layer.register_forward_hook(look) for layer in model.modules()]
    try:
        model(example)
    finally:
        for handle in handles:
            handle.remove()
    if not seen:
        raise SettingsError(
            f"No layer of {type(model).__name__} has maps of {COARSEST} places a side or more, so Grad-CAM "
            "could not tell eyes from mouth; use integrated_gradients."
        )
    return seen[-1]
