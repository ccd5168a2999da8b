"""Draw accuracy against epsilon from results of `privemo bench accuracy`, and print them as a table.

    python scripts/figure_epsilon.py benchmarks/results/accuracy.json docs/assets/accuracy-epsilon.svg

The same results give the same bytes. Shapes and dashes tell the lines apart as well as the colours do, which
are Okabe & Ito's, for people who see colours differently. Prints the table in Markdown.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from privemo.bench.accuracy import SCHEMA, Point, points
from privemo.bench.cells import MODES
from privemo.bench.results import Results
from privemo.errors import RunError

STUDY = 73.0  # the study's best model on its test part, %, without privacy
SHIFT = {
    "central": 1.0,
    "local": 1.05,
    "distributed": 1 / 1.05,
}  # so that bars do not hide each other
STYLE: dict[str, dict[str, Any]] = {
    "central": {"color": "#0072B2", "marker": "o", "linestyle": "-"},
    "distributed": {"color": "#009E73", "marker": "s", "linestyle": "--"},
    "local": {"color": "#D55E00", "marker": "^", "linestyle": ":"},
}


def draw(found: list[Point], path: Path) -> None:
    """Write the figure."""
    figure = Figure(figsize=(7.2, 5.6), layout="constrained")
    axes = figure.subplots()
    for mode in STYLE:
        of_mode = sorted((p for p in found if p.mode == mode), key=lambda p: p.epsilon or 0)
        if of_mode:
            _line(axes, mode, of_mode)
    plain = [p for p in found if p.epsilon is None]
    for p in plain:
        axes.axhspan(100 * p.low, 100 * p.high, color="0.85", linewidth=0)
        axes.axhline(100 * p.mean, color="black", label=f"{MODES['plain']} ({100 * p.mean:.1f}%)")
    axes.axhline(
        STUDY,
        color="0.35",
        linestyle=(0, (6, 2, 1, 2)),
        label=f"the study, no privacy ({STUDY:g}%)",
    )
    epsilons = sorted({p.epsilon for p in found if p.epsilon is not None})
    axes.set_xscale("log")
    axes.set_xticks(epsilons, [f"{e:g}" for e in epsilons])
    axes.minorticks_off()
    axes.set_xlabel("epsilon of a person, all their faces together")
    axes.set_ylabel("accuracy on people held out, %")
    axes.grid(axis="y", color="0.92")
    axes.set_axisbelow(True)
    figure.legend(frameon=False, fontsize=9, loc="outside lower center")
    path.parent.mkdir(parents=True, exist_ok=True)
    # Without a date or the version of what drew it, equal results are equal files.
    figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})


def _line(axes: Axes, mode: str, of_mode: list[Point]) -> None:
    style = STYLE[mode]
    x = [(p.epsilon or 0) * SHIFT[mode] for p in of_mode]
    mean = [100 * p.mean for p in of_mode]
    below = [100 * (p.mean - p.low) for p in of_mode]
    above = [100 * (p.high - p.mean) for p in of_mode]
    axes.errorbar(x, mean, yerr=[below, above], capsize=3, label=f"{mode}: {MODES[mode]}", **style)
    for at, p in zip(x, of_mode, strict=True):
        each = [100 * a for a in p.accuracies]
        axes.plot(
            [at] * len(each), each, color=style["color"], marker="_", markersize=9, linestyle="none"
        )


def markdown(found: list[Point]) -> str:
    """The same in words."""
    lines = [
        "| noise | epsilon | accuracy, % | of each seed | 95% interval | lowest F1 | spent by RDP / PRV |",
        "|---|---|---|---|---|---|---|",
    ]
    for p in found:
        cells = (
            p.mode,
            "none" if p.epsilon is None else f"{p.epsilon:g}",
            f"{100 * p.mean:.1f}",
            ", ".join(f"{100 * a:.1f}" for a in p.accuracies),
            f"{100 * p.low:.1f} to {100 * p.high:.1f}",
            "none" if p.lowest_f1 is None else f"{p.lowest_f1:.2f}",
            "-" if p.spent is None else " / ".join(f"{s:.2f}" for s in p.spent),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Read, draw, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path, help="file of `privemo bench accuracy --out`")
    parser.add_argument("figure", type=Path, help="SVG file to write")
    given = parser.parse_args()
    found = points(Results(given.results, SCHEMA).cells())
    if not any(p.epsilon for p in found):
        raise RunError(
            f"{given.results} holds no private cell: run `privemo bench accuracy` first."
        )
    with mpl.rc_context({"svg.hashsalt": "privemo", "svg.fonttype": "path", "font.size": 11}):
        draw(found, given.figure)
    print(markdown(found))


if __name__ == "__main__":
    main()
