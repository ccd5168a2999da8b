"""ONNX Runtime, one thread, and the network that names emotions."""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from privemo.errors import MissingExtra, ModelError
from privemo.labels import IMAGE_SIZE
from privemo.recognizer.exported import Exported

if TYPE_CHECKING:
    import onnxruntime

__all__ = ["INPUT", "OUTPUT", "Classifier", "bundled_network", "load_session", "pattern"]

INPUT, OUTPUT = "faces", "probabilities"


def load_session(raw: bytes) -> onnxruntime.InferenceSession:
    """A network that computes on one core, and keeps the others free for the store's own work.

    Raises:
        MissingExtra: ONNX Runtime is not installed.
        ModelError: the runtime cannot read it.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtra(
            "Reading faces needs ONNX Runtime, which is not installed: pip install 'privemo[edge]'"
        ) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what it says goes into errors; it writes nothing by itself
    try:
        return onnxruntime.InferenceSession(raw, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime's errors have no common base
        first = str(error).splitlines()[0][:200]
        raise ModelError(f"ONNX Runtime cannot read the model ({first}).") from error


def bundled_network(name: str) -> onnxruntime.InferenceSession:
    """A network that is part of this package."""
    return load_session(resources.files("privemo.data").joinpath(name).read_bytes())


def pattern(channels: int) -> NDArray[np.uint8]:
    """A picture of nobody by which a model is tried: (1, 48, 48) or (1, 48, 48, 3) uint8."""
    y, x = np.mgrid[:IMAGE_SIZE, :IMAGE_SIZE]
    gray = 128 + 60 * np.sin(y / 5.0) + 50 * np.cos(x / 7.0)
    picture = gray.astype(np.uint8)[None]
    return picture if channels == 1 else np.repeat(picture[..., None], 3, axis=-1)


class Classifier:
    """The emotions of a face, as an exported model names them.

    Args:
        exported: the model; its signature was verified.

    Raises:
        ModelError: the runtime cannot read it, it reads or says something else than its card tells, or
            says something else here than where it was exported.
        MissingExtra: ONNX Runtime is not installed.
    """

    def __init__(self, exported: Exported) -> None:
        self.card = exported.card
        self._session = load_session(exported.raw)
        self._check_shapes()
        said = self.probabilities(pattern(self.card.channels)[0])
        apart = float(np.abs(said - np.array(self.card.check.probabilities)).max())
        if not apart <= self.card.check.tolerance:
            raise ModelError(
                f"On this machine the model says something else than where it was exported (by {apart:.3f}): "
                "export it as fp32 for processors without 8-bit instructions."
            )

    def _check_shapes(self) -> None:
        tail = () if self.card.channels == 1 else (3,)
        want = [1, IMAGE_SIZE, IMAGE_SIZE, *tail], [1, len(self.card.label_names)]
        ends: tuple[Any, ...] = (*self._session.get_inputs(), *self._session.get_outputs())
        if [e.name for e in ends] != [INPUT, OUTPUT] or tuple(list(e.shape) for e in ends) != want:
            raise ModelError("The network does not read and say what its card tells.")

    def probabilities(self, face: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Probabilities (4,) float32 of the emotions, in the order of the card's `label_names`.

        Args:
            face: uint8, (48, 48) or (48, 48, 3), as the card's `channels` tells.
        """
        said = self._session.run([OUTPUT], {INPUT: face[None]})[0]
        return np.asarray(said[0], dtype=np.float32)
