"""The joiner of a secure sum of group counts: it asks all stores, and learns what they add up to.

The result is a file of counts like that of a store (`privemo_audits.cellcounts`), and `privemo audit join`
reads it as one.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from privemo.count_answers import request_record
from privemo.countrequest import CountRequest, said_of
from privemo.errors import RunError, SecureSumError, UpdateRejected
from privemo.flower import (
    ArrayRecord,
    Context,
    Grid,
    Message,
    MessageType,
    RecordDict,
    ServerApp,
)
from privemo.protocol import CONFIG
from privemo.runs import Run
from privemo.secagg import Collector, Session, needed
from privemo.secure_counts import AGREED, COUNTS_ROUND, agree
from privemo.secure_protocol import CONTENT, VECTOR, bytes_record, text_from
from privemo.secure_sum import GridSum, KeptSum
from privemo_audits.cellcounts import CellCounts

__all__ = ["CountSum", "sum_counts", "sum_of_run"]


class CountSum(GridSum):
    """One secure sum of counts."""

    asked = MessageType.QUERY

    def gather_vectors(self, request: CountRequest) -> None:
        """Step 3, of those who shared secrets."""
        record = request_record(request)

        def content(name: str) -> Mapping[str, object]:
            return {
                CONFIG: record,
                CONTENT: bytes_record(self.collector.envelopes_for(name)),
            }

        def take(name: str, reply: Message) -> None:
            if text_from(reply.content, "store") != name:
                raise UpdateRejected("it answers in another store's name")
            if VECTOR not in reply.content:
                self._leave(name, "refused", text_from(reply.content, "reason"))
                return
            self.collector.take_masked(name, _vector(reply.content))

        nodes = {name: self._nodes[name] for name in self.collector.partners}
        self._ask("mask", nodes, content, take)
        self._require(self.collector.summed, "counted")

    def _require(self, names: list[str], what: str) -> None:
        """As for a round, but that there is no run to resume."""
        if len(names) >= self.session.enough:
            return
        reasons = [f"{n}: {s['reason']}" for n, s in sorted(self.stores.items()) if s["reason"]]
        raise RunError(
            f"{len(names)} of {len(self.session.members)} stores {what}, and a sum of counts takes "
            f"{self.session.enough}. Nothing was unmasked; ask for it again once more stores take part. "
            + "; ".join(reasons[:5])
        )


def sum_counts(
    grid: Grid,
    request: CountRequest,
    roster: Mapping[str, bytes],
    *,
    may_drop: float = 0.0,
    accountant: str = "rdp",
    timeout: float = 600.0,
    pending: Path | None = None,
    left_out: dict[str, str] | None = None,
) -> CellCounts:
    """Add up the counts of all stores of a roster.

    Args:
        grid: of the stores.
        request: what they all agreed to count.
        roster: the stores' public keys.
        may_drop: share of them without whom a sum counts; the noise is whole without them.
        accountant: that noise is reckoned with, as the stores do.
        timeout: seconds that a store has for a step.
        pending: where a sum is kept from when all numbers are there until they are unmasked: asked again, it
            goes on, and no store pays twice. Whoever keeps the result removes it.
        left_out: takes up why a store is not in the sum, also where the sum fails.

    Raises:
        RunError: too few stores take part; nothing was unmasked.
        SecureSumError: the shares do not fit, or the sum cannot be one of counts: some store lied.
    """
    one = _under_way(grid, request, roster, timeout, pending)
    if one is None:
        one = _begun(grid, request, roster, may_drop, timeout)
    try:
        total = _gathered(one, request, pending).view(np.int32).astype(np.int64)
    finally:
        if left_out is not None:
            left_out.update(_why_left_out(one))
    enough, summed = one.session.enough, one.collector.summed
    noise = request.noise(enough, accountant)
    try:
        return CellCounts.of(
            request.plan,
            total if noise is None else noise.rounded(total),
            run_id=request.run_id,
            stores=summed,
            noise=None if noise is None else said_of(noise, request, shares=len(summed)),
        )
    except ValueError as error:
        if pending is not None:  # nobody can make another sum of these numbers
            pending.unlink(missing_ok=True)
        raise SecureSumError(
            f"What {', '.join(summed)} add up to cannot be counts of people: some store sent other numbers. "
            "Nobody can see which; look at each store's predictions."
        ) from error


def _begun(
    grid: Grid,
    request: CountRequest,
    roster: Mapping[str, bytes],
    may_drop: float,
    timeout: float,
) -> CountSum:
    members = tuple(sorted(roster))
    session = Session(
        request.run_id,
        COUNTS_ROUND,
        secrets.token_hex(16),
        request.digest(),
        members,
        *needed(len(members), may_drop),
    )
    return CountSum(grid, Collector(session, roster, request.plan.length), timeout)


def _under_way(
    grid: Grid,
    request: CountRequest,
    roster: Mapping[str, bytes],
    timeout: float,
    pending: Path | None,
) -> CountSum | None:
    """The sum that was under way when the joiner stopped, if it is of this very request."""
    if pending is None or not pending.exists():
        return None
    kept = KeptSum.read(pending, roster)
    session = kept.collector.session
    if (session.run_id, session.order) != (request.run_id, request.digest()):
        return None
    return CountSum(grid, kept.collector, timeout, stores=kept.stores)


def _gathered(
    one: CountSum, request: CountRequest, pending: Path | None
) -> np.ndarray[tuple[int, ...], np.dtype[np.uint32]]:
    """All steps that are missing, and the sum."""
    if not one.resumed:
        one.gather_keys(request_record(request))
        one.gather_envelopes()
        one.gather_vectors(request)
        if pending is not None:
            KeptSum(COUNTS_ROUND, request.digest(), one.stores, one.collector).write(pending)
    try:
        one.confirm()
        return one.unmask()
    except (RunError, SecureSumError):
        if one.resumed and pending is not None:  # twice is enough: the next try begins anew
            pending.unlink(missing_ok=True)
        raise


def _why_left_out(one: CountSum) -> dict[str, str]:
    """By store of the roster that is not in the sum, why."""
    out = set(one.session.members) - set(one.collector.summed)
    return {name: str(one.stores.get(name, {}).get("reason") or "silent") for name in sorted(out)}


def sum_of_run(run: Run, request: CountRequest) -> CellCounts:
    """Add up the counts of all stores of a run that is on this machine, each behind its own door.

    Whoever calls this holds all of the stores' folders, and agrees for each of them.

    Raises:
        RunError: the run is not one of shared noise, or too few stores take part.
        SecureSumError: see `sum_counts`.
    """
    from privemo.client_app import app
    from privemo.grid import InProcessGrid

    private = run.settings.privacy
    if private is None or private.noise != "distributed":
        raise RunError(
            f"The stores of {run.folder} share no sums: they were set up with --noise local. Join the counts "
            "of each store instead (privemo audit counts), or set up a run with --noise distributed."
        )
    folders = [run.folder / "stores" / name for name in run.stores]
    grid = InProcessGrid(app, [{"store-dir": str(folder)} for folder in folders])
    found: list[CellCounts] = []
    server = ServerApp()

    @server.main()
    def main(grid: Grid, context: Context) -> None:
        found.append(
            sum_counts(
                grid,
                request,
                run.roster,
                may_drop=private.may_drop,
                accountant=private.accountant,
            )
        )

    for folder in folders:
        agree(folder, request)
    try:
        grid.serve(server, run_dir=str(run.folder))
    except RunError as error:
        causes = dict.fromkeys(str(e) for e in grid.failures)
        raise RunError(" ".join([str(error), *list(causes)[:3]])) from error
    finally:
        for folder in folders:  # an agreement that was not used is none for later
            (folder / AGREED).unlink(missing_ok=True)
    return found[0]


def _vector(content: RecordDict) -> np.ndarray[tuple[int, ...], np.dtype[np.uint32]]:
    record = content[VECTOR]
    if not isinstance(record, ArrayRecord) or VECTOR not in record:
        raise RunError("A masked vector is an array.")
    found: np.ndarray[tuple[int, ...], np.dtype[np.uint32]] = record[VECTOR].numpy()
    return found
