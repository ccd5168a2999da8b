"""What a store's own machine knows of a run (`store.json`), and agreed to."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from privemo.config import FrozenSettings
from privemo.countterms import CountTerms
from privemo.orders import RUN_ID, PersonalName
from privemo.releases import Mechanism, Stated

__all__ = [
    "KEY_FILE",
    "PERSONAL",
    "STORE_FILE",
    "Counted",
    "NamelessReason",
    "StoreConfig",
    "agreed_to_nothing",
]

KEY_FILE = "store.key"
"""In a store's folder: its own Ed25519 key, 32 bytes; the public half stands in rosters."""

STORE_FILE = "store.json"
"""In a store's folder: a `StoreConfig`."""

PERSONAL = "personal"
"""In a store's folder: a folder for each run in which it kept layers to itself (`privemo.personal`)."""

NamelessReason = Literal["minor", "unknown_age", "suspected_minor", "no_record"]
"""Why a face was turned away of which nothing is kept but a count."""


class Counted(FrozenSettings):
    """Faces, and the persons they are of."""

    faces: int = Field(ge=0)
    persons: int = Field(ge=0)


class StoreConfig(FrozenSettings):
    """What one store's own machine knows (`store.json`); the server never sees it.

    The budget stands here and not in the server's messages: a server that asks for less noise than
    agreed meets the store's own wall.
    """

    schema_: Literal["privemo.store/3"] = Field("privemo.store/3", alias="schema")
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    run_id: str = Field(pattern=RUN_ID)
    registry_mode: Literal["simulation", "production"]
    epsilon_budget: float | None
    delta: float = 1e-5
    accountant: Literal["rdp", "prv"] = "rdp"
    max_stores_per_person: int = Field(1, ge=1)
    stores_by_run: dict[str, int] = Field(default_factory=dict)
    """In how many stores a person could be, for each run joined, this one too: its releases were planned so,
    and what somebody lost elsewhere at the time does not come back because a later run says 1."""
    declared_people: int = Field(ge=1)
    largest_step: int = Field(ge=1)
    """Most people that a step may expect, and fewest with whom the store takes part. It stands here, for a
    threshold that the server moves from order to order would tell it the number of people."""
    agreed: tuple[tuple[float, float], ...] = ()
    """(Noise multiplier, sample rate) of the steps agreed to. Held against orders where a person may be in
    several stores: there each store sees its own share alone, and shares only add up where all stores take
    the same kind of step."""
    challenge_age: float = Field(25.0, ge=18)
    jurisdiction: str = "IE"
    sensitive: tuple[str, ...] = ()
    seed: int | None = None
    roster: dict[str, str] = Field(default_factory=dict)
    """The public keys (Ed25519, hex) of all stores of a run in which stores share the noise, this one's too.
    With whom a store adds up is not for the server to say."""
    noise_stores: int = Field(1, ge=1)
    """Fewest stores of the roster whose shares make the noise whole; a sum of fewer is never unmasked."""
    personal: PersonalName = "none"
    """Layers that stay here. It stands here, for a server that asks for less of them would get some."""
    counts: CountTerms | None = None
    """What a server may have counted of the people measured here; None for nothing."""
    spent_before: tuple[Mechanism | Stated, ...] = ()
    """What the people of this store lost before this run, in whichever runs; it counts against the budget."""
    turned_away: dict[Literal["train", "test"], dict[NamelessReason, Counted]] = Field(
        default_factory=dict
    )
    """Who was turned away when faces were captured and left no name: by part and reason."""
    withdrawals: tuple[tuple[str, int, int], ...] = ()
    """Simulated shoppers who change their mind: (person, round, batch)."""

    def stores_in(self, run_id: str) -> int:
        """How often a release of a run counts: for each store that a person may have lost it in.

        Never less often than in the run of now. A run that nobody wrote down counts as the worst of all.
        """
        then = self.stores_by_run.get(run_id, max(self.stores_by_run.values(), default=1))
        return max(then, self.max_stores_per_person)

    @model_validator(mode="after")
    def _one_store_in_a_sum(self) -> Self:
        if self.roster and self.max_stores_per_person != 1:
            raise ValueError("Where stores share the noise, a person is in one of them")
        return self

    @model_validator(mode="after")
    def _real_people_are_protected(self) -> Self:
        if self.registry_mode == "production":
            if self.epsilon_budget is None:
                raise ValueError("A store of real people has a privacy budget: set epsilon_budget")
            if self.seed is not None:
                raise ValueError("A store of real people draws its noise unseeded: leave out seed")
            if self.withdrawals:
                raise ValueError("Withdrawals are simulated in a simulation only")
        return self


def agreed_to_nothing(folder: Path) -> str:
    """What to say of a folder that lacks what joining writes: a store's that joins yet, or none at all."""
    if not (folder / KEY_FILE).exists():
        return (
            f"{folder} is no store's folder. Those of a simulated run are in RUN/stores, and `privemo "
            "federation enroll STORE --name NAME` makes one."
        )
    return f"{folder} has agreed to no federation yet: privemo federation join {folder} --invitation FILE"
