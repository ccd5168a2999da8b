"""Layers that keep people apart, for every model here."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["WSConv2d", "group_norm"]


class WSConv2d(nn.Conv2d):
    """A convolution whose weights are standardised before each use (Qiao et al. 2019, arXiv 1903.10520).

    Each output channel's weights get mean 0 and, times the square root of their number, deviation 1; so what
    comes out has about the variance of what went in, with no statistics of a batch. De et al. 2022 (arXiv
    2204.13650) found that this helps under differential privacy. The parameters are the raw weights: they are
    what gradients, clipping and noise are about.

    Arguments and shapes are those of `torch.nn.Conv2d`.
    """

    eps = 1e-6

    def standardised(self) -> Tensor:
        """The weights as the convolution uses them, of the shape of `weight`."""
        variance, mean = torch.var_mean(self.weight, dim=(1, 2, 3), keepdim=True, correction=0)
        fan_in = self.weight[0].numel()
        return (self.weight - mean) * torch.rsqrt(fan_in * variance + self.eps)

    def forward(self, images: Tensor) -> Tensor:
        """As `torch.nn.Conv2d.forward`, with standardised weights."""
        out: Tensor = self._conv_forward(images, self.standardised(), self.bias)
        return out


def group_norm(channels: int) -> nn.GroupNorm:
    """Group normalisation (Wu & He 2018, arXiv 1803.08494): 8 channels a group or more, at most 32 groups."""
    return nn.GroupNorm(min(32, max(1, channels // 8)), channels)
