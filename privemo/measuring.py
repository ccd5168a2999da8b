"""After the last round: stores read their held-out people with the finished model, and are asked for counts.

This is the server's side, on the same grid as the rounds. It learns which stores measured, and group counts:
each store's own, noised, or the sum of all of them alone. What is kept of it: `privemo.counted`.

| what happens | what the server does |
|---|---|
| what was counted is asked for again | where each has its own noise, who was missing is asked; else nobody |
| it dies while a sum is under way whose numbers were all there | goes on with that sum; no store pays twice |
| a store refuses, lies, or is silent | it is left out and named, with its reason |
| fewer stores than the quorum, or than a sum takes, are left | fails, and says why; what stores sent stays |
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from pydantic import ValidationError

from privemo import weights as w
from privemo.count_answers import counts_from, measure_record, request_record
from privemo.counted import Counted, answered, asked, folder_of, keep_measured, measured
from privemo.countrequest import CountRequest, said_of
from privemo.countsum import sum_counts
from privemo.errors import PrivemoError, RunError, UpdateRejected
from privemo.files import write_bytes, write_json
from privemo.flower import ConfigRecord, Grid, Message, MessageType, RecordDict
from privemo.measured import MeasureOrder
from privemo.patience import STEP_S, round_timeout
from privemo.protocol import ARRAYS, CONFIG
from privemo.replies import printable
from privemo.runs import Run
from privemo.secure_protocol import text_from
from privemo_audits.cellcounts import CellCounts, read_any
from privemo_audits.errors import AuditError
from privemo_audits.noisedjoin import join_any

__all__ = ["finish_run", "wants_measuring"]

_PATIENCE_S = 3600.0
"""Seconds that a store has for reading its people; less where a round waits for less (`round_timeout`)."""

_NO_ANSWER = "no answer"
"""Nothing came, or an error: which store an error is of, only the store knows."""


def wants_measuring(run: Run) -> bool:
    """Whether stores of this run measure by themselves: deployed ones do, and whoever agreed to counts."""
    return run.facts["engine"] == "federation" or run.settings.counts is not None


def finish_run(run: Run, grid: Grid, *, patience: float | None = None) -> Counted | None:
    """Have stores measure that have not, and count what is asked.

    Args:
        run: all of its rounds are whole.
        grid: of its stores.
        patience: seconds that a store has for reading its people, or for a step of counting them.

    Returns:
        What came of the counts; None where none were asked.

    Raises:
        RunError, SecureSumError: the counts failed; what stores sent, and why, is kept.
    """
    patience = patience or min(_PATIENCE_S, round_timeout(run))
    _have_measured(run, grid, patience)
    request = asked(run)
    if request is None:
        return None
    folder = folder_of(run, request)
    left_out: dict[str, str] = {}
    try:
        parts = _counts(run, grid, request, folder, left_out, patience)
        joined = join_any(parts).to_json()
    except (PrivemoError, AuditError) as error:
        Counted(folder, (), left_out, str(error)).write()
        raise error if isinstance(error, PrivemoError) else RunError(str(error)) from error
    write_bytes(folder / "joined.json", joined)
    found = Counted(folder, tuple(sorted(s for p in parts for s in p.stores)), left_out)
    found.write()
    (folder / "pending.bin").unlink(missing_ok=True)
    answered(run)
    return found


# -- measuring -----------------------------------------------------------------------------------


def _have_measured(run: Run, grid: Grid, patience: float) -> None:
    before = measured(run)
    if not any(before.values()):
        return
    weights = run.finished()
    settings = run.settings
    order = MeasureOrder(run.run_id, settings.model, settings.flip, settings.threads, settings.zoom)
    content = RecordDict({ARRAYS: w.to_record(weights), CONFIG: measure_record(order)})
    now: dict[str, str | None] = {
        name: _NO_ANSWER for name, why in before.items() if why is not None
    }
    for reply in _replies(grid, "measure", content, patience):
        name, why = _measured_by(reply)
        if name in now:
            now[name] = why
    keep_measured(run, w.sha256(weights), {**before, **now})


def _measured_by(reply: Message) -> tuple[str, str | None]:
    """Of which store a reply is, and why it has not measured; None where it has."""
    try:
        record = reply.content["content"]
        name = text_from(reply.content, "store")
        reason = record.get("reason") if isinstance(record, ConfigRecord) else None
    except Exception:
        # A reply is data from outside, and Flower's records fail in many ways.
        return "", "malformed"
    return name, None if reason is None else printable(reason)


# -- counts --------------------------------------------------------------------------------------


def _counts(
    run: Run,
    grid: Grid,
    request: CountRequest,
    folder: Path,
    left_out: dict[str, str],
    patience: float,
) -> list[CellCounts]:
    write_json(folder / "request.json", request.content())
    private = run.settings.privacy
    if private is None:
        raise RunError("Counts are charged to a budget, and a run without privacy has none.")
    if private.noise == "local":
        return _of_each(run, grid, request, folder, left_out, patience)
    path = folder / "sum.json"
    if path.exists():
        kept, before = _kept(path, request), Counted.of(run, request)
        out = set(run.stores) - set(kept.stores)
        told = before.left_out if before else {}
        left_out.update({name: told.get(name, "not in the sum") for name in out})
        return [kept]
    found = sum_counts(
        grid,
        request,
        run.roster,
        may_drop=private.may_drop,
        accountant=private.accountant,
        timeout=min(STEP_S, patience),
        pending=folder / "pending.bin",
        left_out=left_out,
    )
    write_bytes(path, found.to_json())
    return [found]


def _of_each(
    run: Run,
    grid: Grid,
    request: CountRequest,
    folder: Path,
    left_out: dict[str, str],
    patience: float,
) -> list[CellCounts]:
    """Each store's own noised counts; those that came before are not asked for again."""
    accountant = run.settings.privacy.accountant if run.settings.privacy else "rdp"
    here = {n: folder / "stores" / f"{n}.json" for n in run.stores}
    parts = {n: _kept(p, request) for n, p in here.items() if p.exists()}
    if len(parts) < len(run.stores):
        left_out.update({name: _NO_ANSWER for name in run.stores if name not in parts})
        content = RecordDict({CONFIG: request_record(request)})
        for reply in _replies(grid, "count", content, patience):
            name, found = _counted_by(reply, run.roster, request, accountant)
            if name in left_out and isinstance(found, CellCounts):
                write_bytes(here[name], found.to_json())
                parts[name] = found
                del left_out[name]
            elif name in left_out:
                left_out[name] = str(found)
    if len(parts) < run.settings.quorum:
        why = "; ".join(f"{name}: {reason}" for name, reason in sorted(left_out.items())[:5])
        raise RunError(
            f"{len(parts)} of {len(run.stores)} stores counted, and it takes {run.settings.quorum} ({why}). "
            "What came is kept: ask again once more stores take part."
        )
    return [parts[name] for name in sorted(parts)]


def _counted_by(
    reply: Message, roster: Mapping[str, bytes], request: CountRequest, accountant: str
) -> tuple[str, CellCounts | str]:
    """Of which store a reply is, and its counts, or why there are none."""
    name = ""
    try:
        name = text_from(reply.content, "store")
        record = reply.content["content"]
        reason = record.get("reason") if isinstance(record, ConfigRecord) else None
        if reason is not None:
            return name, printable(reason)
        name, data = counts_from(reply.content, roster)
        return name, _checked(data, name, request, accountant)
    except Exception as wrong:
        # As above: whatever is wrong with one reply leaves its store out, never the others.
        return name, printable(f"rejected: {wrong}")


def _checked(data: bytes, name: str, request: CountRequest, accountant: str) -> CellCounts:
    """Let counts pass that are what was asked of this store.

    Raises:
        UpdateRejected: they are not.
    """
    try:
        found = CellCounts.model_validate_json(data)
    except ValidationError as error:
        raise UpdateRejected(f"its counts are none: {error.errors()[0]['msg']}") from error
    noise = request.noise(1, accountant)
    due = None if noise is None else said_of(noise, request, shares=1)
    said = (found.run_id, found.stores, found.plan, found.noise)
    if due is None or said != (request.run_id, (name,), request.plan, due):
        raise UpdateRejected("its counts are of something else than was asked")
    return found


def _kept(path: Path, request: CountRequest) -> CellCounts:
    """What came before.

    Raises:
        RunError: it was changed.
    """
    found = read_any(path)
    if not isinstance(found, CellCounts) or (found.run_id, found.plan) != (
        request.run_id,
        request.plan,
    ):
        raise RunError(f"{path} is not what was asked for; delete it and ask again.")
    return found


def _replies(grid: Grid, step: str, content: RecordDict, patience: float) -> Iterable[Message]:
    """What all nodes answer to one message; a node that failed answers nothing that counts."""
    messages = [
        Message(content, dst_node_id=node, message_type=f"{MessageType.QUERY}.{step}", group_id="0")
        for node in sorted(grid.get_node_ids())
    ]
    replies = grid.send_and_receive(messages, timeout=patience)
    return sorted(
        (reply for reply in replies if not reply.has_error()),
        key=lambda reply: reply.metadata.src_node_id,
    )
