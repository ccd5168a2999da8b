"""Group counts that leave a store noised: what they are of, what they cost, and to whom it is charged.

The release is drawn, written to the outbox under a name that is not sent, charged, moved into place, and only
then handed out.

| what happens | what the store does |
|---|---|
| the same is asked again | the same bytes again, at no cost, also when the predictions changed meanwhile |
| the same is asked `anew` | another release, which is paid for; the one before stays until it is |
| somebody measured withdrew meanwhile | a new release does not count them |
| the process dies before the ledger entry | nothing left; asked again, other noise is drawn and paid for |
| it dies after the entry, before the file is in place | paid; asked again, the same bytes |
| somebody measured was trained on as well | refused: what they lost together is in no ledger |
| the budget of the people measured would be exceeded | `BudgetExhausted`; nothing was charged |
"""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from privemo.countrequest import CountRequest, said_of
from privemo.errors import BudgetExhausted, RunError, SettingsError
from privemo.files import write_bytes
from privemo.heldoutaccount import HeldOutAccount
from privemo.labels import EMOTIONS
from privemo.store import Store
from privemo_audits.cellcounts import CellCounts
from privemo_audits.cellplan import CellPlan
from privemo_audits.counts import one_face_each
from privemo_audits.predictions import read_store, validate
from privemo_consent import Purpose

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["check_held_out", "count_vector", "noised_counts", "permitted_now"]


def count_vector(store: Store, plan: CellPlan) -> NDArray[np.int64]:
    """The exact counts of a store's held-out people (n,), each of them counted once in each table.

    Only of those who may be measured now: predictions stay, and consent may have been withdrawn since.

    Raises:
        RunError: there are no predictions, or somebody measured was trained on.
        privemo_audits.AuditError: the predictions cannot be read.
    """
    path, config = store.folder / "predictions.csv", store.config
    if not path.exists():
        raise RunError(f"{path} does not exist: finish the run first.")
    frame = read_store(path, config.name, plan.features, name=path.name)
    if frame is None:
        return plan.vector(None)
    frame = one_face_each(validate(frame, EMOTIONS, path.name, alone=False), config.run_id)
    check_held_out(store, frame["person"].to_numpy(dtype=np.str_))
    frame = frame[permitted_now(store, frame["person"])]
    return plan.vector(None if frame.empty else frame.reset_index(drop=True))


def permitted_now(store: Store, persons: pd.Series[str]) -> NDArray[np.bool_]:
    """Whose faces may be used for a fairness audit as of now (GDPR 7(3))."""
    asked = persons.to_numpy(dtype=np.str_)
    return store.gate.still_permitted(asked, Purpose.FAIRNESS_AUDIT, store.context)


def check_held_out(store: Store, persons: NDArray[np.str_]) -> None:
    """Let people pass who were not trained on: accounts are apart only as long as nobody is in both.

    Raises:
        RunError: somebody was.
    """
    trained = {
        p for use in store.registry.uses() if use.purpose == Purpose.TRAINING for p in use.persons
    }
    both = len(trained & set(persons.tolist()))
    if both:
        raise RunError(
            f"{store.config.name}: {both} of the people measured were trained on as well, and no ledger says "
            "what they lost together. Measure people who were held out."
        )


def noised_counts(
    store: Store, request: CountRequest, account: HeldOutAccount, *, anew: bool = False
) -> bytes:
    """The noised counts of one store, paid for when this returns; the file to send.

    What was released for this request is sent again. Whether that happens must not hang on the predictions:
    other bytes after somebody was erased would tell that somebody was.

    Args:
        store: the store.
        request: what to count, and what it may cost.
        account: of the people measured.
        anew: make and pay for another release, whatever was released before.

    Raises:
        BudgetExhausted: the people measured cannot give so much; nothing was charged.
        LedgerError: a ledger is damaged or cannot be written; nothing may leave.
        RunError, SettingsError: there is nothing to count, or not so.
    """
    if request.run_id != store.config.run_id:
        raise SettingsError(f"{store.config.name} took part in run {store.config.run_id} alone.")
    noise = request.noise(1, store.config.accountant)
    if noise is None:
        raise SettingsError("Counts that are noised cost an epsilon: name one.")
    with store.alone():
        path = store.folder / "outbox" / f"counts-{request.digest()[:32]}.json"
        _settle(path, account)
        if path.exists() and not anew:
            data = path.read_bytes()
            if account.ledger.find(sha256(data).hexdigest()) is not None:
                return data
        account.check(noise.mechanism, request.delta)
        numbers = noise.rounded(noise.noised(count_vector(store, request.plan)))
        made = CellCounts.of(
            request.plan,
            numbers,
            run_id=request.run_id,
            stores=[store.config.name],
            noise=said_of(noise, request, shares=1),
        )
        data = made.to_json()
        # Beside what was paid for before, which has to outlive a charge that is refused.
        write_bytes(_pending(path), data)
        try:
            account.charge(noise, request.run_id, sha256(data).hexdigest())
        except BudgetExhausted:
            _pending(path).unlink()
            raise
        _settle(path, account)
        return data


def _pending(path: Path) -> Path:
    return path.with_suffix(".unpaid")


def _settle(path: Path, account: HeldOutAccount) -> None:
    """Move a release that was left under the name of the unpaid into place if it was paid, else remove it.

    Raises:
        LedgerError: the ledger is damaged; the file stays as it is.
        RunError: the disk failed.
    """
    pending = _pending(path)
    if not pending.exists():
        return
    if account.ledger.find(sha256(pending.read_bytes()).hexdigest()) is None:
        pending.unlink()
        return
    # Written again and not renamed, so that it is durable and an error is told like any other.
    write_bytes(path, pending.read_bytes())
    pending.unlink()
