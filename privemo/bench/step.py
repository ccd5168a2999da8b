"""A private step with the person as the unit, against a plain step on the same pictures.

Each contender runs in processes of its own, so that its peak memory is its own; several one after the
other, since the same steps were measured to peak up to a tenth apart. It takes turns with the plain step,
so that whatever else the machine does hits both alike; its ratio is the median of its times over those of
the plain steps beside them. One contender at a time: all of them together fill a small machine.
"""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any

from privemo.bench import Figure
from privemo.bench.memory import peak

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from torch import Tensor, nn

    from privemo.dp import PersonBatch

__all__ = ["CONTENDERS", "figures"]

MOST_TIME, MOST_MEMORY = 1.15, 1.5
"""Goals: of our step over the plain one in float32, in time and in peak memory."""

PLAIN = "plain"
CONTENDERS: Mapping[str, str] = {
    PLAIN: "float32, SGD, channels first",
    "plain_channels_last": "the same with channels last",
    "opacus_hooks": "Opacus GradSampleModule, clipped by picture",
    "opacus_ghost": "Opacus ghost clipping, by picture",
    "opacus_functorch": "Opacus with functorch for every layer, by picture",
    "ours_1": "privemo, one picture of each person",
    "ours_4": "privemo, four pictures of each person",
    "ours_1_to_7": "privemo, one to seven pictures of each person",
    "ours_4_bfloat16": "privemo, four pictures of each person, forward and back in bfloat16",
}
_IN_PARTS = 64  # at 1024 the per-picture gradients of Opacus would take several gigabytes

_Times = tuple[float, float]
"""Seconds of one step: on the clock, and of computing, all threads together."""


@dataclass(frozen=True)
class _Running:
    """A contender in its process."""

    name: str
    pipe: Connection

    def step(self) -> _Times:
        """Take one."""
        self.pipe.send("step")
        clock, computing = self.pipe.recv()
        return float(clock), float(computing)

    def peak(self) -> float:
        """Bytes at the peak, beyond what the process had with nothing but its imports."""
        self.pipe.send("peak")
        return float(self.pipe.recv())


def figures(
    *,
    quick: bool = False,
    batches: tuple[int, ...] = (256, 1024),
    rounds: int = 2,
    processes: int = 3,
) -> Iterator[Figure]:
    """Ratios to the plain step, of time and of peak memory, by contender and batch.

    Args:
        quick: only the smallest batch, and few rounds.
        batches: pictures in a step.
        rounds: steps of each process; one more before them warms up.
        processes: of each contender.
    """
    if quick:
        batches, rounds, processes = batches[:1], 3, 1
    for batch in batches:
        base, _, memory = _measured(PLAIN, batch, rounds, processes)
        clock, computing = (statistics.median(times) * 1e3 for times in zip(*base, strict=True))
        yield _figure(f"plain_{batch}_ms", clock, f"ms for {batch} pictures")
        yield _figure(f"plain_{batch}_cpu_ms", computing, "ms of all threads together")
        yield _figure(f"plain_{batch}_memory", memory / 2**20, "MiB beyond imports")
        with _running(PLAIN, batch) as plain:
            for name in list(CONTENDERS)[1:]:
                own, others, peak = _measured(name, batch, rounds, processes, plain)
                yield from _against(f"{name}_{batch}", own, others, peak / memory)


def _measured(
    name: str, batch: int, rounds: int, processes: int, beside: _Running | None = None
) -> tuple[list[_Times], list[_Times], float]:
    """Each step of a contender, the step beside it, and the median of the peaks of its processes."""
    own, others, peaks = [], [], []
    for _ in range(processes):
        with _running(name, batch) as one:
            for _ in range(rounds):
                own.append(one.step())
                others += [] if beside is None else [beside.step()]
            peaks.append(one.peak())
    return own, others, statistics.median(peaks)


def _against(name: str, own: list[_Times], others: list[_Times], memory: float) -> Iterator[Figure]:
    # bfloat16 is not the same arithmetic, so it has no part in the goals.
    goals = name.startswith("ours") and "bfloat16" not in name
    pairs = list(zip(own, others, strict=True))
    clock, computing = (statistics.median(a[i] / b[i] for a, b in pairs) for i in (0, 1))
    yield _figure(f"{name}_time", clock, "x plain", MOST_TIME if goals else None)
    # Hardly touched by other work on the machine.
    yield _figure(f"{name}_cpu", computing, "x plain, of all threads together")
    yield _figure(f"{name}_memory", memory, "x plain", MOST_MEMORY if goals else None)


def _figure(name: str, value: float, unit: str, most: float | None = None) -> Figure:
    return Figure(
        figure=name,
        value=round(value, 3),
        unit=unit,
        goal=None if most is None else f"<= {most:g}",
        met=None if most is None else value <= most,
    )


# -- in the contender's process ------------------------------------------------------------------


@contextmanager
def _running(name: str, batch: int) -> Iterator[_Running]:
    # A fresh interpreter: torch does not survive a fork.
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(name, batch, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        yield _Running(name, ours)
    finally:
        ours.close()  # which ends the process
        process.join()


def _serve(name: str, batch: int, pipe: Connection) -> None:
    """Take steps as they are asked for."""
    from privemo.machine import tuned

    # Opacus's hooks on the first layer fire on its outputs, since pictures need no gradient.
    warnings.filterwarnings("ignore", message="Full backward hook is firing")
    with tuned():
        import opacus.optimizers  # noqa: F401 - so that every contender has the same imports

        import privemo.dp  # noqa: F401

        before = peak()
        step = _contender(name, batch)
        step()
        while True:
            try:
                asked = pipe.recv()
            except EOFError:
                return
            if asked == "peak":
                pipe.send(peak() - before)
            else:
                start = time.perf_counter(), time.process_time()
                step()
                pipe.send((time.perf_counter() - start[0], time.process_time() - start[1]))


def _contender(name: str, batch: int) -> Callable[[], None]:
    import torch

    from privemo.models import build_model

    generator = torch.Generator().manual_seed(0)
    x = torch.randn(batch, 1, 48, 48, generator=generator)
    y = torch.randint(0, 4, (batch,), generator=generator)
    model = build_model()
    if name == PLAIN:
        return _plain(model, x, y)
    if name == "plain_channels_last":
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return _plain(model, x.contiguous(memory_format=torch.channels_last), y)
    if name.startswith("opacus"):
        return _opacus(model, x, y, name.removeprefix("opacus_"))
    return _ours(model, x, y, name.removeprefix("ours_"))


def _plain(model: nn.Module, x: Tensor, y: Tensor) -> Callable[[], None]:
    import torch
    from torch.nn import functional as F

    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)

    def step() -> None:
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


def _opacus(model: nn.Module, x: Tensor, y: Tensor, mode: str) -> Callable[[], None]:
    import torch
    from opacus import GradSampleModule
    from opacus.grad_sample import GradSampleModuleFastGradientClipping
    from opacus.optimizers import DPOptimizer, DPOptimizerFastGradientClipping
    from opacus.utils.fast_gradient_clipping_utils import DPLossFastGradientClipping

    facts: dict[str, Any] = {
        "noise_multiplier": 1.0,
        "max_grad_norm": 1.0,
        "expected_batch_size": len(y),
    }
    plain = torch.optim.SGD(model.parameters(), lr=0.01)
    loss: Any = torch.nn.CrossEntropyLoss()
    if mode == "ghost":
        wrapped = GradSampleModuleFastGradientClipping(model, max_grad_norm=1.0)
        optimizer = DPOptimizerFastGradientClipping(plain, **facts)
        loss = DPLossFastGradientClipping(wrapped, optimizer, loss)
    else:
        wrapped = GradSampleModule(model, force_functorch=mode == "functorch")
        optimizer = DPOptimizer(plain, **facts)

    def step() -> None:
        optimizer.zero_grad()
        parts = list(zip(torch.split(x, _IN_PARTS), torch.split(y, _IN_PARTS), strict=True))
        for i, (some_x, some_y) in enumerate(parts):
            optimizer.signal_skip_step(do_skip=i < len(parts) - 1)
            loss(wrapped(some_x), some_y).backward()
            optimizer.step()
            optimizer.zero_grad()

    return step


def _ours(model: nn.Module, x: Tensor, y: Tensor, who: str) -> Callable[[], None]:
    import torch

    from privemo.dp import GaussianNoise, PrivateStepper

    parts = list(_parts(x, y, who))
    stepper = PrivateStepper(
        model,
        torch.optim.SGD(model.parameters(), lr=0.01),
        noise_multiplier=1.0,
        max_grad_norm=1.0,
        normaliser=float(sum(part.people for part in parts)),
        noise=GaussianNoise(),
        precision="bfloat16" if who.endswith("bfloat16") else "float32",
    )
    return lambda: stepper.step(parts)


def _parts(x: Tensor, y: Tensor, who: str) -> Iterator[PersonBatch]:
    """Whole people, about as many pictures together as training takes."""
    import torch

    from privemo.dp import PersonBatch
    from privemo.training.private import IMAGES_AT_ONCE

    if who == "1_to_7":
        sizes = torch.randint(1, 8, (len(y),), generator=torch.Generator().manual_seed(1))
        owner = torch.repeat_interleave(torch.arange(len(sizes)), sizes)[: len(y)]
    else:
        owner = torch.arange(len(y)) // int(who[0])
    low = 0
    while low < len(y):
        high = min(low + IMAGES_AT_ONCE, len(y))
        if high < len(y):  # back to where a person begins
            high = int((owner == owner[high]).nonzero()[0])
        mine = owner[low:high] - owner[low]
        yield PersonBatch(x[low:high], y[low:high], mine, int(mine[-1]) + 1)
        low = high
