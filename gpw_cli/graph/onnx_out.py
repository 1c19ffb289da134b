"""Graphs as ONNX files: the float network, and the integer one with QuantizeLinear pairs (QDQ).

    onnx.save(float_model(graph), "net.onnx")
    onnx.save(quantized_model(integers), "net-int8.onnx")

Both take float images [N, C, H, W], normalised as for the network, and return logits [N, classes].
Tensors are named after the graph's nodes. In the quantized model weights are int8, biases int32,
and every stored tensor goes through a QuantizeLinear. ONNX rounds halves to even, the NPU rounds
them up; ``_stored`` makes both agree. The codes equal those of the integer graph for shifts up to
15 bits, provided the runtime's float32 sums are exact. They can differ for a shortcut that is
shifted right (the integer graph rounds it separately), for 16-bit logits, and where an addition
wraps around. Needs the extra ``onnx``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gpw_cli.errors import UnsupportedError
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
from gpw_cli.graph.onnx_writer import OnnxWriter

if TYPE_CHECKING:
    from onnx import ModelProto


def float_model(graph: Graph) -> ModelProto:
    """The float graph, batch norms folded. Raises UnsupportedError for a node that ONNX lacks."""
    writer = OnnxWriter()
    for node in graph.nodes:
        if not isinstance(node, Input):
            _float_node(writer, node)
    return writer.model(graph.input.name, graph.input.shape, graph.output)


def quantized_model(graph: IntGraph) -> ModelProto:
    """The integer graph. Raises UnsupportedError for a node that the QDQ form cannot express."""
    writer = OnnxWriter()
    source = graph.input
    writer.quantized("image", source.name, graph.scales[source.name], source.low, source.high)
    for node in graph.nodes:
        if not isinstance(node, IntInput):
            _int_node(writer, graph, node)
    return writer.model("image", source.shape, graph.output)


def _pads(padding: tuple[int, int], after: tuple[int, int] = (0, 0)) -> list[int]:
    return [*padding, padding[0] + after[0], padding[1] + after[1]]


def _convolution(writer: OnnxWriter, source: str, name: str, node: Conv | IntConv) -> str:
    inputs = [source, f"{node.name}.weight", f"{node.name}.bias"]
    return writer.op("Conv", inputs, name, strides=list(node.stride), pads=_pads(node.padding))


def _window(writer: OnnxWriter, kind: str, source: str, name: str, node: Any) -> str:
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


def _shortcut(writer: OnnxWriter, node: Pad | IntPad) -> None:
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


def _moved(writer: OnnxWriter, node: Any) -> None:
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


def _float_node(writer: OnnxWriter, node: Any) -> None:
    if isinstance(node, Conv):
        writer.array(f"{node.name}.weight", node.weight.astype(np.float32))
        writer.array(f"{node.name}.bias", node.bias.astype(np.float32))
        _convolution(writer, node.input, node.name, node)
    elif isinstance(node, Add):
        writer.op("Add", [node.a, node.b], node.name)
    elif isinstance(node, ReLU):
        writer.op("Relu", [node.input], node.name)
    elif isinstance(node, Clip):
        writer.clip(node.input, node.name, node.low, node.high, node.name)
    elif isinstance(node, MaxPool):
        _window(writer, "MaxPool", node.input, node.name, node)
    elif isinstance(node, AvgPool):
        _window(writer, "AveragePool", node.input, node.name, node)
    elif isinstance(node, Pad):
        _shortcut(writer, node)
    else:
        _moved(writer, node)


def _int_node(writer: OnnxWriter, graph: IntGraph, node: Any) -> None:
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


def _int_conv(writer: OnnxWriter, graph: IntGraph, node: IntConv) -> None:
    """A convolution with dequantized int8 weights and int32 biases."""
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
    writer: OnnxWriter, graph: IntGraph, node: Any, source: str, relu: bool, bits: int = 8
) -> None:
    """Quantizes the sum ``source``, rounding as ``node.rescale`` does.

    In units of the output's scale, sums are multiples of 2^-shift. To round halves up, they are
    moved by less than that. Where no sum is negative, a slightly smaller scale does it, and a
    runtime can still fuse it with the convolution. Elsewhere a constant is added, which can also
    make the rounding a rounding down.
    """
    rescale, name, scale = node.rescale, node.name, graph.scales[node.name]
    if rescale.multiplies:
        raise UnsupportedError(
            f"{name}: a rescale with a multiplier is not written as QDQ; use quantizer=best"
        )
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
