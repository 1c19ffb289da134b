"""ONNX files of other tools than PyTorch's exporter, against onnxruntime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gpw_cli.errors import UnsupportedError
from gpw_cli.graph.floating import run_float
from gpw_cli.graph.fold import fold
from gpw_cli.graph.trace import trace
from gpw_cli.models.onnx_import import read_onnx

onnx = pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")
helper, numbers = onnx.helper, np.random.default_rng(0)
SHAPE = (2, 4, 6, 6)  # of the tensor "a", the input of the nodes under test; they make "z"


def node(kind: str, inputs: str, outputs: str, **attributes: Any) -> Any:
    given = ["" if name == "-" else name for name in inputs.split()]
    return helper.make_node(kind, given, outputs.split(), **attributes)


def written(file: Path, nodes: list[Any], stored: dict[str, Any], opset: int = 17) -> Path:
    """A convolution, then ``nodes``, then a linear layer over the mean of each channel."""
    weights: dict[str, Any] = {
        "w": numbers.normal(size=(4, 1, 3, 3)).astype(np.float32),
        "g": numbers.normal(size=(3, 4)).astype(np.float32),
    }
    whole = [
        node("Conv", "x w", "a", pads=[1, 1, 1, 1]),
        *nodes,
        node("GlobalAveragePool", "z", "p"),
        node("Reshape", "p flat", "f"),
        node("Gemm", "f g", "y", transB=1),
    ]
    stored = {"flat": np.array([2, -1]), **weights, **stored}  # of the batch of the export
    graph = helper.make_graph(
        whole,
        "g",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [2, 1, 6, 6])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [2, 3])],
        [onnx.numpy_helper.from_array(np.asarray(array), name) for name, array in stored.items()],
    )
    opsets = [helper.make_opsetid("", opset)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), str(file))
    return file


WEIGHT = numbers.normal(size=(4, 4, 3, 3)).astype(np.float32)
VECTOR = np.array([0.5, -1.0, 2.0, 1.5], np.float32)
CASES: dict[str, tuple[list[Any], dict[str, Any], int]] = {
    "constant by value_float": (
        [node("Constant", "", "k", value_float=0.5), node("Mul", "a k", "z")],
        {},
        17,
    ),
    "constant by value_ints": (
        [node("Constant", "", "k", value_ints=[0, 4, 6, 6]), node("Reshape", "a k", "z")],
        {},
        17,
    ),
    "weights transposed": (
        [node("Transpose", "k", "t", perm=[1, 0, 2, 3]), node("Conv", "a t", "z")],
        {"k": WEIGHT},
        17,
    ),
    "weights scaled, no bias": (
        [node("Mul", "k s", "t"), node("Conv", "a t -", "z")],
        {"k": WEIGHT, "s": np.float32(0.5)},
        17,
    ),
    "split without sizes": (
        [node("Split", "a", "b c", axis=1), node("Concat", "c b", "z", axis=1)],
        {},
        11,
    ),
    "split with a smaller last part": (
        [
            node("Concat", "a a", "b", axis=1),
            node("Split", "b", "c d e", axis=1, num_outputs=3),
            node("Concat", "e e", "z", axis=1),
        ],
        {},
        18,
    ),
    "channels counted from the end": (
        [node("Gather", "a k", "z", axis=1)],
        {"k": np.array([-1, 0, -3, 2])},
        17,
    ),
    "channels backwards": (
        [node("Slice", "a b e ax st", "z")],
        {
            "b": np.array([-1]),
            "e": np.array([-9]),
            "ax": np.array([1]),
            "st": np.array([-1]),
        },
        17,
    ),
    "sum of three": ([node("Sum", "a a a", "z")], {}, 17),
    "limits and a sign": (
        [node("Neg", "a", "b"), node("Min", "b k", "c"), node("Max", "l c", "z")],
        {"k": np.float32(0.75), "l": np.float32(-0.5)},
        17,
    ),
    "resize to sizes": (
        [node("Resize", "a - - k", "z", mode="nearest")],
        {"k": np.array([2, 4, 12, 18])},
        17,
    ),
    "batch norm of vectors": (
        [
            node("GlobalAveragePool", "a", "b"),
            node("Flatten", "b", "c"),
            node("BatchNormalization", "c k k l k", "d"),
            node("Relu", "d", "e"),
            node("Unsqueeze", "e u", "z"),
        ],
        {"k": np.abs(VECTOR), "l": VECTOR, "u": np.array([2, 3])},
        17,
    ),
    "scaled matrix with a bias of two dimensions": (
        [
            node("GlobalAveragePool", "a", "b"),
            node("Flatten", "b", "c"),
            node("Gemm", "c k l", "d", alpha=0.5, beta=2.0),
            node("Unsqueeze", "d u", "z"),
        ],
        {"k": WEIGHT[:, :, 0, 0], "l": VECTOR[None], "u": np.array([2, 3])},
        17,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_what_other_tools_write_gives_what_onnxruntime_gives(tmp_path: Path, name: str) -> None:
    file = written(tmp_path / "net.onnx", *CASES[name])
    x = numbers.normal(size=(2, 1, 6, 6)).astype(np.float32)
    (expected,) = runtime.InferenceSession(str(file)).run(None, {"x": x})
    network = read_onnx(file)
    with torch.no_grad():
        np.testing.assert_allclose(network(torch.from_numpy(x)), expected, atol=1e-5)
        single = network(torch.from_numpy(x[:1]))  # another batch than that of the export
    np.testing.assert_allclose(single, expected[:1], atol=1e-5)
    graph = fold(trace(network, (1, 6, 6)))
    np.testing.assert_allclose(run_float(graph, torch.from_numpy(x)), expected, atol=1e-5)


NEAREST = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric"}


@pytest.mark.parametrize(
    ("nodes", "stored", "words"),
    [
        ([node("Cast", "a", "b", to=6), node("Cast", "b", "z", to=1)], {}, "Cast of a computed"),
        ([node("Resize", "a - k", "z", **NEAREST)], {"k": [1, 1, 1.5, 1.5]}, "Resize by 1.5"),
        ([node("Resize", "a - k", "z", **NEAREST)], {"k": [1, 1, 3, 3]}, "Resize by 3"),
        ([node("Resize", "a - k", "z", **NEAREST)], {"k": [1, 1, 0.5, 0.5]}, "Resize by 0.5"),
        ([node("MatMul", "a a", "z", name="here")], {}, r"weights that are computed \(at here\)"),
        ([node("LRN", "a", "z", size=3, name="here")], {}, r"supported: LRN \(at here\)"),
    ],
)
def test_what_would_give_other_numbers_is_refused(
    tmp_path: Path, nodes: list[Any], stored: dict[str, list[float]], words: str
) -> None:
    arrays = {name: np.array(values, np.float32) for name, values in stored.items()}
    file = written(tmp_path / "net.onnx", nodes, arrays)
    with pytest.raises(UnsupportedError, match=words):
        trace(read_onnx(file), (1, 6, 6))
