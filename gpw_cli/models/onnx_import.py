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
from gpw_cli.models.onnx_constants import constants_of, plain
from gpw_cli.models.onnx_file import import_onnx, load_onnx
from gpw_cli.models.onnx_layers import LAYERS, Attributes, Value
from gpw_cli.models.onnx_operators import OPERATORS

OWN = ("steps", "constants", "image", "output", "training")  # attributes of OnnxNetwork
QUANTIZED = ("QuantizeLinear", "DequantizeLinear", "QLinearConv", "QLinearMatMul", "ConvInteger")


class OnnxOperator(nn.Module):
    """An operator without weights."""

    def __init__(self, kind: str, attributes: Attributes) -> None:
        super().__init__()
        self.kind, self.attributes = kind, attributes

    def forward(self, *values: Value) -> Any:
        """Its results. Raises UnsupportedError for attributes that are not supported."""
        return OPERATORS[self.kind](self.attributes, *values)


class OnnxStep:
    """One node: the name of its module, and of the tensors that it reads and makes."""

    def __init__(self, name: str, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        self.name, self.inputs, self.outputs = name, list(inputs), list(outputs)


class OnnxNetwork(nn.Module):
    """Runs the steps in the order of the file. Its modules are named after the nodes."""

    def __init__(
        self,
        steps: Sequence[OnnxStep],
        modules: dict[str, nn.Module],
        constants: dict[str, np.ndarray[Any, Any]],
        image: str,
        output: str,
    ) -> None:
        super().__init__()
        for name, module in modules.items():
            self.add_module(name, module)
        self.steps, self.constants = list(steps), constants
        self.image, self.output = image, output

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> logits [N, classes]."""
        values: dict[str, Value] = {"": None, **self.constants, self.image: x}
        for step in self.steps:
            try:
                results = self.get_submodule(step.name)(*(values[name] for name in step.inputs))
            except UnsupportedError as error:
                raise UnsupportedError(f"{error} (at {step.name})") from error
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
    model, onnx = load_onnx(file), import_onnx()
    _refuse_quantized(file, model.graph)
    constants = constants_of(model)
    image = next(entry.name for entry in model.graph.input if entry.name not in constants)
    nodes = [node for node in model.graph.node if node.output[0] not in constants]
    _refuse(file, nodes, model.graph, constants)
    (batch,) = (e.type.tensor_type.shape.dim[0] for e in model.graph.input if e.name == image)
    steps: list[OnnxStep] = []
    modules: dict[str, nn.Module] = {}
    for node in nodes:
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        attributes |= {"outputs": len(node.output), "batch": batch.dim_value}
        name = _name(node, modules)
        stored = _stored(node, constants)
        try:
            modules[name] = (
                OnnxOperator(node.op_type, attributes)
                if stored is None
                else LAYERS[node.op_type](attributes, stored)
            )
        except UnsupportedError as error:
            raise UnsupportedError(f"model={file}: {error} (at {name})") from error
        steps.append(OnnxStep(name, node.input if stored is None else node.input[:1], node.output))
    used = {name for step in steps for name in step.inputs}
    kept = {name: plain(array) for name, array in constants.items() if name in used}
    return OnnxNetwork(steps, modules, kept, image, model.graph.output[0].name).eval()


def _stored(
    node: Any, constants: dict[str, np.ndarray[Any, Any]]
) -> list[np.ndarray[Any, Any]] | None:
    """The weights of a layer; None for an operator without weights."""
    if node.op_type not in LAYERS:
        return None
    return [plain(constants[name]) for name in node.input[1:] if name]


def _name(node: Any, modules: dict[str, nn.Module]) -> str:
    """A module name from the name of the node: letters, digits and underscores."""
    text = re.sub(r"\W+", "_", node.name or node.output[0]).strip("_")
    base = text if text[:1].isalpha() else f"{node.op_type.lower()}_{text}"
    name, count = base, 0
    while name in modules or hasattr(OnnxNetwork, name) or name in OWN:
        count += 1
        name = f"{base}_{count}"
    return name


def _refuse_quantized(file: Path, graph: Any) -> None:
    kinds = dict.fromkeys(node.op_type for node in graph.node)
    quantized = [kind for kind in kinds if kind in QUANTIZED]
    if quantized:
        raise UnsupportedError(
            f"model={file}: is quantized ({', '.join(quantized)}); export the float32 network, gpw "
            "quantizes it by itself"
        )


def _refuse(
    file: Path, nodes: Sequence[Any], graph: Any, constants: dict[str, np.ndarray[Any, Any]]
) -> None:
    known = {*OPERATORS, *LAYERS}
    odd: dict[str, list[str]] = {}
    for node in nodes:
        where = node.name or node.output[0]
        if node.op_type not in known or node.domain not in ("", "ai.onnx"):
            kind = f"{node.domain}.{node.op_type}".removeprefix(".")
            odd.setdefault(kind, []).append(where)
        elif node.op_type in LAYERS and (
            node.input[0] in constants
            or not {name for name in node.input[1:] if name} <= {*constants}
        ):
            odd.setdefault(f"{node.op_type} by weights that are computed", []).append(where)
    if odd:
        what = "; ".join(f"{kind} (at {', '.join(places)})" for kind, places in odd.items())
        raise UnsupportedError(
            f"model={file}: operators that are not supported: {what}; supported are "
            f"{', '.join(sorted(known))}"
        )
    if len(graph.output) != 1:
        raise UnsupportedError(f"model={file}: has {len(graph.output)} outputs; one is needed")
