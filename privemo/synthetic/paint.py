"""The skin of a person as a picture wrapped around the head: tone, brows, beard, hair, creases.

The picture's columns are azimuths around the base head's axis, its rows are heights. Because a vertex
keeps its place in the picture whatever shape it is pulled into, what is painted moves with the face.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from privemo.synthetic.head import F32, load_head
from privemo.synthetic.identity import Traits

__all__ = ["CREASES", "Surface", "cover", "linear", "paint", "surface"]

ROWS, COLUMNS = 128, 184
HALF_TURN = 2.2
"""The picture ends this far (radians) from the front on both sides: what lies behind is not seen."""

BOTTOM, TOP = 5.70, 8.52
AXIS_Z = 0.45
FACE = (slice(12, 106), slice(32, 152))
"""The front of the picture: heights 5.97 to 8.03, azimuths within 1.44 of the front."""

SKIN_TINT = np.array([[1.14, 0.94, 0.82], [1.05, 0.97, 0.92]], np.float32)
"""Warms the palest and the darkest swatch: in a picture, a face of the flat colour looks gray."""

BLUSH = np.array([0.02, -0.14, -0.12], np.float32)[:, None, None]
BEARDS = ("stubble", "moustache", "full", "goatee")
BEARD_ODDS = (0.4, 0.15, 0.25, 0.2)
CREASES = 4
"""Forehead lines, frown lines, smile lines, crow's feet: the order of `Expression.creases`."""


@dataclass(frozen=True, eq=False)
class Surface:
    """Where vertices lie in the picture, and the picture's own coordinates.

    `uv` (v, 2) float32 column and row of each vertex. `out` (rows, columns) azimuth from the front, 0 to
    HALF_TURN, the same on both sides; `height` (rows, columns) in decimetres; `ears`, `lash` (v,)
    float32 in 0..1; `creases` (rows, columns, CREASES) float32 in 0..1.
    """

    uv: F32
    out: F32
    height: F32
    ears: F32
    lash: F32
    creases: F32


def linear(srgb: NDArray[np.floating] | tuple[float, ...]) -> F32:
    """Linear light of sRGB values in 0..1 (IEC 61966-2-1)."""
    c = np.asarray(srgb, dtype=np.float32)
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4).astype(np.float32)


def _soft(x: NDArray[np.floating], width: float) -> F32:
    """0 below -width/2, 1 above +width/2, straight between."""
    return np.asarray(np.clip(x / width + 0.5, 0.0, 1.0), dtype=np.float32)


@cache
def surface() -> Surface:
    """The layout of the picture; the same for everyone."""
    head = load_head()
    x, y, z = head.verts.T
    azimuth = np.arctan2(x, z - AXIS_Z)
    uv = np.stack(
        [
            (azimuth / (2 * HALF_TURN) + 0.5) * (COLUMNS - 1),
            (y - BOTTOM) / (TOP - BOTTOM) * (ROWS - 1),
        ],
        axis=1,
    ).astype(np.float32)
    column = (np.arange(COLUMNS) / (COLUMNS - 1) - 0.5) * 2 * HALF_TURN
    row = BOTTOM + np.arange(ROWS) / (ROWS - 1) * (TOP - BOTTOM)
    angle, height = np.meshgrid(column, row)
    ears = np.zeros(len(head.verts), dtype=np.float32)
    for name in ("ears/l-ear-scale-incr", "ears/r-ear-scale-incr"):
        ears += np.clip(np.linalg.norm(head.targets[name], axis=1) / 0.04, 0, 1)
    return Surface(
        uv=uv,
        out=np.abs(angle).astype(np.float32),
        height=height.astype(np.float32),
        ears=ears,
        lash=_lashes(),
        creases=_creases(np.abs(angle).astype(np.float32), height.astype(np.float32)),
    )


def _lashes() -> F32:
    """Vertices on the rims of the lids: skin that almost touches an eyeball's front."""
    head = load_head()
    lash = np.zeros(len(head.verts), dtype=np.float32)
    skin = np.unique(head.faces[head.part == 0])
    for ids in head.eye_verts:
        eye = head.verts[ids]
        centre = eye.mean(axis=0)
        near = skin[np.linalg.norm(head.verts[skin] - centre, axis=1) < 0.19]
        gap = np.linalg.norm(head.verts[near] - centre, axis=1) - 0.138
        rim = np.clip(1 - gap / 0.022, 0, 1) * (head.verts[near, 2] > centre[2] + 0.04)
        lash[near] = np.maximum(
            lash[near], rim * np.where(head.verts[near, 1] > centre[1], 1.0, 0.45)
        )
    return lash


def _near(out: F32, height: F32, points: tuple[tuple[float, float], ...], width: float) -> F32:
    """1 on a line through `points` (azimuth, height), fading to 0 at `width` from it."""
    best = np.full(out.shape, np.inf)
    for (a0, h0), (a1, h1) in pairwise(points):
        run, rise = a1 - a0, h1 - h0
        t = np.clip(
            ((out - a0) * run + (height - h0) * rise) / max(run * run + rise * rise, 1e-9), 0, 1
        )
        best = np.minimum(best, np.hypot(out - a0 - t * run, height - h0 - t * rise))
    return np.clip(1 - best / width, 0, 1).astype(np.float32)


def _creases(out: F32, height: F32) -> F32:
    """Where expressions and age fold the skin, in the order of `Expression.creases`."""
    forehead = np.zeros(out.shape, dtype=np.float32)
    for level in (7.60, 7.69, 7.78):
        arch = ((0.0, level - 0.015), (0.25, level + 0.01), (0.55, level - 0.02))
        forehead = np.maximum(forehead, _near(out, height, arch, 0.03))
    frown = _near(out, height, ((0.055, 7.36), (0.075, 7.52)), 0.035)
    smile = _near(out, height, ((0.165, 6.95), (0.26, 6.83), (0.345, 6.68), (0.36, 6.55)), 0.045)
    feet = np.maximum(
        _near(out, height, ((0.56, 7.29), (0.70, 7.36)), 0.03),
        _near(out, height, ((0.56, 7.26), (0.70, 7.24)), 0.03),
    )
    return np.stack([forehead, frown, smile, feet], axis=-1)


# Hairlines: height of the line at azimuths from the front to the back of the head.
LINE_AT = (0.0, 0.45, 0.8, 1.0, 1.16, 1.3, 1.42, 1.9, 2.1, np.pi)
LINES: Mapping[str, tuple[float, ...]] = {
    "usual": (7.93, 7.92, 7.83, 7.60, 7.22, 7.12, 7.42, 7.38, 6.75, 6.6),
    "receding": (8.25, 8.20, 8.10, 7.75, 7.25, 7.12, 7.42, 7.38, 6.75, 6.6),
    "bald": (8.6, 8.6, 8.5, 8.3, 7.5, 7.3, 7.52, 7.5, 6.9, 6.7),
    "fringe": (7.56, 7.55, 7.50, 7.40, 6.95, 6.9, 7.2, 7.2, 6.7, 6.5),
    "covered": (7.86, 7.84, 7.74, 7.50, 7.00, 6.7, 6.6, 6.5, 6.3, 6.2),
    "cap": (7.78, 7.76, 7.72, 7.66, 7.60, 7.56, 7.52, 7.45, 7.4, 7.3),
}
STYLE_LINE: Mapping[str, str] = {"fringe": "fringe", "covered": "covered", "cap": "cap"}


def cover(style: str, texture_seed: int, out: F32, height: F32, width: float = 0.05) -> F32:
    """How much of each place is hair (or cloth worn on the head), 0..1."""
    rng = np.random.default_rng(texture_seed)
    shift = rng.normal(0.0, 0.05)
    key = STYLE_LINE.get(style, "usual")
    if style == "receding":
        key = ("receding", "bald")[int(rng.random() < 0.45)]
    line = np.interp(out.ravel() if out.ndim == 1 else out[0], LINE_AT, LINES[key]) + shift * (
        (out if out.ndim == 1 else out[0]) < 1.1
    )
    return _soft(height - line.astype(np.float32), width)


def paint(traits: Traits) -> F32:
    """The picture of one person's skin and hair: (3, rows, columns) float32, linear albedo."""
    place = surface()
    rng = np.random.default_rng(traits.texture_seed)
    skin = _column(traits.skin) * _tint(traits.skin_tone)
    picture = np.empty((3, ROWS, COLUMNS), dtype=np.float32)
    picture[:] = skin
    _paint_face(picture[:, *FACE], skin, traits, rng)
    # Nor is skin even: large soft patches, stronger with age.
    patches = rng.normal(0, 1, (16, 33)).astype(np.float32)
    picture *= 1 + np.float32(0.03 + 0.03 * traits.lines) * _stretch(patches)
    scalp = cover(traits.style, traits.texture_seed, place.out, place.height)
    strands = rng.normal(1.0, 0.35, (1, COLUMNS)).astype(np.float32)
    shades = np.clip(strands + 0.15 * _stretch(rng.normal(0, 1, (16, 33))), 0.4, 2.0)
    thin = 0.55 if traits.style == "fuzz" else 0.85 if traits.style == "buzz" else 1.0
    _blend(picture, shades.astype(np.float32) * _column(traits.hair), np.float32(thin) * scalp)
    return picture


def _tint(tone: int) -> F32:
    share = np.float32((tone - 1) / 9)
    tint = (1 - share) * SKIN_TINT[0] + share * SKIN_TINT[1]
    return np.asarray(tint[:, None, None], dtype=np.float32)


def _column(srgb: tuple[float, float, float]) -> F32:
    """Linear light of a colour, (3, 1, 1)."""
    return np.asarray(linear(srgb)[:, None, None], dtype=np.float32)


def _paint_face(picture: F32, skin: F32, traits: Traits, rng: np.random.Generator) -> None:
    """Blood, sockets, wrinkles, make-up, beard and brows, on the front of the picture, in place."""
    masks = _masks()
    place = surface()
    depth = np.array([0.30, 0.2, 0.35, 0.25], np.float32) * np.float32(traits.lines)
    shade = (1 - place.creases[FACE] @ depth) * (1 - (0.09 + 0.12 * traits.lines) * masks["socket"])
    picture *= (1 + masks["blood"] * BLUSH * np.float32(0.6 + 0.8 * rng.random())) * shade
    if traits.makeup:
        _blend(picture, 0.3 * skin, 0.65 * traits.makeup * masks["lid"])
    if traits.beard:
        _blend(
            picture,
            _column(traits.brow),
            masks[str(rng.choice(BEARDS, p=BEARD_ODDS))] * traits.beard,
        )
    _blend(picture, _column(traits.brow), _brows(traits, place.out[FACE], place.height[FACE]))


def _blend(picture: F32, colour: F32, amount: NDArray[np.floating]) -> None:
    picture += np.clip(amount, 0, 1).astype(np.float32) * (colour - picture)


@cache
def _weights(points: int, places: int) -> F32:
    """Linear interpolation from `points` knots to `places` places as a matrix (places, points)."""
    at = np.linspace(0, points - 1, places)[:, None]
    weights = np.clip(1 - np.abs(at - np.arange(points)), 0, 1)
    return np.asarray(weights, dtype=np.float32)


def _stretch(coarse: NDArray[np.floating]) -> F32:
    """A coarse grid stretched over the picture, straight between its points."""
    high, wide = coarse.shape
    rows = _weights(high, ROWS) @ coarse.astype(np.float32)
    return np.asarray(rows @ _weights(wide, COLUMNS).T, dtype=np.float32)


def _brows(traits: Traits, out: F32, height: F32) -> F32:
    """Brows: from above the inner corner of the eye to beyond the outer one, thinner at the tail."""
    thick, arch, strength = traits.brow_shape
    along = np.clip((out - 0.10) / 0.50, 0, 1)
    middle = 7.435 + (0.05 + 0.05 * arch) * np.sin(np.pi * along**0.8) - 0.03 * along
    half = 0.055 * thick * (1 - 0.65 * along**1.5)
    inside = _soft(half - np.abs(height - middle), 0.035)
    ends = _soft(out - 0.10, 0.06) * _soft(0.60 - out, 0.08)
    return np.asarray(strength * inside * ends, dtype=np.float32)


@cache
def _masks() -> Mapping[str, F32]:
    """What may be painted on the front of the picture: places (rows, columns) in 0..1."""
    place = surface()
    out, height = place.out[FACE], place.height[FACE]
    cheek = np.clip(1 - np.hypot((out - 0.5) / 0.25, (height - 6.98) / 0.16), 0, 1)
    nose = np.clip(1 - np.hypot(out / 0.12, (height - 6.98) / 0.1), 0, 1)
    socket = np.clip(1.2 - np.hypot((out - 0.33) / 0.26, (height - 7.23) / 0.16), 0, 1)
    lid = np.clip(1.3 - np.hypot((out - 0.33) / 0.17, (height - 7.33) / 0.075), 0, 1)
    moustache = np.clip(2.2 * (1 - np.hypot(out / 0.34, (height - 6.775) / 0.085)), 0, 1)
    chin = np.clip(2.0 * (1 - np.hypot(out / 0.42, (height - 6.33) / 0.2)), 0, 1)
    ring = np.clip(2.0 - 6 * np.abs(np.hypot(out / 0.36, (height - 6.6) / 0.26) - 1), 0, 1)
    line = 6.50 + 0.62 * np.clip((out - 0.36) / 0.85, 0, 1) ** 1.1
    jaw = _soft(line - height, 0.08) * _soft(1.34 - out, 0.1) * _soft(height - 6.08, 0.1)
    full = np.maximum(np.maximum(jaw, moustache), chin)
    goatee = np.maximum(np.maximum(moustache, chin), 0.7 * ring)
    masks = {
        "blood": cheek + 0.6 * nose,
        "socket": socket,
        "lid": lid,
        "stubble": 0.5 * full,
        "moustache": moustache,
        "full": full,
        "goatee": goatee,
    }
    return MappingProxyType({name: mask.astype(np.float32) for name, mask in masks.items()})
