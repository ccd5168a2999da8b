"""A person's mesh: the shaped head with hair on it, and what is worn: long hair, cloth, glasses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from privemo.synthetic.head import F32, REGIONS, Head, Index, incident, load_head
from privemo.synthetic.identity import Traits
from privemo.synthetic.paint import cover, linear, paint, surface

__all__ = ["CLOTH_PART", "HAIR_PART", "RIM_PART", "Body", "make_body", "vertex_normals"]

PAD = np.iinfo(np.intp).max
HAIR_PART, RIM_PART, CLOTH_PART = 5, 6, 7
"""Values of `Body.part` beyond the head's own: hair that hangs free, the rims of glasses,
and the cloth on the shoulders."""

TEETH: Mapping[int, tuple[float, float]] = {3: (0.0, 0.035), 4: (-0.035, 0.07)}
"""Part -> how far teeth are moved up and back, in face sizes: full lips at rest must cover them."""

THICKNESS: Mapping[str, float] = {
    "fuzz": 0.015,
    "buzz": 0.04,
    "short": 0.13,
    "receding": 0.06,
    "volume": 0.24,
    "afro": 0.5,
    "fringe": 0.13,
    "bob": 0.16,
    "long": 0.13,
    "tied": 0.06,
    "covered": 0.12,
    "cap": 0.14,
}
HANGING: Mapping[str, tuple[float, float]] = {
    "long": (5.75, 6.2),
    "bob": (6.3, 6.75),
    "fringe": (5.8, 6.7),
    "covered": (5.75, 5.9),
}
"""Styles with hair that hangs free: lowest and highest height of its end."""


@dataclass(frozen=True, eq=False)
class Body:
    """All that the renderer needs of a person; the face at rest.

    `verts` (v, 3), `faces` (t, 3), `part` (t,), `region` (t,), `around` (8, v) as in `Head`, with what is
    worn appended. `skin` (5, v) float32: column and row in `picture`, and how much lip, mouth inside and
    lash; `special` (t,) says which triangles have any of the last three. `picture` (3, rows * columns)
    linear albedo. `centre` (3,) between eyes and mouth; `unit` the size of the face relative to the base
    head. Colours are linear.
    """

    verts: F32
    faces: Index
    part: NDArray[np.uint8]
    region: NDArray[np.uint8]
    around: Index
    skin: F32
    special: NDArray[np.bool_]
    picture: F32
    centre: F32
    unit: float
    lip: F32
    iris: F32
    hair: F32
    rim: F32
    cloth: F32


def vertex_normals(verts: F32, faces: Index, around: Index) -> tuple[F32, F32]:
    """Unit normals at vertices (v, 3) and area-weighted normals of triangles (t, 3)."""
    a = verts.take(faces[:, 0], axis=0)
    p = (verts.take(faces[:, 1], axis=0) - a).T.copy()
    q = (verts.take(faces[:, 2], axis=0) - a).T.copy()
    flat = np.zeros((len(faces) + 1, 3), dtype=np.float32)
    flat[:-1, 0] = p[1] * q[2] - p[2] * q[1]
    flat[:-1, 1] = p[2] * q[0] - p[0] * q[2]
    flat[:-1, 2] = p[0] * q[1] - p[1] * q[0]
    normal = flat.take(around[0], axis=0)
    for row in around[1:]:
        normal += flat.take(row, axis=0)
    return _unify(normal), flat[:-1]


def _unify(ways: F32) -> F32:
    """Ways (n, 3) scaled to length 1, in place."""
    length = np.sqrt(np.einsum("ij,ij->i", ways, ways)) + np.float32(1e-12)
    ways /= length[:, None]
    return ways


def make_body(traits: Traits) -> Body:
    """The mesh and the colours of one person."""
    head, place = load_head(), surface()
    # A stream of its own: what is worn must not shift what the face is like.
    rng = np.random.default_rng((traits.texture_seed, 1))
    verts = head.verts.copy()
    head.displace(verts, traits.shape)
    centre, unit = _measure(head, verts)
    scale, offset = _fit(head.verts, verts)
    for code, (up, back) in TEETH.items():
        ids = np.unique(head.faces[head.part == code])
        verts[ids] += np.array([0, up * unit, -back * unit], np.float32)
    hairy = _grow_hair(traits, head, verts, unit, rng)
    skin = np.stack([*place.uv.T, head.lips, head.inside, place.lash]).astype(np.float32)
    lined = np.flatnonzero((skin[2:] > 0).any(axis=0))
    special = np.isin(head.faces, lined).any(axis=1)
    worn = [_hanging(traits, scale, offset, unit, rng), _rims(traits, head, verts, unit, rng)]
    worn.append(_shoulders(scale, offset, rng))
    faces, part = [head.faces], [head.part]
    region = [np.where(hairy, np.uint8(REGIONS.index("hair")), head.region)]
    around = [np.where(head.around == len(head.faces), PAD, head.around)]
    points, count, triangles = [verts], len(verts), len(head.faces)
    for code, extra in zip((HAIR_PART, RIM_PART, CLOTH_PART), worn, strict=True):
        if extra is None:
            continue
        place3, tri, table = extra
        points.append(place3)
        faces.append(tri + count)
        part.append(np.full(len(tri), code, np.uint8))
        name = {HAIR_PART: "hair", RIM_PART: "eyes", CLOTH_PART: "other"}[code]
        region.append(np.full(len(tri), REGIONS.index(name), np.uint8))
        around.append(np.where(table == len(tri), PAD, table + triangles))
        count += len(place3)
        triangles += len(tri)
    table = np.concatenate(around, axis=1)
    table[table == PAD] = triangles
    lip = linear(traits.skin) * np.array([0.85, 0.55, 0.55], np.float32)
    lip += 0.6 * traits.makeup * (np.array([0.42, 0.05, 0.07], np.float32) - lip)
    return Body(
        verts=np.concatenate(points),
        faces=np.concatenate(faces),
        part=np.concatenate(part),
        region=np.concatenate(region),
        around=table,
        skin=np.pad(skin, ((0, 0), (0, count - len(verts)))),
        special=np.pad(special, (0, triangles - len(head.faces))),
        picture=paint(traits).reshape(3, -1),
        centre=centre,
        unit=unit,
        lip=lip.astype(np.float32),
        iris=linear(traits.iris),
        hair=linear(traits.hair),
        cloth=linear(tuple(rng.random() ** 1.3 * rng.uniform(0.4, 1.0, 3))),
        rim=linear(tuple(rng.uniform(0.02, 0.35, 3)) if rng.random() < 0.8 else (0.6, 0.5, 0.3)),
    )


def _measure(head: Head, verts: F32) -> tuple[F32, float]:
    """Middle between eyes and mouth, and the face's size: 1 for the base head."""
    left, right = (verts[ids].mean(axis=0) for ids in head.eye_verts)
    lips = head.lips > 0
    eyes, mouth = (left + right) / 2, verts[lips].mean(axis=0)
    unit = 0.5 * np.linalg.norm(left - right) / 0.616 + 0.5 * np.linalg.norm(eyes - mouth) / 0.72
    return ((eyes + mouth) / 2).astype(np.float32), float(unit)


def _fit(base: F32, verts: F32) -> tuple[F32, F32]:
    """Scale and offset of each axis that carry the base head to this one, by least squares."""
    mean_base, mean = base.mean(axis=0), verts.mean(axis=0)
    spread = base - mean_base
    scale = (spread * (verts - mean)).sum(axis=0) / (spread * spread).sum(axis=0)
    return scale.astype(np.float32), (mean - scale * mean_base).astype(np.float32)


def _grow_hair(
    traits: Traits, head: Head, verts: F32, unit: float, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """Lift the scalp by the thickness of the hair, in place; returns which triangles (t,) are hair."""
    place = surface()
    x, y, z = head.verts.T
    out = np.abs(np.arctan2(x, z - 0.45)).astype(np.float32)
    amount = cover(traits.style, traits.texture_seed, out, y, width=0.16)
    amount *= (1 - place.ears) * (head.inside < 0.5)
    eyes_teeth = np.unique(head.faces[head.part > 0])
    amount[eyes_teeth] = 0
    thick = THICKNESS[traits.style] * rng.uniform(0.7, 1.3)
    lumps = 1 + 0.25 * np.sin(5 * out + rng.uniform(0, 6)) * np.sin(4 * y + rng.uniform(0, 6))
    top = np.clip((y - 7.2) / 0.9, 0.45, 1.0)
    normal, _ = vertex_normals(verts, head.faces, head.around)
    verts += (normal * (amount * thick * unit * lumps * top)[:, None]).astype(np.float32)
    return np.asarray(amount.take(head.faces).mean(axis=1) > 0.5)


def _hanging(
    traits: Traits, scale: F32, offset: F32, unit: float, rng: np.random.Generator
) -> tuple[F32, Index, Index] | None:
    """A sheet of hair or cloth around the sides and the back of the head."""
    if traits.style not in HANGING or (traits.style == "fringe" and rng.random() < 0.3):
        return None
    end = rng.uniform(*HANGING[traits.style])
    first = 0.95 if traits.style == "covered" else rng.uniform(1.05, 1.45)
    angle = np.linspace(first, 2 * np.pi - first, 20)
    height = np.linspace(7.75, end, 6)
    flare = rng.uniform(0.0, 0.16)
    drop = (7.75 - height)[:, None] / 2
    wave = 0.03 * np.sin(9 * angle + rng.uniform(0, 6))[None, :]
    wide = 0.80 + 0.12 * np.sqrt(np.clip(drop * 3, 0, 1)) + flare * drop + wave
    x, z = wide * np.sin(angle)[None, :], 0.45 + (wide + 0.1) * np.cos(angle)[None, :]
    points = np.stack([x, np.broadcast_to(height[:, None], x.shape), z], axis=-1).reshape(-1, 3)
    return ((points * scale + offset).astype(np.float32), *_sheet(6, 20))


@cache
def _sheet(rows: int, columns: int, copies: int = 1) -> tuple[Index, Index]:
    """Triangles (t, 3) of one or more grids of points, and the table of those at each point."""
    index = np.arange(rows * columns).reshape(rows, columns)
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, 1:]
    tri = np.stack([np.stack([a, c, b], -1), np.stack([b, c, d], -1)], axis=2).reshape(-1, 3)
    tri = np.concatenate([tri + k * rows * columns for k in range(copies)]).astype(np.intp)
    return tri, incident(tri, copies * rows * columns)


def _shoulders(scale: F32, offset: F32, rng: np.random.Generator) -> tuple[F32, Index, Index]:
    """Cloth from the base of the neck down over the shoulders."""
    angle = np.linspace(-0.6 * np.pi, 0.6 * np.pi, 11)
    open_ = rng.uniform(0.0, 0.3) * np.cos(angle / 2) ** 8
    rings = []
    for height, wide, deep in (
        (6.12, 0.50, 0.56),
        (5.95, 0.62, 0.62),
        (5.6, 1.5, 0.75),
        (4.6, 1.9, 0.95),
    ):
        y = height - (open_ if height > 5.7 else 0.0)
        x, z = wide * np.sin(angle), 0.35 + deep * np.cos(angle)
        rings.append(np.stack([x, np.broadcast_to(y, x.shape), z], axis=-1))
    points = np.concatenate(rings) * scale + offset
    return (points.astype(np.float32), *_sheet(4, 11))


RIM_POINTS = 17


def _rims(
    traits: Traits, head: Head, verts: F32, unit: float, rng: np.random.Generator
) -> tuple[F32, Index, Index] | None:
    """Rims of glasses: a flat ring before each eye, joined by a bridge."""
    if not traits.glasses:
        return None
    eyes = [verts[ids] for ids in head.eye_verts]
    front = max(float(eye[:, 2].max()) for eye in eyes) + 0.1 * unit
    wide, high, bold = rng.uniform(0.24, 0.29), rng.uniform(0.17, 0.25), rng.uniform(0.025, 0.05)
    square = rng.uniform(2.0, 4.0)
    turn = np.linspace(0, 2 * np.pi, RIM_POINTS)
    cos, sin = np.cos(turn), np.sin(turn)
    round_x = np.sign(cos) * np.abs(cos) ** (2 / square)
    round_y = np.sign(sin) * np.abs(sin) ** (2 / square)
    points: list[NDArray[np.floating]] = []
    for eye in eyes:
        middle = eye.mean(axis=0) - np.array([0, 0.02 * unit, 0])
        for w in (0.0, bold):
            ring = np.stack([round_x * (wide + w), round_y * (high + w), 0 * turn], axis=-1)
            ring = middle + unit * ring
            ring[:, 2] = front - 0.35 * np.abs(ring[:, 0]) ** 2
            points.append(ring)
    left, right = (float(eye.mean(axis=0)[0]) for eye in eyes)
    y = float(np.mean([eye.mean(axis=0)[1] for eye in eyes]))
    across = np.linspace(right + wide * unit, left - wide * unit, RIM_POINTS)
    for lift in (0.02, 0.02 + bold):
        level = np.full(RIM_POINTS, y + lift * unit)
        points.append(np.stack([across, level, np.full(RIM_POINTS, front)], axis=-1))
    return (np.concatenate(points).astype(np.float32), *_sheet(2, RIM_POINTS, copies=3))
