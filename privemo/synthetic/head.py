"""The parametric head: vertices, triangles, sparse displacements, and what lies where on a face.

The data is the MakeHuman head (CC0; it describes nobody), cut by `scripts/build_head.py`. Lengths are
decimetres; x points to the head's left, y up, z to the front. The *base* positions of the vertices,
before any displacement, serve as coordinates of the skin: what is painted there (brows, beard, hair)
follows every shape and every expression.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

__all__ = ["F32", "REGIONS", "Head", "Index", "incident", "load_head"]

F32 = NDArray[np.float32]
Index = NDArray[np.intp]

REGIONS: tuple[str, ...] = (
    "background",
    "other",
    "eyes",
    "brows",
    "nose",
    "mouth",
    "cheeks",
    "forehead",
    "jaw",
    "hair",
)
"""Names of the values in a region mask; a mask holds indices into this tuple."""

EYE_HEIGHT, EYE_OUT, MOUTH_HEIGHT = 7.284, 0.308, 6.60
"""Where the base head has its pupils (height, distance from the middle) and the line of its lips."""


@dataclass(frozen=True, eq=False)
class Head:
    """The base mesh and its displacements; read-only, shared by every person.

    `verts` (v, 3) float32, `faces` (t, 3) int32, `part` (t,) uint8: 0 skin, 1 left eye, 2 right eye,
    3 upper teeth, 4 lower teeth. `lips`, `inside` (v,) float32 in 0..1: how much a vertex is lip, or the
    inside of the mouth. `around` (8, v) intp: the triangles at each vertex, padded with t. `region` (t,)
    uint8 indexes `REGIONS`. `targets`: name -> displacement (v, 3) float32 at weight 1.
    `eye_verts`: vertex ids of the left and the right eyeball.
    """

    verts: F32
    faces: Index
    part: NDArray[np.uint8]
    lips: F32
    inside: F32
    around: Index
    region: NDArray[np.uint8]
    targets: Mapping[str, F32]
    eye_verts: tuple[Index, Index]

    def displace(self, verts: F32, weights: Mapping[str, float]) -> None:
        """Add displacements to `verts` (v, 3) in place; raises KeyError for an unknown target."""
        for name, weight in weights.items():
            verts += np.float32(weight) * self.targets[name]


@cache
def load_head() -> Head:
    """The bundled head, read once per process."""
    path = resources.files("privemo") / "data" / "head_cc0.npz"
    with path.open("rb") as file, np.load(file, allow_pickle=False) as data:
        verts = data["verts"].astype(np.float32)
        faces = data["faces"].astype(np.intp)
        part = data["face_group"]
        inside = data["mask_inside"].astype(np.float32)
        start, names = data["target_start"], data["target_names"]
        moves = np.zeros((len(names), *verts.shape), dtype=np.float32)
        owner = np.repeat(np.arange(len(names)), np.diff(start))
        moves[owner, data["target_vertex"]] = data["target_delta"].astype(np.float32) / 1000
        lips = data["mask_lips"].astype(np.float32)
    left, right = (np.unique(faces[part == k]) for k in (1, 2))
    return Head(
        verts=verts,
        faces=faces,
        part=part,
        lips=lips,
        inside=inside,
        around=incident(faces, len(verts)),
        region=_regions(verts, faces, part, lips, inside),
        targets=MappingProxyType(dict(zip(map(str, names), moves, strict=True))),
        eye_verts=(left, right),
    )


def incident(faces: Index, vertices: int, width: int = 8) -> Index:
    """Triangles at each vertex, (8, v); padded with t, the number of triangles."""
    owner = faces.ravel()
    order = np.argsort(owner, kind="stable")
    rank = np.arange(len(owner)) - np.searchsorted(owner[order], owner[order])
    table = np.full((width, vertices), len(faces), dtype=np.intp)
    fits = rank < width
    table[rank[fits], owner[order][fits]] = (order // 3)[fits]
    return table


def _regions(
    verts: F32, faces: Index, part: NDArray[np.uint8], lips: F32, inside: F32
) -> NDArray[np.uint8]:
    """Region of each triangle by where it lies on the base head; later rules win."""
    x, y, z = verts[faces].mean(axis=1).T
    out, front = np.abs(x), z > 0.75
    region = np.full(len(faces), REGIONS.index("other"), dtype=np.uint8)
    rules = (
        ("forehead", front & (y > 7.45) & (y < 8.05)),
        ("cheeks", front & (y > 6.62) & (y < 7.18) & (out > 0.2) & (out < 0.75)),
        ("jaw", front & (y < 6.62) & (y > 6.1)),
        ("nose", front & (y > 6.83) & (y < 7.3) & (out < 0.21) & (z > 1.38)),
        ("brows", front & (y > 7.36) & (y < 7.62) & (out > 0.06) & (out < 0.68)),
        ("eyes", front & (np.hypot((out - EYE_OUT) / 0.24, (y - EYE_HEIGHT) / 0.12) < 1)),
        ("mouth", front & (np.hypot(out / 0.34, (y - MOUTH_HEIGHT) / 0.17) < 1)),
        ("mouth", (lips[faces].mean(axis=1) > 0.3) | (inside[faces].mean(axis=1) > 0.3)),
        ("eyes", (part == 1) | (part == 2)),
        ("mouth", part >= 3),
    )
    for name, where in rules:
        region[where] = REGIONS.index(name)
    return region
