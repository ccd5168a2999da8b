"""What figures are drawn on: SVG images in data URIs, so that no request leaves a page and no script can run.

An image, not inline SVG: the pages' content security policy forbids the style attributes that
matplotlib writes, and names of groups come from data that nobody vouched for. The numbers stand in
the image's alternative text and in a table beside it, so the figure's own text is for the eye.
"""

from __future__ import annotations

import base64
import io
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from textwrap import fill
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, MUTED, LINE, ACCENT, ALARM = "#1f2933", "#52606d", "#cbd2d9", "#0b5c8a", "#a61b1b"
WIDTH = 4.0  # inches: legible at phone width, where an image can only shrink
MOST_NAME = 20
DASHED: Any = (0, (4, 3))

_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "privemo",
    "text.parse_math": False,  # a `$` in a group's name is a dollar
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": LINE,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": MUTED,
    "ytick.color": INK,
    "axes.axisbelow": True,
}


class Drawn(NamedTuple):
    """A figure: its data URI, and the same for those who do not see it."""

    src: str
    alt: str


@contextmanager
def canvas(height: float) -> Iterator[tuple[Figure, list[str]]]:
    """Yield a figure to draw on and a list that holds the data URI afterwards; `height` is in inches."""
    import matplotlib as mpl
    from matplotlib.figure import Figure as MplFigure

    done: list[str] = []
    with mpl.rc_context(_STYLE):
        # No pyplot: it keeps figures alive and picks a backend that may want a screen.
        figure = MplFigure(figsize=(WIDTH, height), layout="constrained")
        yield figure, done
        done.append(_data_uri(figure))


def _data_uri(figure: Figure) -> str:
    stream = io.StringIO()
    with warnings.catch_warnings():
        # A name in a script that the measuring font lacks: the reader's own font will draw it.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure.savefig(
            stream, format="svg", transparent=True, metadata={"Date": None, "Creator": None}
        )
    svg = stream.getvalue().replace("'DejaVu Sans'", "system-ui, 'Segoe UI', Helvetica, Arial")
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode("ascii")


def rows(axes: Axes, names: Sequence[str]) -> None:
    """Label rows from the top down, without tick marks."""
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(names) - 0.4, -0.6)


def short(name: str, most: int = MOST_NAME) -> str:
    """A name that fits beside a figure."""
    return name if len(name) <= most else name[: most - 1] + "…"


def wrapped(words: str) -> str:
    """Words on lines that fit beside a figure."""
    return fill(words, 24)
