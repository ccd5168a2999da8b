"""How far the mouth alone gives an emotion away, and whether a model goes by it.

On drawn people the gap between the lips and the lift of their corners are known exactly, so a shortcut is
measured and not guessed at.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from privemo.errors import DataError
from privemo.explain.over import rate, written
from privemo.labels import EMOTIONS
from privemo.synthetic import SyntheticPeople

__all__ = ["FOLDS", "OPEN", "folds", "from_mouth", "taken"]

OPEN = 0.05
"""Decimetres between the lips from which a mouth is called open: half a centimetre."""

FOLDS = 5


def _mouth(people: SyntheticPeople) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    if people.mouth_opening is None or people.mouth_lift is None:
        raise DataError("These people were drawn without regions; draw them with regions=True.")
    return people.mouth_opening, people.mouth_lift


def from_mouth(people: SyntheticPeople) -> dict[str, Any]:
    """How often the opening, the lift of the corners, or both name the emotion of people not seen before.

    By a small decision tree, which may cut a length where it likes. Chance is 25%.
    """
    from sklearn.tree import DecisionTreeClassifier

    opening, lift = _mouth(people)
    features = {"opening": (opening,), "lift": (lift,), "both": (opening, lift)}

    def fresh() -> Any:
        return DecisionTreeClassifier(max_leaf_nodes=12, min_samples_leaf=5, random_state=0)

    found: dict[str, Any] = {}
    for name, columns in features.items():
        said = _said_of_strangers(fresh, np.stack(columns, axis=1), people)
        right = said == people.label
        found[name] = {
            "accuracy": written(rate(right, people.identity)),
            "found": {
                emotion: written(rate(right[rows], people.identity[rows]))
                for emotion, rows in _by_emotion(people)
            },
        }
    found["open_mouths"] = {
        emotion: written(rate(opening[rows] >= OPEN, people.identity[rows]))
        for emotion, rows in _by_emotion(people)
    }
    return found


def taken(people: SyntheticPeople, said: NDArray[np.integer]) -> dict[str, Any]:
    """How often a model is right with open mouths and with closed ones, by emotion.

    A model that takes an open mouth for an emotion is right of one kind and wrong of the other. None where
    fewer than ten people show a kind.
    """
    opening, _ = _mouth(people)
    found: dict[str, Any] = {}
    for emotion, rows in _by_emotion(people):
        kinds = {"open": rows & (opening >= OPEN), "closed": rows & (opening < OPEN)}
        found[emotion] = {
            kind: written(rate(said[k] == people.label[k], people.identity[k]))
            if len(np.unique(people.identity[k])) >= 10
            else None
            for kind, k in kinds.items()
        }
    return found


def folds(people: SyntheticPeople) -> NDArray[np.int64]:
    """Which of `FOLDS` parts each picture is in; everybody is in one, whole."""
    persons, who = np.unique(people.identity, return_inverse=True)
    order = np.random.default_rng(0).permutation(len(persons))
    return np.asarray(order[who] % FOLDS, dtype=np.int64)


def _said_of_strangers(
    fresh: Callable[[], Any], features: NDArray[np.floating], people: SyntheticPeople
) -> NDArray[np.int64]:
    """What classifiers say of people they were not fitted to."""
    fold, said = folds(people), np.empty(len(people), dtype=np.int64)
    for k in range(FOLDS):
        fitted = fresh().fit(features[fold != k], people.label[fold != k])
        said[fold == k] = fitted.predict(features[fold == k])
    return said


def _by_emotion(people: SyntheticPeople) -> list[tuple[str, NDArray[np.bool_]]]:
    return [(name, people.label == k) for k, name in enumerate(EMOTIONS)]
