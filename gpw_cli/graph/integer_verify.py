"""Checks an integer graph against the rules of graph/integer.py.

verify_integer(graph)       # returns the graph itself
"""

from __future__ import annotations

import numpy as np

from gpw_cli.errors import UnsupportedError
from gpw_cli.graph import integer
from gpw_cli.graph.frame import Shape
from gpw_cli.graph.integer import IntConcat, IntGraph, IntNode, IntSelect, IntUpsample, Rescale
from gpw_cli.graph.ir import output_size
from gpw_cli.graph.moves import moved_shape


def verify_integer(graph: IntGraph) -> IntGraph:
    """``graph`` itself. Raises UnsupportedError naming a node that breaks a rule."""
    shapes: dict[str, Shape] = {}
    for index, node in enumerate(graph.nodes):
        if isinstance(node, integer.IntInput) != (index == 0):
            raise UnsupportedError(f"{node.name}: an integer graph has one input, its first node")
        missing = [name for name in node.inputs if name not in shapes]
        if missing or node.name in shapes:
            raise UnsupportedError(f"{node.name}: out of order or named twice (inputs {missing})")
        expected = _shape(node, shapes)
        if node.shape != expected:
            raise UnsupportedError(f"{node.name}: shape {node.shape}, its inputs give {expected}")
        if isinstance(node, integer.IntConv):
            _check_conv(node, shapes, graph.output)
        if (
            isinstance(
                node, integer.IntConv | integer.IntAdd | integer.IntRelu | integer.IntAvgPool
            )
            and node.rescale.multiplies
        ):
            _check_multiplier(node.name, node.rescale, node.shape[0])
        shapes[node.name] = node.shape
    read = {name for node in graph.nodes for name in node.inputs}
    loose = [name for name in shapes if name not in read]
    if loose != [graph.output] or set(graph.scales) != set(shapes):
        raise UnsupportedError(f"the output is {graph.output!r}, but {loose} end the graph")
    return graph


def _shape(node: IntNode, shapes: dict[str, Shape]) -> Shape:
    if isinstance(node, integer.IntInput):
        return node.shape
    source = shapes[node.inputs[0]]
    if isinstance(node, integer.IntConv):
        out, _, *kernel = node.weight.shape
        return (out, *output_size(source, (kernel[0], kernel[1]), node.stride, node.padding))
    if isinstance(node, IntConcat | IntSelect | IntUpsample):
        return moved_shape(node, [shapes[name] for name in node.inputs])
    if isinstance(node, integer.IntMaxPool | integer.IntAvgPool):
        after = node.after if isinstance(node, integer.IntMaxPool) else (0, 0)
        return (source[0], *output_size(source, node.kernel, node.stride, node.padding, after))
    if isinstance(node, integer.IntPad):
        high, wide = (-(-source[i + 1] // node.stride[i]) for i in (0, 1))
        return (source[0] + node.before + node.after, high, wide)
    if isinstance(node, integer.IntAdd) and (
        shapes[node.b] != source or min(node.shift_a, node.shift_b) < 0
    ):
        raise UnsupportedError(f"{node.name}: adds {source} and {shapes[node.b]}")
    return source


def _check_conv(node: integer.IntConv, shapes: dict[str, Shape], output: str) -> None:
    out, in_ = node.weight.shape[:2]
    if node.weight.dtype != np.int8 or node.bias.dtype != np.int32 or node.bias.shape != (out,):
        raise UnsupportedError(f"{node.name}: needs int8 weights and int32 [{out}] biases")
    if in_ != shapes[node.input][0]:
        raise UnsupportedError(f"{node.name}: {in_} input channels, gets {shapes[node.input]}")
    if node.residual is not None and shapes[node.residual] != node.shape:
        raise UnsupportedError(f"{node.name}: its shortcut has shape {shapes[node.residual]}")
    allowed = (8, 16, 32) if node.name == output else (8,)
    if node.out_bits not in allowed:
        raise UnsupportedError(f"{node.name}: {node.out_bits} output bits, not one of {allowed}")
    for shift in (node.rescale.shift, node.residual_shift):
        if isinstance(shift, np.ndarray) and shift.shape != (out,):
            raise UnsupportedError(f"{node.name}: one shift per channel, not {shift.shape}")


def _check_multiplier(name: str, rescale: Rescale, channels: int) -> None:
    """NVDLA's limits: a multiplier of 16 signed bits, here not negative, a shift of 5 bits."""
    for what, value, top in (
        ("multiplier", rescale.multiplier, 2**15 - 1),
        ("shift", rescale.shift, 31),
    ):
        values = np.atleast_1d(value)
        if values.size not in (1, channels):
            raise UnsupportedError(f"{name}: one {what} or {channels}, not {values.size}")
        if values.min() < 0 or values.max() > top:
            raise UnsupportedError(
                f"{name}: a rescale with a multiplier has a {what} from 0 to {top}, "
                f"not {values.min()} to {values.max()}"
            )
