"""What a run owes to the budget file of its people, where it was given one."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from privemo.budget import Budget
from privemo.config import PrivacySettings
from privemo.errors import BudgetExhausted, PrivemoError, SettingsError
from privemo.ledger import FILE, Ledger
from privemo.releases import Mechanism, Release, worst_of
from privemo.runs import Run

__all__ = ["RunAccount", "check_charge", "give_back", "settle"]


class RunAccount:
    """The charge of a run that is being prepared. Without a budget file it does nothing.

    Args:
        path: the budget file; made with its first entry.
        run: folder of the run, which will name the file relative to itself.
        privacy: what the run promises.

    Raises:
        SettingsError: a budget for a run without privacy.
    """

    def __init__(self, path: Path | None, run: Path, privacy: PrivacySettings | None) -> None:
        if path is not None and privacy is None:
            raise SettingsError("A run without privacy has no place in a budget: leave it out.")
        self._path, self._run, self._privacy = path, run, privacy
        self._number: int | None = None

    def past(self) -> tuple[Release, ...]:
        """Everything charged to these people so far.

        Raises:
            LedgerError: the file is damaged, or is no budget.
        """
        return () if self._path is None else tuple(Budget(self._path).history())

    @contextmanager
    def charged(
        self, run_id: str, data: str, plan: Sequence[Mechanism]
    ) -> Iterator[tuple[Release, ...]]:
        """Charge the whole plan, and take the charge back if the run is then not laid out.

        Yields:
            What had been spent before, read under the very lock under which the charge was written.

        Raises:
            BudgetExhausted: another run was charged meanwhile, and this one no longer fits.
            LedgerError: the file cannot be written.
        """
        privacy = self._privacy
        if self._path is None or privacy is None:
            yield ()
            return
        budget = Budget(self._path)
        held = budget.reserve(
            run_id=run_id,
            data=data,
            plan=plan,
            epsilon=privacy.epsilon,
            delta=privacy.delta,
            accountant=privacy.accountant,
            compositions=privacy.max_stores_per_person,
        )
        self._number = held.number
        try:
            yield held.before
        except BaseException:
            # Nothing was trained, unless the run already stands in its place (Ctrl-C just then). If this
            # fails as well, the budget counts too much, never too little.
            if not (self._run / "run.json").exists():
                with contextlib.suppress(PrivemoError):
                    budget.settle(held.number, [])
            raise

    def facts(self) -> dict[str, Any]:
        """What `run.json` says of the charge."""
        if self._path is None:
            return {}
        file = os.path.relpath(self._path.resolve(), self._run.resolve())
        return {"budget": {"file": file, "number": self._number}}


def check_charge(run: Run) -> None:
    """Let a run train that is still charged for all that it will release.

    Raises:
        BudgetExhausted: it was settled: this folder is a copy of a run that ended, or was put back.
        LedgerError: the budget file is damaged.
    """
    held = run.facts.get("budget")
    if held is None or len(run.manifests()) >= run.settings.rounds:
        return
    path = run.folder / held["file"]
    if path.exists() and not any(
        (entry.seq, entry.what) == (held["number"], run.run_id)
        for entry in Budget(path).open_reservations()
    ):
        raise BudgetExhausted(
            f"{path.name} holds no open reservation of {run.folder}: it ended or failed, or is a copy of a "
            "run that did, or the file is another one. Prepare a new run, which is charged for itself."
        )


def give_back(run: Run) -> None:
    """Settle at nothing a run that failed before any store had released anything.

    Whatever goes wrong here leaves the charge standing, which counts too much and never too little.
    """
    held = run.facts.get("budget")
    if held is None:
        return
    with contextlib.suppress(PrivemoError, OSError):
        ledgers = [Ledger(run.folder / "stores" / name / FILE) for name in run.stores]
        path = run.folder / held["file"]
        if path.exists() and not any(one.entries for one in ledgers):
            Budget(path).settle(held["number"], [])


def settle(run: Run) -> str | None:
    """Put what a finished run really released in the place of what it was charged.

    Returns:
        A sentence for whoever runs it when the budget file is gone; else None.

    Raises:
        LedgerError: the budget file or a store's ledger is damaged, or cannot be written.
    """
    held, privacy = run.facts.get("budget"), run.settings.privacy
    if held is None or privacy is None:
        return None
    path = run.folder / held["file"]
    if not path.exists():
        return f"{path} is gone: what this run spent less than planned was not given back to it."
    ledgers = [Ledger(run.folder / "stores" / name / FILE) for name in run.stores]
    worst = worst_of([one.releases() for one in ledgers], privacy.max_stores_per_person)
    # Two copies of one folder release different updates, and both count.
    updates = [entry.update_sha256 for one in ledgers for entry in one.entries]
    digest = hashlib.sha256("\n".join(updates).encode()).hexdigest()
    Budget(path).settle(held["number"], worst, updates=digest)
    return None
