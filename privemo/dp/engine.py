"""One private step with the person as the unit.

All pictures of one person make one gradient *before* the clip, so that together they move the model by at
most the clipping norm (group privacy by construction, not by multiplying epsilon). The sums come from
`privemo.dp.bookkeeping`, the noise from `privemo.dp.noise`.

| edge case | what happens |
|---|---|
| nobody was sampled | a step of pure noise; skipping it would drop a step that was accounted for |
| a gradient that is NaN, infinite, or too long for float32 | its person adds nothing to this step |
| a picture that holds NaN, and a finite gradient all the same (bfloat16) | clipped like any other |
| a person with many pictures | their loss is the mean over them: one gradient, clipped once |
| more pictures than fit into memory | parts of whole people; how they are cut does not show in the sum |
| dividing by the batch | by a public constant, never by the private number drawn (Opacus issue 819) |
| the parts break off with an error | nothing is released, and the next step starts from nothing |
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Literal

import torch
from torch import nn

from privemo.dp.batches import PersonBatch
from privemo.dp.bookkeeping import PersonGradModule, PersonOptimizer, probe, refuse_layers_that_mix
from privemo.dp.noise import GaussianNoise
from privemo.errors import SettingsError

__all__ = ["PrivateStepper"]


class PrivateStepper:
    """Takes private steps on a model.

    It leaves the process as it is: take many steps inside `privemo.machine.tuned()`, without which a step was
    measured to take up to twice as long. `privemo.training` does so by itself.

    Args:
        model: every layer keeps people apart (no batch normalisation), is called itself wherever its
            parameters are used, and is in no checkpoint of torch.
        optimizer: any of torch's over all trained parameters of the model and no others. What it does with
            a noised gradient is post-processing, so free of privacy cost.
        noise_multiplier: standard deviation of the noise over `max_grad_norm`.
        max_grad_norm: clipping norm of one person's gradient.
        normaliser: public constant that the noisy sum is divided by.
        noise: source of the noise.
        precision: of the forward pass and the gradients that flow back; norms, sums and noise are float32 or
            finer in any case.

    Raises:
        SettingsError: a value out of range, an optimizer over other parameters, or a layer that mixes people,
            by name.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        noise_multiplier: float,
        max_grad_norm: float,
        normaliser: float,
        noise: GaussianNoise,
        precision: Literal["float32", "bfloat16"] = "float32",
    ) -> None:
        _check_positive("noise multiplier", noise_multiplier)
        _check_positive("clipping norm", max_grad_norm)
        _check_positive("normaliser", normaliser)
        if precision not in ("float32", "bfloat16"):
            raise SettingsError(f"A precision is float32 or bfloat16, not {precision!r}.")
        refuse_layers_that_mix(model)
        _check_parameters(model, optimizer)
        self._model = model.train()
        self._probed = False
        self._module = PersonGradModule(model, precision=precision)
        self._optimizer = PersonOptimizer(
            optimizer,
            self._module,
            noise_multiplier=noise_multiplier,
            max_grad_norm=max_grad_norm,
            normaliser=normaliser,
            noise=noise,
        )

    def step(self, batches: Iterable[PersonBatch]) -> None:
        """One step on the parts of one draw of people; no part at all is a step of pure noise.

        Raises:
            SettingsError: the model was found to mix people, or its layers were frozen or unfrozen since the
                stepper was made.
        """
        self._check_what_is_trained()
        self._model.train()
        self._optimizer.start()
        for part in batches:
            self._accumulate(part)
        self._optimizer.release()
        self._optimizer.zero_grad(set_to_none=True)

    def clipped_sum(self, batches: Iterable[PersonBatch]) -> dict[str, torch.Tensor]:
        """The sum of clipped gradients over one draw of people, by parameter: float32, **not noised**.

        Nothing of it may leave before noise of the right size was added; for stores that add noise to whole
        numbers (`privemo.secagg.lattice`). The model does not move.

        Raises:
            SettingsError: as `step`.
        """
        self._check_what_is_trained()
        self._model.train()
        self._optimizer.start()
        for part in batches:
            self._accumulate(part)
        names = {p: name for name, p in self._model.named_parameters()}
        sums = zip(self._optimizer.params, self._optimizer.taken(), strict=True)
        return {names[p]: total for p, total in sums}

    def probe(self, shape: Sequence[int]) -> None:
        """Run the model on random pictures, before anyone's; steps do it by themselves where it was not done.

        To be called before people are drawn wherever somebody else chose the weights: a model that fails on
        every picture would otherwise fail only when somebody was drawn, and so tell whether anybody was.

        Args:
            shape: of a picture, (channels, height, width).

        Raises:
            SettingsError: the model mixes people, does not read such pictures, or says no finite number; or
                part of a person's gradient would be missed (a parameter used outside its layer, a
                checkpoint).
        """
        probe(self._model, torch.Size(shape))
        self._probed = True

    def _check_what_is_trained(self) -> None:
        """A layer unfrozen later would have a gradient that is neither clipped nor noised."""
        trained = [p for p in self._model.parameters() if p.requires_grad]
        if {id(p) for p in trained} != {id(p) for p in self._module.trained}:
            raise SettingsError(
                "Layers were frozen or unfrozen since this stepper was made: close it and make a new one."
            )

    def _accumulate(self, part: PersonBatch) -> None:
        if not self._probed:
            self.probe(part.images.shape[1:])
        self._module.backward(part)
        self._optimizer.accumulate()

    def close(self) -> None:
        """Take everything off the model, which is then a plain module again."""
        self._module.to_standard_module()


def _check_parameters(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    names = {p: name for name, p in model.named_parameters() if p.requires_grad}
    stepped = {p for group in optimizer.param_groups for p in group["params"]}
    if not names:
        raise SettingsError("The model has no trainable parameters: unfreeze a layer.")
    if missing := [name for p, name in names.items() if p not in stepped]:
        raise SettingsError(
            f"The optimizer lacks {missing[0]}: hand it all trained parameters, or freeze that one."
        )
    if any(p.requires_grad for p in stepped - names.keys()):
        raise SettingsError(
            "The optimizer has parameters that the model does not train: hand it those of the model."
        )
    for p, name in names.items():
        if p.dtype != torch.float32:
            raise SettingsError(f"Parameter {name} is {p.dtype}: private training needs float32.")


def _check_positive(name: str, value: float) -> None:
    if not (math.isfinite(value) and value > 0):
        raise SettingsError(f"The {name} is a number above 0, not {value}.")
