"""Synthesis: people drawn one after the other, each photographed several times."""

from __future__ import annotations

import dataclasses
import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from privemo.errors import SettingsError
from privemo.labels import EMOTIONS, IMAGE_SIZE
from privemo.synthetic.body import make_body
from privemo.synthetic.expression import draw_expression
from privemo.synthetic.identity import AGE_BANDS, OLDEST, age_band, draw_traits, skin_tone_group
from privemo.synthetic.mouth import measure_mouth
from privemo.synthetic.render import load_embree, render
from privemo.synthetic.shot import draw_shot
from privemo.synthetic.table import SyntheticPeople
from privemo.synthetic.units import movements

__all__ = ["synthesize"]

PERSON, ORDER = 0, 1
"""First words of the spawn keys: the streams of people, and of the order of emotions."""

REC_601 = np.array([0.299, 0.587, 0.114], np.float32)
"""Luma weights on encoded values: what photo software does when it turns a picture gray."""

CHUNK = 8
"""People handed to a worker at a time."""


class _Job(NamedTuple):
    first: int
    last: int
    images: int
    seed: int
    channels: int
    size: int
    ages: tuple[float, float] | None
    regions: bool
    turned: float | None
    units: bool


def synthesize(
    people: int,
    images: int,
    *,
    seed: int,
    channels: int = 1,
    size: int = IMAGE_SIZE,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
    ages: tuple[float, float] | None = None,
    regions: bool = False,
    turned: float | None = None,
    units: bool = False,
) -> SyntheticPeople:
    """Draw `people` people who do not exist and take `images` pictures of each.

    The same seed gives the same bytes, whatever `workers` is. Person k of a seed is the same person with
    the same first pictures whatever `people` and `images` are. Emotions are balanced: in each run of four
    people, every picture number shows each emotion once. By default ages are those of shoppers, about
    12% of them minors; `ages` restricts them to a closed interval of years within 0.5 to 90.

    `channels`: 1 gives images (n, size, size), 3 gives (n, size, size, 3). `progress(done, people)` is
    called in this process as people are finished. `regions` adds exact masks of eyes, brows, nose, mouth
    and so on, and how far each mouth is open and its corners are raised. `turned` turns every head to the
    side by so many degrees (0 to 80) instead of by chance; all else of the pictures stays as it is. `units`
    adds how far each part of each face moves. `workers` above 1 starts fresh processes: a script that asks
    for them keeps its own work under `if __name__ == "__main__":`. Raises SettingsError (a ValueError) for
    impossible settings and MissingExtra (an ImportError) without the extra `privemo[synth]`.
    """
    _check(people, images, seed, channels, size, workers, ages)
    if turned is not None and not 0 <= turned <= 80:
        raise SettingsError(f"turned must be 0 to 80 degrees, not {turned}")
    load_embree()
    jobs = [
        _Job(
            at, min(at + CHUNK, people), images, seed, channels, size, ages, regions, turned, units
        )
        for at in range(0, people, CHUNK)
    ]
    parts: list[dict[str, Any]] = []
    for job, part in zip(jobs, _run(jobs, workers), strict=True):
        parts.append(part)
        if progress is not None:
            progress(job.last, people)
    columns: dict[str, Any] = {
        key: np.concatenate([part[key] for part in parts]) for key in parts[0]
    }
    return SyntheticPeople(**columns)


def _check(
    people: int,
    images: int,
    seed: int,
    channels: int,
    size: int,
    workers: int,
    ages: tuple[float, float] | None,
) -> None:
    for name, value in (("people", people), ("images", images), ("workers", workers)):
        if value < 1:
            raise SettingsError(f"{name} must be at least 1, not {value}")
    if seed < 0:
        raise SettingsError(f"seed must be 0 or more, not {seed}")
    if channels not in (1, 3):
        raise SettingsError(f"channels must be 1 (gray) or 3 (colour), not {channels}")
    if not 16 <= size <= 512:
        raise SettingsError(f"size must be 16 to 512 pixels, not {size}")
    youngest = AGE_BANDS[0][1]
    if ages is not None and not youngest <= ages[0] <= ages[1] <= OLDEST:
        raise SettingsError(
            f"ages must be (youngest, oldest) within {youngest} to {OLDEST:.0f} years, not {ages}"
        )


def _run(jobs: list[_Job], workers: int) -> Iterator[dict[str, Any]]:
    if workers == 1 or len(jobs) == 1:
        yield from map(_work, jobs)
        return
    # Not fork: the ray caster runs threads, and a forked copy of them would hang.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(workers, len(jobs)), mp_context=context)
    try:
        yield from pool.map(_work, jobs)
    finally:
        # After Ctrl-C, or an error in the caller's `progress`, what has not begun never does.
        pool.shutdown(cancel_futures=True)


def _work(job: _Job) -> dict[str, Any]:
    """All columns of a run of people."""
    rows: dict[str, list[Any]] = {}
    for person in range(job.first, job.last):
        for row in _person(person, job):
            for key, value in row.items():
                rows.setdefault(key, []).append(value)
    types = {"label": np.int8, "skin_tone": np.int8, "age": np.float32, "glasses": np.bool_}
    lengths = ("yaw", "pitch", "roll", "intensity", "mouth_opening", "mouth_lift")
    types |= dict.fromkeys(lengths, np.float32)
    return {key: np.array(value, dtype=types.get(key)) for key, value in rows.items()}


def _person(person: int, job: _Job) -> Iterator[dict[str, Any]]:
    """One row for each picture of a person."""
    traits = draw_traits(_stream(job.seed, PERSON, person, 0), job.ages)
    body = make_body(traits)
    for number in range(job.images):
        rng = _stream(job.seed, PERSON, person, number + 1)
        label = _label(job.seed, person, number)
        expression, shot = draw_expression(label, rng), draw_shot(rng)
        if job.turned is not None:  # to the side it was turned to by chance
            yaw = float(np.copysign(np.radians(job.turned), shot.yaw))
            shot = dataclasses.replace(shot, yaw=yaw)
        picture, mask = render(body, expression, shot, job.size, rng)
        row: dict[str, Any] = {
            "images": _encode(picture, job.channels),
            "label": label,
            "identity": f"p{person:06d}",
            "age": traits.age,
            "age_band": age_band(float(np.float32(traits.age))),
            "gender": traits.gender,
            "skin_tone": traits.skin_tone,
            "skin_tone_group": skin_tone_group(traits.skin_tone),
            "glasses": traits.glasses,
            "yaw": np.degrees(shot.yaw),
            "pitch": np.degrees(shot.pitch),
            "roll": np.degrees(shot.roll),
            "light": shot.light,
            "intensity": expression.intensity,
        }
        if job.regions:
            row["regions"] = mask
            row["mouth_opening"], row["mouth_lift"] = measure_mouth(body, expression)
        if job.units:
            row["units"] = movements(expression)
        yield row


def _stream(seed: int, *key: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def _label(seed: int, person: int, number: int) -> int:
    """The emotion of a person's picture: a new order of the four in every run of four pictures."""
    order = _stream(seed, ORDER, number // len(EMOTIONS)).permutation(len(EMOTIONS))
    return int(order[(person + number) % len(EMOTIONS)])


def _encode(picture: NDArray[np.float32], channels: int) -> NDArray[np.uint8]:
    """Bytes (s, s) or (s, s, 3) of a picture (3, s, s)."""
    gray = channels == 1
    picture = np.tensordot(REC_601, picture, axes=1) if gray else np.moveaxis(picture, 0, -1)
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)
