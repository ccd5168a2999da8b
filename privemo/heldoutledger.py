"""The ledger of the people who are measured: what they lost by counts that left the store, and by choices.

Held-out people are other people than those trained on, so they have an account of their own. Charged to the
ledger of training, a count would take from people who are in none, and the audit would compose what no person
lost together. What both have in common is what was spent before this run (`spent_before`), for that may have
been spent on anybody.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from privemo.chain import Chain, ChainEntry
from privemo.dp.choice import Choice
from privemo.dp.tallies import TallyNoise
from privemo.releases import Mechanism

__all__ = ["FILE", "HeldOutEntry", "HeldOutLedger"]

FILE = "heldout-ledger.jsonl"


class HeldOutEntry(ChainEntry):
    """One release of counts of people, or one choice by their losses, on the disk before it leaves.

    `tables`, `resolution`, `scale` and `noise_stores` are those of `TallyNoise` or `Choice`: the noise
    multiplier follows from them, and the audit computes it anew. Epsilons are of this whole ledger so far at
    `delta`.
    """

    schema_: Literal["privemo.heldout-ledger/1"] = Field("privemo.heldout-ledger/1", alias="schema")
    store: str
    run_id: str
    mechanism: Literal["discrete_gaussian", "discrete_gaussian_sum", "exponential"]
    unit: Literal["person"] = "person"
    tables: int = Field(ge=1)
    resolution: int = Field(ge=1)
    scale: int = Field(ge=1)
    noise_stores: int = Field(1, ge=1)
    noise_multiplier: float = Field(gt=0)
    delta: float = Field(gt=0, lt=1)
    epsilon_rdp: float = Field(ge=0)
    epsilon_prv: float = Field(ge=0)
    release_sha256: str = Field(pattern="^[0-9a-f]{64}$")

    @property
    def released(self) -> Mechanism:
        """What was spent, as accountants take it."""
        return Mechanism(self.noise_multiplier, 1.0, 1, discrete=True)


class HeldOutLedger(Chain[HeldOutEntry]):
    """The file of one store; entries of all runs stand in it, and all of them count.

    Args:
        path: the file; created with its first entry.

    Raises:
        LedgerError: an existing file has a damaged entry.
    """

    kind = HeldOutEntry
    what = "a ledger entry"

    def find(self, release_sha256: str) -> HeldOutEntry | None:
        """The entry that accounts for this very release, if it was already written."""
        return next((e for e in self._entries if e.release_sha256 == release_sha256), None)

    def releases(self) -> list[Mechanism]:
        """What was spent, as `privemo.spent` takes it."""
        return [entry.released for entry in self._entries]

    def record(self, noise: TallyNoise | Choice, *, delta: float, **said: str) -> HeldOutEntry:
        """Write one release down, with what this whole ledger then costs at `delta`.

        Raises:
            LedgerError: it cannot be written; nothing may leave.
        """
        from privemo.dp import spent

        now = spent([*self.releases(), noise.mechanism], delta=delta)
        return self.append(
            mechanism=noise.name,
            tables=noise.tables,
            resolution=noise.resolution,
            scale=noise.scale,
            noise_stores=noise.noise_stores,
            noise_multiplier=noise.noise_multiplier,
            delta=delta,
            epsilon_rdp=now.rdp,
            epsilon_prv=now.prv,
            **said,
        )
