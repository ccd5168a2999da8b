"""Whom the bundled detector finds and the bundled age estimate refuses, by group.

Whoever is not found, or is taken for too young, gets nothing of what others get: a detector that misses a
group excludes it, and nobody hears of it. So both are measured as an audit measures a model: the share of
people, an exact interval, the largest gap between groups and whether it is more than chance, with all gaps
that were tested taken into account.

On people who do not exist, whose age is exactly known, children among them; or on the faces of a table, where
the gate lets nobody through who is or seems a minor, and where columns may be another model's estimates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from privemo.admission import SIMULATED, admitted
from privemo.errors import DataError, SettingsError
from privemo.explain.parts import ADULTS, FEWEST_PEOPLE
from privemo.faces import FaceTable
from privemo.recognizer.age import AgeEstimator
from privemo.recognizer.faces import SURE, Face, FaceFinder, opencv
from privemo.synthetic import SyntheticPeople, synthesize
from privemo_audits.gaps import adjusted, gap_of
from privemo_audits.groups import MIN_PERSONS, group_rows, hide, people_in
from privemo_audits.intervals import ALPHA, Sample
from privemo_audits.report_performance import Gap
from privemo_consent import Purpose

__all__ = ["MEASURES", "NOBODY", "Seen", "figures"]

MEASURES = {
    "found": "adults whose face is found",
    "alone": "adults whose face is found, and nothing else taken for a second one",
    "admitted": "adults whose face was found and who are not taken for too young",
    "refused": "minors whose face was found and who are refused by the estimate",
}
"""What is measured -> of whom; each is a share of people."""

NOBODY = "people who do not exist"

FRAME = (480, 640)
LARGE = 200
"""Side of a picture in its frame, in pixels: somebody an arm's length from a kiosk."""

DRAWN = 160
"""Side at which people are drawn, in pixels: no more is left of it once the detector has shrunk the frame."""

TURNED = (10.0, 25.0)
"""Degrees to the side from which on a head is turned a little, and far."""

_MINORS = (3.0, 17.99)
"""Babies are left out: they do not stand before a kiosk."""

Words = NDArray[np.str_]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Seen:
    """What was made of n pictures, one frame each.

    Attributes:
        found: (n,) there is a face, and it is where it is.
        alone: (n,) and nothing else that could be one.
        years: (n,) how old it looks; NaN where it was not found.
        adult: (n,) whether they are.
        person: (n,) whose pictures.
        groups: feature -> (n,) group.
        estimated: features that another model guessed.
        exist: whether these are people; small groups of nobody give nobody away.
    """

    found: Flags
    alone: Flags
    years: NDArray[np.float64]
    adult: Flags
    person: Words
    groups: dict[str, Words]
    estimated: frozenset[str] = frozenset()
    exist: bool = True


def figures(
    *,
    people: int = 300,
    seed: int = 733,
    table: FaceTable | None = None,
    sensitive: Sequence[str] = (),
    challenge_age: float = 25.0,
    listener: Callable[[int, int], None] = lambda done, of: None,
) -> Iterator[dict[str, Any]]:
    """Shares by group and the largest gap of each feature, of each measure.

    Args:
        people: adults who do not exist, one picture of each; and half as many minors.
        seed: of the people and of where they stand.
        table: faces to measure on instead; their consent is simulated.
        sensitive: columns of the table to group by; `est_...` are told as a model's estimates.
        challenge_age: years; whoever looks younger is refused.
        listener: called with pictures done and pictures in all.

    Raises:
        SettingsError: too few people, or a challenge age under 18.
        DataError: the table has no such column.
        NoFacesAdmitted: the gate lets nobody of the table through.
        MissingExtra: ONNX Runtime, OpenCV or the ray caster is not installed.
    """
    if not challenge_age >= 18:  # nor what is no number
        raise SettingsError(f"A challenge age is 18 or more, not {challenge_age:g}.")
    if table is None:
        if people < FEWEST_PEOPLE:
            raise SettingsError(f"people is {people}; draw {FEWEST_PEOPLE} or more.")
        seen, source = _of_nobody(people, seed, listener), NOBODY
    else:
        seen = _of_table(table, sensitive, challenge_age, seed, listener)
        source = f"{table.name}; consents {SIMULATED}"
    yield from _told(seen, challenge_age, source)


# -- looking -------------------------------------------------------------------------------------


def _of_nobody(people: int, seed: int, listener: Callable[[int, int], None]) -> Seen:
    both: list[SyntheticPeople] = []
    minors = max(FEWEST_PEOPLE, people // 2)
    whole = 2 * (people + minors)
    for many, ages, of in ((people, ADULTS, seed), (minors, _MINORS, seed + 1)):
        before = sum(map(len, both))

        def told(done: int, _: int, before: int = before) -> None:
            listener(before + done, whole)

        both.append(synthesize(many, 1, seed=of, channels=3, size=DRAWN, ages=ages, progress=told))
    columns = _columns(both)
    adult = np.concatenate([np.full(len(d), k == 0) for k, d in enumerate(both)])
    person = np.array([f"{k}-{i}" for k, d in enumerate(both) for i in range(len(d))])
    pictures = np.concatenate([drawn.images for drawn in both])
    found, alone, years = _look(
        pictures, seed, lambda done: listener(people + minors + done, whole)
    )
    return Seen(found, alone, years, adult, person, columns, exist=False)


def _columns(parts: Sequence[SyntheticPeople]) -> dict[str, Words]:
    def of(name: str) -> Words:
        return np.concatenate([getattr(part, name) for part in parts]).astype(np.str_)

    yaw = np.abs(np.concatenate([part.yaw for part in parts]))
    pose = np.select([yaw < TURNED[0], yaw < TURNED[1]], ["to the front", "turned a little"], "far")
    glasses = np.concatenate([part.glasses for part in parts])
    return {
        "gender": of("gender"),
        "skin_tone": of("skin_tone_group"),
        "age_band": of("age_band"),
        "glasses": np.where(glasses, "glasses", "none"),
        "light": of("light"),
        "pose": np.where(pose == "far", "turned far", pose).astype(np.str_),
    }


def _of_table(
    table: FaceTable,
    sensitive: Sequence[str],
    challenge_age: float,
    seed: int,
    listener: Callable[[int, int], None],
) -> Seen:
    """The faces of a table that the gate admits; all of them are adults, for it admits no others."""
    import pandas as pd

    for name in sensitive:
        table.column(name)
    everything = np.arange(len(table), dtype=np.int64)
    asked = [(everything, Purpose.FAIRNESS_AUDIT)]
    with admitted(table, asked, challenge_age=challenge_age) as let_in:
        faces = let_in.parts[0]
        found, alone, years = _look(
            faces.images, seed, lambda done: listener(done, len(faces.images))
        )
    groups: dict[str, Words] = {}
    for name in sensitive:
        row, names = group_rows(pd.Series(faces.columns[name].astype(np.str_), dtype=str), name)
        if len(names) > 100:
            raise DataError(f"{name} has {len(names)} values: a column of groups has fewer.")
        groups[name] = np.array(names, dtype=np.str_)[row]
    estimated = frozenset(name for name in sensitive if name.startswith("est_"))
    adult = np.ones(len(faces), dtype=np.bool_)
    return Seen(found, alone, years, adult, faces.person, groups, estimated)


def _look(
    pictures: NDArray[np.uint8], seed: int, listener: Callable[[int], None]
) -> tuple[Flags, Flags, NDArray[np.float64]]:
    """Each picture in a frame of its own, as a camera would see it: found, alone, years."""
    finder, ages, rng = FaceFinder(), AgeEstimator(), np.random.default_rng(seed)
    found, alone = np.zeros(len(pictures), np.bool_), np.zeros(len(pictures), np.bool_)
    years = np.full(len(pictures), np.nan)
    for k, picture in enumerate(pictures):
        frame, x, y = _frame(picture, rng)
        faces = finder.find(frame)
        there = [face for face in faces if face.score >= SURE and _within(face, x, y)]
        if there:
            found[k], alone[k] = True, len(faces) == 1
            years[k] = ages.years(frame, there[0])
        listener(k + 1)
    return found, alone, years


def _frame(
    picture: NDArray[np.uint8], rng: np.random.Generator
) -> tuple[NDArray[np.uint8], int, int]:
    """A frame of 640x480 with the picture somewhere in it, and where."""
    cv2 = opencv()
    high, wide = FRAME
    wall = rng.integers(0, 255, (12, 16, 3)).astype(np.uint8)
    frame = cv2.resize(wall, (wide, high), interpolation=cv2.INTER_CUBIC)
    colour = picture if picture.ndim == 3 else np.repeat(picture[..., None], 3, axis=2)
    how = cv2.INTER_AREA if picture.shape[0] > LARGE else cv2.INTER_CUBIC
    x, y = int(rng.integers(0, wide - LARGE)), int(rng.integers(0, high - LARGE))
    frame[y : y + LARGE, x : x + LARGE] = cv2.resize(colour, (LARGE, LARGE), interpolation=how)
    return frame, x, y


def _within(face: Face, x: int, y: int) -> bool:
    """Whether the middle of a face lies in the middle half of the picture that begins at (x, y)."""
    left, top, right, bottom = face.box
    return (
        0.25 < ((left + right) / 2 - x) / LARGE < 0.75
        and 0.25 < ((top + bottom) / 2 - y) / LARGE < 0.75
    )


# -- telling -------------------------------------------------------------------------------------


def _told(seen: Seen, challenge_age: float, source: str) -> Iterator[dict[str, Any]]:
    """All shares, then the gaps, which are judged together."""
    gaps: list[tuple[str, Gap]] = []
    for measure, (rows, right) in _measures(seen, challenge_age).items():
        if not rows.any():
            continue
        whole = _sample(right[rows], seen.person[rows])
        yield _share(measure, "all", "all", whole, source, estimated=False)
        for feature, column in seen.groups.items() if measure != "alone" else ():
            judged = _judged(column[rows], right[rows], seen.person[rows], seen.exist)
            for group, sample in judged.items():
                yield _share(
                    measure, feature, group, sample, source, estimated=feature in seen.estimated
                )
            gaps.append((measure, gap_of(feature, judged)))
    together = adjusted([gap for _, gap in gaps])
    for (measure, _), gap in zip(gaps, together, strict=True):
        if gap.accuracy_gap is not None:
            yield _gap(measure, gap, source, estimated=gap.feature in seen.estimated)


def _measures(seen: Seen, challenge_age: float) -> dict[str, tuple[Flags, Flags]]:
    """Measure -> of which rows, and who of them is right."""
    young = ~(seen.years >= challenge_age)
    return {
        "found": (seen.adult, seen.found),
        "alone": (seen.adult, seen.alone),
        "admitted": (seen.adult & seen.found, ~young),
        "refused": (~seen.adult & seen.found, young),
    }


def _judged(column: Words, right: Flags, person: Words, exist: bool) -> dict[str, Sample]:
    """Groups of ten people or more; of people who exist, none that with the others tells of a smaller one."""
    names, row = np.unique(column, return_inverse=True)
    _, who = np.unique(person, return_inverse=True)
    many = people_in(row, who, len(names))
    hidden = hide(many[None, :])[0] if exist else np.zeros(len(many), np.bool_)
    return {
        str(name): _sample(right[row == k], person[row == k])
        for k, name in enumerate(names)
        if many[k] >= MIN_PERSONS and not hidden[k]
    }


def _sample(right: Flags, person: Words) -> Sample:
    return Sample.of(np.zeros(len(right), np.int64), (~right).astype(np.int64), person, 2)


def _share(
    measure: str, feature: str, group: str, sample: Sample, source: str, *, estimated: bool
) -> dict[str, Any]:
    low, high = sample.accuracy_interval(ALPHA)
    return _figure(
        f"reader_{measure}_{feature}_{group}",
        sample.accuracy,
        (low, high),
        measure=measure,
        feature=feature,
        group=group,
        people=sample.n_people,
        estimated=estimated,
        of=source,
    )


def _gap(measure: str, gap: Gap, source: str, *, estimated: bool) -> dict[str, Any]:
    return _figure(
        f"reader_{measure}_gap_{gap.feature}",
        float(gap.accuracy_gap or 0),
        gap.ci or (0.0, 1.0),
        measure=measure,
        feature=gap.feature,
        highest=gap.highest,
        lowest=gap.lowest,
        p=gap.p,
        p_adjusted=gap.p_adjusted,
        real=gap.real,
        estimated=estimated,
        of=source,
    )


def _figure(name: str, value: float, ci: tuple[float, float], **more: Any) -> dict[str, Any]:
    return {
        "figure": name.replace(" ", "_"),
        "value": round(value, 5),
        "unit": "share",
        "goal": None,
        "met": None,
        "low": round(ci[0], 5),
        "high": round(ci[1], 5),
        **more,
    }
