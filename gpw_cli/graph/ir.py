"""The network as a small typed graph on real numbers, for one image.

    graph = trace(model, (3, 32, 32))     # gpw_cli/graph/trace.py; verified
    graph = fold(graph)                   # gpw_cli/graph/fold.py: without BatchNorm
    verify(graph)                         # shapes, names, order, one output

A node's ``name`` is the path of the module it came from (``layer1.0.conv1``) and also names the
tensor it produces, ``shape`` (C, H, W). A linear layer is a ``Conv`` with a kernel of the size of
its input, so flattening needs no node.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

import numpy as np

from gpw_cli.arrays import Floats
from gpw_cli.errors import UnsupportedError
from gpw_cli.graph.frame import Binary, Ordered, Padded, Pair, Shape, Source, Unary, Windowed
from gpw_cli.graph.moves import Concat, Move, Select, Spread, Upsample, moved_shape


@dataclass(frozen=True, eq=False)
class Input(Source):
    """The image; ``mean`` and ``std``: the normalisation that the network was trained with."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class Conv(Unary):
    """weight [O, I, KH, KW], bias [O], zero padding, no groups, no dilation."""

    weight: Floats
    bias: Floats
    stride: Pair
    padding: Pair
    shape: Shape


@dataclass(frozen=True, eq=False)
class BatchNorm(Unary):
    """x * scale + shift, each [C]; ``fold`` removes it."""

    scale: Floats
    shift: Floats
    shape: Shape


@dataclass(frozen=True, eq=False)
class Add(Binary):
    """Sum of two tensors of one shape."""

    shape: Shape


@dataclass(frozen=True, eq=False)
class ReLU(Unary):
    """max(x, 0)."""

    shape: Shape


@dataclass(frozen=True, eq=False)
class Clip(Unary):
    """min(max(x, low), high); -inf or inf: no limit."""

    low: float
    high: float
    shape: Shape


@dataclass(frozen=True, eq=False)
class MaxPool(Windowed):
    """Maximum over a window; padding never wins.

    ``after``: further rows below and columns to the right that the last windows cover (ceil_mode).
    """

    shape: Shape
    after: Pair = (0, 0)


@dataclass(frozen=True, eq=False)
class AvgPool(Windowed):
    """Mean over a window, including zero padding."""

    shape: Shape


@dataclass(frozen=True, eq=False)
class Pad(Padded):
    """Every ``stride``-th pixel from 0, then zero channels before and after."""


Node = Input | Conv | BatchNorm | Add | ReLU | Clip | MaxPool | AvgPool | Pad | Move


@dataclass(frozen=True, eq=False)
class Graph(Ordered[Node]):
    """The first node is the only ``Input``."""

    @property
    def input(self) -> Input:
        """The first node."""
        first = self.nodes[0]
        assert isinstance(first, Input)
        return first

    def only_consumer(self, name: str) -> Node | None:
        """The only node that reads ``name``; None if several do, or if it is the output."""
        readers = list(self.consumers(name))
        return readers[0] if len(readers) == 1 and name != self.output else None


def inputs(node: Node) -> tuple[str, ...]:
    """The tensors that ``node`` reads."""
    return node.inputs


def renamed(node: Node, names: Mapping[str, str]) -> Node:
    """``node`` with its inputs renamed by ``names``; others keep their names."""
    if isinstance(node, Input):
        return node
    if isinstance(node, Add):
        return replace(node, a=names.get(node.a, node.a), b=names.get(node.b, node.b))
    if isinstance(node, Concat):
        return replace(node, parts=tuple(names.get(part, part) for part in node.parts))
    return replace(node, input=names.get(node.input, node.input))


def output_size(
    shape: Shape, kernel: Pair, stride: Pair, padding: Pair, after: Pair = (0, 0)
) -> Pair:
    """(H, W) of the output of a window sliding over ``shape``, rounded down."""
    high = (shape[1] + 2 * padding[0] + after[0] - kernel[0]) // stride[0] + 1
    return high, (shape[2] + 2 * padding[1] + after[1] - kernel[1]) // stride[1] + 1


def verify(graph: Graph) -> Graph:
    """``graph`` itself; UnsupportedError names the node that breaks a rule of this module."""
    shapes: dict[str, Shape] = {}
    for index, node in enumerate(graph.nodes):
        if node.name in shapes:
            raise UnsupportedError(f"two tensors of the network are called {node.name!r}")
        if isinstance(node, Input) != (index == 0):
            raise UnsupportedError(f"{node.name}: a network has exactly one input, its first node")
        missing = [name for name in inputs(node) if name not in shapes]
        if missing:
            raise UnsupportedError(f"{node.name} reads {missing[0]!r}, which no earlier node makes")
        expected = node.shape if isinstance(node, Input) else _shape(node, shapes)
        if node.shape != expected or min(expected) < 1:
            raise UnsupportedError(f"{node.name}: shape {node.shape}, its inputs give {expected}")
        _check_finite(node)
        shapes[node.name] = node.shape
    _check_output(graph)
    return graph


def _shape(node: Node, shapes: dict[str, Shape]) -> Shape:
    """The output shape that the inputs of ``node`` imply."""
    source = shapes[inputs(node)[0]]
    if isinstance(node, Conv):
        out, in_, *kernel = node.weight.shape
        if in_ != source[0] or node.bias.shape != (out,):
            raise UnsupportedError(
                f"{node.name}: weight {node.weight.shape}, bias {node.bias.shape}, input {source}"
            )
        return (out, *output_size(source, (kernel[0], kernel[1]), node.stride, node.padding))
    if isinstance(node, Concat | Select | Upsample | Spread):
        return moved_shape(node, [shapes[name] for name in inputs(node)])
    if isinstance(node, MaxPool | AvgPool):
        after = node.after if isinstance(node, MaxPool) else (0, 0)
        return (source[0], *output_size(source, node.kernel, node.stride, node.padding, after))
    if isinstance(node, Pad):
        high, wide = (-(-source[i + 1] // node.stride[i]) for i in (0, 1))
        return (source[0] + node.before + node.after, high, wide)
    if isinstance(node, Add) and shapes[node.b] != source:
        raise UnsupportedError(f"{node.name}: adds {source} and {shapes[node.b]}")
    return source


def _check_finite(node: Node) -> None:
    for field in fields(node):
        value = getattr(node, field.name)
        if isinstance(value, np.ndarray) and not np.isfinite(value).all():
            raise UnsupportedError(f"{node.name}: its {field.name} holds NaN or infinity")


def _check_output(graph: Graph) -> None:
    read = {name for node in graph.nodes for name in inputs(node)}
    loose = [node.name for node in graph.nodes if node.name not in read]
    if loose != [graph.output]:
        raise UnsupportedError(f"the network's output is {graph.output!r}, but {loose} end it")
