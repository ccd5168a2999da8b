"""The lasting account of a group of people: what was spent on them by every run, in one file.

A run folder's ledgers begin at nothing, and so a second run on the same people would too. A budget file
stands beside the data or the registry and outlives runs: whatever is trained on its people, or on some
of them, is charged to it, and `epsilon` means what any of them may lose *altogether*.

A run reserves its whole plan before it trains, so that two runs at once cannot both take what is left.
Once it has ended it settles: what its stores' ledgers hold takes the reservation's place. A run that is
abandoned leaves its reservation standing, which over-counts.

| what happens | what the budget does |
|---|---|
| the plan does not fit into what is left | `BudgetExhausted`, and nothing is written |
| a run is repeated, seeded or not | a charge of its own |
| a run released more than it had reserved | the larger number counts from then on |
| a run settles twice with the same updates | nothing happens |
| a copy of a run settles as well, or the run with other updates | they are charged on top |
| the file is cut, changed or gone | `LedgerError`; see `privemo.chain` |
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from privemo.chain import Chain, ChainEntry
from privemo.errors import BudgetExhausted, LedgerError, SettingsError
from privemo.releases import Mechanism, Release, Stated, merged, worst_of

__all__ = [
    "Budget",
    "BudgetEntry",
    "Reservation",
    "is_budget",
    "read_releases",
    "unfinished",
    "worst_of",
]


class _Steps(BaseModel):
    """Some steps of the Poisson-subsampled Gaussian mechanism."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    noise_multiplier: float = Field(gt=0)
    sample_rate: float = Field(gt=0, le=1)
    steps: int = Field(ge=1)
    discrete: bool = False


class BudgetEntry(ChainEntry):
    """One line: a run's reservation, its settlement, or a release of another kind."""

    schema_: Literal["privemo.budget/1"] = Field("privemo.budget/1", alias="schema")
    kind: Literal["reserved", "settled", "stated"]
    what: str = Field(min_length=1, max_length=200)
    """The run's id; or what was released."""
    data: str = Field("", max_length=200)
    """Digest of the table, for information: one file is one account, whatever the table. Of a settlement the
    digest of what left the stores, which tells a copy of a run from a repetition."""
    settles: int | None = Field(None, ge=0)
    """The reservation that a settlement takes the place of."""
    releases: tuple[_Steps, ...] = ()
    stated_epsilon: float = Field(0.0, ge=0)
    stated_delta: float = Field(0.0, ge=0, lt=1)

    def charged(self) -> list[Release]:
        """What this line costs each person, by itself."""
        found: list[Release] = [
            Mechanism(r.noise_multiplier, r.sample_rate, r.steps, r.discrete) for r in self.releases
        ]
        if self.kind == "stated":
            found.append(Stated(self.stated_epsilon, self.stated_delta))
        return found


@dataclass(frozen=True)
class Reservation:
    """A run's place in the budget.

    Attributes:
        number: the entry that holds it; what `Budget.settle` asks for.
        before: what had been spent on these people when it was made.
    """

    number: int
    before: tuple[Release, ...]


class Budget(Chain[BudgetEntry]):
    """The budget file of a group of people.

    Args:
        path: the file; created with its first entry. Keep it apart from run folders.

    Raises:
        LedgerError: an existing file is damaged, or is no budget.
    """

    kind = BudgetEntry
    what = "a budget entry"

    @property
    def _head_path(self) -> Path:
        return self.path.with_name(f"{self.path.name}.head")

    def history(self) -> list[Release]:
        """Everything charged so far: open reservations in full, settled ones as they ended."""
        settled = {e.settles for e in self._entries if e.kind == "settled"}
        counted = [e for e in self._entries if e.seq not in settled]
        return [release for entry in counted for release in entry.charged()]

    def open_reservations(self) -> list[BudgetEntry]:
        """Reservations of runs that have not ended, or never told so."""
        settled = {e.settles for e in self._entries if e.kind == "settled"}
        return [e for e in self._entries if e.kind == "reserved" and e.seq not in settled]

    def reserve(
        self,
        *,
        run_id: str,
        data: str,
        plan: Sequence[Mechanism],
        epsilon: float,
        delta: float,
        accountant: str = "rdp",
        compositions: int = 1,
    ) -> Reservation:
        """Charge a run's whole plan; on the disk when this returns.

        Args:
            run_id: of the run.
            data: digest of its table, for information.
            plan: all steps that the run will take.
            epsilon: most that any of these people may lose altogether, with all that stands here.
            delta: probability with which that may fail.
            accountant: `rdp` or `prv`.
            compositions: in how many of the run's stores one person may take part.

        Raises:
            BudgetExhausted: the plan does not fit; nothing was written.
            LedgerError: the file is damaged or cannot be written.
            SettingsError: a value out of range, or a plan without a step.
        """
        coming, _ = merged(m.times(compositions) for m in plan)
        if not coming:
            raise SettingsError("A plan without a step reserves nothing.")
        fields = {
            "kind": "reserved",
            "what": run_id,
            "data": data,
            "releases": tuple(map(asdict, coming)),
        }
        return self._charge(coming, fields, epsilon, delta, accountant)

    def state(
        self,
        what: str,
        cost: Stated,
        *,
        epsilon: float,
        delta: float,
        accountant: str = "rdp",
    ) -> Reservation:
        """Charge a release of another kind, such as a noised count, before it is made.

        Args:
            what: in a few words.
            cost: its own epsilon and delta.
            epsilon: most that any of these people may lose altogether.
            delta: probability with which that may fail.
            accountant: `rdp` or `prv`.

        Raises:
            BudgetExhausted: it does not fit; nothing was written.
            LedgerError: the file is damaged or cannot be written.
            SettingsError: a value out of range.
        """
        fields = {
            "kind": "stated",
            "what": what,
            "stated_epsilon": cost.epsilon,
            "stated_delta": cost.delta,
        }
        return self._charge([cost], fields, epsilon, delta, accountant)

    def settle(self, number: int, released: Sequence[Mechanism], *, updates: str = "") -> None:
        """Put what a run really released in its reservation's place, once it can release no more.

        What a second settlement holds is charged on top, unless it is the same once more.

        Args:
            number: of the reservation.
            released: what the person worst off can have lost; see `worst_of`.
            updates: digest of what left the stores.

        Raises:
            SettingsError: there is no such reservation.
            LedgerError: the file is damaged or cannot be written.
        """
        steps = [asdict(m) for m in merged(released)[0]]
        with self._locked() as descriptor:
            self._catch_up(descriptor)
            if not 0 <= number < len(self._entries) or self._entries[number].kind != "reserved":
                raise SettingsError(f"{self.path.name} holds no reservation number {number}.")
            for entry in self._entries:
                same = entry.data == updates and [r.model_dump() for r in entry.releases] == steps
                if entry.kind == "settled" and entry.settles == number and same:
                    return
            reserved = self._entries[number]
            self._add(
                descriptor,
                {
                    "kind": "settled",
                    "what": reserved.what,
                    "data": updates,
                    "settles": number,
                    "releases": tuple(steps),
                },
            )

    def _charge(
        self,
        coming: Sequence[Release],
        fields: dict[str, Any],
        epsilon: float,
        delta: float,
        accountant: str,
    ) -> Reservation:
        """Compose and append under one lock: nobody charges in between."""
        from privemo.dp.accounting import composed

        with self._locked() as descriptor:
            self._catch_up(descriptor)
            before = self.history()
            after = composed([*before, *coming], delta=delta, accountant=accountant)
            if not after <= epsilon:
                now = composed(before, delta=delta, accountant=accountant)
                raise BudgetExhausted(
                    f"{self.path.name}: these people have lost epsilon {now:.3f}, and this would "
                    f"bring it to {after:.3f}, over the budget of {epsilon:g}. Train less, with more "
                    "noise, or with new people."
                )
            entry = self._add(descriptor, fields)
        return Reservation(entry.seq, tuple(before))


def is_budget(path: str | Path) -> bool:
    """Whether a file is a budget, which runs can be charged to, and no ledger."""
    return b'"privemo.budget/1"' in Path(path).read_bytes()[:4096]


def unfinished(path: str | Path) -> list[str]:
    """Ids of runs that a budget file is charged for and that have not settled; none for a ledger.

    Raises:
        LedgerError: the file is damaged.
    """
    if not is_budget(path):
        return []
    return [entry.what for entry in Budget(path).open_reservations()]


def read_releases(path: str | Path) -> list[Release]:
    """What a ledger or a budget file says was released; opened and verified as for writing.

    Raises:
        LedgerError: it cannot be read, is damaged, or is neither.
    """
    from privemo.heldoutledger import HeldOutLedger
    from privemo.ledger import Ledger

    path = Path(path)
    try:
        first = path.read_bytes()[:4096]
    except OSError as error:
        raise LedgerError(f"{path} cannot be read ({error.strerror}).") from error
    if not first:
        raise LedgerError(f"{path} is empty: neither a ledger nor a budget.")
    if not first.startswith(b"{"):
        raise LedgerError(
            f"{path} is neither a ledger nor a budget: each has a line of JSON an entry."
        )
    if b'"privemo.budget/1"' in first:
        return Budget(path).history()
    if b'"privemo.heldout-ledger/1"' in first:
        return list(HeldOutLedger(path).releases())
    return list(Ledger(path).releases())
