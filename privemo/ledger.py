"""The append-only record of every differentially private release of one store.

A line is on the disk before the update it accounts for leaves the store. The file itself, and what
happens when it is torn, cut or changed, is a matter of `privemo.chain`.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from privemo.chain import GENESIS, Chain, ChainEntry
from privemo.releases import Mechanism
from privemo.statements import LedgerHead

__all__ = ["FILE", "GENESIS", "MECHANISMS", "Ledger", "LedgerEntry"]

FILE = "ledger.jsonl"
"""In a store's folder."""


MECHANISMS = {
    "local": "poisson_subsampled_gaussian",
    "distributed": "poisson_subsampled_discrete_gaussian_sum",
}
"""What an entry calls the mechanism, by who adds the noise."""


class LedgerEntry(ChainEntry):
    """One release: a round's worth of steps of the Poisson-subsampled Gaussian mechanism.

    Where stores share the noise, `mechanism` says so, `noise_multiplier` is that of the sum, and
    `noise_stores` is how many stores have to add their share for it.
    """

    schema_: str = Field("privemo.ledger/1", alias="schema")
    store: str
    run_id: str
    round: int = Field(ge=0)
    mechanism: Literal[
        "poisson_subsampled_gaussian", "poisson_subsampled_discrete_gaussian_sum"
    ] = "poisson_subsampled_gaussian"
    unit: str = "person"
    noise_multiplier: float = Field(gt=0)
    sample_rate: float = Field(gt=0, le=1)
    steps: int = Field(ge=1)
    noise_stores: int = Field(1, ge=1)
    max_grad_norm: float = Field(gt=0)
    normaliser: float = Field(gt=0)
    delta: float = Field(gt=0, lt=1)
    epsilon_rdp: float = Field(ge=0)
    epsilon_prv: float = Field(ge=0)
    update_sha256: str = Field(pattern="^[0-9a-f]{64}$")

    @property
    def released(self) -> Mechanism:
        """What was spent, as accountants take it."""
        discrete = self.mechanism == MECHANISMS["distributed"]
        return Mechanism(self.noise_multiplier, self.sample_rate, self.steps, discrete)


class Ledger(Chain[LedgerEntry]):
    """The ledger file of one store.

    It belongs to the people of the store and not to a run: entries of all runs stand in it, and all of
    them count.

    Args:
        path: the file; created with its first entry.

    Raises:
        LedgerError: an existing file has a damaged entry.
    """

    kind = LedgerEntry
    what = "a ledger entry"

    def find(self, *, run_id: str, round_: int, update_sha256: str) -> LedgerEntry | None:
        """The entry that accounts for this very update, if it was already written."""
        for entry in self._entries:
            if (entry.run_id, entry.round, entry.update_sha256) == (run_id, round_, update_sha256):
                return entry
        return None

    def standing(self) -> LedgerHead:
        """How far it goes."""
        return LedgerHead(entries=len(self._entries), hash=self.head)

    def goes_through(self, entries: int, digest: str) -> bool:
        """Whether its first so many entries end in that hash."""
        if entries == 0:
            return digest == GENESIS
        return len(self._entries) >= entries and self._entries[entries - 1].hash == digest

    @property
    def epsilon(self) -> float | None:
        """What its last entry says was spent by then (RDP); None where there is none."""
        return self._entries[-1].epsilon_rdp if self._entries else None

    def releases(self) -> list[Mechanism]:
        """What was spent, as `privemo.spent` takes it."""
        return [entry.released for entry in self._entries]
