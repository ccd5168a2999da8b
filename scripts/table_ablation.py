"""Print results of `privemo bench ablation` as a table in Markdown.

python scripts/table_ablation.py benchmarks/results/ablation.json
"""

from __future__ import annotations

import argparse
from pathlib import Path

from privemo.bench.ablation import FULL, SCHEMA, Row, summed_up
from privemo.bench.results import Results


def markdown(found: list[Row]) -> str:
    """A line for each row."""
    lines = [
        "| row | what is different | accuracy, % | to full | of each seed | 95% interval | lowest F1 | s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in found:
        cells = (
            f"`{row.name}`",
            row.words,
            f"{100 * row.mean:.1f}",
            "" if row.name == FULL else f"{100 * row.against_full:+.1f}",
            ", ".join(f"{100 * a:.1f}" for a in row.accuracies),
            f"{100 * row.low:.1f} to {100 * row.high:.1f}",
            "none" if row.lowest_f1 is None else f"{row.lowest_f1:.2f}",
            f"{row.seconds:,.0f}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Read and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path, help="file of `privemo bench ablation --out`")
    print(markdown(summed_up(Results(parser.parse_args().results, SCHEMA).cells())))


if __name__ == "__main__":
    main()
