"""The four emotions as combinations of ARKit-style face units, with varying strength and asymmetry.

Which units make which emotion follows the action units that the Facial Action Coding System (Ekman and
Friesen, 1978) names for it: happiness 6 + 12, sadness 1 + 4 + 15 (+ 17), surprise 1 + 2 + 5 + 26.
Each emotion has several variants (a closed smile, a laugh, a gasp ...), so that no single feature gives
it away.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from privemo.labels import EMOTIONS

__all__ = ["Expression", "draw_expression"]

Recipe = dict[str, tuple[float, float]]
"""Unit -> (weight at full strength, spread of the weight)."""

BOTH = frozenset(
    [
        "browDown",
        "browOuterUp",
        "cheekSquint",
        "eyeBlink",
        "eyeSquint",
        "eyeWide",
        "mouthDimple",
        "mouthFrown",
        "mouthLowerDown",
        "mouthPress",
        "mouthSmile",
        "mouthStretch",
        "mouthUpperUp",
        "noseSneer",
    ]
)
"""Units that come as a left and a right one."""

_SMILE: Recipe = {
    "mouthSmile": (1.25, 0.12),
    "cheekSquint": (1.0, 0.3),
    "eyeSquint": (0.6, 0.3),
    "mouthDimple": (0.2, 0.2),
}
_SAD: Recipe = {
    "browInnerUp": (1.8, 0.4),
    "mouthFrown": (1.3, 0.2),
    "mouthShrugLower": (0.7, 0.3),
    "browDown": (0.3, 0.3),
    "eyeBlink": (0.25, 0.12),
    "eyeSquint": (0.25, 0.2),
}
_SURPRISE: Recipe = {
    "browInnerUp": (1.8, 0.3),
    "browOuterUp": (1.8, 0.3),
    "eyeWide": (1.5, 0.25),
}

RECIPES: Mapping[str, tuple[tuple[float, Recipe], ...]] = {
    "happy": (
        (0.22, _SMILE | {"mouthPress": (0.2, 0.2)}),
        (0.38, _SMILE | {"mouthUpperUp": (1.0, 0.3), "mouthLowerDown": (0.5, 0.3)}),
        (
            0.40,
            _SMILE
            | {
                "jawOpen": (0.42, 0.15),
                "mouthUpperUp": (0.9, 0.3),
                "mouthLowerDown": (0.5, 0.3),
                "mouthStretch": (0.2, 0.15),
            },
        ),
    ),
    "sad": (
        (0.55, _SAD),
        (0.25, _SAD | {"mouthShrugUpper": (0.4, 0.25), "mouthPucker": (0.3, 0.2)}),
        (
            0.20,
            _SAD
            | {
                "jawOpen": (0.22, 0.1),
                "mouthStretch": (0.8, 0.3),
                "mouthLowerDown": (0.5, 0.3),
                "eyeBlink": (0.5, 0.25),
                "noseSneer": (0.4, 0.25),
            },
        ),
    ),
    "neutral": ((1.0, {}),),
    "surprise": (
        (0.55, _SURPRISE | {"jawOpen": (1.2, 0.3), "mouthFunnel": (0.3, 0.25)}),
        (0.30, _SURPRISE | {"jawOpen": (0.8, 0.25), "mouthFunnel": (0.8, 0.3)}),
        (0.15, _SURPRISE | {"jawOpen": (0.45, 0.15), "mouthUpperUp": (0.2, 0.15)}),
    ),
}
NOISE: Mapping[str, float] = {
    "browDown": 0.16,
    "browInnerUp": 0.12,
    "browOuterUp": 0.1,
    "eyeBlink": 0.14,
    "eyeSquint": 0.16,
    "eyeWide": 0.08,
    "jawOpen": 0.03,
    "mouthDimple": 0.1,
    "mouthFrown": 0.1,
    "mouthPress": 0.2,
    "mouthPucker": 0.12,
    "mouthSmile": 0.09,
    "mouthShrugLower": 0.12,
    "mouthUpperUp": 0.06,
    "noseSneer": 0.08,
}
"""Standard deviation of the small weights every face shows at rest; only their positive half counts."""

LIMIT = 2.2
"""No unit moves further than this: beyond it lips and lids pass through each other."""


@dataclass(frozen=True)
class Expression:
    """One face's expression: target weights, where the eyes look, and how strong it is.

    `units` maps targets of the head to weights. `gaze` is (right, up) in radians, as the head sees it.
    `intensity` in 0..1 (0.45 to 1 for the three emotions that show, below for neutral). `creases` are the
    depths of (forehead lines, frown lines, smile lines, crow's feet) in 0..1.
    """

    units: Mapping[str, float]
    gaze: tuple[float, float]
    intensity: float
    creases: tuple[float, float, float, float]


def draw_expression(label: int, rng: np.random.Generator) -> Expression:
    """An expression of emotion `label` (index into `EMOTIONS`)."""
    emotion = EMOTIONS[label]
    # Most expressions that a camera catches in a shop are not at their peak.
    strength = float(rng.uniform(0.45, 1.0)) if emotion != "neutral" else 0.0
    variants = RECIPES[emotion]
    chosen = rng.choice(len(variants), p=[share for share, _ in variants])
    weights = {unit: max(0.0, rng.normal(0.0, sd)) for unit, sd in NOISE.items()}
    for unit, (mean, spread) in variants[int(chosen)][1].items():
        calm = 0.5 if unit in weights else 0.0
        weights[unit] = calm * weights.get(unit, 0.0) + strength * max(
            0.0, mean + spread * rng.normal()
        )
    gaze = _gaze(emotion, rng)
    sided = _sides(weights, rng) | _lids(gaze)
    return Expression(
        units={f"faceunits/{unit}": weight for unit, weight in sided.items() if weight > 0.01},
        gaze=gaze,
        intensity=strength or float(min(0.3, 2 * weights["mouthSmile"] + 0.05)),
        creases=(
            min(1.0, 0.3 * weights["browInnerUp"] + 0.3 * weights["browOuterUp"]),
            min(1.0, weights["browDown"] + (0.5 * strength if emotion == "sad" else 0.0)),
            min(1.0, weights["mouthSmile"] + 0.3 * weights["mouthFrown"]),
            min(1.0, weights.get("cheekSquint", 0.0)),
        ),
    )


def _gaze(emotion: str, rng: np.random.Generator) -> tuple[float, float]:
    """Where the eyes look: mostly at the camera; sadness looks down."""
    aside = rng.normal(0.0, 0.10) if rng.random() < 0.8 else rng.normal(0.0, 0.35)
    up = rng.normal(0.0, 0.06)
    if emotion == "sad":
        up -= rng.uniform(0.0, 0.4)
    return float(np.clip(aside, -0.5, 0.5)), float(np.clip(up, -0.45, 0.3))


def _sides(weights: Mapping[str, float], rng: np.random.Generator) -> dict[str, float]:
    """Left and right halves, each a little different: no real face is even."""
    lean = rng.normal(0.0, 0.07)
    out: dict[str, float] = {}
    for unit, weight in weights.items():
        if unit not in BOTH:
            out[unit] = min(weight, LIMIT)
            continue
        tilt = float(np.clip(lean + rng.normal(0.0, 0.07), -0.35, 0.35))
        out[f"{unit}Left"] = min(weight * (1 + tilt), LIMIT)
        out[f"{unit}Right"] = min(weight * (1 - tilt), LIMIT)
    return out


def _lids(gaze: tuple[float, float]) -> dict[str, float]:
    """The lids follow the eyes up and down."""
    unit, amount = ("eyeLookUp", gaze[1] / 0.35) if gaze[1] > 0 else ("eyeLookDown", -gaze[1] / 0.5)
    return {f"{unit}{side}": min(amount, 1.0) for side in ("Left", "Right")}
