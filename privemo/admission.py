"""Faces of a table, let through a consent gate of their own: for whatever needs no run folder.

Consents are simulated, and whoever uses this says so in what it reports.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from privemo.errors import NoFacesAdmitted
from privemo.faces import Faces, FaceTable
from privemo.layout import CONTROLLER, EVERYONE
from privemo.training import PermittedNow
from privemo_consent import (
    ConsentGate,
    ConsentRegistry,
    Context,
    Purpose,
    Setting,
    simulate_consents,
)

__all__ = ["SIMULATED", "Admitted", "admitted"]

IntArray = NDArray[np.int64]

SIMULATED = "simulated: everyone who may agrees"
"""What a result says of the consents behind it."""


@dataclass(frozen=True)
class Admitted:
    """What the gate let through.

    Attributes:
        parts: the faces of each part, in the order that was asked.
        refused: faces turned away, by reason, all parts together.
        permitted_now: asks the gate again, before every batch.
    """

    parts: list[Faces]
    refused: dict[str, int]
    permitted_now: PermittedNow


@contextmanager
def admitted(
    table: FaceTable, asked: Sequence[tuple[IntArray, Purpose]], *, challenge_age: float
) -> Iterator[Admitted]:
    """Ask a gate for parts of a table; people are taken as adults who agreed, in a registry of a simulation.

    Whoever the table calls a minor or of unknown age, or whose estimated age is under the challenge age,
    is refused all the same.

    Args:
        table: the faces.
        asked: rows and what they are for.
        challenge_age: years; refuse whoever is estimated to be younger.

    Raises:
        NoFacesAdmitted: nobody of a part was let through.
    """
    everything = np.arange(len(table), dtype=np.int64)
    persons, who = np.unique(table.person, return_inverse=True)
    context = Context(setting=Setting.RETAIL, jurisdiction="IE")
    with (
        tempfile.TemporaryDirectory() as folder,
        ConsentRegistry.create(
            Path(folder) / "consent.sqlite", mode="simulation", controller=CONTROLLER
        ) as registry,
    ):
        simulated = simulate_consents(
            registry,
            persons,
            seed=0,
            true_age_band=table.band_of_people(everything),
            mix=EVERYONE,
        )
        gate = ConsentGate(registry, challenge_age=challenge_age)
        parts, refused = [], Counter[str]()
        for rows, purpose in asked:
            sealed = table.seal(rows, attested_age_band=simulated.attested_age_band[who[rows]])
            let_in = gate.admit(sealed, purpose, context)
            refused.update({str(k): v for k, v in let_in.counts.refused_faces.items()})
            if not len(let_in.rows):
                why = {str(k): v for k, v in sorted(let_in.counts.refused_faces.items())}
                raise NoFacesAdmitted(
                    f"{table.name}: the gate admitted none of {len(rows)} faces for {purpose.value}: {why}. "
                    "Give a table with other people, or a larger one."
                )
            parts.append(let_in.faces)

        def permitted_now(_: int, drawn: NDArray[np.str_]) -> NDArray[np.bool_]:
            return gate.still_permitted(drawn, Purpose.TRAINING, context)

        yield Admitted(parts, dict(sorted(refused.items())), permitted_now)
