"""`privemo attack`: what somebody who tries finds out, beside what is claimed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from privemo.cli import options as o
from privemo.cli.common import out, print_json, print_lines, progress
from privemo.errors import RunInterrupted

if TYPE_CHECKING:
    from privemo_audits.report_privacy import Attacked

__all__ = ["attack"]


def attack(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder; private.")],
    canaries: Annotated[
        int, typer.Option(help="People who do not exist; about half take part.")
    ] = 200,
    rehearsals: Annotated[int, typer.Option(help="How many times the run is rehearsed.")] = 2,
    data: Annotated[
        Path | None,
        typer.Option(help="The drawn people the run was given: attacks its very model as well."),
    ] = None,
    sign: Annotated[
        Path | None,
        typer.Option(help="The auditor's private key: signs how far the history of attacks goes."),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="The auditor's name, where the key does not say it.")
    ] = None,
    json_: o.JsonOption = False,
) -> None:
    """Rehearse a run with people who do not exist, attack it, and bound epsilon from below.

    Nobody's face is read. Every attack that is begun is kept in attacks.jsonl in the run folder: made
    again, it stands beside those before, and has to be the surer for it. The next `privemo audit` reports
    all. Exit code 1 when more was found out than epsilon allows.
    """
    from privemo.attacks import attack as attacked
    from privemo.runs import Run
    from privemo_audits.attacked import AttackInfo, bounds
    from privemo_audits.attempts import share_of
    from privemo_consent.keys import SigningKey

    key = None if sign is None else SigningKey.load(name, sign)
    try:
        with progress() as bar:
            task = bar.add_task("Rehearsing and attacking", total=None)
            found = attacked(
                Run(run),
                canaries=canaries,
                rehearsals=rehearsals,
                data=data,
                sign=key,
                listener=lambda done, of: bar.update(task, completed=done, total=of),
            )
    except KeyboardInterrupt as stop:
        raise RunInterrupted(
            f"Stopped. If it had begun, attacks.jsonl in {run} says so, and so does the next audit."
        ) from stop
    share = share_of(found["number"])
    said = bounds(AttackInfo.model_validate(found), share)
    if json_:
        print_json({**said.model_dump(mode="json"), "history": found["history"]})
    else:
        _show(said, number=found["number"], share=share)
        print_lines(_of_the_history(found["history"]))
    if not said.within:
        raise typer.Exit(1)


def _show(said: Attacked, *, number: int, share: float) -> None:
    out.print(_table(said))
    if (noise := said.in_noise) is not None and noise.alike is not None:
        told = "noise came back!" if noise.reused else "as chance makes them"
        out.print(
            f"The two most alike of {noise.pairs:,} pairs of steps: {noise.alike:z.3f} alike, {told}."
        )
    if number > 1:
        out.print(
            f"This is attack {number} that was finished on the run, judged at {1 - share:.2%}, "
            "so that all bounds together hold with 95% certainty. Those before count as well."
        )
    out.print(_of_the_model(said))
    out.print(
        f"Pictures made from updates: {said.inversion.without_noise:.2f} alike without noise, "
        f"{said.inversion.with_noise:z.2f} with it (1 is the same, 0 is chance)."
    )


def _table(said: Attacked) -> Table:
    table = Table(
        title="What attacks found out",
        title_justify="left",
        caption="Guesses about runs are about the surest alone: more right ones are no larger bound.",
        caption_justify="left",
    )
    for name in ("attack", "answers", "epsilon, at least"):
        table.add_column(name, justify="left" if name == "attack" else "right")

    def add(attack: str, right: int, asked: int, epsilon: float) -> None:
        table.add_row(attack, f"{right:,} of {asked:,} right", f"{epsilon:.3f}")

    for step in said.in_steps:
        right = step.inside_called_in + step.outside - step.outside_called_in
        add(_WORDS[step.adversary], right, step.inside + step.outside, step.epsilon_at_least)
    for whole in said.in_runs:
        add(_WORDS[whole.adversary], whole.right, whole.guesses, whole.epsilon_at_least)
    if (model := said.on_model) is not None:
        add("in the run? of its very model", model.right, model.guesses, model.epsilon_at_least)
    table.add_section()
    table.add_row("calculated, by PLD", "", f"{said.epsilon_claimed:.3f}")
    return table


def _of_the_model(said: Attacked) -> str:
    if said.on_model is None:
        return (
            "The model itself was not attacked. Where its people do not exist, --data FILE does it; people "
            "who may exist agreed to training and to being measured, and to no attack."
        )
    model = said.on_model
    found = "; ".join(
        f"{at.found:.1%} of them found at {at.share:.1%} false alarms"
        for at in model.found_at
        if at.measurable
    )
    return (
        f"The model itself, {model.took_part:,} who took part and {model.others:,} who did not: AUC "
        f"{model.auc:.3f}; "
        + (found or "too few to tell how many are found at 1% false alarms")
        + "."
    )


def _of_the_history(history: dict[str, Any]) -> str:
    signed = " and ".join(history["signed_by"])
    return (
        f"The history of attacks has {history['entries']} entries, the last of hash {history['head']}; "
        + (f"signed by {signed}." if signed else "nobody signed it: --sign KEY does.")
    )


_WORDS = {
    "against_all": "in this step? knows all others",
    "between_steps": "in this step? compares with the one before",
    "every_step": "in this run? sees every step",
    "last_model": "in this run? sees the last model",
}
