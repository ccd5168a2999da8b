r"""Rebuild `privemo/data/emotion-cnn-nobody.safetensors` from people who do not exist, in two stages.

    for seed in 101 102 104 105; do
      privemo synth --people 8000 --images 4 --seed $seed --out nobody-$seed.npz
    done
    for seed in 106 107 108; do
      privemo synth --people 8000 --images 4 --seed $seed --units --out nobody-$seed.npz
    done
    python scripts/build_nobody.py nobody-10[1245].npz first.safetensors
    python scripts/build_nobody.py nobody-10[678].npz privemo/data/emotion-cnn-nobody.safetensors \
      --start first.safetensors

The second stage learns, besides the emotion, how far each part of the face moves, which is known exactly of
somebody who was drawn: a face is read by what it does and not by what tells four emotions apart on drawings.

Nothing but rendered people is read; whoever is drawn under 18 is refused by the gate, as a real child would
be. A few pictures are held out and measured at the end. Prints a line of JSON.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from privemo import weights as w
from privemo.admission import admitted
from privemo.dp import GaussianNoise
from privemo.faces import Faces, FaceTable, load_faces
from privemo.models import build_model
from privemo.training import PermittedNow, PlainRecipe, Randomness, predict, train_plain
from privemo.training.augmentation import AUGMENTATIONS
from privemo.training.plain import MovingAverage, plain_optimizer, warm_cosine
from privemo_consent import Purpose

HELD_OUT, HELD_OUT_PICTURES = 0.03, 3000
RECIPE = PlainRecipe(
    epochs=6,
    batch=256,
    lr=2e-3,
    weight_decay=0.05,
    label_smoothing=0.1,
    mixup=0.2,
    ema=0.998,
    augment="wide",
    precision="bfloat16",
)
"""Chosen by habit and by what held-out rendered people said; privemo/data/README.md tells of the rest."""


BESIDE = replace(RECIPE, epochs=7)
"""Of the second stage."""


def merged(paths: list[Path]) -> FaceTable:
    """One table of several; people of different files are different people."""
    columns: dict[str, list[np.ndarray]] = {}
    for number, path in enumerate(paths):
        with np.load(path) as table:
            origin, names = table["origin"], table["label_names"]
            for name in ("images", "label", "age_band"):
                columns.setdefault(name, []).append(table[name])
            identity = np.char.add(f"{number}-", table["identity"])
            columns.setdefault("identity", []).append(identity)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "nobody.npz"
        joined = {name: np.concatenate(parts) for name, parts in columns.items()}
        joined["row"] = np.arange(len(joined["label"]))
        np.savez(path, origin=origin, label_names=names, **joined)
        return load_faces(path)


def first_stage(table: FaceTable, seed: int) -> tuple[nn.Module, Faces, Faces]:
    """A network from random weights that learned emotions; who was seen, and the people held out."""
    train, held_out = table.split(HELD_OUT, seed=seed)
    network = build_model("emotion-cnn", channels=table.channels, seed=seed)
    asked = [(train, Purpose.TRAINING), (held_out, Purpose.FAIRNESS_AUDIT)]
    with admitted(table, asked, challenge_age=18.0) as let_in:
        seen, unseen = let_in.parts
        chance = Randomness(np.random.default_rng(seed), GaussianNoise())
        train_plain(network, seen, RECIPE, chance, let_in.permitted_now)
    return network, seen, unseen


def second_stage(
    table: FaceTable, moves: np.ndarray, start: Path, seed: int
) -> tuple[nn.Module, Faces, Faces]:
    """The network of `start` after it learned movements, too; the pictures seen, and those held out."""
    everything = np.arange(len(table), dtype=np.int64)
    network = w.model_for("emotion-cnn", w.load_weights(start))
    rng = np.random.default_rng(seed)
    with admitted(table, [(everything, Purpose.TRAINING)], challenge_age=18.0) as let_in:
        faces = let_in.parts[0]
        order = rng.permutation(len(faces))
        held_out, seen = order[:HELD_OUT_PICTURES], order[HELD_OUT_PICTURES:]
        target = standardised(moves[faces.columns["row"]])
        learn_beside(network, faces, target, seen, rng, seed, let_in.permitted_now)
    return network, faces.take(seen), faces.take(held_out)


def standardised(moves: np.ndarray) -> Tensor:
    """Columns of mean 0 and deviation 1; what never moves is left out."""
    deviation = moves.std(0)
    moving = deviation > 1e-3
    return torch.from_numpy((moves - moves.mean(0))[:, moving] / deviation[moving])


def learn_beside(
    network: nn.Module,
    faces: Faces,
    target: Tensor,
    rows: np.ndarray,
    rng: np.random.Generator,
    seed: int,
    permitted_now: PermittedNow,
) -> None:
    """Train in place on emotions and, by a layer that is dropped afterwards, on `target` (n, k)."""
    torch.manual_seed(seed)
    jitter, change = torch.Generator().manual_seed(seed), AUGMENTATIONS[BESIDE.augment]
    classifier = cast("nn.Sequential", network.classifier)
    hidden = nn.Sequential(cast("nn.Module", network.features), *classifier[:-1])
    beside = nn.Linear(cast("nn.Linear", classifier[-1]).in_features, target.shape[1])
    both = nn.ModuleList([network, beside]).train()
    both.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer, average = plain_optimizer(both, BESIDE), MovingAverage(both, BESIDE.ema)
    batches = len(rows) // BESIDE.batch
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, warm_cosine(BESIDE.epochs * batches))
    pixels, emotions = torch.from_numpy(faces.images), F.one_hot(torch.from_numpy(faces.label), 4)
    for epoch in range(BESIDE.epochs):
        for number, drawn in enumerate(np.array_split(rng.permutation(rows), batches)):
            drawn = drawn[permitted_now(epoch * batches + number, faces.person[drawn])]
            if not len(drawn):
                continue
            x = change(pixels[drawn], jitter)
            share = torch.from_numpy(rng.beta(*2 * [BESIDE.mixup], len(drawn)).astype(np.float32))
            other = torch.from_numpy(rng.permutation(len(drawn)))
            x = torch.lerp(x[other], x, share.view(-1, 1, 1, 1))
            y, t = (
                torch.lerp(each[other], each, share.view(-1, 1))
                for each in (emotions[drawn].float(), target[drawn])
            )
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast("cpu", torch.bfloat16):
                h = hidden(x.contiguous(memory_format=torch.channels_last))
                said, moved = classifier[-1](h), beside(h)
            emotion = F.cross_entropy(said.float(), y, label_smoothing=BESIDE.label_smoothing)
            (emotion + F.mse_loss(moved.float(), t)).backward()
            optimizer.step()
            average.take()
            schedule.step()
    average.put_back()
    network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]


def main() -> None:
    """Train, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("people", type=Path, nargs="+", help="tables of `privemo synth`")
    parser.add_argument("out", type=Path)
    parser.add_argument("--start", type=Path, help="weights of the first stage: do the second one")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    table = merged(given.people)
    if given.start is None:
        network, seen, unseen = first_stage(table, given.seed)
    else:
        moves = np.concatenate([with_pose(path) for path in given.people])
        network, seen, unseen = second_stage(table, moves, given.start, given.seed)
    said = predict(network, unseen.images).argmax(1)
    w.save_weights(given.out, w.from_model(network))
    print(
        json.dumps(
            {
                "faces": len(seen),
                "people": len(np.unique(seen.person)),
                "held_out_faces": len(unseen),
                "held_out_accuracy": round(float((said == unseen.label).mean()), 4),
                "sha256": w.sha256(w.load_weights(given.out)),
            }
        )
    )


def with_pose(path: Path) -> np.ndarray:
    """Movements (n, k) of a table, and how far heads turn aside and up, whichever way they are mirrored."""
    with np.load(path) as table:
        if "units" not in table:
            raise SystemExit(
                f"{path} says nothing of movements: draw it with privemo synth --units"
            )
        pose = [np.abs(table["yaw"]), table["pitch"]]
        return np.concatenate([table["units"], np.stack(pose, 1)], 1).astype(np.float32)


if __name__ == "__main__":
    main()
