"""What a mouth does in a picture, measured on the geometry that was rendered: no detector, no guess."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np

from privemo.synthetic.body import Body
from privemo.synthetic.expression import Expression
from privemo.synthetic.head import Index, load_head

__all__ = ["Mouth", "measure_mouth"]


class Mouth(NamedTuple):
    """Lengths in sizes of the base face (decimetres for an adult), whatever the size of the person.

    `opening`: height of the gap between the lips, in the middle; 0 when they touch. `lift`: how far the
    corners are raised above where they rest; negative when they are drawn down.
    """

    opening: float
    lift: float


@cache
def _landmarks() -> tuple[Index, Index, Index]:
    """Vertices of the upper and the lower lip in the middle, and of both corners.

    The lower lip is what goes down with the jaw. The corners are the outermost lip, a tenth of its width.
    """
    head = load_head()
    lips = np.flatnonzero(head.lips > 0.5)
    across = np.abs(head.verts[lips, 0])
    middle = lips[across < 0.05]
    drop = -head.targets["faceunits/jawOpen"][middle, 1]
    return middle[drop < 0.1], middle[drop > 0.2], lips[across > 0.9 * across.max()]


def measure_mouth(body: Body, expression: Expression) -> Mouth:
    """The mouth of a body that shows an expression, before the head is turned."""
    head = load_head()
    upper, lower, corners = _landmarks()
    ids = np.concatenate([upper, lower, corners])
    moved = np.zeros((len(ids), 3), dtype=np.float32)
    for name, weight in expression.units.items():
        moved += np.float32(weight) * head.targets[name][ids]
    height = body.verts[ids, 1] / np.float32(body.unit) + moved[:, 1]
    first, second = len(upper), len(upper) + len(lower)
    gap = float(height[:first].min() - height[first:second].max())
    return Mouth(opening=max(0.0, gap), lift=float(moved[second:, 1].mean()))
