"""Graphs as ONNX files: the float network, and the integer one with QuantizeLinear pairs (QDQ).

    onnx.save(float_model(graph), "net.onnx")
    onnx.save(quantized_model(integers), "net-int8.onnx")

Both take float images [N, C, H, W], normalised as for the network, and return logits [N, classes].
In the quantized model weights are int8, biases int32, and every stored tensor goes through a
QuantizeLinear. ONNX rounds halves to even, the NPU rounds them up; ``_stored`` makes both agree:
the codes are those of the integer graph where the runtime's float32 sums are exact, for shifts up
to 15 bits. Not so for a shortcut that is shifted right (the integer graph rounds it by itself),
for logits of 16 bits and where an addition wraps. Needs the extra ``onnx``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gpw_cli.errors import UnsupportedError, UsageError
from gpw_cli.graph.integer import (
    IntAdd,
    IntAvgPool,
    IntConcat,
    IntConv,
    IntGraph,
    IntInput,
    IntMaxPool,
    IntPad,
    IntRelu,
    IntSelect,
    IntUpsample,
)
from gpw_cli.graph.ir import Add, AvgPool, Clip, Conv, Graph, Input, MaxPool, Pad, ReLU
from gpw_cli.graph.moves import Concat, Select, Upsample

if TYPE_CHECKING:
    from onnx import ModelProto

OPSET = 17
Array = NDArray[Any]


def float_model(graph: Graph) -> ModelProto:
    """The float graph, batch norms folded. Raises UnsupportedError for a node that ONNX lacks."""
    writer = _Writer()
    for node in graph.nodes:
        if not isinstance(node, Input):
            _float_node(writer, node)
    return writer.model(graph.input.name, graph.input.shape, graph.output)


def quantized_model(graph: IntGraph) -> ModelProto:
    """The integer graph. Raises UnsupportedError for a node that the QDQ form cannot express."""
    writer = _Writer()
    source = graph.input
    writer.quantized("image", source.name, graph.scales[source.name], source.low, source.high)
    for node in graph.nodes:
        if not isinstance(node, IntInput):
            _int_node(writer, graph, node)
    return writer.model("image", source.shape, graph.output)


class _Writer:
    """Collects nodes and initialisers; tensors are named after the graph's nodes."""

    def __init__(self) -> None:
        try:
            import onnx
        except ImportError:
            raise UsageError(
                "writing ONNX needs the onnx package: pip install 'gpw[onnx]'"
            ) from None
        self.onnx = onnx
        self.nodes: list[Any] = []
        self.arrays: list[Any] = []

    def array(self, name: str, value: Array | np.generic) -> str:
        whole = np.array(value, order="C")
        self.arrays.append(self.onnx.numpy_helper.from_array(whole, name))
        return name

    def op(self, kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        made = self.onnx.helper.make_node(kind, list(inputs), [output], output, **attributes)
        self.nodes.append(made)
        return output

    def quantized(
        self, source: str, name: str, scale: float, low: int, high: int, less: float = 0.0
    ) -> None:
        """``name`` = ``source`` through int8 codes between ``low`` and ``high``, and back.

        ``less``: the share by which the scale towards the codes is smaller.
        """
        step = self.array(f"{name}.scale", np.float32(scale))
        towards = self.array(f"{name}.towards", np.float32(scale * (1 - less))) if less else step
        zero = self.array(f"{name}.zero", np.int8(0))
        if (low, high) != (-128, 127):  # QuantizeLinear saturates at these limits
            limits = [self.array(f"{name}.{k}", np.float32(v * scale)) for k, v in
                      (("low", low), ("high", high))]  # fmt: skip
            source = self.op("Clip", [source, *limits], f"{name}.clipped")
        self.op("QuantizeLinear", [source, towards, zero], f"{name}.codes")
        self.op("DequantizeLinear", [f"{name}.codes", step, zero], name)

    def model(self, source: str, shape: tuple[int, int, int], output: str) -> ModelProto:
        """The checked model: ``source`` [N, *shape] -> ``logits`` [N, classes]."""
        onnx, helper = self.onnx, self.onnx.helper
        self.op("Flatten", [output], "logits", axis=1)
        kind = onnx.TensorProto.FLOAT
        graph = helper.make_graph(
            self.nodes,
            "gpw",
            [helper.make_tensor_value_info(source, kind, ["N", *shape])],
            [helper.make_tensor_value_info("logits", kind, ["N", None])],
            self.arrays,
        )
        opset = [helper.make_opsetid("", OPSET)]
        made = helper.make_model(graph, opset_imports=opset, producer_name="gpw", ir_version=9)
        onnx.checker.check_model(made, full_check=True)
        return made  # type: ignore[no-any-return]


def _pads(padding: tuple[int, int], after: tuple[int, int] = (0, 0)) -> list[int]:
    return [*padding, padding[0] + after[0], padding[1] + after[1]]


def _convolution(writer: _Writer, source: str, name: str, node: Conv | IntConv) -> str:
    inputs = [source, f"{node.name}.weight", f"{node.name}.bias"]
    return writer.op("Conv", inputs, name, strides=list(node.stride), pads=_pads(node.padding))


def _window(writer: _Writer, kind: str, source: str, name: str, node: Any) -> str:
    extra = {"count_include_pad": 1} if kind == "AveragePool" else {}
    pads = _pads(node.padding, getattr(node, "after", (0, 0)))
    return writer.op(
        kind,
        [source],
        name,
        kernel_shape=list(node.kernel),
        strides=list(node.stride),
        pads=pads,
        **extra,
    )


def _shortcut(writer: _Writer, node: Pad | IntPad) -> None:
    """Every ``stride``-th pixel, then zero channels before and after."""
    name = node.name
    ends = np.array([2**31 - 1, 2**31 - 1], np.int64)
    slices = [
        writer.array(f"{name}.{key}", value)
        for key, value in (
            ("starts", np.zeros(2, np.int64)),
            ("ends", ends),
            ("axes", np.array([2, 3], np.int64)),
            ("steps", np.array(node.stride, np.int64)),
        )
    ]
    writer.op("Slice", [node.input, *slices], f"{name}.sampled")
    around = np.array([0, node.before, 0, 0, 0, node.after, 0, 0], np.int64)
    writer.op("Pad", [f"{name}.sampled", writer.array(f"{name}.around", around)], name)


def _moved(writer: _Writer, node: Any) -> None:
    if isinstance(node, Concat | IntConcat):
        writer.op("Concat", node.parts, node.name, axis=1)
    elif isinstance(node, Select | IntSelect):
        index = writer.array(f"{node.name}.channels", node.channels)
        writer.op("Gather", [node.input, index], node.name, axis=1)
    elif isinstance(node, Upsample | IntUpsample):
        factors = writer.array(f"{node.name}.factors", np.array([1, 1, *node.factor], np.float32))
        how = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        writer.op("Resize", [node.input, "", factors], node.name, mode="nearest", **how)
    else:
        raise UnsupportedError(f"{node.name}: {type(node).__name__} is not written as ONNX")


def _float_node(writer: _Writer, node: Any) -> None:
    if isinstance(node, Conv):
        writer.array(f"{node.name}.weight", node.weight.astype(np.float32))
        writer.array(f"{node.name}.bias", node.bias.astype(np.float32))
        _convolution(writer, node.input, node.name, node)
    elif isinstance(node, Add):
        writer.op("Add", [node.a, node.b], node.name)
    elif isinstance(node, ReLU):
        writer.op("Relu", [node.input], node.name)
    elif isinstance(node, Clip):
        limits = [
            writer.array(f"{node.name}.{key}", np.float32(value))
            for key, value in (("low", node.low), ("high", node.high))
        ]
        writer.op("Clip", [node.input, *limits], node.name)
    elif isinstance(node, MaxPool):
        _window(writer, "MaxPool", node.input, node.name, node)
    elif isinstance(node, AvgPool):
        _window(writer, "AveragePool", node.input, node.name, node)
    elif isinstance(node, Pad):
        _shortcut(writer, node)
    else:
        _moved(writer, node)


def _int_node(writer: _Writer, graph: IntGraph, node: Any) -> None:
    if isinstance(node, IntConv):
        _int_conv(writer, graph, node)
    elif isinstance(node, IntAdd):
        total = writer.op("Add", [node.a, node.b], f"{node.name}.sum")
        _stored(writer, graph, node, total, node.relu)
    elif isinstance(node, IntRelu):
        _stored(writer, graph, node, node.input, True)
    elif isinstance(node, IntMaxPool):
        _window(writer, "MaxPool", node.input, node.name, node)
    elif isinstance(node, IntAvgPool):
        mean = _window(writer, "AveragePool", node.input, f"{node.name}.mean", node)
        _stored(writer, graph, node, mean, False)
    elif isinstance(node, IntPad):
        _shortcut(writer, node)
    else:
        _moved(writer, node)


def _int_conv(writer: _Writer, graph: IntGraph, node: IntConv) -> None:
    """int8 weights and int32 biases, dequantized; the sum is stored at the node's scale."""
    name = node.name
    shift = np.broadcast_to(np.asarray(node.rescale.shift), (len(node.weight),))
    unit = graph.scales[name] * np.exp2(-shift.astype(np.float64))  # of the accumulators
    weight_scale = writer.array(
        f"{name}.weight.scale", (unit / graph.scales[node.input]).astype(np.float32)
    )
    zero = writer.array(f"{name}.weight.zero", np.zeros(len(node.weight), np.int8))
    codes = writer.array(f"{name}.weight.codes", node.weight)
    writer.op("DequantizeLinear", [codes, weight_scale, zero], f"{name}.weight", axis=0)
    bias_scale = writer.array(f"{name}.bias.scale", unit.astype(np.float32))
    bias_zero = writer.array(f"{name}.bias.zero", np.zeros(len(node.weight), np.int32))
    bias = writer.array(f"{name}.bias.codes", node.bias)
    writer.op("DequantizeLinear", [bias, bias_scale, bias_zero], f"{name}.bias", axis=0)
    total = _convolution(writer, node.input, f"{name}.sum", node)
    if node.residual is not None:
        total = writer.op("Add", [total, node.residual], f"{name}.joined")
    _stored(writer, graph, node, total, node.relu, node.out_bits)


def _stored(
    writer: _Writer, graph: IntGraph, node: Any, source: str, relu: bool, bits: int = 8
) -> None:
    """The sum ``source`` as codes, rounded as ``node.rescale`` says.

    Between two codes the sum takes values 2^-shift apart. A half is moved off the tie by less than
    that: by a scale that is a little smaller where no sum is negative, which a runtime still fuses
    with the convolution, elsewhere by a constant, which rounds down as well.
    """
    rescale, name, scale = node.rescale, node.name, graph.scales[node.name]
    if rescale.multiplies:
        raise UnsupportedError(f"{name}: a rescale with a multiplier is not written as QDQ")
    if relu:
        source = writer.op("Relu", [source], f"{name}.relu")
    if bits != 8:  # logits keep the accumulator's width
        writer.op("Identity", [source], name)
        return
    shift = np.asarray(rescale.shift)
    less = 2.0 ** -(max(int(shift.max()), 10) + 8) if relu and rescale.rounding else 0.0
    if not less and shift.max() > 0:
        moved = 0.25 * np.exp2(-shift.astype(np.float64)) - (0.0 if rescale.rounding else 0.5)
        constant = (scale * np.where(shift > 0, moved, 0.0)).astype(np.float32).reshape(-1, 1, 1)
        source = writer.op("Add", [source, writer.array(f"{name}.moved", constant)], f"{name}.off")
    low, high = -128 if relu else max(rescale.low, -128), min(rescale.high, 127)
    writer.quantized(source, name, scale, low, high, less)
