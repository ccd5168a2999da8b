"""A private step with the person as the unit, against a plain step on the same pictures."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from privemo.bench import Figure

__all__ = ["figures"]


def figures(*, images: int = 256, repeats: int = 5) -> Iterator[Figure]:
    """Ratio of the medians, by pictures of each person."""
    import torch
    from torch.nn import functional as F

    from privemo.dp import GaussianNoise, PrivateStepper
    from privemo.machine import keep_freed_memory
    from privemo.models import build_model

    keep_freed_memory()
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(images, 1, 48, 48, generator=generator)
    y = torch.randint(0, 4, (images,), generator=generator)
    plain_model = build_model()
    plain_optimizer = torch.optim.SGD(plain_model.parameters(), lr=0.01)

    def plain() -> None:
        plain_optimizer.zero_grad()
        F.cross_entropy(plain_model(x), y).backward()  # type: ignore[no-untyped-call]
        plain_optimizer.step()

    base = _median_seconds(plain, repeats)
    yield Figure(
        figure="plain_step_ms",
        value=base * 1e3,
        unit=f"ms for {images} images",
        goal=None,
        met=None,
    )
    for each in (1, 4):
        people = list(zip(torch.split(x, each), torch.split(y, each), strict=True))
        stepper = PrivateStepper(
            build_model(),
            lr=0.01,
            momentum=0.0,
            noise_multiplier=1.0,
            max_grad_norm=1.0,
            normaliser=float(len(people)),
            noise=GaussianNoise(),
        )
        ratio = _median_seconds(lambda s=stepper, p=people: s.step(p), repeats) / base  # type: ignore[misc]
        yield Figure(
            figure=f"private_step_ratio_{each}_images_a_person",
            value=ratio,
            unit="x plain",
            goal=None,
            met=None,
        )


def _median_seconds(call: Callable[[], None], repeats: int) -> float:
    call()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return sorted(times)[len(times) // 2]
