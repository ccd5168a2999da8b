"""What `privemo explain data` writes: means of drawn faces as a figure, and its numbers in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from privemo.explain.answer import drawn
from privemo.explain.figures import INK, figure, save
from privemo.explain.parts import PARTS
from privemo.labels import EMOTIONS
from privemo.synthetic import SyntheticPeople

__all__ = ["MEANS_ALT", "in_words", "means"]

MEANS_ALT = "Mean face of each emotion, of people who do not exist, and the spread around it."


def means(people: SyntheticPeople, found: Mapping[str, Any], path: Path) -> None:
    """Draw the mean face of each emotion, and the standard deviation of each pixel around it."""
    grays = people.images if people.images.ndim == 3 else people.images.mean(axis=-1)
    kinds = [grays[people.label == k] for k in range(len(EMOTIONS))]
    rows = [[kind.mean(axis=0) for kind in kinds], [kind.std(axis=0) for kind in kinds]]
    ends = [(min(map(np.min, row)), max(map(np.max, row))) for row in rows]
    made, axes = figure(2, len(EMOTIONS), (7.2, 3.9))
    for column, name in enumerate(EMOTIONS):
        for row, colours in enumerate(("gray", "viridis")):
            low, high = ends[row]
            shown = axes[row, column].imshow(rows[row][column], cmap=colours, vmin=low, vmax=high)
        axes[0, column].set_title(f"{name} (n={found['people']})", fontsize=10, color=INK)
        for plot in axes[:, column]:
            plot.set(xticks=[], yticks=[])
    axes[0, 0].set_ylabel("mean face")
    axes[1, 0].set_ylabel("spread")
    made.colorbar(shown, ax=axes[1, :], shrink=0.9, label="gray levels")
    save(made, path, MEANS_ALT)


def in_words(found: Mapping[str, Any]) -> str:
    """The numbers as Markdown."""
    return "\n".join(_lines(found)) + "\n"


def _lines(found: Mapping[str, Any]) -> Iterator[str]:
    yield "# What these faces invite a model to use"
    yield ""
    yield from drawn(found)
    yield ""
    yield f"![{MEANS_ALT}](means.png)"
    yield ""
    yield "## What separates the emotions"
    yield ""
    yield "Share of a part's pixels that differ from the same person's other three expressions, and the mean"
    yield f"effect |d| there ({found['separates']['tests']:,} tests, false discoveries held to 5%):"
    yield ""
    yield f"| | {' | '.join(PARTS)} |"
    yield f"|---|{'--:|' * len(PARTS)}"
    for name, parts in found["separates"]["by_emotion"].items():
        cells = [f"{p['pixels_that_differ']:.0%}, {p['effect']:.2f}" for p in parts.values()]
        yield f"| {name} | {' | '.join(cells)} |"
    spread = found["spread"]
    yield ""
    least, most = min(spread["within"].values()), max(spread["within"].values())
    yield f"Standardised, a pixel spreads by {least:.2f} to {most:.2f} within an emotion and by"
    yield f"{spread['between']:.2f} between the means of the four."
    yield ""
    yield from _confused(found)
    yield from _shortcuts(found)


def _confused(found: Mapping[str, Any]) -> Iterator[str]:
    directions = found["directions"]
    yield "## Which are confused"
    yield ""
    yield "Three linear directions, fitted to other people, name"
    yield f"{_percent(directions['accuracy'])} of the expressions rightly."
    yield "Distance of two emotions' means, in units of the spread within (cross-validated):"
    yield ""
    yield "| Pair | Distance | One for the other, by directions | By the model |"
    yield "|---|--:|--:|--:|"
    by_model = found.get("model", {}).get("confused")
    for pair, distance in sorted(directions["distance"].items(), key=lambda item: item[1]):
        cells = [pair.replace("-", " and "), f"{distance:.2f}", _both(directions["confused"], pair)]
        yield f"| {' | '.join(cells)} | {_both(by_model, pair) if by_model else ''} |"
    yield ""


def _both(confused: Mapping[str, Any], pair: str) -> str:
    a, b = pair.split("-")
    return f"{confused[a][b]['mean']:.1%}, {confused[b][a]['mean']:.1%}"


def _shortcuts(found: Mapping[str, Any]) -> Iterator[str]:
    yield "## Shortcuts"
    yield ""
    yield "How often the mouth's geometry alone names an expression, of people not seen before (chance 25%):"
    yield ""
    yield f"| Known | All | {' | '.join(EMOTIONS)} |"
    yield f"|---|--:|{'--:|' * len(EMOTIONS)}"
    words = {"opening": "how far the mouth is open", "lift": "how far its corners are raised"}
    for name in ("opening", "lift", "both"):
        one = found["shortcuts"][name]
        cells = [f"{one['found'][emotion]['mean']:.0%}" for emotion in EMOTIONS]
        yield f"| {words.get(name, name)} | {_percent(one['accuracy'])} | {' | '.join(cells)} |"
    cells = [f"{found['shortcuts']['open_mouths'][emotion]['mean']:.0%}" for emotion in EMOTIONS]
    yield f"| mouths that are open | | {' | '.join(cells)} |"
    yield ""
    if "model" in found:
        yield f"Of {found['model']['words']}, right answers with the mouth open, and closed:"
        yield ""
        yield "| | open | closed |"
        yield "|---|--:|--:|"
        for name, kinds in found["model"]["shortcut"].items():
            told = [_percent(k) if k else "fewer than ten people" for k in kinds.values()]
            yield f"| {name} | {' | '.join(told)} |"


def _percent(one: Mapping[str, float]) -> str:
    return f"{one['mean']:.1%} ({one['low']:.1%} to {one['high']:.1%})"
