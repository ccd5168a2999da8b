"""A grad-sample module whose sample is a person, by book-keeping (Bu et al. 2022, arXiv 2210.00038).

One forward and one backward pass keep, of each layer, what went in and what flowed back; weight gradients are
left out of that pass. Each layer then says how long each person's gradient is, the lengths give the clipping
coefficients, and each layer adds up coefficient times gradient. No gradient of a single picture is made.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, Literal

import torch
from opacus.grad_sample.gsm_base import AbstractGradSampleModule
from torch import Tensor, nn
from torch.nn import functional as F

from privemo.dp.batches import PersonBatch
from privemo.dp.bookkeeping.fallback import FallbackEntry
from privemo.dp.bookkeeping.kinds import trained_layers
from privemo.dp.bookkeeping.layer import Entry, squares, weighted
from privemo.dp.bookkeeping.people import People, arrange
from privemo.dp.bookkeeping.uses import refuse_checkpoint
from privemo.errors import SettingsError

__all__ = ["PersonGradModule"]

Precision = Literal["float32", "bfloat16"]


class PersonGradModule(AbstractGradSampleModule):  # type: ignore[misc]
    """Wraps a model; `backward` and then `accumulate` give the clipped sum over people.

    After `accumulate` each trained parameter has `summed_grad`, float32 of its own shape, which is where
    Opacus's optimizers look for it.

    Args:
        model: every layer keeps people apart.
        precision: of the forward pass and of the gradients that flow back. What a layer keeps is turned to
            float32 before norms and sums, so the bound on a person holds for what is summed.
    """

    def __init__(self, model: nn.Module, *, precision: Precision = "float32") -> None:
        super().__init__(model, batch_first=True, loss_reduction="sum")
        self.precision = precision
        self.trained = tuple(p for p in model.parameters() if p.requires_grad)
        for p in self.trained:
            p.summed_grad = None  # type: ignore[attr-defined]
        self._entries: list[Entry] = []
        self._uses: Counter[Tensor] = Counter()
        self._shared: dict[Tensor, Tensor] = {}
        self._people = People(torch.ones(1, dtype=torch.int64))
        self._squares = torch.zeros(0, dtype=torch.float64)
        self._recording = False
        self._inside = 0  # how many layers that fall back are running: what is inside one is theirs
        self._silent: tuple[str, nn.Module] | None = None  # the first that ran without gradients
        self._hooks = []
        for name, layer, kind in trained_layers(model, set(self.trained)):
            if kind is FallbackEntry:
                self._hooks.append(layer.register_forward_pre_hook(self._enter))
            self._hooks.append(layer.register_forward_hook(self._hook(name, kind)))

    def remove_hooks(self) -> None:
        """Take the hooks off; `to_standard_module` does it as well."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()

    def cleanup(self) -> None:
        """Take everything off the model and its parameters that this module or Opacus put there."""
        super().cleanup()
        for p in self._module.parameters():
            if hasattr(p, "summed_grad"):
                del p.summed_grad

    def backward(self, batch: PersonBatch) -> Tensor:
        """One pass over a part: each person's loss is the mean over their rows.

        Returns:
            float64 (people,): the norm of each person's gradient, of all trained parameters together, with
            people in order of their number of rows. NaN or infinite for a person whose gradient is.
        """
        images, labels, people = arrange(batch)
        self._start(people)
        cast = torch.autocast("cpu", torch.bfloat16) if self.precision == "bfloat16" else None
        with self._without_weight_gradients(), torch.enable_grad():
            with cast or nullcontext(), self._record():
                logits = self(_channels_last(images))
            if self._silent is not None:
                refuse_checkpoint(*self._silent, logits)
            losses = F.cross_entropy(logits.float(), labels, reduction="none")
            (losses / people.spread(people.counts)).sum().backward()  # type: ignore[no-untyped-call]
        if self._shared:
            self._squares += squares(self._shared.values(), len(people))
        return self._squares.sqrt()

    @torch.no_grad()
    def accumulate(self, max_grad_norm: float) -> None:
        """Add the clipped gradients of the people of the last pass to `summed_grad`."""
        norms = self._squares.sqrt()
        broken = ~norms.isfinite()
        # In float64 and then rounded once: a person passes the clip by 1e-7 of it at most.
        coefficient = (max_grad_norm / norms).clamp(max=1.0)
        coefficient = coefficient.masked_fill(broken, 0.0).float()
        whose = broken if bool(broken.any()) else None
        for entry in self._entries:
            for p, total in entry.summed(coefficient, whose):
                _add(p, total)
        for p, instances in self._shared.items():
            _add(p, weighted(instances, coefficient, whose))
        self._start(People(torch.ones(1, dtype=torch.int64)))

    def _start(self, people: People) -> None:
        self._entries, self._shared, self._people = [], {}, people
        self._uses.clear()
        self._inside, self._silent = 0, None
        self._squares = torch.zeros(len(people), dtype=torch.float64)

    @contextmanager
    def _without_weight_gradients(self) -> Iterator[None]:
        """No parameter asks autograd for a gradient of its own."""
        for p in self.trained:
            p.requires_grad_(False)
        try:
            yield
        finally:
            for p in self.trained:
                p.requires_grad_(True)

    @contextmanager
    def _record(self) -> Iterator[None]:
        """Hooks listen. Not in the backward pass, when Opacus may run a layer of its own accord."""
        self._recording = True
        try:
            yield
        finally:
            self._recording = False

    def _enter(self, _layer: nn.Module, _inputs: Any) -> None:
        self._inside += self._recording

    def _hook(self, name: str, kind: type[Entry]) -> Callable[[nn.Module, Any, Any], Tensor | None]:
        trained = set(self.trained)

        def hook(layer: nn.Module, inputs: tuple[Any, ...], output: Any) -> Tensor | None:
            if not self._recording:
                return None
            if kind is FallbackEntry:
                self._inside -= 1
            if self._inside:
                return None
            if not torch.is_grad_enabled():  # nothing flows back, unless a checkpoint runs it again
                self._silent = self._silent or (name, layer)
                return None
            refuse_checkpoint(name, layer)
            x = _only_input(name, layer, inputs, output, self._people.rows)
            own = layer.parameters(recurse=kind is FallbackEntry)
            wanted = frozenset(p for p in own if p in trained)
            followed = _differentiable(output)
            entry = kind(layer, wanted, x, followed)
            entry.name = name or "model"
            self._uses.update(wanted)
            followed.register_hook(lambda g: self._receive(entry, g))  # type: ignore[no-untyped-call]
            return followed

        return hook

    @torch.no_grad()
    def _receive(self, entry: Entry, g: Tensor) -> None:
        if all(self._uses[p] == 1 for p in entry.wanted):
            self._squares += entry.receive(g, self._people)
            self._entries.append(entry)
            return
        # A parameter used more than once: lengths do not add up, gradients do.
        for p, instances in entry.instances(g, self._people).items():
            before = self._shared.get(p)
            self._shared[p] = instances if before is None else before + instances


class _Differentiable(torch.autograd.Function):
    """Gives its second argument a place in the graph, and no gradient to anything."""

    @staticmethod
    def forward(ctx: Any, _key: Tensor, output: Tensor) -> Tensor:
        ctx.mark_dirty(output)
        return output

    @staticmethod
    def backward(ctx: Any, *_gradients: Tensor) -> tuple[None, None]:
        return None, None


def _differentiable(output: Tensor) -> Tensor:
    """A layer's output such that gradients reach it, and such that the model may write to it.

    What the first layer gives needs no gradient, since its parameters ask for none. As a leaf it could not be
    written to; and a hook on a view is lost when somebody does.
    """
    if output._is_view():
        output = output.clone()
    if output.requires_grad:
        return output
    key = torch.zeros((), requires_grad=True)
    found: Tensor = _Differentiable.apply(key, output)  # type: ignore[no-untyped-call]
    return found


def _only_input(
    name: str, layer: nn.Module, inputs: tuple[Any, ...], output: Any, rows: int
) -> Tensor:
    fits = len(inputs) == 1 and all(
        isinstance(t, Tensor) and t.ndim and len(t) == rows for t in (*inputs, output)
    )
    if not fits:
        raise SettingsError(
            f"Layer {name or 'model'!r} ({type(layer).__name__}) must take one tensor and give one, each "
            f"with a row for each of the {rows} pictures: else nobody can tell whose gradient is whose."
        )
    x: Tensor = inputs[0]
    return x


def _channels_last(images: Tensor) -> Tensor:
    """Channels innermost, which the CPU's convolutions and pools read fastest.

    With one channel both layouts are the same bytes, and only the strides tell which one is meant.
    """
    _, channels, high, wide = images.shape
    if channels == 1:
        return images.contiguous().as_strided(images.shape, (high * wide, 1, wide, 1))
    return images.contiguous(memory_format=torch.channels_last)


def _add(parameter: Any, total: Tensor) -> None:
    """Add to `summed_grad`, which is Opacus's own attribute of a parameter."""
    before: Tensor | None = parameter.summed_grad
    parameter.summed_grad = total.contiguous() if before is None else before.add_(total)
