"""Turn people who do not exist into people before another camera, labelled by people who disagree.

    privemo synth --people 16400 --images 1 --seed 103 --out nobody-103.npz
    python scripts/other_camera.py nobody-103.npz other-camera.npz

Weights of nobody read what `privemo synth` draws almost without error, so nothing can be learned on it about
private training. After this they are right about half of the time, and a private run has something to gain:
settings of the recipe are compared on such a table, and never on a photograph.

What changes: half the resolution, a harder contrast curve, a sheared and narrower picture, a bar over half of
the faces, grain; and labels, sad and neutral most, as different people would name the same face differently.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from privemo.labels import EMOTIONS

DISAGREE = (
    ("sad", "neutral", 0.25),
    ("neutral", "sad", 0.20),
    ("surprise", "happy", 0.10),
    ("happy", "neutral", 0.05),
)
"""Emotion, what some say instead, and how many of them."""

ADULT = 25.0


def photographed(images: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """What the other camera makes of gray pictures (n, 48, 48)."""
    x = torch.from_numpy(images).float().unsqueeze(1)
    size = x.shape[-1]
    x = F.interpolate(F.avg_pool2d(x, 3, 2, 1), size=size, mode="bilinear", align_corners=False)
    x = 255 * (x / 255).clamp(0, 1) ** 1.8
    shear = torch.tensor([[0.72, 0.25, 0.0], [0.0, 0.95, 0.0]]).expand(len(x), 2, 3)
    grid = F.affine_grid(shear, list(x.shape), align_corners=False)
    x = F.grid_sample(x, grid, padding_mode="border", align_corners=False)
    covered, top = rng.random(len(x)) < 0.5, rng.integers(2, size - 8, len(x))
    for row in np.flatnonzero(covered):
        x[row, 0, top[row] : top[row] + 6] = float(rng.integers(0, 255))
    grain = torch.from_numpy(rng.standard_normal(x.shape, dtype=np.float32))
    return np.asarray((x + 14 * grain).clamp(0, 255).round().byte()[:, 0].numpy())


def named(label: NDArray[np.int8], rng: np.random.Generator) -> NDArray[np.int8]:
    """Labels of people who do not all agree."""
    draw, said = rng.random(len(label)), label.copy()
    for emotion, other, share in DISAGREE:
        said[(label == EMOTIONS.index(emotion)) & (draw < share)] = EMOTIONS.index(other)
    return said


def main() -> None:
    """Read, change, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("people", type=Path, help="table of `privemo synth`, gray")
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=3)
    given = parser.parse_args()
    rng = np.random.default_rng(given.seed)
    with np.load(given.people) as table:
        kept = table["age"] >= ADULT
        np.savez_compressed(
            given.out,
            images=photographed(table["images"][kept], rng),
            label=named(table["label"][kept], rng),
            label_names=table["label_names"],
            identity=table["identity"][kept],
            age_band=table["age_band"][kept],
            origin=np.array(
                f"{table['origin']}; photographed by another camera, labels made to disagree"
            ),
        )
    print(f"{int(kept.sum()):,} faces: {given.out}")


if __name__ == "__main__":
    main()
