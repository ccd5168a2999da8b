"""Accuracy on people whom the rules exclude: people who do not exist, whose age is exactly known.

Nobody may read a child to find out how well a model reads children, and nobody has to: people are drawn, each
at every age that is asked about. The same person at ten and at forty shows the same expression in the same
light, so what differs is age and what comes with it (glasses, lines, a beard). Since nobody exists, no gate
has anything to decide; the file says so (`people_exist`).

What was measured goes to `excluded.json` in the run folder. `privemo_audits.excluded` makes numbers of it,
without this package. Nothing is lifted by them: a minor is refused, however well a model would do.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from hashlib import sha256
from importlib import metadata
from typing import Any

import numpy as np
from torch import nn

from privemo import weights as w
from privemo.errors import RunError, SettingsError
from privemo.files import write_json
from privemo.labels import EMOTIONS
from privemo.machine import tuned
from privemo.runs import Run
from privemo.synthetic import SyntheticPeople, synthesize
from privemo.synthetic.identity import OLDEST
from privemo.training import predict

__all__ = ["EXCLUDED_FILE", "PEOPLE", "ages_asked", "measure_excluded"]

EXCLUDED_FILE = "excluded.json"

PEOPLE = 200
"""People, each drawn at every age: an accuracy of 90% then has an interval of about 9 points."""

FEWEST = 20

NEAR = 10.0
"""Years above the challenge age within which an age estimator may take an adult for too young. Estimators of
today err by some three years on average and by more for some people (NIST IR 8525)."""

_BABY, _CHILD, _ADULT = 0.5, 13.0, 18.0

_SEEDS = 2**48


def ages_asked(challenge_age: float) -> dict[str, tuple[float, float]]:
    """By band, the first age in it and the first above it, in years.

    Args:
        challenge_age: of the run; 18 leaves no adults below it.

    Raises:
        SettingsError: nobody is drawn so old as to be admitted with certainty.
    """
    if challenge_age + NEAR >= OLDEST:
        raise SettingsError(
            f"The oldest who are drawn are {OLDEST:.0f}, and the run refuses whoever is estimated to be "
            f"under {challenge_age:g}: there is nobody to compare with."
        )
    bands = {
        "under_13": (_BABY, _CHILD),
        "13_to_17": (_CHILD, _ADULT),
        "adults_under_challenge_age": (_ADULT, challenge_age),
        "adults_near_challenge_age": (challenge_age, challenge_age + NEAR),
        "admitted": (challenge_age, OLDEST),
    }
    return {name: (low, high) for name, (low, high) in bands.items() if low < high}


def measure_excluded(
    run: Run,
    *,
    people: int = PEOPLE,
    seed: int | None = None,
    listener: Callable[[int, int], None] = lambda done, of: None,
) -> dict[str, Any]:
    """Draw people at every age, ask the run's model about them, and write what it said to `excluded.json`.

    Nothing of the run is read but its settings and its model, and nobody's face. Made again, it replaces the
    file. A person and age takes about 12 ms.

    Args:
        run: finished.
        people: to be drawn, each once at every age.
        seed: of the people; drawn by chance if None, and written down. One that drew people the run was
            trained on would flatter the ages that it was trained on.
        listener: called with pictures drawn, and pictures in all.

    Returns:
        What was written.

    Raises:
        SettingsError: too few people, or a run in which there is no one model to ask.
        RunError: the run has no finished model, or the file cannot be written.
        MissingExtra: without the extra `privemo[synth]`.
    """
    bands, model_hash = _asked(run, people)
    seed = secrets.randbelow(_SEEDS) if seed is None else seed
    network = w.model_for(run.settings.model, w.load_weights(run.model_path))
    label, ages = np.zeros(0, np.int64), []
    for number, (name, (low, high)) in enumerate(bands.items()):
        drawn = synthesize(
            people,
            1,
            seed=seed,
            channels=run.facts["model"]["channels"],
            # Ages are float32; the first age above a band is not in it.
            ages=(low, float(np.nextafter(np.float32(high), np.float32(0)))),
            progress=lambda done, of, before=number * people: listener(  # type: ignore[misc]
                before + done, len(bands) * people
            ),
        )
        label = drawn.label.astype(np.int64)  # of the same people: the same for every band
        ages.append({"band": name, "from": low, "below": high, **_said_of(run, network, drawn)})
    found = _content(run, model_hash) | {
        "seed": seed,
        "people": people,
        "label_names": list(EMOTIONS),
        "label": label.tolist(),
        "ages": ages,
        "versions": {n: metadata.version(n) for n in ("privemo", "torch", "numpy")},
    }
    write_json(run.folder / EXCLUDED_FILE, found)
    return found


def _said_of(run: Run, network: nn.Module, drawn: SyntheticPeople) -> dict[str, list[Any]]:
    """How old each of these people is, in years, and which emotion the model names."""
    with tuned(run.settings.threads):
        said = predict(
            network, drawn.images, flip=run.settings.flip, zoom=run.settings.zoom
        ).argmax(1)
    return {
        # Down, so that nobody is rounded into the band above.
        "age": (np.floor(drawn.age.astype(np.float64) * 100) / 100).tolist(),
        "prediction": said.tolist(),
    }


def _content(run: Run, model_hash: str) -> dict[str, Any]:
    """What the file says of the run and the moment."""
    return {
        "schema": "privemo.excluded/1",
        "run_id": run.run_id,
        "made": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
        "people_exist": False,
        "model_sha256": model_hash,
        "challenge_age": run.settings.challenge_age,
    }


def _asked(run: Run, people: int) -> tuple[dict[str, tuple[float, float]], str]:
    """The bands, and the hash of the model, before the seconds that drawing takes."""
    if people < FEWEST:
        raise SettingsError(f"It takes {FEWEST} people or more, not {people}.")
    if run.settings.personal != "none":
        raise SettingsError(
            "Each store of this run has layers of its own, so there is no one model to ask: their own "
            "held-out faces are what tells how well it works."
        )
    try:
        model_hash = sha256(run.model_path.read_bytes()).hexdigest()
    except OSError as error:
        raise RunError(
            f"{run.model_path} cannot be read: finish the run first ({run.resume_command})."
        ) from error
    return ages_asked(run.settings.challenge_age), model_hash
