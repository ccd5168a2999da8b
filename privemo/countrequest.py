"""What counts are asked for: of which cells, and at what cost to each person. All of it is public."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import rfc8785

from privemo.dp.tallies import TallyNoise
from privemo.errors import SettingsError
from privemo_audits.cellcounts import Noise
from privemo_audits.cellplan import CellPlan

__all__ = ["CountRequest", "said_of"]


@dataclass(frozen=True)
class CountRequest:
    """What is counted, and what it may cost each person.

    Attributes:
        run_id: of the run whose predictions they are.
        plan: the cells.
        epsilon: of this release, of whoever is counted; None for exact counts, which sums alone may be of.
        delta: of this release.

    Raises:
        SettingsError: epsilon or delta is out of range.
    """

    run_id: str
    plan: CellPlan
    epsilon: float | None
    delta: float

    def __post_init__(self) -> None:
        if self.epsilon is not None and not 0 < self.epsilon <= 1000:
            raise SettingsError(
                f"Counts cost an epsilon above 0, 1000 at most, not {self.epsilon}."
            )
        if not 0 < self.delta < 1:
            raise SettingsError(f"A delta lies between 0 and 1, not {self.delta}.")

    def content(self) -> dict[str, Any]:
        """As plain values, in one way."""
        return {
            "schema": "privemo.count-request/1",
            "run_id": self.run_id,
            "label_names": list(self.plan.label_names),
            "groups": [[feature, list(names)] for feature, names in self.plan.groups],
            "epsilon": self.epsilon,
            "delta": self.delta,
        }

    @classmethod
    def of(cls, content: dict[str, Any]) -> CountRequest:
        """What `content` gave.

        Raises:
            SettingsError: it is something else.
        """
        try:
            groups = tuple((str(f), tuple(map(str, names))) for f, names in content["groups"])
            plan = CellPlan(tuple(map(str, content["label_names"])), groups)
            epsilon = content["epsilon"]
            made = cls(
                str(content["run_id"]),
                plan,
                None if epsilon is None else float(epsilon),
                float(content["delta"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise SettingsError(f"A request for counts is incomplete ({error}).") from error
        if made.content() != content:
            raise SettingsError("A request for counts holds more than that.")
        return made

    def digest(self) -> str:
        """SHA-256 hex of all of it."""
        return sha256(rfc8785.dumps(self.content())).hexdigest()

    def noise(self, noise_stores: int, accountant: str) -> TallyNoise | None:
        """The noise that it takes, each store's share of it; None for exact counts."""
        if self.epsilon is None:
            return None
        return TallyNoise.of(
            epsilon=self.epsilon,
            delta=self.delta,
            tables=len(self.plan.tables),
            noise_stores=noise_stores,
            accountant=accountant,
        )


def said_of(noise: TallyNoise, request: CountRequest, *, shares: int) -> Noise:
    """What a file says of its noise.

    Raises:
        SettingsError: the request is for exact counts.
    """
    if request.epsilon is None:
        raise SettingsError("Exact counts have no noise to speak of.")
    return Noise(
        mechanism="discrete_gaussian" if noise.noise_stores == 1 else "discrete_gaussian_sum",
        tables=noise.tables,
        resolution=noise.resolution,
        scale=noise.scale,
        noise_stores=noise.noise_stores,
        shares=shares,
        epsilon=request.epsilon,
        delta=request.delta,
    )
