"""What the people who are measured have lost, and may lose: the wall in front of counts and choices.

They have lost what was spent before the run, on whomever, and what the ledger of the people measured holds.
What training spent in this run it spent on others (`privemo.counting` sees to that).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from privemo.budget import Budget
from privemo.dp import composed
from privemo.dp.choice import Choice
from privemo.dp.tallies import TallyNoise
from privemo.errors import BudgetExhausted, LedgerError, SettingsError
from privemo.heldoutledger import FILE, HeldOutLedger
from privemo.releases import Mechanism, merged, worst_of
from privemo.store import Store

__all__ = ["HeldOutAccount", "budget_of"]


class HeldOutAccount:
    """What the people measured in one store have lost, and may lose.

    Args:
        store: the store.
        budget: their lasting account, if there is one; see `privemo.budget`.
        budget_epsilon: most that anybody in it may lose altogether; the store's own budget when omitted.
        releases: most releases for the run of this store, as `privemo.countterms` has it.
    """

    def __init__(
        self,
        store: Store,
        budget: Path | None = None,
        budget_epsilon: float | None = None,
        *,
        releases: int | None = None,
    ) -> None:
        self.config = store.config
        self._path = store.folder / FILE
        self._budget = None if budget is None else Budget(budget)
        self._budget_epsilon = budget_epsilon
        self._releases = releases

    @property
    def ledger(self) -> HeldOutLedger:
        """Read afresh and verified.

        Raises:
            LedgerError: it is damaged.
        """
        return HeldOutLedger(self._path)

    def check(self, coming: Mechanism, delta: float) -> None:
        """Let a release pass that the budget of the people measured still holds.

        They have lost what was spent before the run, on whomever, and what this ledger holds. What the run's
        training spent it did not spend on them.

        Raises:
            BudgetExhausted: it does not, there is no budget, or there were as many releases as agreed.
            SettingsError: its delta is larger than what these people were promised.
        """
        config = self.config
        if config.epsilon_budget is None:
            raise BudgetExhausted(
                f"{config.name} has no privacy budget at all, for its run was not private: nothing can be "
                "charged."
            )
        if delta > config.delta:
            raise SettingsError(
                f"{config.name} promises a delta of {config.delta:g}: a release cannot take {delta:g}."
            )
        made = sum(entry.run_id == config.run_id for entry in self.ledger.entries)
        if self._releases is not None and made >= self._releases:
            raise BudgetExhausted(
                f"{config.name} agreed to {self._releases} release(s) of counts of this run, and made {made}."
            )
        times = config.stores_in
        mine = [e.released.times(times(e.run_id)) for e in self.ledger.entries]
        mine.append(coming.times(times(config.run_id)))
        before, after = (
            composed(
                [*config.spent_before, *some], delta=config.delta, accountant=config.accountant
            )
            for some in (mine[:-1], mine)
        )
        if not after <= config.epsilon_budget:
            raise BudgetExhausted(
                f"{config.name}: the people measured have lost epsilon {before:.3f}, and this release would "
                f"bring it to {after:.3f}, over the budget of {config.epsilon_budget:g}. Ask for a smaller "
                "epsilon, or count fewer columns."
            )

    def charge(self, noise: TallyNoise | Choice, run_id: str, digest: str) -> None:
        """Write a release down, in the lasting account and in the store's ledger; it may leave after that.

        Raises:
            BudgetExhausted: the lasting account does not hold it; nothing was charged.
            LedgerError: it cannot be written; nothing may leave. At most too much was charged.
        """
        ledger = self.ledger
        if ledger.find(digest) is not None:
            return
        if self._budget is not None:
            choice = isinstance(noise, Choice)
            mine = [
                e.released
                for e in ledger.entries
                if e.run_id == run_id and (e.mechanism == Choice.name) == choice
            ]
            what = f"temperature of {run_id}" if choice else f"group counts of {run_id}"
            due = worst_of([[*mine, noise.mechanism]], self.config.stores_in(run_id))
            self._charge_budget(self._budget, due, what, digest)
        ledger.record(
            noise,
            delta=self.config.delta,
            store=self.config.name,
            run_id=run_id,
            release_sha256=digest,
        )

    def _charge_budget(
        self, budget: Budget, worst: Sequence[Mechanism], what: str, digest: str
    ) -> None:
        """Charge what this store released over what other stores of the run were charged for.

        Stores count other people, each in as many stores as agreed; so of each kind of release the most of
        any store is charged (`worst_of`), and a second store like the first costs nobody anything.
        """
        config = self.config
        budget.refresh()  # another store of the run may have paid since it was opened
        named = [e for e in budget.entries if e.what == what and e.kind == "reserved"]
        charged = {m: m.steps for m in merged(r for e in named for r in e.charged())[0]}
        paid = {(m.noise_multiplier, m.sample_rate, m.discrete): n for m, n in charged.items()}
        due = []
        for m in worst:
            left = m.steps - paid.get((m.noise_multiplier, m.sample_rate, m.discrete), 0)
            if left > 0:
                due.append(Mechanism(m.noise_multiplier, m.sample_rate, left, m.discrete))
        if due:
            limit = config.epsilon_budget if self._budget_epsilon is None else self._budget_epsilon
            held = budget.reserve(
                run_id=what,
                data=config.name,
                plan=due,
                epsilon=0.0 if limit is None else limit,
                delta=config.delta,
                accountant=config.accountant,
            )
            budget.settle(held.number, due, updates=digest)


def budget_of(store: Store) -> Path | None:
    """The lasting account that the run beside a store's folder was charged to, if there is one."""
    run = store.folder.resolve().parent.parent / "run.json"
    try:
        content = json.loads(run.read_bytes())
    except (OSError, ValueError):
        return None  # the store is on a machine of its own
    held = content.get("budget")
    if content.get("run_id") != store.config.run_id or not isinstance(held, dict):
        return None
    path = run.parent / str(held.get("file"))
    if not path.exists():
        raise LedgerError(
            f"{path} is gone: the run was charged to it. Restore it, or name it by --budget."
        )
    return path
