"""A `looks.json` as `privemo explain` writes it, of people who do not exist."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

__all__ = ["looked_into", "looks_of"]

REGIONS = ("eyes", "mouth", "cheeks", "elsewhere")


def looked(n: int, eyes: float) -> dict[str, Any]:
    """Shares of `n` faces: so much on the eyes, and the rest evenly."""
    means = dict(zip(REGIONS, (eyes, *[(1 - eyes) / 3] * 3), strict=True))
    return {
        "n": n,
        "share": {r: {"mean": m, "low": m - 0.02, "high": m + 0.02} for r, m in means.items()},
    }


def looks_of(run: Path) -> dict[str, Any]:
    """What stands in the file for a run's model."""
    info = json.loads((run / "run.json").read_text())
    model = (run / "model.safetensors").read_bytes()
    return {
        "schema": "privemo.looks/1",
        "run_id": info["run_id"],
        "made": "2026-11-29T10:00:00Z",
        "model_sha256": hashlib.sha256(model).hexdigest(),
        "method": "integrated_gradients",
        "people": 120,
        "regions": list(REGIONS),
        "area": {"eyes": 0.08, "mouth": 0.07, "cheeks": 0.25, "elsewhere": 0.6},
        "by_emotion": {
            name: looked(120, 0.2 + at / 10) for at, name in enumerate(info["label_names"])
        },
        "by_group": {"gender": {"women": looked(60, 0.31), "men": looked(5, 0.47)}},
        "versions": {"privemo": "0.1.0"},
    }


def looked_into(run: Path, **changes: Any) -> Path:
    """Write the file, with some keys changed."""
    path = run / "looks.json"
    path.write_text(json.dumps(looks_of(run) | changes))
    return path
