"""Opacus's optimizer on top of a book-keeping module, with noise from a cryptographic generator."""

from __future__ import annotations

import torch
from opacus.optimizers.optimizer import _check_processed_flag, _mark_as_processed
from opacus.optimizers.optimizer_fast_gradient_clipping import DPOptimizerFastGradientClipping
from torch import Tensor

from privemo.dp.bookkeeping.module import PersonGradModule
from privemo.dp.noise import GaussianNoise

__all__ = ["PersonOptimizer"]


class PersonOptimizer(DPOptimizerFastGradientClipping):  # type: ignore[misc]
    """Clips, sums, noises and steps; hooks of accountants and skipped steps (virtual batches) are Opacus's.

    A `step` before which no pass was made is one of noise alone: the draw was empty, and it is accounted for.

    Args:
        optimizer: any of torch's, over the trained parameters of `module`.
        module: whose people are summed.
        noise_multiplier: standard deviation of the noise over `max_grad_norm`.
        max_grad_norm: clipping norm of one person's gradient.
        normaliser: public constant that the noisy sum is divided by.
        noise: where the noise comes from.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        module: PersonGradModule,
        *,
        noise_multiplier: float,
        max_grad_norm: float,
        normaliser: float,
        noise: GaussianNoise,
    ) -> None:
        # "sum" leaves Opacus's own division out: it would be by a number that depends on the data.
        super().__init__(
            optimizer,
            noise_multiplier=noise_multiplier,
            max_grad_norm=max_grad_norm,
            expected_batch_size=None,
            loss_reduction="sum",
        )
        self.module, self.normaliser, self.noise = module, normaliser, noise

    def start(self) -> None:
        """Begin a step: nothing is summed, whatever became of the last one."""
        self._step_skip_queue.clear()
        self._is_last_step_skipped = False
        # Of frozen parameters too: what somebody's backward pass left there must not move them.
        self.zero_grad(set_to_none=True)
        for p in self.params:
            p.summed_grad = _nothing(p)

    def accumulate(self) -> None:
        """Clip the people of the last pass and add them up."""
        self.module.accumulate(self.max_grad_norm)

    def add_noise(self) -> None:
        """Add noise of deviation `noise_multiplier` times `max_grad_norm` to the sum, once."""
        std = self.noise_multiplier * self.max_grad_norm
        sizes = [p.numel() for p in self.params]
        # One draw for all parameters: many small ones cost more than the noise itself.
        draws = torch.split(self.noise.draw_secure(sum(sizes)), sizes)
        for p, noise in zip(self.params, draws, strict=True):
            if p.summed_grad is None:  # nobody was drawn
                p.summed_grad = _nothing(p)
            _check_processed_flag(p.summed_grad)
            # In float64, so that neither a small clip nor a large normaliser rounds the noise away.
            noisy = p.summed_grad.double().add_(noise.view(p.shape), alpha=std)
            p.grad = noisy.div_(self.normaliser).to(p.dtype)
            _mark_as_processed(p.summed_grad)

    def taken(self) -> list[Tensor]:
        """What was summed since `start`, by parameter, neither noised nor divided; nothing stays here."""
        sums: list[Tensor] = [p.summed_grad for p in self.params]
        for p in self.params:
            p.summed_grad = None
        return sums

    def release(self) -> None:
        """Noise what was summed since `start`, possibly nothing, and step."""
        self.add_noise()
        if self.step_hook:
            self.step_hook(self)
        self.original_optimizer.step()

    def scale_grad(self) -> None:
        """Nothing is left to do: `add_noise` divides in float64, before it rounds."""


def _nothing(parameter: Tensor) -> Tensor:
    return torch.zeros_like(parameter, memory_format=torch.contiguous_format)
