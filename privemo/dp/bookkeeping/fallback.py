"""Layers that book-keeping does not know: Opacus's own gradients of each row."""

from __future__ import annotations

import torch
from opacus import GradSampleModule
from opacus.grad_sample.functorch import ft_compute_per_sample_gradient
from torch import Tensor, nn

from privemo.dp.bookkeeping.layer import Instances, InstancesEntry
from privemo.dp.bookkeeping.people import People

__all__ = ["FallbackEntry", "FallbackWarning"]


class FallbackWarning(UserWarning):
    """A layer's gradients are computed one by one, by Opacus: exact, but slower and with more memory."""


class FallbackEntry(InstancesEntry):
    """Any layer: by Opacus's rule for its type, or else by functorch on the whole layer."""

    def instances(self, g: Tensor, people: People) -> Instances:
        """See `Entry.instances`."""
        rule = GradSampleModule.GRAD_SAMPLERS.get(type(self.layer), ft_compute_per_sample_gradient)
        for p in self.wanted:  # Opacus's rules look at it
            p.requires_grad_(True)
        try:
            found = rule(self.layer, [self.x], g.float())
        finally:
            for p in self.wanted:
                p.requires_grad_(False)
            if hasattr(self.layer, "ft_compute_sample_grad"):
                del self.layer.ft_compute_sample_grad
        return {p: people.sums(rows.detach()) for p, rows in found.items() if p in self.wanted}

    @property
    def x(self) -> Tensor:
        """What went in; whole numbers (of an embedding) stay whole."""
        return self._x if not torch.is_floating_point(self._x) else super().x


def is_registered(layer: nn.Module) -> bool:
    """Whether Opacus has a rule for this very type of layer."""
    return type(layer) in GradSampleModule.GRAD_SAMPLERS
