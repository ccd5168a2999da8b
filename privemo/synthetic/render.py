"""A picture of a body: rays cast by Embree, shading with a key light, shadows and occlusion.

Embree comes through `embreex` (extra `privemo[synth]`) and is imported on first use.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from privemo.errors import MissingExtra
from privemo.synthetic.body import HAIR_PART, Body, vertex_normals
from privemo.synthetic.expression import Expression
from privemo.synthetic.head import F32, Index, load_head
from privemo.synthetic.light import Shading
from privemo.synthetic.shot import Shot, backdrop, finish

__all__ = ["SAMPLES", "load_embree", "render"]

SAMPLES = 2
"""Rays per pixel along each side: 2 x 2 for every pixel."""

LUMA = np.array([0.2126, 0.7152, 0.0722], np.float32)


@cache
def load_embree() -> tuple[Any, Any, Any]:
    """Scene type, mesh type and device of the ray caster; raises MissingExtra without it."""
    try:
        from embreex.mesh_construction import TriangleMesh
        from embreex.rtcore import EmbreeDevice
        from embreex.rtcore_scene import EmbreeScene
    except ImportError as error:
        raise MissingExtra(
            "rendering faces needs the ray caster embreex, which is not installed: "
            "pip install 'privemo[synth]'"
        ) from error
    return EmbreeScene, TriangleMesh, EmbreeDevice()


def render(
    body: Body, expression: Expression, shot: Shot, size: int, rng: np.random.Generator
) -> tuple[F32, NDArray[np.uint8]]:
    """One picture (size, size, 3) float32 in 0..255 and its region mask (size, size) uint8.

    Raises MissingExtra without embreex.
    """
    verts = body.verts.copy()
    head = load_head()
    face = verts[: len(head.verts)]
    for name, weight in expression.units.items():
        face += np.float32(weight * body.unit) * head.targets[name]
    verts -= body.centre
    verts = np.asarray(verts @ (shot.rotation().T / np.float32(body.unit)), dtype=np.float32)
    normals, flat = vertex_normals(verts, body.faces, body.around)
    tri, origin, ways = _frame(body, verts, flat, shot, size)
    scene_type, mesh_type, device = load_embree()
    scene = scene_type(device)
    used = np.zeros(len(verts), dtype=bool)
    faces = body.faces.take(tri, axis=0)
    used[faces.ravel()] = True
    new = np.cumsum(used, dtype=np.int32) - np.int32(1)
    mesh_type(scene, verts[used], new.take(faces))
    hit = scene.run(np.broadcast_to(origin, ways.shape).copy(), ways, output=1)
    found = np.flatnonzero(hit["primID"] >= 0)
    prim = tri[hit["primID"][found]]
    shade = Shading(body, expression, shot, scene, normals, size * SAMPLES)
    view = -ways.take(found, axis=0).T
    colour = shade(prim, hit["u"][found], hit["v"][found], hit["tfar"][found], view, found)
    return _compose(body, shot, size, found, prim, colour, rng)


def _frame(body: Body, verts: F32, flat: F32, shot: Shot, size: int) -> tuple[Index, F32, F32]:
    """Triangles that can be seen, the camera's place (1, 3), and the ray of each sample (n, 3)."""
    camera = np.array([[0, 0, shot.distance]], dtype=np.float32)
    n = size * SAMPLES
    step = ((np.arange(n) + 0.5) / n - 0.5).astype(np.float32)
    half = shot.frame / 2
    ways = np.empty((n, n, 3), dtype=np.float32)
    ways[..., 0] = (step[None, :] - shot.shift[0]) * shot.frame
    ways[..., 1] = (-step[:, None] + shot.shift[1]) * shot.frame
    ways[..., 2] = -shot.distance
    depth = shot.distance / (shot.distance - verts[:, 2])
    across, up = verts[:, 0] * depth, verts[:, 1] * depth
    inside = np.abs(across + np.float32(shot.shift[0] * shot.frame)) < half + 0.3
    inside &= np.abs(up - np.float32(shot.shift[1] * shot.frame)) < half + 0.3
    corner = body.faces[:, 0]
    facing = np.einsum("ij,ij->i", flat, camera - verts.take(corner, axis=0)) > 0
    facing |= body.part >= HAIR_PART
    facing &= inside.take(corner)
    return np.flatnonzero(facing), camera, ways.reshape(-1, 3)


def _compose(
    body: Body,
    shot: Shot,
    size: int,
    found: Index,
    prim: Index,
    colour: F32,
    rng: np.random.Generator,
) -> tuple[F32, NDArray[np.uint8]]:
    """Samples gathered into pixels, exposed, set before a backdrop."""
    n = size * SAMPLES
    region = body.region.take(prim)
    skin = (region > 1) & (region < 9)
    bright = float((LUMA @ colour)[skin].mean()) if skin.any() else 0.2
    # Cameras expose for the face, though never wholly: dark skin stays darker than fair skin.
    gain = np.float32((shot.exposure / max(bright, 1e-3)) ** 0.75)
    canvas = np.zeros((4, n * n), dtype=np.float32)
    canvas[:3, found], canvas[3, found] = np.minimum(gain * colour, 1.5), 1.0
    square = canvas.reshape(4, size, SAMPLES, size, SAMPLES)
    corners = [square[:, :, i, :, j] for i in range(SAMPLES) for j in range(SAMPLES)]
    face = np.asarray(sum(corners)) / np.float32(SAMPLES**2)
    picture = face[:3] + (1 - face[3]) * backdrop(size, rng)
    mask = np.zeros(n * n, dtype=np.uint8)
    mask[found] = region
    corner = mask.reshape(size, SAMPLES, size, SAMPLES)[:, SAMPLES // 2, :, SAMPLES // 2]
    return finish(picture, shot, rng), np.ascontiguousarray(corner)
