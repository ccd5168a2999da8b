"""How far each part of a face moves, as numbers: what is known exactly of somebody who was drawn."""

from __future__ import annotations

from functools import cache

import numpy as np

from privemo.synthetic.expression import BOTH, Expression
from privemo.synthetic.head import F32, load_head

__all__ = ["movements", "unit_names"]

_PREFIX = "faceunits/"
_EYES = ("gazeAside", "gazeUp")
_CREASES = ("foreheadLines", "frownLines", "smileLines", "crowsFeet")


@cache
def unit_names() -> tuple[str, ...]:
    """Names of what `movements` says, in its order: ARKit-style face units, gaze and creases.

    A unit that comes as a left and a right one has one name.
    """
    units = {name.removeprefix(_PREFIX) for name in load_head().targets if name.startswith(_PREFIX)}
    whole = {name for name in units if _side(name) is None}
    return (*sorted(whole | {side for name in units if (side := _side(name))}), *_EYES, *_CREASES)


def movements(expression: Expression) -> F32:
    """Weights (k,) of an expression, in the order of `unit_names`.

    Left and right halves are averaged, and the gaze to the side has no direction, so that a face and its
    mirror image say the same. Gaze is in radians, the depth of creases in 0..1.
    """
    units = {name.removeprefix(_PREFIX): weight for name, weight in expression.units.items()}
    said = dict(zip(_CREASES, expression.creases, strict=True))
    said |= {_EYES[0]: abs(expression.gaze[0]), _EYES[1]: expression.gaze[1]}
    for name, weight in units.items():
        side = _side(name)
        if side is None:
            said[name] = weight
        else:
            said[side] = said.get(side, 0.0) + weight / 2
    return np.array([said.get(name, 0.0) for name in unit_names()], dtype=np.float32)


def _side(name: str) -> str | None:
    """The unit that this is a half of; None for a whole one."""
    for side in ("Left", "Right"):
        if name.endswith(side) and (name.removesuffix(side) in BOTH or name.startswith("eyeLook")):
            return name.removesuffix(side)
    return None
