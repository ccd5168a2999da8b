"""How accuracy falls as pictures get worse, by emotion and by group, on people who do not exist."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from privemo.bench.corruptions import CORRUPTIONS, SEVERITIES, TURNS, discoloured
from privemo.errors import SettingsError
from privemo.explain.over import Mean, change, rate
from privemo.explain.parts import ADULTS, FEWEST_PEOPLE, draw_people, groups_of
from privemo.explain.subject import SHIPPED, Subject, subject_of
from privemo.labels import EMOTIONS
from privemo.machine import tuned
from privemo.runs import Run
from privemo.synthetic import SyntheticPeople, synthesize
from privemo.training import predict

__all__ = ["KINDS", "figures"]

COLOUR: dict[int, float] = {1: 0.2, 2: 0.4, 3: 0.6, 4: 0.8, 5: 1.0}

KINDS: dict[str, str] = {
    **{name: each.words for name, each in CORRUPTIONS.items()},
    "pose": "head turned to the side, degrees",
    "colour": "colour taken away; for a model that reads gray, gray out of blue alone: share",
}
"""Kind -> what it is and the unit of its amount."""


def figures(
    *,
    run: Run | str = SHIPPED,
    people: int = 40,
    seed: int = 733,
    kinds: tuple[str, ...] = (),
    listener: Callable[[int, int], None] = lambda done, of: None,
) -> Iterator[dict[str, Any]]:
    """Accuracy of a model at each severity of each kind: of all, of each emotion, of each group.

    Severity 0 is the pictures as they were drawn. Every severity shows the same people with the same
    expressions, so `lost` is a difference between answers to the same faces.

    Args:
        run: whose model; `"nobody"` for the weights that ship.
        people: adults who do not exist, four pictures of each.
        seed: of the people and of what is drawn over them.
        kinds: of `KINDS`; all by default.
        listener: called with severities done and severities in all.

    Raises:
        SettingsError: there is no such kind, or there are too few people.
        RunError: the run has no model.
        MissingExtra: `privemo[synth]` is not installed.
    """
    unknown = sorted(set(kinds) - set(KINDS))
    if unknown:
        raise SettingsError(f"There is no kind {unknown[0]!r}; choose of {', '.join(KINDS)}.")
    if people < FEWEST_PEOPLE:
        raise SettingsError(f"people is {people}; draw {FEWEST_PEOPLE} or more.")
    subject = subject_of(run)
    with tuned():
        drawn = draw_people(people, seed=seed, channels=subject.channels)
        plain = _answers(subject, drawn.images)
        yield from _rows("none", 0, 0.0, drawn, plain, plain)
        asked, done = [kind for kind in KINDS if not kinds or kind in kinds], 0
        for kind in asked:
            base, changed = _changed(kind, subject, drawn, seed)
            right = plain if base is None else _answers(subject, base)
            for severity in SEVERITIES:
                amount, images = changed(severity)
                yield from _rows(kind, severity, amount, drawn, right, _answers(subject, images))
                done += 1
                listener(done, len(asked) * len(SEVERITIES))


Changed = Callable[[int], tuple[float, NDArray[np.uint8]]]
"""Severity -> amount and pictures."""


def _changed(
    kind: str, subject: Subject, drawn: SyntheticPeople, seed: int
) -> tuple[NDArray[np.uint8] | None, Changed]:
    """What a kind is held against (None: the drawn pictures), and its pictures at a severity."""
    again = partial(
        synthesize, len(np.unique(drawn.identity)), len(EMOTIONS), seed=seed, ages=ADULTS
    )
    if kind == "pose":
        # Held against faces to the front: those drawn are turned by chance already.
        front = again(channels=subject.channels, turned=0.0).images

        def turned(severity: int) -> tuple[float, NDArray[np.uint8]]:
            degrees = TURNS[severity]
            return degrees, again(channels=subject.channels, turned=degrees).images

        return front, turned
    if kind == "colour":
        colour = again(channels=3).images
        base = discoloured(colour, 0.0, subject.channels)

        def paler(severity: int) -> tuple[float, NDArray[np.uint8]]:
            share = COLOUR[severity]
            return share, discoloured(colour, share, subject.channels)

        return base, paler
    corruption, regions = CORRUPTIONS[kind], drawn.regions
    if regions is None:
        raise SettingsError("These people were drawn without regions; draw them with regions=True.")

    def corrupted(severity: int) -> tuple[float, NDArray[np.uint8]]:
        images = corruption(drawn.images, regions, severity, seed=seed)
        return corruption.amounts[severity - 1], images

    return None, corrupted


def _answers(subject: Subject, images: NDArray[np.uint8]) -> NDArray[np.int64]:
    return np.asarray(predict(subject.model, images, zoom=0).argmax(1), dtype=np.int64)


def _rows(
    kind: str,
    severity: int,
    amount: float,
    people: SyntheticPeople,
    before: NDArray[np.int64],
    after: NDArray[np.int64],
) -> Iterator[dict[str, Any]]:
    """A figure of all, of each emotion and of each group."""
    sets = [("all", "all", np.ones(len(people), dtype=bool))]
    sets += [("emotion", name, people.label == k) for k, name in enumerate(EMOTIONS)]
    for feature, column in groups_of(people).items():
        sets += [(feature, str(group), column == group) for group in np.unique(column)]
    for feature, group, rows in sets:
        if rows.any():
            person, right = people.identity[rows], after[rows] == people.label[rows]
            lost = change(before[rows] == people.label[rows], right, person)
            yield _figure(kind, severity, amount, feature, group, rate(right, person), lost)


def _figure(
    kind: str, severity: int, amount: float, feature: str, group: str, one: Mean, lost: Mean
) -> dict[str, Any]:
    name = f"accuracy_{kind}_{severity}_{group}".replace(" ", "_")
    return {
        "figure": name,
        "value": round(one.mean, 5),
        "unit": "share",
        "goal": None,
        "met": None,
        "low": round(one.low, 5),
        "high": round(one.high, 5),
        "n": one.n,
        "kind": kind,
        "severity": severity,
        "amount": amount,
        "feature": feature,
        "group": group,
        "lost": round(lost.mean, 5),
        "lost_low": round(lost.low, 5),
        "lost_high": round(lost.high, 5),
    }
