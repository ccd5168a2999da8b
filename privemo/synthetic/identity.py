"""Who a person who does not exist is: age, gender presentation, skin, shape of the face, hair, brows.

Everything here belongs to the person and is the same in all their pictures.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from privemo.synthetic.head import load_head

__all__ = ["MONK_SRGB", "Traits", "age_band", "draw_traits", "skin_tone_group"]

MONK_SRGB: tuple[tuple[int, int, int], ...] = (
    (0xF6, 0xED, 0xE4),
    (0xF3, 0xE7, 0xDB),
    (0xF7, 0xEA, 0xD0),
    (0xEA, 0xDA, 0xBA),
    (0xD7, 0xBD, 0x96),
    (0xA0, 0x7E, 0x56),
    (0x82, 0x5C, 0x43),
    (0x60, 0x41, 0x34),
    (0x3A, 0x31, 0x2A),
    (0x29, 0x24, 0x20),
)
"""The ten orbs of the Monk Skin Tone Scale in sRGB (Ellis Monk and Google, skintone.google, 2022)."""

AGE_BANDS: tuple[tuple[str, float, float], ...] = (
    ("under_13", 0.5, 0.055),
    ("13_15", 13.0, 0.03),
    ("16_17", 16.0, 0.035),
    ("18_24", 18.0, 0.14),
    ("25_34", 25.0, 0.20),
    ("35_44", 35.0, 0.18),
    ("45_54", 45.0, 0.15),
    ("55_64", 55.0, 0.11),
    ("65_plus", 65.0, 0.10),
)
"""(band, first age in it, share of shoppers): 12% are minors. The values are those of
`privemo_consent.AgeBand`. Ages are evenly spread within a band."""

OLDEST = 90.0
GENDERS: tuple[tuple[str, float], ...] = (
    ("feminine", 0.46),
    ("masculine", 0.46),
    ("androgynous", 0.08),
)

SPREAD: Mapping[str, float] = {
    "head": 0.2,
    "eyes": 0.22,
    "nose": 0.2,
    "mouth": 0.24,
    "cheek": 0.28,
    "chin": 0.3,
    "forehead": 0.3,
    "eyebrows": 0.35,
    "ears": 0.3,
    "neck": 0.2,
}
"""Standard deviation of the weights of local shapes, by folder of the target."""

OPPOSITES = (
    ("decr", "incr"),
    ("down", "up"),
    ("in", "out"),
    ("backward", "forward"),
    ("concave", "convex"),
    ("compress", "uncompress"),
)
HAIR_SRGB: Mapping[str, tuple[int, int, int]] = {
    "black": (22, 18, 17),
    "dark brown": (48, 33, 25),
    "brown": (86, 58, 40),
    "light brown": (128, 94, 64),
    "blond": (190, 156, 104),
    "red": (140, 66, 36),
}


@dataclass(frozen=True)
class Traits:
    """What one person is like.

    `age` in years, `gender` one of feminine, masculine, androgynous, `skin_tone` 1..10 (Monk). `shape`
    maps targets of the head to weights. Colours are sRGB in 0..1. `style` names the hair style; `beard`,
    `makeup`, `gray` and `lines` (wrinkles) are 0..1; `glasses` says whether a frame is worn.
    """

    age: float
    gender: str
    skin_tone: int
    shape: Mapping[str, float]
    skin: tuple[float, float, float]
    hair: tuple[float, float, float]
    brow: tuple[float, float, float]
    iris: tuple[float, float, float]
    style: str
    brow_shape: tuple[float, float, float]
    beard: float
    makeup: float
    lines: float
    glasses: bool
    texture_seed: int


def age_band(age: float) -> str:
    """The `AgeBand` value of an exact age in years."""
    return next(name for name, first, _ in reversed(AGE_BANDS) if age >= first or first == 0.5)


def skin_tone_group(tone: int) -> str:
    """Three groups of the Monk scale for reports: light (1-3), medium (4-7), dark (8-10)."""
    return "monk_1_3" if tone <= 3 else "monk_4_7" if tone <= 7 else "monk_8_10"


def draw_age(u: float, ages: tuple[float, float] | None) -> float:
    """Age at quantile `u` of the shoppers' ages, restricted to the closed interval `ages`."""
    edges = np.array([first for _, first, _ in AGE_BANDS] + [OLDEST])
    share = np.array([0.0] + [s for _, _, s in AGE_BANDS]).cumsum()
    if ages is not None:
        low, high = np.interp(ages, edges, share)
        u = low + u * (high - low)
        return float(np.clip(np.interp(u, share, edges), *ages))
    return float(np.interp(u * share[-1], share, edges))


def draw_traits(rng: np.random.Generator, ages: tuple[float, float] | None = None) -> Traits:
    """A new person. `ages` restricts the age in years to a closed interval."""
    age = draw_age(rng.random(), ages)
    gender = str(rng.choice([g for g, _ in GENDERS], p=[share for _, share in GENDERS]))
    tone = int(rng.integers(1, 11))
    skin = np.array(MONK_SRGB[tone - 1]) / 255 * (1 + rng.normal(0, 0.025, 3))
    gray = bool(rng.random() < 1 / (1 + np.exp(-(age - 55) / 6.5)))
    hair, brow = _hair_colour(tone, age, gray, rng)
    iris = _iris_colour(tone, rng)
    grown = age >= 17
    male = gender == "masculine" or (gender == "androgynous" and rng.random() < 0.3)
    bearded = grown and male and rng.random() < 0.42
    makeup = grown and gender == "feminine" and rng.random() < 0.45
    return Traits(
        age=age,
        gender=gender,
        skin_tone=tone,
        shape=_macro(age, gender, tone, rng) | _local(rng),
        skin=_rgb(skin),
        hair=hair,
        brow=brow,
        iris=iris,
        style=_style(age, gender, rng),
        brow_shape=(
            float(rng.uniform(0.55, 1.0) * (0.75 if gender == "feminine" else 1.1)),
            float(rng.uniform(0.0, 1.0)),
            float(np.clip(rng.normal(0.8, 0.15) - (0.35 if age < 4 else 0.0), 0.2, 1.0)),
        ),
        beard=float(rng.uniform(0.25, 1.0)) if bearded else 0.0,
        makeup=float(rng.uniform(0.3, 1.0)) if makeup else 0.0,
        lines=float(np.clip((age - 32) / 45 + rng.normal(0, 0.1), 0, 1)),
        glasses=bool(rng.random() < (0.04 if age < 16 else 0.14 + 0.003 * age)),
        texture_seed=int(rng.integers(2**31)),
    )


def _rgb(colour: NDArray[np.floating]) -> tuple[float, float, float]:
    r, g, b = np.clip(colour, 0.0, 1.0)
    return float(r), float(g), float(b)


def _macro(age: float, gender: str, tone: int, rng: np.random.Generator) -> dict[str, float]:
    """Weights of the model's corner shapes (ancestry x gender x age), which sum to one.

    The corners mix freely; a darker tone only makes one of them more likely. The mix itself is not kept.
    """
    dark = (tone - 1) / 9
    mix = rng.dirichlet((0.3 + 2.2 * dark, 0.9, 0.3 + 2.0 * (1 - dark)))
    male = {"feminine": rng.uniform(0, 0.2), "masculine": rng.uniform(0.8, 1)}.get(
        gender, rng.uniform(0.35, 0.65)
    )
    knots = ("baby", "child", "young", "old")
    # The model's makers put these four shapes at about 1, 11, 25 and 90 years.
    at = float(np.interp(age, (1, 11, 25, 85), (0, 1, 2, 3)))
    weights = {
        f"macrodetails/{ancestry}-{sex}-{knot}": float(share * part * max(0.0, 1 - abs(at - k)))
        for ancestry, share in zip(("african", "asian", "caucasian"), mix, strict=True)
        for sex, part in (("female", 1 - male), ("male", male))
        for k, knot in enumerate(knots)
    }
    return {name: weight for name, weight in weights.items() if weight > 1e-4}


@cache
def _pairs() -> tuple[tuple[tuple[str, str], ...], NDArray[np.float64], NDArray[np.intp]]:
    """Local shapes as opposites (less, more), the spread of each, and which share a draw.

    The left and the right shape of a face share one: `shared` (pairs,) numbers the draws.
    """
    names = [n for n in load_head().targets if n.split("/")[0] in SPREAD]
    pairs, spread, keys = [], [], []
    for name in sorted(names):
        for less, more in OPPOSITES:
            other = name.removesuffix(f"-{less}") + f"-{more}"
            if not name.endswith(f"-{less}") or other not in names:
                continue
            sided = "/l-" in name or "/r-" in name
            lateral = not sided and name.endswith("trans-in")
            pairs.append((name, other))
            spread.append(0.06 if lateral else SPREAD[name.split("/")[0]])
            keys.append(name.replace("/l-", "/").replace("/r-", "/"))
    shared = np.unique(keys, return_inverse=True)[1]
    return tuple(pairs), np.array(spread), shared


@cache
def _head_shapes() -> list[str]:
    """Whole-head shapes that stand alone: oval, round, square ..."""
    return [n for n in load_head().targets if n.startswith("head/") and n.count("-") == 1]


def _local(rng: np.random.Generator) -> dict[str, float]:
    """Weights of local shapes: the two sides of a face nearly alike."""
    pairs, spread, shared = _pairs()
    common = rng.normal(size=shared.max() + 1)[shared]
    weights = np.clip(spread * common, -0.9, 0.9) + rng.normal(0.0, 0.04, len(pairs))
    chosen = {
        pair[int(weight > 0)]: abs(weight)
        for pair, weight in zip(pairs, weights.tolist(), strict=True)
        if abs(weight) > 0.04
    }
    shapes = _head_shapes()
    chosen[shapes[int(rng.integers(len(shapes)))]] = float(rng.uniform(0.0, 0.7))
    return chosen


def _hair_colour(
    tone: int, age: float, gray: bool, rng: np.random.Generator
) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Colours of hair and brows; brows gray later than hair."""
    fair = max(0.0, 1 - (tone - 1) / 4.5)
    odds = np.array([1.0, 1.0, 0.15 + 0.9 * fair, 0.8 * fair, 0.7 * fair, 0.2 * fair])
    name = str(rng.choice(list(HAIR_SRGB), p=odds / odds.sum()))
    colour = np.array(HAIR_SRGB[name]) / 255 * rng.uniform(0.8, 1.25)
    brow = 0.75 * colour
    if gray:
        silver = np.full(3, rng.uniform(0.45, 0.85))
        share = rng.uniform(0.5, 1.0)
        colour = (1 - share) * colour + share * silver
        brow += 0.6 * share * float(age > 60) * (0.8 * silver - brow)
    elif rng.random() < 0.04:
        colour = rng.uniform(0.1, 0.8, 3)  # dyed
    return _rgb(colour), _rgb(brow)


def _iris_colour(tone: int, rng: np.random.Generator) -> tuple[float, float, float]:
    light = rng.random() < 0.55 * max(0.0, 1 - (tone - 1) / 5)
    base = (0.42, 0.5, 0.55) if light else (0.2, 0.12, 0.08)
    return _rgb(np.array(base) * rng.uniform(0.7, 1.25))


STYLES: Mapping[str, tuple[tuple[str, float], ...]] = {
    "baby": (("fuzz", 0.6), ("short", 0.3), ("cap", 0.1)),
    "feminine": (
        ("long", 0.36),
        ("fringe", 0.2),
        ("tied", 0.18),
        ("bob", 0.12),
        ("short", 0.05),
        ("afro", 0.04),
        ("covered", 0.05),
    ),
    "masculine": (
        ("short", 0.42),
        ("buzz", 0.2),
        ("volume", 0.15),
        ("fuzz", 0.04),
        ("afro", 0.04),
        ("fringe", 0.04),
        ("long", 0.05),
        ("cap", 0.06),
    ),
    "androgynous": (("short", 0.4), ("bob", 0.2), ("volume", 0.2), ("fringe", 0.2)),
}


def _style(age: float, gender: str, rng: np.random.Generator) -> str:
    """A hair style; men above forty lose theirs at times."""
    if gender == "masculine" and rng.random() < np.clip((age - 25) / 90, 0, 0.5):
        return "receding"
    options = STYLES["baby" if age < 2.5 else gender]
    odds = np.array([share for _, share in options])
    return str(rng.choice([name for name, _ in options], p=odds / odds.sum()))
