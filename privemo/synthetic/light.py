"""Light and matter at the places of a body that rays hit."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from privemo.synthetic.body import CLOTH_PART, HAIR_PART, RIM_PART, Body
from privemo.synthetic.expression import Expression
from privemo.synthetic.head import F32, Index
from privemo.synthetic.paint import COLUMNS, ROWS, surface
from privemo.synthetic.shot import Shot

__all__ = ["Shading"]

REACH = 0.55
"""How far (in face sizes) neighbouring skin darkens a place by standing in the way of the sky."""

IRIS, PUPIL = np.cos(0.42), np.cos(0.18)
"""Half-angles of iris and pupil as seen from the eyeball's centre."""

WRAP = np.array([[0.32], [0.22], [0.18]], np.float32)
"""How far light creeps around into the shade, by colour: skin scatters red the furthest."""

FOLD = np.array([0.30, 0.35, 0.42, 0.25], np.float32)
"""How dark the creases of an expression are, in the order of `Expression.creases`."""

GUM = np.array([0.06, 0.013, 0.013], np.float32)
TOOTH = np.array([0.74, 0.70, 0.60], np.float32)
SCLERA = np.array([0.58, 0.55, 0.53], np.float32)


@cache
def _directions() -> F32:
    """Sixteen directions (3, 16) over a hemisphere around +z, spread by cosine, in a scattered order."""
    k = np.arange(16) * 7 % 16
    r, turn = np.sqrt((k + 0.5) / 16), k * 2.39996
    return np.stack([r * np.cos(turn), r * np.sin(turn), np.sqrt(1 - r * r)]).astype(np.float32)


class Shading:
    """Light at the places that rays hit. Ways and colours are rows here, (3, n): numpy is faster so."""

    def __init__(
        self,
        body: Body,
        expression: Expression,
        shot: Shot,
        scene: Any,
        normals: F32,
        side: int,
    ) -> None:
        self.body, self.shot, self.scene, self.side = body, shot, scene, side
        self.surface = np.concatenate([normals.T, body.skin[:2]])
        # A small child's skin is taut: it folds less.
        young = np.float32(0.4 + 0.6 * min(1.0, body.unit**2))
        depth = FOLD * young * np.array(expression.creases, np.float32)
        self.folds = (surface().creases @ depth).ravel()
        right, up = expression.gaze
        gaze = np.array([np.sin(right), np.sin(up), np.cos(right) * np.cos(up)], np.float32)
        self.gaze = shot.rotation() @ gaze

    def __call__(self, prim: Index, u: F32, v: F32, far: F32, view: F32, found: Index) -> F32:
        """Linear colour (3, n) of places hit: triangles, barycentric u and v, distance along `view`."""
        body, shot = self.body, self.shot
        weights = (1 - u - v, u, v)
        values = self._blend(self.surface, prim, weights)
        place = -far * view
        place[2] += np.float32(shot.distance)
        view = _unit(-view)
        normal = _unit(values[:3])
        part = body.part.take(prim)
        away = (part >= HAIR_PART) & (_dot(normal, -view) < 0)
        normal[:, away] *= -1
        albedo, shine = self._skin(values, prim, weights)
        eyes = self._other(part, normal, albedo)
        lit, sky = self._visibility(place + normal * np.float32(0.012), normal, found)
        # Eyes and teeth are wet and let light through: shade hardly darkens them.
        wet = np.flatnonzero((part > 0) & (part < HAIR_PART))
        lit[wet], sky[wet] = np.maximum(lit[wet], 0.6), np.maximum(sky[wet], 0.6)
        key = shot.key @ normal
        light = np.maximum((key + WRAP) / (1 + WRAP), 0)
        light *= 0.3 + 0.7 * lit
        light += 0.33 * np.maximum(key, 0) * lit
        light *= np.float32(0.75 * shot.key_strength) * shot.key_colour[:, None]
        fill = np.maximum(shot.fill @ normal + np.float32(0.2), 0) * np.float32(shot.fill_strength)
        light += fill * (0.3 + 0.7 * sky)
        light += ((0.75 + 0.25 * normal[1]) * sky) * shot.ambient[:, None]
        light *= albedo
        gleam = np.maximum(_dot(normal, _unit(shot.key[:, None] - view)), 0)
        square = gleam * gleam
        gloss = shine * (square**2) ** 4 * square  # power 18, cheaper than `**18`
        gloss[eyes] = 0.5 * gleam[eyes] ** 60
        light += gloss * lit * np.float32(shot.key_strength) * shot.key_colour[:, None]
        return np.asarray(light, dtype=np.float32)

    def _blend(self, attributes: F32, prim: Index, weights: tuple[F32, F32, F32]) -> F32:
        """Attributes (k, n) of places inside triangles from those of the corners (k, v)."""
        out = attributes.take(self.body.faces[:, 0].take(prim), axis=1) * weights[0]
        out += attributes.take(self.body.faces[:, 1].take(prim), axis=1) * weights[1]
        out += attributes.take(self.body.faces[:, 2].take(prim), axis=1) * weights[2]
        return np.asarray(out, dtype=np.float32)

    def _skin(self, values: F32, prim: Index, weights: tuple[F32, F32, F32]) -> tuple[F32, F32]:
        """Albedo (3, n) and strength of the highlight (n,) of skin: picture, creases, lips, lashes."""
        body = self.body
        column = np.clip(values[3] + np.float32(0.5), 0, COLUMNS - 1).astype(np.intp)
        row = np.clip(values[4] + np.float32(0.5), 0, ROWS - 1).astype(np.intp)
        texel = row * COLUMNS + column
        albedo = body.picture.take(texel, axis=1)
        albedo *= 1 - self.folds.take(texel)
        shine = np.full(len(prim), 0.05, dtype=np.float32)
        at = np.flatnonzero(body.special.take(prim))
        u, v, w = (weight.take(at) for weight in weights)
        lip, inside, lash = self._blend(body.skin[2:], prim.take(at), (u, v, w))
        special = albedo.take(at, axis=1) * (1 - 0.8 * np.clip(lash, 0, 1))
        for amount, gain, colour in ((lip, 1.2, body.lip), (inside, 1.6, GUM)):
            share = np.clip(gain * (amount - np.float32(0.1)), 0, 1)
            special += share * (colour[:, None] - special)
        albedo[:, at] = special
        shine[at] += np.float32(0.08) * lip
        return albedo, shine

    def _other(self, part: NDArray[np.uint8], normal: F32, albedo: F32) -> Index:
        """Sets the albedo of all that is not skin, in place; returns the places on eyes."""
        body = self.body
        other = np.flatnonzero(part)
        kind = part.take(other)
        eyes = other[kind <= 2]
        albedo[:, eyes] = self._eye(normal.take(eyes, axis=1))
        albedo[:, other[(kind == 3) | (kind == 4)]] = TOOTH[:, None]
        albedo[:, other[kind == HAIR_PART]] = body.hair[:, None]
        albedo[:, other[kind == RIM_PART]] = body.rim[:, None]
        albedo[:, other[kind == CLOTH_PART]] = body.cloth[:, None]
        return eyes

    def _eye(self, normal: F32) -> F32:
        """White, iris and pupil by the angle between the surface and the gaze."""
        aim = self.gaze @ normal
        colour = np.where(aim > IRIS, self.body.iris[:, None], SCLERA[:, None])
        return np.where(aim > PUPIL, np.float32(0.01), colour)

    def _visibility(self, start: F32, normal: F32, found: Index) -> tuple[F32, F32]:
        """How much of the main light (0 or 1) and of the sky each place sees.

        Of the two samples side by side in a pixel one asks for the light and one for the sky, taking turns
        from row to row; each lends its answer to the other.
        """
        row, column = found // self.side, found % self.side
        asks_light = (row + column) % 2 == 0
        out = []
        for asks, seen, taps in ((asks_light, self._light, 3), (~asks_light, self._sky, 4)):
            at = np.flatnonzero(asks)
            answers = np.ones(self.side**2, dtype=np.float32)
            there = found.take(at)
            answers[there] = seen(start.take(at, axis=1), normal.take(at, axis=1), there)
            answers[there ^ 1] = answers[there]
            out.append(_smooth(answers.reshape(self.side, self.side), taps).ravel().take(found))
        return out[0], out[1]

    def _light(self, start: F32, normal: F32, found: Index) -> F32:
        """1 where a ray to the main light meets nothing, 0 where it does."""
        del normal, found
        ways = np.empty((start.shape[1], 3), np.float32)
        ways[:] = self.shot.key
        missed = self.scene.run(start.T.copy(), ways, query="OCCLUDED") < 0
        return np.asarray(missed, dtype=np.float32)

    def _sky(self, start: F32, normal: F32, found: Index) -> F32:
        """How open the sky is: one ray, whose direction varies between neighbours."""
        row, column = found // self.side, found % self.side
        local = _directions().take((row % 4) * 4 + column // 2 % 4, axis=1)
        nx, ny, nz = normal
        length = np.sqrt(nx * nx + nz * nz) + np.float32(1e-6)
        tx, tz = nz / length, -nx / length
        # Tangent (tx, 0, tz); the second one is normal x tangent.
        ways = np.empty((normal.shape[1], 3), np.float32)
        ways[:, 0] = local[2] * nx + local[0] * tx + local[1] * ny * tz
        ways[:, 1] = local[2] * ny + local[1] * (nz * tx - nx * tz)
        ways[:, 2] = local[2] * nz + local[0] * tz - local[1] * ny * tx
        reach = np.full(len(ways), REACH, dtype=np.float32)
        blocked = self.scene.run(start.T.copy(), ways, dists=reach, query="OCCLUDED") >= 0
        return np.asarray(np.float32(1) - np.float32(0.9) * blocked, dtype=np.float32)


def _smooth(field: F32, taps: int) -> F32:
    """Mean of `taps` x `taps` neighbours (n, n): the few rays of a place are shared with those near it."""
    n = len(field)
    padded = np.pad(field, (taps // 2, taps - 1 - taps // 2), mode="edge")
    rows = padded[:n]
    for k in range(1, taps):
        rows = rows + padded[k : k + n]
    total = rows[:, :n]
    for k in range(1, taps):
        total = total + rows[:, k : k + n]
    return np.asarray(total / np.float32(taps * taps), dtype=np.float32)


def _dot(a: F32, b: F32) -> F32:
    return np.asarray(a[0] * b[0] + a[1] * b[1] + a[2] * b[2], dtype=np.float32)


def _unit(ways: F32) -> F32:
    """Ways (3, n) scaled to length 1."""
    return np.asarray(ways / (np.sqrt(_dot(ways, ways)) + np.float32(1e-9)), dtype=np.float32)
