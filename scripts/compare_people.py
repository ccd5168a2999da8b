"""How well ten people who saw a photograph foretell its label: a ceiling for whoever reads faces of FER-2013.

    python scripts/compare_people.py fer2013_4class_dev.npz

FER+ (Barsoum et al. 2016, arXiv 1608.01041) asked ten people about each photograph of FER-2013. A classifier
that sees no picture learns, on the faces a model trains on, what votes go with what label, and is read on the
faces that a model is validated on, behind the same gate. Prints JSON: accuracy with its 95% interval, F1 by
emotion, and the same where the emotion with most votes is taken as it is.

The table needs `fer_row`, `ferplus_votes` (n, 10) and `ferplus_columns`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from privemo import EMOTIONS
from privemo.admission import admitted
from privemo.bench.parts import VALIDATION_SHARE
from privemo.faces import Faces, load_faces
from privemo_audits import evaluate_predictions
from privemo_consent import Purpose

NAMES = {"happy": "happiness", "sad": "sadness", "neutral": "neutral", "surprise": "surprise"}
"""Emotions as the columns of FER+ call them."""


def shares(path: Path) -> tuple[dict[int, NDArray[np.float64]], list[str]]:
    """By row of FER-2013 the share of people who said each thing; what they could say."""
    with np.load(path) as table:
        votes = table["ferplus_votes"].astype(np.float64)
        said = votes / np.maximum(votes.sum(1, keepdims=True), 1)
        return dict(zip(table["fer_row"].tolist(), said, strict=True)), table[
            "ferplus_columns"
        ].tolist()


def measured(faces: Faces, prediction: NDArray[np.int64]) -> dict[str, Any]:
    """Accuracy, its interval and F1 on the faces held out."""
    found = evaluate_predictions(
        pd.DataFrame({"person": faces.person, "label": faces.label, "prediction": prediction})
    )
    return {name: found[name] for name in ("n", "accuracy", "accuracy_ci", "f1")}


def main() -> None:
    """Learn what votes go with what label, and read."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table", type=Path)
    parser.add_argument("--split-seed", type=int, default=0)
    parser.add_argument("--challenge-age", type=float, default=25.0, help="years")
    given = parser.parse_args()
    said, columns = shares(given.table)
    table = load_faces(given.table)
    train, held_out = table.split(VALIDATION_SHARE, seed=given.split_seed)
    asked = [(train, Purpose.TRAINING), (held_out, Purpose.FAIRNESS_AUDIT)]
    with admitted(table, asked, challenge_age=given.challenge_age) as let_in:
        seen, unseen = let_in.parts
    x, y = (
        np.stack([said[row] for row in part.columns["fer_row"].tolist()]) for part in (seen, unseen)
    )
    model = LogisticRegression(max_iter=1000).fit(x, seen.label)
    ours = [columns.index(NAMES[emotion]) for emotion in EMOTIONS]
    print(
        json.dumps(
            {
                "votes turned into labels": measured(unseen, model.predict(y)),
                "the emotion with most votes": measured(unseen, y[:, ours].argmax(1)),
            }
        )
    )


if __name__ == "__main__":
    main()
