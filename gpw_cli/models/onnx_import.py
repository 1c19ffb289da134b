"""Read an ONNX file as a PyTorch module that can be pruned and trained.

    net = read_onnx(Path("net.onnx"))        # [N, C, H, W] float32 -> logits

Convolutions, linear layers and batch norms become PyTorch modules, named after their nodes, with
the initialisers as weights. Operators that compute shapes run on integers when the module runs. An
ONNX file contains no code.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from gpw_cli.errors import UnsupportedError
from gpw_cli.models.onnx_file import import_onnx, load_onnx
from gpw_cli.models.onnx_layers import LAYERS, Attributes
from gpw_cli.models.onnx_operators import OPERATORS, Value

QUANTIZED = ("QuantizeLinear", "DequantizeLinear", "QLinearConv", "QLinearMatMul", "ConvInteger")


class OnnxStep:
    """One node: names of its inputs and outputs, its attributes, and its layer, if any."""

    def __init__(self, node: Any, attributes: Attributes, layer: str | None) -> None:
        self.kind: str = node.op_type
        self.inputs: list[str] = list(node.input)
        self.outputs: list[str] = list(node.output)
        self.attributes, self.layer = attributes, layer


class OnnxNetwork(nn.Module):
    """Runs the steps in the order of the file."""

    def __init__(
        self,
        steps: Sequence[OnnxStep],
        layers: dict[str, nn.Module],
        constants: dict[str, np.ndarray[Any, Any]],
        image: str,
        output: str,
    ) -> None:
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)
        self.steps, self.constants = list(steps), constants
        self.image, self.output = image, output

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> logits [N, classes]."""
        values: dict[str, Value] = {"": None, **self.constants, self.image: x}
        for step in self.steps:
            if step.layer is not None:
                results: Any = self.get_submodule(step.layer)(values[step.inputs[0]])
            else:
                given = [values[name] for name in step.inputs]
                results = OPERATORS[step.kind](step.attributes, *given)
            several = results if isinstance(results, list | tuple) else [results]
            values.update(zip(step.outputs, several, strict=False))
        result = values[self.output]
        assert isinstance(result, Tensor)
        return result


def read_onnx(file: Path) -> OnnxNetwork:
    """The network in ``file``, in evaluation mode.

    Raises UsageError for an invalid ONNX model or several inputs, and UnsupportedError for a
    quantized model, several outputs, or unsupported operators, all of which it names.
    """
    graph, onnx = load_onnx(file).graph, import_onnx()
    _refuse(file, graph)
    constants = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}
    image = next(entry.name for entry in graph.input if entry.name not in constants)
    steps: list[OnnxStep] = []
    layers: dict[str, nn.Module] = {}
    for node in graph.node:
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        if node.op_type == "Constant":
            constants[node.output[0]] = onnx.numpy_helper.to_array(attributes["value"])
        elif node.op_type == "Identity" and node.input[0] in constants:
            constants[node.output[0]] = constants[node.input[0]]
        else:
            steps.append(_step(node, attributes, constants, layers))
    used = {name for step in steps if step.layer is None for name in step.inputs}
    kept = {name: _plain(array) for name, array in constants.items() if name in used}
    return OnnxNetwork(steps, layers, kept, image, graph.output[0].name).eval()


def _plain(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.array(array, array.dtype.newbyteorder("="))


def _step(
    node: Any,
    attributes: Attributes,
    constants: dict[str, np.ndarray[Any, Any]],
    layers: dict[str, nn.Module],
) -> OnnxStep:
    stored = [constants.get(name) for name in node.input[1:]]
    make = LAYERS.get(node.op_type)
    if make is None or not stored or any(array is None for array in stored):
        return OnnxStep(node, attributes, None)
    name = _name(node, layers)
    layers[name] = make(attributes, [_plain(array) for array in stored if array is not None])
    return OnnxStep(node, attributes, name)


def _name(node: Any, layers: dict[str, nn.Module]) -> str:
    """A module name from the name of the node: letters, digits and underscores."""
    text = re.sub(r"\W+", "_", node.name or node.output[0]).strip("_")
    base = text if text[:1].isalpha() else f"{node.op_type.lower()}_{text}"
    name, count = base, 0
    while name in layers or hasattr(nn.Module, name):
        count += 1
        name = f"{base}_{count}"
    return name


def _refuse(file: Path, graph: Any) -> None:
    kinds = list(dict.fromkeys(node.op_type for node in graph.node))
    quantized = [kind for kind in kinds if kind in QUANTIZED]
    if quantized:
        raise UnsupportedError(
            f"model={file}: is quantized ({', '.join(quantized)}); export the float32 network, gpw "
            "quantizes it by itself"
        )
    odd = [kind for kind in kinds if kind not in {*OPERATORS, *LAYERS, "Constant"}]
    if odd:
        raise UnsupportedError(
            f"model={file}: operators that are not supported: {', '.join(odd)} "
            f"(supported: {', '.join(sorted({*OPERATORS, *LAYERS, 'Constant'}))})"
        )
    if len(graph.output) != 1:
        raise UnsupportedError(f"model={file}: has {len(graph.output)} outputs; one is needed")
