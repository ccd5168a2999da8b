"""A network as an ONNX graph: bytes of one face in, probabilities out, in 32 bits or in 8."""

from __future__ import annotations

import copy
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from privemo.models import to_input
from privemo.models.layers import WSConv2d
from privemo.recognizer.runtime import INPUT, OUTPUT, load_session, pattern

__all__ = ["Reads", "graph", "plain", "quantized", "said_by", "said_by_torch"]

OPSET = 18


class Reads(nn.Module):
    """Bytes of faces in, probabilities out; the temperature is part of it, so that no app can forget it."""

    def __init__(self, network: nn.Module, temperature: float = 1.0) -> None:
        super().__init__()
        self.network, self.temperature = network, temperature

    def forward(self, faces: Tensor) -> Tensor:
        """Probabilities (n, 4) of uint8 faces (n, 48, 48) or (n, 48, 48, 3)."""
        said: Tensor = (self.network(to_input(faces)) / self.temperature).softmax(1)
        return said


def plain(network: nn.Module) -> nn.Module:
    """The same network with convolutions whose weights are standardised once and for all."""
    network = copy.deepcopy(network)
    for path, layer in list(network.named_modules()):
        if isinstance(layer, WSConv2d):
            weight = layer.standardised().detach()
            plain = nn.Conv2d(
                layer.in_channels,
                layer.out_channels,
                layer.kernel_size,  # type: ignore[arg-type]
                layer.stride,  # type: ignore[arg-type]
                layer.padding,  # type: ignore[arg-type]
                layer.dilation,  # type: ignore[arg-type]
                layer.groups,
                layer.bias is not None,
            )
            plain.weight.data = weight
            if layer.bias is not None and plain.bias is not None:
                plain.bias.data = layer.bias.detach()
            parent, _, attribute = path.rpartition(".")
            setattr(network.get_submodule(parent), attribute, plain)
    return network


def graph(reads: nn.Module, channels: int) -> bytes:
    """The ONNX graph for one face at a time: fixed sizes let the runtime plan ahead."""
    faces = torch.from_numpy(pattern(channels))
    with (
        tempfile.TemporaryDirectory(prefix="privemo-export-") as folder,
        warnings.catch_warnings(),
        torch.inference_mode(),
    ):
        file = Path(folder) / "graph.onnx"
        # torch calls this way of exporting old. The new one says the same to the last digit, takes thirty
        # times as long, and needs another package.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            reads,
            (faces,),
            file,
            dynamo=False,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=[OUTPUT],
        )
        return file.read_bytes()


def quantized(body: bytes, faces: NDArray[np.uint8]) -> bytes:
    """The graph with 8-bit convolutions and products; ranges are those on faces of nobody."""
    import onnx
    from onnxruntime.quantization import (
        CalibrationDataReader,
        QuantFormat,
        QuantType,
        quantize_static,
    )
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Faces(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._rows: Iterator[NDArray[np.uint8]] = iter(faces)

        def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
            row = next(self._rows, None)
            return None if row is None else {INPUT: row[None]}

    with tempfile.TemporaryDirectory(prefix="privemo-export-") as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        whole, ready, small = (Path(folder) / name for name in ("a.onnx", "b.onnx", "c.onnx"))
        whole.write_bytes(body)
        quant_pre_process(whole, ready, skip_symbolic_shape=True)
        first = next(n.name for n in onnx.load(ready).graph.node if n.op_type == "Conv")
        quantize_static(
            ready,
            small,
            Faces(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=["Conv", "Gemm"],
            nodes_to_exclude=[
                first
            ],  # it reads the picture itself: small, and what it loses is lost
        )
        return small.read_bytes()


def said_by(body: bytes, faces: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Probabilities (n, 4) of faces, one after the other, as a store's app computes them."""
    session = load_session(body)
    rows = [session.run([OUTPUT], {INPUT: faces[k : k + 1]})[0] for k in range(len(faces))]
    return np.concatenate(rows)


@torch.inference_mode()
def said_by_torch(reads: nn.Module, faces: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The same of the network that was trained."""
    parts = [reads(torch.from_numpy(faces[k : k + 256])).numpy() for k in range(0, len(faces), 256)]
    return np.concatenate(parts)
