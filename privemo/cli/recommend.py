"""`privemo recommend`: a policy of adaptation, what a store learned, and a store that does not exist."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from privemo.cli.common import counted, out, print_json, print_lines, progress, read_input
from privemo.cli.options import JsonOption, refuse_given
from privemo.errors import DataError, SettingsError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from privemo.recommend import AdaptationPolicy

__all__ = ["app"]

app = typer.Typer(
    help="Re-rank what a shop recommends, for those who agreed to it.", no_args_is_help=True
)

PolicyOption = Annotated[
    Path | None, typer.Option("--policy", help="TOML file; privemo's own by default.")
]


def _policy(path: Path | None) -> AdaptationPolicy:
    from privemo.recommend import default_policy, load_adaptation_policy

    return default_policy() if path is None else load_adaptation_policy(path)


@app.command()
def check(
    policy: Annotated[
        Path | None, typer.Argument(help="TOML file; privemo's own by default.")
    ] = None,
    json_: JsonOption = False,
) -> None:
    """Say what a policy of adaptation allows, or why it is none."""
    found = _policy(policy)
    if json_:
        print_json({**found.model_dump(mode="json", by_alias=True), "sha256": found.sha256})
        return
    lines = [f"sha256 {found.sha256}", f"places, at most: {found.limits.most_displacement}"]
    lines.append(
        f"nothing dearer passes anything cheaper for: {', '.join(found.rails.no_dearer_for)}"
    )
    lines.append(f"looks at: the expression, {', '.join(found.context.uses) or 'and nothing else'}")
    lines += [f"may lift {a.lifts}: {', '.join(a.emotions)}" for a in found.adaptation]
    print_lines(*lines)


@app.command()
def status(
    folder: Annotated[Path, typer.Argument(help="Of a recommender.")],
    policy: PolicyOption = None,
    json_: JsonOption = False,
) -> None:
    """Say what a store's recommender did, what it learned, and what that is worth."""
    from privemo.recommend.events import Events
    from privemo.recommend.offpolicy import evaluate
    from privemo.recommend.sums import SumsFile

    if not any(folder.glob("policy-*.toml")):
        raise SettingsError(f"{folder} is no folder of a recommender")
    found = _policy(policy or _only_policy(folder))
    events = Events(folder, found)
    real = SumsFile(folder, found)
    simulated = SumsFile(folder, found, simulated=True)
    only_simulated = simulated.path.exists() and not real.path.exists()
    sums = (simulated if only_simulated else real).read()
    counts = [
        {"event": event, "reason": reason, "count": count}
        for (event, reason), count in sorted(events.counts().items())
    ]
    overdue = [path.name for path in events.overdue()]
    told: dict[str, Any] = {
        "policy": found.sha256,
        "simulated": only_simulated,
        "reactions": sums.reactions,
        "events": counts,
    }
    try:
        told["evaluation"] = evaluate(found, sums).content()
    except DataError as error:
        told["evaluation"] = None
        told["why_not"] = str(error)
    told["overdue"] = overdue
    print_json(told) if json_ else _show_status(told)


def _only_policy(folder: Path) -> Path:
    found = sorted(folder.glob("policy-*.toml"))
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise SettingsError(f"{folder} knows several policies ({names}): choose with --policy")
    return found[0]


def _show_status(told: dict[str, Any]) -> None:
    table = Table("event", "reason", "count")
    for each in told["events"]:
        table.add_row(each["event"], each["reason"], f"{each['count']:,}")
    out.print(table)
    lines = [f"policy {told['policy']}", f"{counted(told['reactions'], 'reaction')} learned from"]
    if told["simulated"]:
        lines.append("consents were simulated: no real person gave them")
    if judged := told["evaluation"]:
        lines += [f"{name}: {_estimate(judged[name])}" for name in ("shop", "learned", "gain")]
        lines.append(f"than the shop's order: {judged['verdict']}")
    else:
        lines.append(told["why_not"])
    lines += [f"overdue, destroy it: {name}" for name in told["overdue"]]
    print_lines(*lines)


def _estimate(told: dict[str, Any]) -> str:
    low, high = ("?" if v is None else f"{v:.3f}" for v in (told["low"], told["high"]))
    return f"{told['value']:.3f} ({low} to {high})"


@app.command()
def simulate(
    ctx: typer.Context,
    shoppers: Annotated[int, typer.Option(help="Visits in each repetition.")] = 3000,
    effect: Annotated[float, typer.Option(help="How much moods change tastes, in logits.")] = 1.0,
    accuracy: Annotated[float, typer.Option(help="Share of moods that are read rightly.")] = 0.75,
    report: Annotated[
        Path | None, typer.Option(help="A report.json: misread as its confusion table says.")
    ] = None,
    abstains: Annotated[float, typer.Option(help="Share of readings that are not made.")] = 0.1,
    consenting: Annotated[float, typer.Option(help="Share of shoppers who agreed.")] = 0.6,
    group_accuracy: Annotated[
        list[str] | None,
        typer.Option(help="GROUP=X: a group that is read less well; several times for several."),
    ] = None,
    contrary: Annotated[
        list[str] | None,
        typer.Option(help="A group whose moods pull the other way; several times for several."),
    ] = None,
    policy: PolicyOption = None,
    repeats: Annotated[int, typer.Option(help="Repetitions; intervals are over them.")] = 10,
    seed: Annotated[int, typer.Option(help="Same seed, same shoppers.")] = 0,
    json_: JsonOption = False,
) -> None:
    """Let a store that does not exist adapt to expressions, and say what it gains and what the rails cost."""
    from privemo.recommend.shoppers import Store, uniform_confusion
    from privemo.recommend.simulate import simulate as simulated
    from privemo.recommend.simulate import untouched

    if report is not None:
        refuse_given(ctx, {"accuracy"}, "With --report misreadings are those of the report")
    store = Store(
        shoppers=shoppers,
        effect=effect,
        confusion=uniform_confusion(accuracy) if report is None else _confusion(report),
        by_group=dict(map(_of_group, group_accuracy or ())),
        contrary=frozenset(contrary or ()),
        abstains=abstains,
        consenting=consenting,
        policy=_policy(policy),
    )
    with progress() as bar:
        task = bar.add_task("Shopping", total=repeats)
        found = simulated(
            store, repeats=repeats, seed=seed, listener=lambda n: bar.update(task, completed=n)
        )
    found["untouched"] = untouched(store, seed=seed)
    if json_:
        print_json(found)
        return
    table = Table("", "points", "95%", title="Share of visits in which something was taken")
    for name, told in found["comparisons"].items():
        low, high = (f"{100 * told[end]:+.2f}" for end in ("low", "high"))
        table.add_row(name, f"{100 * told['mean']:+.2f}", f"{low} to {high}")
    out.print(table)
    out.print(_groups(found["groups"]))
    went = found["untouched"]
    print_lines(
        f"Of {went['asked']:,} shoppers {went['refused']:,} had not agreed; "
        f"{went['identical']:,} of these saw the shop's own list, item by item."
    )


def _of_group(told: str) -> tuple[str, NDArray[Any]]:
    """A group and how it is read, of GROUP=X.

    Raises:
        SettingsError: it is not of that form, or X is no accuracy.
    """
    from privemo.recommend.shoppers import uniform_confusion

    group, _, accuracy = told.partition("=")
    try:
        return group, uniform_confusion(float(accuracy))
    except SettingsError:
        raise
    except ValueError:
        raise SettingsError(f"got {told!r}, want GROUP=X, such as 65_plus=0.5") from None


def _groups(groups: list[dict[str, Any]]) -> Table:
    """The most that each group gains, and how far that is from what all others gain."""
    table = Table("group", "gain", "95%", "to all others", "95%, of all", "", title="Who gains")
    for each in groups:
        cells = [each["group"]]
        for told in (each["gain"], each["difference"]):
            mean, low, high = (f"{100 * told[part]:+.2f}" for part in ("mean", "low", "high"))
            cells += [mean, f"{low} to {high}"]
        table.add_row(*cells, each["verdict"])
    return table


def _confusion(path: Path) -> NDArray[Any]:
    """The shares of each row of a report's confusion table.

    Raises:
        SettingsError: the file holds none for the four expressions, or an empty row.
    """
    import numpy as np

    from privemo.labels import EMOTIONS

    raw = read_input(path)
    try:
        told = json.loads(raw)["performance"]["confusion"]
        counts = np.array(told["counts"], dtype=np.float64)
        rows = [told["labels"].index(name) for name in EMOTIONS]
        counts = counts[np.ix_(rows, rows)]
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise SettingsError(f"{path} is no report with a confusion table") from error
    if not (counts.sum(axis=1) > 0).all():
        raise SettingsError(f"{path}: an expression was never measured, so nobody knows its errors")
    shares: NDArray[Any] = counts / counts.sum(axis=1, keepdims=True)
    return shares
