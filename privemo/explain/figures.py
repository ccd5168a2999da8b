"""Figures of where a model looks, as PNG: no faces but those of people who do not exist."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from privemo.explain.parts import PARTS
from privemo.labels import EMOTIONS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["MAPS_ALT", "SHARES_ALT", "figure", "maps", "save", "shares"]

INK, MUTED, LINE, ACCENT, OTHER = "#1f2933", "#52606d", "#cbd2d9", "#0b5c8a", "#b35c00"

SHARES_ALT = (
    "Share of the model's attention on eyes, mouth, cheeks and elsewhere, by emotion, with 95% intervals; "
    "beside each part's share of the picture and an untrained model's share of attention."
)
MAPS_ALT = (
    "Mean face of each emotion, of people who do not exist, and over it where the model and an untrained one "
    "look."
)

_STYLE: dict[Any, Any] = {
    "font.size": 9,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": LINE,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": MUTED,
    "ytick.color": INK,
}


def figure(rows: int, columns: int, size: tuple[float, float], **how: Any) -> tuple[Figure, Any]:
    """An empty figure and its axes (rows, columns); no window system is touched."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(_STYLE):
        made = Figure(figsize=size, layout="constrained")
        return made, made.subplots(rows, columns, squeeze=False, **how)


def save(made: Figure, path: Path, alt: str) -> None:
    """Write a figure as PNG, with its description inside; the same bytes for the same figure."""
    import matplotlib as mpl

    with mpl.rc_context(_STYLE):
        made.savefig(path, dpi=120, metadata={"Software": None, "Description": alt})


def shares(found: Mapping[str, Any], path: Path) -> None:
    """Draw the share of attention on each part, by emotion, from the content of `explain.json`."""
    made, axes = figure(1, len(PARTS), (9.0, 2.7), sharey=True)
    rows = {"all": found["overall"], **found["by_emotion"]}
    for plot, part in zip(axes[0], PARTS, strict=True):
        for y, each in enumerate(rows.values()):
            _interval(plot, y, each["share"][part], ACCENT)
        area = plot.axvline(100 * found["area"][part], color=INK, linewidth=1)
        fresh = plot.axvline(
            100 * found["untrained"]["share"][part]["mean"],
            color=OTHER,
            linewidth=1,
            linestyle=(0, (4, 3)),
        )
        plot.set_title(part, fontsize=10, color=INK)
        plot.set_xlabel("attention, %")
        plot.set_xlim(left=0)
        plot.grid(axis="x", color=LINE, linewidth=0.6)
    axes[0, 0].set_yticks(range(len(rows)), list(rows))
    axes[0, 0].invert_yaxis()
    made.legend(
        [area, fresh],
        ["share of the picture", "untrained model"],
        loc="outside upper right",
        ncols=2,
        frameon=False,
        fontsize=8,
    )
    save(made, path, SHARES_ALT)


def _interval(plot: Axes, y: float, one: Mapping[str, float], colour: str) -> None:
    plot.plot([100 * one["low"], 100 * one["high"]], [y, y], color=colour, linewidth=2)
    plot.plot([100 * one["mean"]], [y], "o", color=colour, markersize=5)


def maps(
    people: Any, signed: NDArray[np.float32], untrained: NDArray[np.float32], path: Path
) -> None:
    """Draw each emotion's mean face, and over it how many times its even share of attention a pixel gets.

    Args:
        people: `SyntheticPeople` of n pictures.
        signed: (n, s, s) attributions of the model.
        untrained: likewise, of the untrained one.
        path: of the PNG.
    """
    grays = people.images if people.images.ndim == 3 else people.images.mean(axis=-1)
    faces = [grays[people.label == k].mean(axis=0) for k in range(len(EMOTIONS))]
    rows = [_even(signed, people.label), _even(untrained, people.label)]
    top = float(np.quantile(rows, 0.998))  # a single bright pixel would darken all others
    made, axes = figure(3, len(EMOTIONS), (7.2, 5.4))
    for column, name in enumerate(EMOTIONS):
        axes[0, column].set_title(name, fontsize=10, color=INK)
        for plot in axes[:, column]:
            plot.imshow(faces[column], cmap="gray", vmin=0, vmax=255)
            plot.set(xticks=[], yticks=[])
        for row, each in enumerate(rows):
            shown = axes[row + 1, column].imshow(
                each[column],
                cmap="inferno",
                vmin=0,
                vmax=top,
                alpha=np.clip(0.15 + each[column] / top, 0, 0.9),  # the face shows where little is
            )
    for plot, words in zip(axes[:, 0], ("mean face", "the model", "untrained"), strict=True):
        plot.set_ylabel(words)
    made.colorbar(shown, ax=axes[1:, :], shrink=0.8, label="times an even share")
    save(made, path, MAPS_ALT)


def _even(signed: NDArray[np.float32], label: NDArray[np.int8]) -> Sequence[NDArray[np.float64]]:
    mass = np.abs(signed).astype(np.float64)
    whole = mass.sum((1, 2), keepdims=True)
    mass = np.divide(mass, whole, out=np.zeros_like(mass), where=whole > 0)
    return [mass[label == k].mean(axis=0) * mass[0].size for k in range(len(EMOTIONS))]
