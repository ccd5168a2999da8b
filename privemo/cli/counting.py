"""`privemo audit counts`, `join` and `sum`: an audit across stores from counts."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from privemo.cli.common import counted, out, print_json, print_lines, write_new
from privemo.errors import SettingsError

if TYPE_CHECKING:
    from privemo.countrequest import CountRequest
    from privemo.heldoutaccount import HeldOutAccount
    from privemo.store import Store
    from privemo.storeconfig import StoreConfig
    from privemo_audits.joined import JoinedAudit
    from privemo_audits.noisedjoin import NoisedAudit, NoisedShare

__all__ = ["counts", "join", "show_joined", "summed"]

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
EpsilonOption = Annotated[
    float | None,
    typer.Option(help="Noise the counts, so that they cost each person so much at most."),
]
DeltaOption = Annotated[
    float | None, typer.Option(help="With --epsilon: its delta; the store's own by default.")
]
GroupsOption = Annotated[
    Path | None,
    typer.Option(help="TOML file that names the groups of each column; a policy will do."),
]
BudgetOption = Annotated[
    Path | None,
    typer.Option(help="Lasting account of these people, charged too; the run's own by default."),
]
BudgetEpsilonOption = Annotated[
    float | None,
    typer.Option(help="Most that anybody in that account may lose; the run's epsilon by default."),
]


def counts(
    store: Annotated[Path, typer.Argument(metavar="STORE", help="A store's folder.")],
    to: Annotated[Path, typer.Option("--out", help="The file to send; must not exist.")],
    epsilon: EpsilonOption = None,
    delta: DeltaOption = None,
    groups: GroupsOption = None,
    budget: BudgetOption = None,
    budget_epsilon: BudgetEpsilonOption = None,
    anew: Annotated[
        bool, typer.Option("--anew", help="Pay for other noise, where the same was asked before.")
    ] = False,
    json_: JsonOption = False,
) -> None:
    """Count a store's held-out faces by group: what it sends for an audit across stores."""
    from privemo.heldoutaccount import HeldOutAccount, budget_of
    from privemo.store import Store

    if epsilon is None and ((delta, groups, budget, budget_epsilon) != (None,) * 4 or anew):
        raise SettingsError(
            "--delta, --groups, --budget, --budget-epsilon and --anew go with --epsilon: exact counts cost "
            "nothing that is accounted."
        )
    opened = Store(store)  # takes whoever was erased meanwhile out of the predictions first
    try:
        if epsilon is None:
            said = _exact(opened, to)
        else:
            _not_there(to)  # before anything is paid for
            request = _request(opened.config, epsilon, delta, groups)
            account = HeldOutAccount(opened, budget or budget_of(opened), budget_epsilon)
            said = _noised(opened, request, to, account, anew=anew)
    finally:
        opened.close()
    if json_:
        print_json({"file": str(to), **said[1]})
    else:
        print_lines(said[0])


def _exact(store: Store, to: Path) -> tuple[str, dict[str, object]]:
    from privemo.counting import permitted_now
    from privemo.labels import EMOTIONS
    from privemo_audits.counts import count_groups

    made = count_groups(
        store.folder / "predictions.csv",
        run_id=store.config.run_id,
        store=store.config.name,
        label_names=EMOTIONS,
        sensitive=store.config.sensitive,
        may_count=lambda persons: permitted_now(store, persons),
    )
    write_new(to, made.to_json())
    told = (
        f"{to}: {counted(made.persons, 'person')}, one face of each, in {len(made.tables)} tables of "
        "counts. It is for the auditor alone."
    )
    return told, {"persons": made.persons, "tables": len(made.tables)}


def _noised(
    store: Store,
    request: CountRequest,
    to: Path,
    account: HeldOutAccount,
    *,
    anew: bool,
) -> tuple[str, dict[str, object]]:
    from privemo.counting import noised_counts

    data = noised_counts(store, request, account, anew=anew)
    write_new(to, data)
    ledger = account.ledger
    entry, last = ledger.find(sha256(data).hexdigest()), ledger.entries[-1]
    deviation = 0.0 if entry is None else entry.scale / entry.resolution
    tables = len(request.plan.tables)
    told = (
        f"{to}: noised counts in {tables} tables, noise of {deviation:.2f} people in each. The "
        f"people measured here have lost epsilon {last.epsilon_rdp:.3f} of {store.config.epsilon_budget:g} "
        f"by counts, at delta {last.delta:g}."
    )
    return told, {
        "tables": tables,
        "noise": deviation,
        "epsilon": request.epsilon,
        "delta": request.delta,
        "epsilon_of_counts": last.epsilon_rdp,
    }


def _request(
    config: StoreConfig, epsilon: float | None, delta: float | None, groups: Path | None
) -> CountRequest:
    from privemo.countrequest import CountRequest
    from privemo.labels import EMOTIONS
    from privemo_audits.cellplan import load_groups

    plan = load_groups(groups, config.sensitive, EMOTIONS)
    return CountRequest(config.run_id, plan, epsilon, config.delta if delta is None else delta)


def summed(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A finished run of shared noise.")],
    to: Annotated[Path, typer.Option("--out", help="The file of counts; must not exist.")],
    groups: GroupsOption = None,
    epsilon: EpsilonOption = None,
    delta: DeltaOption = None,
    json_: JsonOption = False,
) -> None:
    """Add up the stores' counts by a secure sum, so that only the sum is ever seen."""
    from privemo.countsum import sum_of_run
    from privemo.runs import Run

    if epsilon is None and delta is not None:
        raise SettingsError("--delta goes with --epsilon: exact counts have neither.")
    _not_there(to)
    found = Run(run)
    first = found.store(found.stores[0])
    try:
        request = _request(first.config, epsilon, delta, groups)
    finally:
        first.close()
    made = sum_of_run(found, request)
    write_new(to, made.to_json())
    if json_:
        print_json({"file": str(to), "stores": list(made.stores), "tables": len(made.tables)})
        return
    noise = "exact" if made.noise is None else f"noise of {made.noise.variance**0.5:.2f} people"
    print_lines(
        f"{to}: the sum of {counted(len(made.stores), 'store')} in {len(made.tables)} tables of counts, "
        f"{noise}."
    )


def _not_there(path: Path) -> None:
    """Before anything is paid for; `write_new` asks again."""
    if path.exists():
        raise SettingsError(f"{path} exists: choose another place")
    if not path.resolve().parent.is_dir():
        raise SettingsError(f"{path} cannot be written: there is no folder {path.resolve().parent}")


def join(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Counts, of each store.")],
    to: Annotated[
        Path | None, typer.Option("--out", help="A file for the result; must not exist.")
    ] = None,
    json_: JsonOption = False,
) -> None:
    """Add up what stores counted, and audit the sum: nobody's demographics move."""
    from privemo_audits.cellcounts import read_any
    from privemo_audits.joined import JoinedAudit
    from privemo_audits.noisedjoin import join_any

    found = join_any([read_any(file) for file in files])
    if to is not None:
        write_new(to, found.to_json())
    if json_:
        print_json(json.loads(found.to_json()))
    elif isinstance(found, JoinedAudit):
        _show_joined(found)
    else:
        _show_noised(found)


def show_joined(data: bytes) -> None:
    """Print a joined audit that was kept, of exact counts or of noised ones."""
    from privemo_audits.joined import JoinedAudit
    from privemo_audits.noisedjoin import NoisedAudit

    if json.loads(data)["schema"] == "privemo.noised-audit/1":
        _show_noised(NoisedAudit.model_validate_json(data))
    else:
        _show_joined(JoinedAudit.model_validate_json(data))


def _show_joined(found: JoinedAudit) -> None:
    p = found.performance
    table = Table("by", "group", "people", "accuracy", "95%")
    table.add_row("", "everyone", f"{p.persons:,}", f"{p.accuracy:.1%}", _interval(p.accuracy_ci))
    for cell in found.groups:
        if cell.crossed:
            continue
        shown = "too few" if cell.status == "insufficient" else "not shown"
        if cell.accuracy is not None:
            shown = f"{cell.accuracy:.1%}"
        people = "" if cell.persons is None else f"{cell.persons:,}"
        table.add_row(cell.feature, cell.group, people, shown, _interval(cell.ci))
    out.print(table)
    for gap in found.gaps:
        if gap.accuracy_gap is not None and gap.real:
            print_lines(
                f"More than chance: by {gap.feature} {gap.highest} is {100 * gap.accuracy_gap:.1f} points "
                f"ahead of {gap.lowest} (p {gap.p_adjusted:.3f})."
            )


def _show_noised(found: NoisedAudit) -> None:
    table = Table("by", "group", "people (noised)", "accuracy", "95%")
    table.add_row("", "everyone", *_told(found.accuracy))
    for group in found.groups:
        if group.crossed:
            continue
        shown = "too few to tell" if group.status == "insufficient" else "not shown"
        told = ("", shown, "") if group.accuracy is None else _told(group.accuracy)
        table.add_row(group.feature, group.group, *told)
    out.print(table)
    print_lines(
        f"Counts are noised: {found.variance**0.5:.2f} people of noise in each. Intervals are for chance and "
        "noise together."
    )
    for gap in found.gaps:
        if gap.accuracy_gap is not None and gap.real:
            print_lines(
                f"More than chance and noise: by {gap.feature} {gap.highest} is "
                f"{100 * gap.accuracy_gap:.1f} points ahead of {gap.lowest}."
            )


def _told(x: NoisedShare) -> tuple[str, str, str]:
    share = "unknown" if x.share is None else f"{x.share:.1%}"
    return f"{x.people:,} +- {1.96 * x.noise:.0f}", share, _interval(x.ci)


def _interval(ci: tuple[float, float] | None) -> str:
    return "" if ci is None else f"{ci[0]:.1%} to {ci[1]:.1%}"
