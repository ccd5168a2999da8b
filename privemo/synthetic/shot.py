"""How one picture is taken: head pose, camera, lights, what stands behind, and what the camera adds."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from privemo.synthetic.head import F32

__all__ = ["Shot", "backdrop", "draw_shot", "finish"]


@dataclass(frozen=True, eq=False)
class Shot:
    """Settings of one picture.

    Angles in radians: `yaw` positive to the head's left, `pitch` positive upwards, `roll` towards the
    head's left shoulder. `frame` is the width of the picture at the face and `distance` the camera's, in
    sizes of the base face (decimetres for an adult); `shift` moves the face in the frame by shares of it.
    `key`, `fill` (3,) point to the lights; `key_colour`, `ambient` (3,) are linear; `exposure` is the linear
    luminance that the face is brought to. `blur` in pixels and `noise` in gray levels (0..255) come last.
    """

    yaw: float
    pitch: float
    roll: float
    frame: float
    distance: float
    shift: tuple[float, float]
    key: F32
    key_colour: F32
    key_strength: float
    fill: F32
    fill_strength: float
    ambient: F32
    exposure: float
    contrast: float
    blur: float
    noise: float

    def rotation(self) -> F32:
        """The head's turn as a matrix (3, 3): yaw first, then pitch, then roll."""
        cy, sy = np.cos(self.yaw), np.sin(self.yaw)
        cp, sp = np.cos(-self.pitch), np.sin(-self.pitch)
        cr, sr = np.cos(self.roll), np.sin(self.roll)
        yaw = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
        pitch = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
        roll = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
        return np.asarray(roll @ pitch @ yaw, dtype=np.float32)

    @property
    def light(self) -> str:
        """Where the main light comes from, in a word: front, left, right, above, below."""
        x, y = float(self.key[0]), float(self.key[1])
        if max(abs(x), abs(y)) < 0.4:
            return "front"
        if abs(x) >= abs(y):
            return "left" if x > 0 else "right"
        return "above" if y > 0 else "below"


def draw_shot(rng: np.random.Generator) -> Shot:
    """Settings of a new picture."""
    around = np.clip(rng.normal(0.0, 0.8), -1.5, 1.5)
    above = np.clip(rng.normal(0.45, 0.35), -0.5, 1.2)
    key = _direction(around, above)
    fill = _direction(-np.sign(around) * rng.uniform(0.3, 1.4), rng.uniform(-0.2, 0.6))
    warm = rng.normal(0.0, 0.08)
    strength = rng.uniform(0.35, 1.0)
    return Shot(
        yaw=float(np.clip(rng.normal(0, 0.28), -0.8, 0.8)),
        pitch=float(np.clip(rng.normal(0.0, 0.15), -0.4, 0.4)),
        roll=float(np.clip(rng.normal(0, 0.13), -0.45, 0.45)),
        frame=float(1.80 * np.exp(rng.normal(0, 0.10))),
        distance=float(rng.uniform(5.0, 14.0)),
        shift=(float(rng.normal(0, 0.035)), float(rng.normal(0.02, 0.035))),
        key=key,
        key_colour=np.array([1 + warm, 1, 1 - warm], np.float32),
        key_strength=float(strength),
        fill=fill,
        fill_strength=float(rng.uniform(0.0, 0.4)),
        ambient=np.array([1 - 0.5 * warm, 1, 1 + 0.5 * warm], np.float32)
        * np.float32(rng.uniform(0.3, 0.9) * (1.2 - strength)),
        exposure=float(np.clip(np.exp(rng.normal(np.log(0.27), 0.42)), 0.07, 0.6)),
        contrast=float(np.exp(rng.normal(0.12, 0.16))),
        blur=float(max(0.0, rng.normal(0.25, 0.3))),
        noise=float(abs(rng.normal(0, 3.5))),
    )


def _direction(around: float, above: float) -> F32:
    flat = np.cos(above)
    return np.array([flat * np.sin(around), np.sin(above), flat * np.cos(around)], dtype=np.float32)


def backdrop(size: int, rng: np.random.Generator) -> F32:
    """What stands behind: a studio wall, a gradient, or clutter. (3, size, size) float32, linear."""
    kind = rng.random()
    tint = 0.25 + 0.75 * rng.random((3, 1, 1)) if rng.random() < 0.5 else np.ones((3, 1, 1))
    wall = np.empty((3, size, size), dtype=np.float32)
    wall[:] = rng.random() ** 1.6 * tint
    if kind < 0.18:
        wall[:] = rng.uniform(0.75, 1.0)  # the white of a passport photograph
        return wall
    if kind < 0.28:
        wall[:] = rng.uniform(0.0, 0.03)
        return wall
    line = (np.arange(size, dtype=np.float32) / size - 0.5).astype(np.float32)
    x, y = line[None, :], line[:, None]
    slope = rng.normal(0, 0.6, 2).astype(np.float32)
    wall *= np.clip(1 + slope[0] * x + slope[1] * y, 0.05, 2)
    if kind < 0.45:
        return wall
    for _ in range(int(rng.integers(2, 7))):
        colour = (rng.random() ** 1.5 * (0.4 + 0.6 * rng.random((3, 1, 1)))).astype(np.float32)
        cx, cy = rng.uniform(-0.5, 0.5, 2).astype(np.float32)
        wide, high = rng.uniform(0.04, 0.35, 2).astype(np.float32)
        turn = np.float32(rng.uniform(0, np.pi))
        u = ((x - cx) * np.cos(turn) + (y - cy) * np.sin(turn)) / wide
        v = ((y - cy) * np.cos(turn) - (x - cx) * np.sin(turn)) / high
        far = np.maximum(abs(u), abs(v)) if rng.random() < 0.5 else np.sqrt(u * u + v * v)
        share = np.clip((1 - far) / np.float32(rng.uniform(0.1, 0.6)), 0, 1)
        wall += share * (colour - wall)
    return wall


STEPS = 8191


@cache
def _encoded() -> F32:
    """Encoded values (sRGB, IEC 61966-2-1) of linear light in `STEPS` even steps from 0 to 1."""
    light = np.linspace(0, 1, STEPS + 1)
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055).astype(
        np.float32
    )


def finish(picture: F32, shot: Shot, rng: np.random.Generator) -> F32:
    """The camera's part: sRGB encoding, contrast, blur, noise. Linear in, 0..255 out; (3, s, s) float32."""
    out = _encoded().take((np.clip(picture, 0.0, 1.0) * STEPS).astype(np.intp))
    out = (out - np.float32(0.5)) * np.float32(shot.contrast) + np.float32(0.5)
    if shot.blur > 0.15:
        out = _blur(out, shot.blur)
    grain = rng.standard_normal(out.shape[1:], dtype=np.float32)
    return out * np.float32(255) + np.float32(shot.noise) * grain


def _blur(picture: F32, sigma: float) -> F32:
    """Gaussian blur, five taps each way; the edge repeats."""
    taps = np.exp(-0.5 * (np.arange(-2, 3) / sigma) ** 2).astype(np.float32)
    taps /= taps.sum()
    size = picture.shape[1]
    padded = np.pad(picture, ((0, 0), (2, 2), (2, 2)), mode="edge")
    rows = sum(taps[k] * padded[:, k : k + size] for k in range(5))
    return np.asarray(sum(taps[k] * rows[:, :, k : k + size] for k in range(5)), dtype=np.float32)
