"""`privemo excluded`: how well a run's model reads the ages that the rules exclude, on drawn people."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from privemo.cli.common import out, print_json, progress

__all__ = ["excluded"]


def excluded(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A finished run folder.")],
    people: Annotated[int, typer.Option(help="People to draw, each once at every age.")] = 200,
    seed: Annotated[
        int | None, typer.Option(help="Of the people; drawn by chance if not given.")
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Accuracy on minors and others whom the rules exclude, on people who do not exist.

    Nobody's face is read. What the model said is written to excluded.json in the run folder, and the next
    `privemo audit` reports it.
    """
    from privemo.excluded import measure_excluded
    from privemo.runs import Run
    from privemo_audits.excluded import ExcludedInfo, age_words, compare_ages

    with progress() as bar:
        task = bar.add_task("Drawing people who do not exist, at every age", total=None)
        found = measure_excluded(
            Run(run),
            people=people,
            seed=seed,
            listener=lambda done, of: bar.update(task, completed=done, total=of),
        )
    drawn = compare_ages(ExcludedInfo.model_validate(found))
    if json_:
        print_json(json.loads(drawn.model_dump_json()))
        return
    table = Table(
        title=f"{drawn.people:,} people who do not exist, each at every age",
        title_justify="left",
        caption="Behind: accuracy of the admitted ages less this. Whoever is excluded stays so.",
        caption_justify="left",
    )
    for name in ("age", "refused", "accuracy", "95%", "points behind"):
        table.add_column(name, justify="left" if name in ("age", "refused") else "right")
    for age in drawn.ages:
        behind = ""
        if age.gap is not None:
            behind = f"{100 * age.gap:.1f}, {'real' if age.real else 'may be chance'}"
        low, high = (f"{end:.0%}" for end in age.ci)
        table.add_row(
            age_words(age), _REFUSED[age.rule], f"{age.accuracy:.1%}", f"{low} to {high}", behind
        )
    out.print(table)


_REFUSED = {
    "refused": "always",
    "refused_if_estimated_younger": "by estimate",
    "refused_by_error": "by error",
    "admitted": "no",
}
