"""The parts of a face that attention is shared out over, and people who do not exist to measure it on."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from privemo.errors import SettingsError
from privemo.labels import EMOTIONS
from privemo.synthetic import REGIONS, SyntheticPeople, synthesize

__all__ = ["ADULTS", "FEWEST_PEOPLE", "GROUPS", "PARTS", "draw_people", "groups_of", "part_of"]

PARTS = ("eyes", "mouth", "cheeks", "elsewhere")

_MEMBERS: Mapping[str, tuple[str, ...]] = {
    "eyes": ("eyes", "brows"),
    "mouth": ("mouth",),
    "cheeks": ("cheeks",),
}
"""Which regions of the renderer make a part. Brows belong to the eyes: what lids and brows do together is the
upper half of an expression. The table of all ten regions keeps them apart."""

GROUPS: Mapping[str, str] = {
    "gender": "gender",
    "age_band": "age_band",
    "skin_tone": "skin_tone_group",
}
"""Feature -> the column of `SyntheticPeople` that holds it."""

ADULTS = (18.0, 90.0)
"""Ages of the people that are drawn: no model is to read a child, so none is tried on one."""

FEWEST_PEOPLE = 20
"""Fewer people say nothing, and a mean of few faces shows a face."""


def part_of(regions: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Index into `PARTS` for each pixel of region masks of any shape."""
    lookup = np.full(len(REGIONS), PARTS.index("elsewhere"), dtype=np.uint8)
    for part, members in _MEMBERS.items():
        for name in members:
            lookup[REGIONS.index(name)] = PARTS.index(part)
    return np.asarray(lookup[regions])


def groups_of(people: SyntheticPeople) -> dict[str, NDArray[np.str_]]:
    """Which group each picture's person is in, by feature."""
    return {
        feature: np.asarray(getattr(people, column)).astype(np.str_)
        for feature, column in GROUPS.items()
    }


def draw_people(
    people: int,
    *,
    seed: int,
    channels: int = 1,
    listener: Callable[[int, int], None] | None = None,
) -> SyntheticPeople:
    """Adults who do not exist, each once with every emotion, with masks of the regions of their faces.

    Raises:
        SettingsError: fewer than `FEWEST_PEOPLE`, or a seed below 0.
        MissingExtra: `privemo[synth]` is not installed.
    """
    if people < FEWEST_PEOPLE:
        raise SettingsError(
            f"people is {people}: a mean over so few shows single faces and says nothing; draw "
            f"{FEWEST_PEOPLE} or more."
        )
    return synthesize(
        people,
        len(EMOTIONS),
        seed=seed,
        channels=channels,
        ages=ADULTS,
        regions=True,
        progress=listener,
    )
