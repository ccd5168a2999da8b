"""Model weights as named arrays: bytes, hashes, files and Flower records of the same thing."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as _load
from safetensors.numpy import save as _save
from torch import nn

from privemo.errors import RunError, SettingsError
from privemo.files import write_bytes
from privemo.flower import Array, ArrayRecord
from privemo.models import LUMA, build_model
from privemo.models.imagenet import PACKAGE, imagenet_features

__all__ = [
    "Weights",
    "from_bytes",
    "from_model",
    "from_record",
    "initial_weights",
    "load_weights",
    "model_for",
    "save_weights",
    "sha256",
    "to_bytes",
    "to_record",
]

Weights = dict[str, NDArray[np.float32]]

NOBODY = "emotion-cnn-nobody.safetensors"
"""Package data: weights trained on gray pictures of people who do not exist."""


IN_RECORD = "safetensors"
"""Name of the one array of a Flower record of weights."""


def from_model(model: nn.Module) -> Weights:
    """A copy of the model's parameters, float32."""
    return {
        name: np.array(tensor.detach().numpy(), dtype=np.float32, order="C")
        for name, tensor in model.state_dict().items()
    }


def model_for(name: str, weights: Weights) -> nn.Module:
    """A model of that name carrying `weights`; gray or RGB is read off their shapes.

    Raises:
        RunError: the weights are not of that model.
    """
    # The convolution with the fewest inputs is the first one: it reads the picture itself.
    channels = min((int(a.shape[1]) for a in weights.values() if a.ndim == 4), default=1)
    try:
        # A store does this every round: no numbers are drawn only to be replaced.
        with torch.device("meta"):
            model = build_model(name, channels=channels)
        own = {k: torch.tensor(v, dtype=torch.float32) for k, v in weights.items()}
        model.load_state_dict(own, assign=True)
    except (RuntimeError, SettingsError) as error:
        raise RunError(
            f"These weights do not belong to the model {name!r}: "
            + (str(error) if isinstance(error, SettingsError) else "names or shapes differ.")
            + " Name the model they were trained as with --model."
        ) from error
    return model


def to_bytes(weights: Mapping[str, NDArray[np.float32]]) -> bytes:
    """The safetensors encoding, the same bytes for the same weights."""
    return _save({name: np.ascontiguousarray(weights[name]) for name in sorted(weights)})


def from_bytes(data: bytes) -> Weights:
    """Read what `to_bytes` wrote; names come in alphabetical order.

    Raises:
        RunError: not safetensors, or not float32 throughout, or not finite.
    """
    weights = _parsed(data)
    for name, array in weights.items():
        if array.dtype != np.float32 or not np.isfinite(array).all():
            raise RunError(f"Weight {name!r} is not finite float32.")
    return weights


def _parsed(data: bytes) -> Weights:
    try:
        found = _load(data)
    except (SafetensorError, ValueError, KeyError) as error:
        raise RunError(f"Not a whole safetensors file ({error}).") from error
    return {name: found[name] for name in sorted(found)}  # it comes in another order each time


def sha256(weights: Mapping[str, NDArray[np.float32]]) -> str:
    """Hash of `to_bytes`, hex: the name of a model in manifests and ledgers."""
    return hashlib.sha256(to_bytes(weights)).hexdigest()


def save_weights(path: Path, weights: Mapping[str, NDArray[np.float32]]) -> None:
    """Write a safetensors file whole or not at all."""
    write_bytes(path, to_bytes(weights))


def load_weights(path: Path) -> Weights:
    """Read a safetensors file.

    Raises:
        RunError: the file is missing, truncated or not safetensors.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise RunError(f"{path} cannot be read ({error.strerror}).") from error
    try:
        return from_bytes(data)
    except RunError as error:
        raise RunError(f"{path}: {error}") from error


def to_record(weights: Mapping[str, NDArray[np.float32]]) -> ArrayRecord:
    """Flower's record of the weights: one array, which holds the bytes of a safetensors file.

    Flower sends each array of a record by requests of its own, and a network has dozens.
    """
    return ArrayRecord({IN_RECORD: Array(np.frombuffer(to_bytes(weights), np.uint8))})


def from_record(record: ArrayRecord) -> Weights:
    """The weights in a Flower record; values are not yet checked.

    Raises:
        RunError: they are damaged.
    """
    if list(record) != [IN_RECORD]:
        raise RunError("A record of weights holds them in one array.")
    return _parsed(record[IN_RECORD].numpy().tobytes())


def initial_weights(init: str, *, model: str, channels: int, seed: int) -> tuple[Weights, str]:
    """Where training starts, and a sentence that says so for the report.

    Args:
        init: `nobody`, `imagenet`, `scratch`, or the path of a safetensors file.
        model: name of the architecture.
        channels: 1 for gray, 3 for RGB.
        seed: of the random weights, for `scratch` and for the classifier on top of ImageNet's.

    Raises:
        SettingsError: there are no weights of that kind for that model.
        MissingExtra: ImageNet's weights are in a package that is not installed.
        RunError: the file cannot be used.
    """
    fresh = from_model(build_model(model, channels=channels, seed=seed))
    if init == "scratch":
        return fresh, "random initial weights"
    if init == "imagenet":
        if model != "efficientnet":
            raise SettingsError(
                f"No package carries ImageNet's weights for {model!r}, only for 'efficientnet'; start with "
                "--init scratch or give a safetensors file."
            )
        features = {name: tensor.numpy() for name, tensor in imagenet_features().items()}
        return fresh | features, f"weights of ImageNet ({PACKAGE})"
    if init == "nobody":
        if model != "emotion-cnn":
            raise SettingsError(
                f"There are no weights of nobody for {model!r}; start with --init scratch or give a "
                "safetensors file."
            )
        gray = from_bytes(resources.files("privemo.data").joinpath(NOBODY).read_bytes())
        weights = gray if channels == 1 else _colour_blind(gray)
        where = "weights trained on people who do not exist"
    else:
        path = Path(init)
        if not path.is_file():
            raise RunError(
                f"There is no file {init} to start from: give nobody, imagenet, scratch, or a "
                "model.safetensors."
            )
        weights, where = load_weights(path), f"weights of {path.name}"
    if {k: v.shape for k, v in weights.items()} != {k: v.shape for k, v in fresh.items()}:
        raise RunError(
            f"The initial weights ({where}) do not fit {model!r} with {channels} channel(s)."
        )
    return weights, where


def _colour_blind(gray: Weights) -> Weights:
    """RGB weights of an EmotionCNN that read a colour picture as `gray` reads its gray version.

    The first layer's weights, centred, are spread over the colours by their share in gray. Standardised, they
    come out longer: by one over the norm of the shares. So what the layer says, and what the next one makes
    of it, is that much larger, and so must their biases be; the normalisation after it takes it out again.
    """
    luma = np.array(LUMA, dtype=np.float32).reshape(1, 3, 1, 1)
    longer = np.float32(1.0 / np.linalg.norm(luma))
    first = gray["features.0.weight"]
    spread = {"features.0.weight": luma * (first - first.mean((1, 2, 3), keepdims=True))}
    biases = {name: longer * gray[name] for name in ("features.0.bias", "features.2.bias")}
    return gray | spread | biases
