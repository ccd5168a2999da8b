"""Rebuild `privemo/data/emotion-cnn-nobody.safetensors` from people who do not exist.

    for seed in 101 102 104 105; do
      privemo synth --people 8000 --images 4 --seed $seed --out nobody-$seed.npz
    done
    python scripts/build_nobody.py nobody-10[1245].npz privemo/data/emotion-cnn-nobody.safetensors

Nothing but rendered people is read; whoever is drawn under 18 is refused by the gate, as a real child would
be. 3% of the people are held out and measured at the end. Prints a line of JSON.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np

from privemo import weights as w
from privemo.admission import admitted
from privemo.dp import GaussianNoise
from privemo.faces import FaceTable, load_faces
from privemo.models import build_model
from privemo.training import PlainRecipe, Randomness, predict, train_plain
from privemo_consent import Purpose

HELD_OUT = 0.03
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
        np.savez(path, origin=origin, label_names=names, **joined)
        return load_faces(path)


def main() -> None:
    """Train, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("people", type=Path, nargs="+", help="tables of `privemo synth`")
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    table = merged(given.people)
    train, held_out = table.split(HELD_OUT, seed=given.seed)
    network = build_model("emotion-cnn", channels=table.channels, seed=given.seed)
    asked = [(train, Purpose.TRAINING), (held_out, Purpose.FAIRNESS_AUDIT)]
    with admitted(table, asked, challenge_age=18.0) as let_in:
        seen, unseen = let_in.parts
        chance = Randomness(np.random.default_rng(given.seed), GaussianNoise())
        train_plain(network, seen, RECIPE, chance, let_in.permitted_now)
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


if __name__ == "__main__":
    main()
