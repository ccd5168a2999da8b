"""Compare what a temperature can be chosen by, under differential privacy: the choice of ADR 0021.

    python scripts/compare_calibration.py              # the weights that ship, on people who do not exist
    python scripts/compare_calibration.py faces.npz    # on a table of faces, behind the gate; they stay here

Prints the expected calibration error that is left, mean and 90th percentile over 200 choices, by criterion,
by epsilon and by how many people are asked.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from privemo import weights as w
from privemo.admission import admitted
from privemo.dp.choice import Choice
from privemo.exporting.temperature import (
    MOST,
    TEMPERATURES,
    UNIT,
    calibration_error,
    fit_on_nobody,
    losses_of,
    surer_than_right,
    tempered,
)
from privemo.faces import load_faces
from privemo.synthetic import synthesize
from privemo.training import predict
from privemo_consent import Purpose

TIMES, PEOPLE = 200, (30, 100, 300, 1000)
Losses = Callable[[NDArray[np.intp]], NDArray[np.int64]]


def said(path: str | None) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Probabilities and labels of some faces."""
    weights, _ = w.initial_weights("nobody", model="emotion-cnn", channels=1, seed=0)
    network = w.model_for("emotion-cnn", weights).eval()
    if path is None:
        drawn = synthesize(300, 1, seed=20261129, ages=(18.0, 90.0))
        return predict(network, drawn.images, flip=False, zoom=0), drawn.label.astype(np.int64)
    table = load_faces(path)
    rows = np.random.default_rng(0).permutation(len(table))[:4000].astype(np.int64)
    with admitted(table, [(rows, Purpose.FAIRNESS_AUDIT)], challenge_age=25.0) as let_in:
        faces = let_in.parts[0]
    return predict(network, faces.images, flip=False, zoom=0), faces.label


def main() -> None:
    """Measure and print."""
    p, label = said(sys.argv[1] if len(sys.argv) > 1 else None)
    person = np.array([f"{k:06d}" for k in range(len(label))])
    surer = surer_than_right(p, label, person)
    true = np.eye(p.shape[1])[label]
    brier = np.stack([((tempered(p, t) - true) ** 2).sum(1) for t in TEMPERATURES], axis=1)
    above = (UNIT * (brier - brier.min(axis=1, keepdims=True))).astype(np.int64)
    error = np.array([calibration_error(tempered(p, t), label) for t in TEMPERATURES])
    print(f"{len(label)} faces; error without a temperature {calibration_error(p, label):.3f},")
    print(f"with the best {error.min():.3f} (at {TEMPERATURES[int(error.argmin())]}),")
    print(f"by criterion without privacy: {error[losses_of(surer).argmin()]:.3f} as sure as right,")
    print(f"{error[above.sum(axis=0).argmin()]:.3f} Brier score")
    drawn, its = said(None)
    names = np.array([f"{k:06d}" for k in range(len(its))])
    losses = losses_of(surer_than_right(drawn, its, names))
    free = TEMPERATURES[int(losses.argmin())]
    ours = fit_on_nobody(drawn, its, names)
    for told, t in (("any", free), ("1 or more", ours)):
        print(f"fitted on nobody, {told}: {t}, error {error[TEMPERATURES.index(t)]:.3f}")
    ways: dict[str, tuple[Losses, int]] = {
        "as sure as right": (lambda rows: losses_of(surer[rows]), MOST),
        "Brier score": (lambda rows: above[rows].sum(axis=0), UNIT * 3 // 2),
    }
    rng = np.random.default_rng(0)
    for epsilon in (0.5, 1.0, 2.0):
        for people in PEOPLE:
            for name, (loss, most) in ways.items():
                left = [
                    error[
                        rng.choice(
                            len(error),
                            p=np.exp(
                                Choice.of(epsilon).log_odds(
                                    loss(rng.choice(len(label), people)), most
                                )
                            ),
                        )
                    ]
                    for _ in range(TIMES)
                ]
                print(
                    f"epsilon {epsilon:g}, {people:4} people, {name:16} "
                    f"{np.mean(left):.3f} ({np.quantile(left, 0.9):.3f})"
                )


if __name__ == "__main__":
    main()
