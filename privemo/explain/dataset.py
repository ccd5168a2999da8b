"""What a set of faces invites a model to use: what separates its emotions, and which shortcuts it offers.

Of people who do not exist alone. No purpose that people can agree to (`privemo_consent.Purpose`) covers
statistics of their faces: a mean of faces is made of faces, and shows what its people have in common. So a
face table of people is refused here, whoever agreed to what.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from privemo.errors import DataError, PrivacyError
from privemo.explain import dataset_answer, shortcuts
from privemo.explain.over import per_person, rate, written
from privemo.explain.parts import FEWEST_PEOPLE, PARTS, draw_people, part_of
from privemo.explain.subject import Subject, subject_of
from privemo.faces import FaceTable
from privemo.files import appearing, write_json
from privemo.labels import EMOTIONS
from privemo.machine import tuned
from privemo.models import to_input
from privemo.runs import Run
from privemo.synthetic import SyntheticPeople
from privemo.training import predict

__all__ = ["FALSE_DISCOVERIES", "explain_data", "measure"]

FALSE_DISCOVERIES = 0.05
"""Share of the pixels called different that may be false (Benjamini & Hochberg 1995)."""

HALF = 2
"""Pictures are halved in size before directions are sought: 576 numbers instead of 2,304."""

Floats = NDArray[np.float64]


def explain_data(
    out: Path,
    *,
    people: int = 200,
    seed: int = 611,
    run: Run | str | None = None,
    listener: Callable[[int, int], None] = lambda done, of: None,
) -> dict[str, Any]:
    """Say what separates the emotions of people who do not exist, and what is a shortcut among them.

    Args:
        out: a new folder: `data.json`, `data.md`, `means.png`.
        people: who are drawn; each shows every emotion once.
        seed: of the people.
        run: also which emotions this run's model confuses, and whether it takes the shortcut; `"nobody"` for
            the weights that ship.
        listener: called with people drawn and people in all.

    Returns:
        What stands in `data.json`.

    Raises:
        SettingsError: too few people, or a run whose stores have layers of their own.
        RunError: the run has no model, or a file cannot be written.
        MissingExtra: `privemo[synth]` is not installed.
    """
    subject = None if run is None else subject_of(run)
    with appearing(out) as draft, tuned():
        channels = 1 if subject is None else subject.channels
        drawn = draw_people(people, seed=seed, channels=channels, listener=listener)
        found = {"seed": seed, **measure(drawn, subject)}
        write_json(draft / "data.json", found)
        dataset_answer.means(drawn, found, draft / "means.png")
        (draft / "data.md").write_text(dataset_answer.in_words(found), encoding="utf-8")
    return found


def measure(people: SyntheticPeople, subject: Subject | None = None) -> dict[str, Any]:
    """The numbers of `explain_data`, of people that were drawn before.

    Args:
        people: drawn with `regions=True`; each with every emotion.
        subject: a model to hold against them.

    Raises:
        PrivacyError: these are people who may exist, or so few that a mean would show single faces.
        DataError: drawn without regions, or somebody lacks an emotion.
    """
    _check(people)
    features = _standardised(people.images)
    found: dict[str, Any] = {
        "schema": "privemo.explain-data/1",
        "faces": "people who do not exist, drawn for this; nobody had to be asked",
        "people": len(np.unique(people.identity)),
        "pictures": len(people),
        "spread": _spread(features, people),
        "separates": _separates(features, people),
        "directions": _directions(features, people),
        "shortcuts": shortcuts.from_mouth(people),
    }
    if subject is not None:
        probabilities = predict(subject.model, people.images, zoom=0)
        found["model"] = {
            "words": subject.words,
            "model_sha256": subject.model_sha256,
            "confused": confusion(people, probabilities.argmax(1)),
            "shortcut": shortcuts.taken(people, probabilities.argmax(1)),
        }
    return found


def _check(people: SyntheticPeople) -> None:
    if isinstance(people, FaceTable) or not isinstance(people, SyntheticPeople):
        raise PrivacyError(
            "No purpose that people can agree to (training, personalisation, fairness_audit) covers means "
            "and other statistics of their faces, so none are made; draw people who do not exist."
        )
    if people.regions is None or people.mouth_opening is None or people.mouth_lift is None:
        raise DataError("These people were drawn without regions; draw them with regions=True.")
    persons, who = np.unique(people.identity, return_inverse=True)
    shown = np.zeros((len(persons), len(EMOTIONS)), dtype=bool)
    shown[who, people.label] = True
    if len(persons) < FEWEST_PEOPLE:
        raise PrivacyError(
            f"A mean over {len(persons)} people shows single faces; {FEWEST_PEOPLE} are the fewest."
        )
    if not shown.all():
        raise DataError("Each person must show every emotion: draw four pictures of each, or more.")


def _standardised(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Pictures as models read them, gray: (n, s, s)."""
    x = to_input(torch.from_numpy(images))
    if x.shape[1] == 3:
        x = x.mean(1, keepdim=True)
    return np.asarray(x[:, 0].numpy(), dtype=np.float32)


def _spread(x: NDArray[np.float32], people: SyntheticPeople) -> dict[str, Any]:
    """Mean standard deviation of a pixel within an emotion, beside that of the emotions' means."""
    within = {
        name: round(float(x[people.label == k].std(axis=0, ddof=1).mean()), 4)
        for k, name in enumerate(EMOTIONS)
    }
    means = np.stack([x[people.label == k].mean(axis=0) for k in range(len(EMOTIONS))])
    return {"within": within, "between": round(float(means.std(axis=0, ddof=1).mean()), 4)}


def _separates(x: NDArray[np.float32], people: SyntheticPeople) -> dict[str, Any]:
    """Where each emotion differs from the other three on the same person: paired tests at every pixel.

    2,304 pixels times four emotions are tested at once, so false discoveries are held to a share of all. A
    part's effect is the mean of |d| (mean difference over its deviation between people) over its pixels.
    """
    from scipy.stats import false_discovery_control, ttest_1samp

    each = np.stack(
        [_of_persons(x, people, people.label == k) for k in range(len(EMOTIONS))], axis=1
    )
    rest = (each.sum(axis=1, keepdims=True) - each) / (len(EMOTIONS) - 1)
    gap = each - rest  # (people, emotions, s, s)
    effect = gap.mean(axis=0) / gap.std(axis=0, ddof=1)
    p = np.asarray(ttest_1samp(gap, 0.0, axis=0).pvalue)
    differs = false_discovery_control(p.ravel()).reshape(p.shape) <= FALSE_DISCOVERIES
    part = _usual_part(people)
    return {
        "tests": int(p.size),
        "false_discoveries": FALSE_DISCOVERIES,
        "by_emotion": {
            name: {
                kind: {
                    "pixels_that_differ": round(float(differs[k][part == i].mean()), 4),
                    "effect": round(float(np.abs(effect[k][part == i]).mean()), 4),
                }
                for i, kind in enumerate(PARTS)
            }
            for k, name in enumerate(EMOTIONS)
        },
    }


def _of_persons(x: NDArray[np.float32], people: SyntheticPeople, rows: NDArray[np.bool_]) -> Floats:
    return per_person(x[rows], people.identity[rows])


def _usual_part(people: SyntheticPeople) -> NDArray[np.intp]:
    """The part that a pixel shows most often, (s, s)."""
    part = part_of(people.regions) if people.regions is not None else np.empty(0)
    return np.asarray(np.stack([(part == k).sum(axis=0) for k in range(len(PARTS))]).argmax(axis=0))


def _directions(x: NDArray[np.float32], people: SyntheticPeople) -> dict[str, Any]:
    """Linear discriminants: how well three directions tell the emotions apart, of people not fitted to.

    `distance` is that of two emotions' means in units of the spread within (Mahalanobis, shrunk covariance
    of Ledoit & Wolf 2004): the nearest pair is the one to be confused. It is the product of the gap in the
    people fitted to and in those left out, so chance adds nothing to it (Walther et al. 2016).
    """
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis as Lda

    n, side = len(x), x.shape[1] // HALF
    flat = x.reshape(n, side, HALF, side, HALF).mean(axis=(2, 4)).reshape(n, -1)
    fold, said = shortcuts.folds(people), np.empty(n, dtype=np.int64)
    pairs = list(combinations(range(len(EMOTIONS)), 2))
    squared = np.zeros(len(pairs))
    for k in range(shortcuts.FOLDS):
        inside, outside = fold != k, fold == k
        fitted = Lda(solver="eigen", shrinkage="auto", n_components=len(EMOTIONS) - 1)
        fitted.fit(flat[inside], people.label[inside])
        said[outside] = fitted.predict(flat[outside])
        seen, unseen = (
            _means(fitted.transform(flat[rows]), people.label[rows]) for rows in (inside, outside)
        )
        squared += [(seen[a] - seen[b]) @ (unseen[a] - unseen[b]) for a, b in pairs]
    distance = np.sqrt(np.maximum(0.0, squared / shortcuts.FOLDS))
    return {
        "accuracy": written(rate(said == people.label, people.identity)),
        "confused": confusion(people, said),
        "distance": {
            f"{EMOTIONS[a]}-{EMOTIONS[b]}": round(float(d), 3)
            for (a, b), d in zip(pairs, distance, strict=True)
        },
    }


def _means(x: Floats, label: NDArray[np.integer]) -> Floats:
    return np.stack([x[label == k].mean(axis=0) for k in range(len(EMOTIONS))])


def confusion(people: SyntheticPeople, said: NDArray[np.integer]) -> dict[str, dict[str, Any]]:
    """How often each emotion is named as each: shown -> named -> rate over people, with interval."""
    return {
        shown: {
            named: written(rate(said[rows] == b, people.identity[rows]))
            for b, named in enumerate(EMOTIONS)
        }
        for shown, rows in ((name, people.label == a) for a, name in enumerate(EMOTIONS))
    }
