"""A store's own record of each round: what it stated, and what of it nobody else is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from privemo.asked import digest_of
from privemo.files import append_line
from privemo.ledger import Ledger
from privemo.orders import RoundOrder, order_digest
from privemo.statements import (
    STATEMENTS_FILE,
    Signed,
    Statement,
    canonical_hash,
    details_of,
    read_signing_key,
    sign,
    versions,
)
from privemo_consent import Purpose

__all__ = ["state"]


def state(
    folder: Path,
    name: str,
    order: RoundOrder,
    model_in: str,
    *,
    consent_log_root: str,
    ledger: Ledger,
    reason: str | None = None,
    update_sha256: str | None = None,
) -> Signed:
    """Write down in `statements.jsonl` what a store did in a round, and sign it.

    Args:
        folder: of the store; holds its key and `admissions.jsonl`.
        name: of the store.
        order: of the round.
        model_in: hash of the model it was for.
        consent_log_root: of the store's registry.
        ledger: of the store.
        reason: why nothing was released.
        update_sha256: of what was.

    Raises:
        LedgerError: it cannot be written down.
        RunError: the store has no key, or its counts by group cannot be read.
    """
    details = details_of(_admission_of(folder / "admissions.jsonl", order), asked=digest_of(folder))
    statement = Statement(
        run_id=order.run_id,
        round=order.round,
        store=name,
        order=order_digest(order, model_in),
        model_in=model_in,
        history=order.history,
        status="refused" if update_sha256 is None else "trained",
        reason=(reason or "unstated") if update_sha256 is None else None,
        update_sha256=update_sha256,
        consent_log_root=consent_log_root,
        ledger=ledger.standing(),
        epsilon=ledger.epsilon,
        details=canonical_hash(details),
        versions=versions(),
    )
    signed = sign(statement, read_signing_key(folder))
    append_line(folder / STATEMENTS_FILE, {**signed.facts(), "details": details})
    return signed


def _admission_of(path: Path, order: RoundOrder) -> dict[str, Any] | None:
    """The last line that says whom the gate let into this round."""
    if not path.exists():
        return None
    wanted = (order.run_id, order.round, Purpose.TRAINING.value)
    for line in reversed(path.read_text().splitlines()):
        try:
            said: dict[str, Any] = json.loads(line)
        except ValueError:  # torn when the power went
            continue
        if (said["run_id"], said["round"], said["purpose"]) == wanted:
            return said
    return None
