"""Did these people take part? Asked of the very model of a run, where its people do not exist.

A rehearsal tells nothing of the model that was published. To attack that one, somebody must know who took
part, and read the faces of those who did. People agree to training and to being measured for fairness, and
no purpose covers being attacked: so this reads nobody who may exist. It takes the drawn people that a
simulation was given, from the file that it was given them in, and opens no vault.

Whether a drawn person took part was decided by a coin: which side of the split they fell on. A side of that
coin is only known of those who were captured for it, so people are told apart by whom the stores hold for
training and for measuring; of both sides those alone who agreed to both purposes and still do, so that
nothing but the coin sets them apart. The score is the likelihood ratio of RMIA (Zarifzadeh, Liu & Shokri
2024, arXiv 2312.03262, offline): the chance that the model gives a person's emotions, over what a model
without them gives. That model is the one that training started from, which saw nobody of the run.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from privemo import weights as w
from privemo.admission import admitted
from privemo.errors import RunError, SettingsError
from privemo.faces import Faces, FaceTable, load_faces
from privemo.runs import Run
from privemo.synthetic.table import ORIGIN
from privemo.training import predict
from privemo_consent import Purpose

__all__ = ["ModelAttack", "prepared", "sides"]

FEWEST = 20

FAR = 0.3
"""How much more a model without a person is taken to say of them than nothing: the paper's `a`, offline."""

_LEAST = 1e-12


@dataclass(frozen=True)
class ModelAttack:
    """All that an attack on a run's model takes, looked at before anything is written down.

    Attributes:
        run: finished.
        table: the drawn people that the run was given.
        members: (m,) of them, who was captured for training.
        others: (o,) of them, who was captured for measuring; these never trained.
    """

    run: Run
    table: FaceTable
    members: NDArray[np.str_]
    others: NDArray[np.str_]

    def scores(self, rng: np.random.Generator) -> dict[str, Any]:
        """Score everybody.

        Returns:
            `scores` and `took_part`, for each person; `about`, numbers of those whom guesses are made
            about: as many of each side as fair coins would make, so that the bound for coins holds; `faces`
            that were read.
        """
        faces = self._faces()
        settings = self.run.settings
        final = w.model_for(settings.model, w.load_weights(self.run.model_path))
        first = w.model_for(settings.model, _first(self.run))
        seen, before = (
            # At the one size at which it was trained: others blur what it learned by heart.
            predict(each, faces.images, flip=settings.flip, zoom=0)[
                np.arange(len(faces)), faces.label
            ]
            for each in (final, first)
        )
        without = ((1 + FAR) * before.astype(np.float64) + (1 - FAR)) / 2
        ratio = np.log(np.maximum(seen, _LEAST)) - np.log(without)
        people, who = np.unique(faces.person, return_inverse=True)
        score = np.bincount(who, ratio) / np.bincount(who)
        part = np.isin(people, self.members)
        return {
            "scores": [round(float(each), 6) for each in score],
            "took_part": part.tolist(),
            "about": _fair(part, rng).tolist(),
            "faces": len(faces),
            "reference": "the model that training started from",
        }

    def _faces(self) -> Faces:
        """Of adults, through a gate: a drawn minor is refused like any other."""
        rows = np.flatnonzero(
            np.isin(self.table.person, np.concatenate([self.members, self.others]))
        )
        with admitted(
            self.table,
            [(rows.astype(np.int64), Purpose.FAIRNESS_AUDIT)],
            challenge_age=self.run.settings.challenge_age,
        ) as let_in:
            return let_in.parts[0]


def prepared(run: Run, data: Path) -> ModelAttack:
    """Look whether the model of a run may be attacked, and by whose faces.

    Args:
        run: the run.
        data: the file of faces that the run was given.

    Raises:
        SettingsError: its people may exist, or the file is not the run's, or there are too few people.
        DataError: the file cannot be read.
        RunError: the run is not finished.
    """
    _nobody(str(run.facts["data"]["origin"]))
    if run.settings.personal != "none":
        raise SettingsError("Each store has layers of its own, so there is no one model to attack.")
    table = load_faces(data)
    _nobody(table.origin)
    if table.digest != run.facts["data"]["digest"]:
        raise SettingsError(f"{data} does not hold the faces that {run.folder} was given.")
    if not run.model_path.is_file():
        raise RunError(f"{run.folder} has no model yet: finish it first ({run.resume_command}).")
    members, others = sides(run)
    if min(len(members), len(others)) < FEWEST:
        raise SettingsError(
            f"{len(members)} people took part and {len(others)} did not, of those who agreed to both: an "
            f"attack on the model takes {FEWEST} of each or more. Rehearse alone, without --data."
        )
    _first(run)
    return ModelAttack(run, table, members, others)


def _nobody(origin: str) -> None:
    if origin != ORIGIN:
        raise SettingsError(
            "The model itself is attacked only where its people do not exist: people who do agreed to "
            "training and to being measured, and to no attack. A rehearsal, without --data, reads nobody."
        )


def sides(run: Run) -> tuple[NDArray[np.str_], NDArray[np.str_]]:
    """Who was captured for training and who for measuring, of those who agreed to both; no face is opened."""
    found: dict[str, list[NDArray[np.str_]]] = {"train": [], "test": []}
    for name in run.stores:
        store = run.store(name)
        try:
            for part, people in found.items():
                held = store.vault.sealed(where=lambda facts, part=part: facts.get("part") == part)  # type: ignore[misc]
                persons = np.unique(held.person)
                for purpose in (Purpose.TRAINING, Purpose.FAIRNESS_AUDIT):
                    agreed = store.gate.still_permitted(persons, purpose, store.context)
                    persons = persons[agreed]
                people.append(persons)
        finally:
            store.close()
    members, others = (np.concatenate(found[part]).astype(np.str_) for part in ("train", "test"))
    return members, others


def _first(run: Run) -> w.Weights:
    """The model that training started from.

    Raises:
        RunError: it cannot be made again.
    """
    settings = run.settings
    weights, _ = w.initial_weights(
        settings.init,
        model=settings.model,
        channels=run.facts["model"]["channels"],
        seed=0 if settings.seed is None else settings.seed,
    )
    if w.sha256(weights) != run.facts["model"]["initial"]:
        raise RunError(
            f"The model that {run.folder} started from ({settings.init}) is no longer the one it was."
        )
    return weights


def _fair(part: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.intp]:
    """Numbers of people of whom each took part with a chance of one half, and independently.

    Everybody was as likely as everybody else to take part, so any choice of k who did and n - k who did not
    is as likely as any other. With k drawn as fair coins fall, these are fair coins.
    """
    inside, outside = np.flatnonzero(part), np.flatnonzero(~part)
    count = min(len(inside), len(outside))
    took = int(rng.binomial(count, 0.5))
    return np.sort(
        np.concatenate([rng.permutation(inside)[:took], rng.permutation(outside)[: count - took]])
    )
