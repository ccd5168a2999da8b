"""What was found, in words and as a table."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from typing import Any

from privemo.explain.figures import MAPS_ALT, SHARES_ALT
from privemo.explain.parts import PARTS

__all__ = ["drawn", "in_words", "table", "verdict"]

_METHODS = {"integrated_gradients": "integrated gradients", "grad_cam": "Grad-CAM"}

_COLUMNS = (
    "Part",
    "share of the picture",
    "share of attention",
    "untrained model's",
    "points lost when covered",
    "as much elsewhere",
    "right with the part alone",
)


def verdict(found: Mapping[str, Any]) -> str:
    """Mouth only, or eyes too: by what covering them loses.

    A part counts as used when covering it loses more than covering as much elsewhere, or when it does once
    the other is covered: the whole interval of one of them is above 0.
    """
    used = {
        part: found["covered"][part]["lost_more_than_elsewhere"]["low"] > 0
        or found["lost_on_top"][part]["low"] > 0
        for part in ("eyes", "mouth")
    }
    if all(used.values()):
        answer = "Eyes too."
    elif any(used.values()):
        answer = "The mouth only." if used["mouth"] else "The eyes only."
    else:
        answer = "Neither is shown to be needed."
    covered, on_top = found["covered"], found["lost_on_top"]
    return (
        f"{answer} With nothing but the mouth to see, {_percent(covered['mouth']['alone'])} are named "
        f"rightly, with nothing but the eyes {_percent(covered['eyes']['alone'])}, "
        f"with both {_percent(covered['eyes and mouth']['alone'])}. "
        f"Covering the eyes costs {_points(covered['eyes']['lost'])} points while the mouth is seen, "
        f"and {_points(on_top['eyes'])} once it is covered; "
        f"covering the mouth costs {_points(covered['mouth']['lost'])} and {_points(on_top['mouth'])}."
    )


def in_words(found: Mapping[str, Any]) -> str:
    """The answer as Markdown."""
    return "\n".join(_lines(found)) + "\n"


def _lines(found: Mapping[str, Any]) -> Iterator[str]:
    yield f"# Where {found['model']} looks"
    yield ""
    yield from drawn(found)
    yield "What is true of drawn people need not be true of people."
    yield ""
    yield f"**Mouth only, or eyes too?** {verdict(found)}"
    yield ""
    yield f"It names {_percent(found['accuracy'])} of all expressions rightly."
    yield ""
    yield "| " + " | ".join(_COLUMNS) + " |"
    yield "|---|--:|--:|--:|--:|--:|--:|"
    yield from _rows(found)
    yield ""
    yield f"Attention is absolute attribution, by {_METHODS[found['method']]}."
    yield from _completeness(found["completeness"])
    yield "Eyes include brows and rims of glasses; `explain.json` has all ten regions, groups and emotions."
    yield ""
    yield f"![{SHARES_ALT}](shares.png)"
    yield ""
    yield f"![{MAPS_ALT}](maps.png)"


def drawn(found: Mapping[str, Any]) -> Iterator[str]:
    """Whom the numbers are of."""
    yield f"Measured on {found['pictures']:,} pictures of {found['people']:,} adults who do not exist"
    yield f"(seed {found['seed']}), so nobody had to be asked. Intervals are of 95%, over people."


def _rows(found: Mapping[str, Any]) -> Iterator[str]:
    for part in (*PARTS, "eyes and mouth"):
        cells = [part]
        if part in PARTS:
            cells.append(f"{found['area'][part]:.1%}")
            cells += [_percent(found[who]["share"][part]) for who in ("overall", "untrained")]
        else:
            both = ("eyes", "mouth")
            cells.append(f"{sum(found['area'][p] for p in both):.1%}")
            cells += ["", ""]
        covered = found["covered"].get(part)
        if covered:
            cells += [_points(covered["lost"]), _points(covered["lost_elsewhere"])]
            cells.append(_percent(covered["alone"]))
        else:
            cells += ["", "", ""]
        yield "| " + " | ".join(cells) + " |"


def _completeness(found: Mapping[str, float] | None) -> Iterator[str]:
    if found is not None:
        yield (
            f"Attributions add up to the margin but for {found['median_unexplained']:.2f} (median; largest "
            f"{found['largest_unexplained']:.2f}) of {found['mean_margin']:.2f} on average."
        )


def _percent(one: Mapping[str, float]) -> str:
    return f"{one['mean']:.1%} ({one['low']:.1%} to {one['high']:.1%})"


def _points(one: Mapping[str, float]) -> str:
    return f"{100 * one['mean']:.1f} ({100 * one['low']:.1f} to {100 * one['high']:.1f})"


def table(found: Mapping[str, Any]) -> str:
    """All shares as CSV: whose, which part, people, mean and interval."""
    out = io.StringIO()
    write = csv.writer(out, lineterminator="\n").writerow
    write(["model", "feature", "group", "part", "n", "mean", "low", "high"])
    sets = [
        ("trained", "all", "all", found["overall"]),
        ("untrained", "all", "all", found["untrained"]),
        *(("trained", "emotion", name, one) for name, one in found["by_emotion"].items()),
        *(
            ("trained", feature, group, one)
            for feature, groups in found["by_group"].items()
            for group, one in groups.items()
        ),
    ]
    for model, feature, group, one in sets:
        for part, share in one["share"].items():
            numbers = (share["mean"], share["low"], share["high"])
            write([model, feature, group, part, one["n"], *(f"{v:.5f}" for v in numbers)])
    for name, share in found["ten_regions"]["share"].items():
        numbers = (share["mean"], share["low"], share["high"])
        write(["trained", "region", "all", name, found["people"], *(f"{v:.5f}" for v in numbers)])
    return out.getvalue()
