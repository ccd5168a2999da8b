"""Steps that are pulled back to where a round began (FedProx; Li et al. 2020, arXiv 1812.06127)."""

from __future__ import annotations

from typing import Any

import torch

__all__ = ["keep_near"]


def keep_near(optimizer: torch.optim.Optimizer, strength: float) -> None:
    """Add the gradient of strength / 2 |w - start|^2 to every step; `start` is what the weights are now.

    It is added when a gradient has been clipped and noised, and hangs on nothing private but that.

    Args:
        optimizer: whose steps are changed; the innermost one, whose `step` gets the noised gradient.
        strength: FedProx's mu; 0 changes nothing.
    """
    if not strength:
        return
    weights = [p for group in optimizer.param_groups for p in group["params"]]
    start = [p.detach().clone() for p in weights]

    def pull(_optimizer: torch.optim.Optimizer, _args: Any, _kwargs: Any) -> None:
        for p, begun in zip(weights, start, strict=True):
            if p.grad is not None:
                p.grad.add_(p.detach() - begun, alpha=strength)

    optimizer.register_step_pre_hook(pull)
