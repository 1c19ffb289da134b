"""Passes that make moves free: pooling before concatenation, selected channels in the weights.

    graph = rearrange(graph)        # after batch norm has been folded; see graph/fold.py

Channelwise nodes move before a ``Concat``, so that only convolutions and additions read
concatenated tensors. A ``Select`` before a convolution rearranges its weights instead. A ``Spread``
becomes part of the next linear layer.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from gpw_cli.arrays import Floats
from gpw_cli.errors import UnsupportedError
from gpw_cli.graph.ir import AvgPool, Clip, Conv, Graph, Input, MaxPool, Node, Pad, ReLU
from gpw_cli.graph.ir import inputs as inputs_of
from gpw_cli.graph.moves import Concat, Select, Spread, Upsample

CHANNELWISE = (ReLU, Clip, MaxPool, AvgPool, Upsample)


def rearrange(graph: Graph) -> Graph:
    """``graph`` after these passes. Raises UnsupportedError naming a ``Spread`` that is left."""
    for step in (sink, place_selects, place_spreads, weighted_averages):
        graph = live(step(graph))
    return graph


def live(graph: Graph) -> Graph:
    """The graph without what the output does not need."""
    needed = {graph.output}
    for node in reversed(graph.nodes):
        if node.name in needed:
            needed.update(inputs_of(node))
    kept = (node for node in graph.nodes if node.name in needed or isinstance(node, Input))
    return Graph(tuple(kept), graph.output)


def sink(graph: Graph) -> Graph:
    """Moves every channelwise node before the ``Concat`` that it reads."""
    done: dict[str, Node] = {}
    for node in graph.nodes:
        source = done.get(node.input) if isinstance(node, CHANNELWISE) else None
        if not isinstance(source, Concat):
            done[node.name] = node
            continue
        parts = []
        for number, part in enumerate(source.parts):
            shape = (done[part].shape[0], *node.shape[1:])
            one = replace(node, name=f"{node.name}.part{number}", input=part, shape=shape)  # type: ignore[arg-type]
            done[one.name] = one
            parts.append(one.name)
        done[node.name] = Concat(node.name, tuple(parts), node.shape)
    return Graph(tuple(done.values()), graph.output)


def place_selects(graph: Graph) -> Graph:
    """Merges chains of ``Select``, and moves those before a convolution into its weights."""
    done: dict[str, Node] = {}
    for node in graph.nodes:
        source = done.get(node.input) if isinstance(node, Conv | Select) else None
        if isinstance(source, Select):
            before = done[source.input].shape[0]
            if isinstance(node, Select):
                node = replace(node, input=source.input, channels=source.channels[node.channels])
            elif isinstance(node, Conv):
                weight = _columns(node.weight, source.channels, before)
                node = replace(node, input=source.input, weight=weight)
        done[node.name] = node
    return Graph(tuple(done.values()), graph.output)


def _columns(weight: Floats, channels: NDArray[np.int64], count: int) -> Floats:
    """Column ``channels[c]`` of the result is column c; columns of the same channel add up."""
    full = np.zeros((count, len(weight), *weight.shape[2:]))
    np.add.at(full, channels, weight.swapaxes(0, 1))
    return np.ascontiguousarray(full.swapaxes(0, 1))


def place_spreads(graph: Graph) -> Graph:
    """Merges a ``Spread`` into the linear layers that read it, or makes it an ``Upsample``."""
    done: dict[str, Node] = {}
    for node in graph.nodes:
        source = done.get(node.input) if isinstance(node, Conv) else None
        if isinstance(node, Conv) and isinstance(source, Spread):
            if node.weight.shape[2:] != source.shape[1:] or any(node.padding):
                raise _left(source)
            weight = np.einsum("ocij,ih,jw->ochw", node.weight, source.rows, source.cols)
            node = replace(node, input=source.input, weight=weight)
        elif isinstance(node, Spread) and not _only_linear(graph, node):
            node = _upsample(node)
        done[node.name] = node
    return Graph(tuple(done.values()), graph.output)


def _only_linear(graph: Graph, node: Spread) -> bool:
    readers = list(graph.consumers(node.name))
    return node.name != graph.output and all(
        isinstance(reader, Conv)
        and reader.weight.shape[2:] == node.shape[1:]
        and reader.padding == (0, 0)
        for reader in readers
    )


def _upsample(node: Spread) -> Upsample:
    factors = []
    for matrix in (node.rows, node.cols):
        size = matrix.shape[1]
        factor = len(matrix) // size
        if factor == 0 or not np.array_equal(matrix, np.eye(size).repeat(factor, axis=0)):
            raise _left(node)
        factors.append(factor)
    return Upsample(node.name, node.input, (factors[0], factors[1]), node.shape)


def _left(node: Spread) -> UnsupportedError:
    sizes = f"{node.rows.shape[1]}x{node.cols.shape[1]} to {len(node.rows)}x{len(node.cols)}"
    return UnsupportedError(
        f"{node.name}: pools or crops {sizes} by windows that differ, which runs only in front of "
        "a linear layer; use windows of one size that tile the image"
    )


def weighted_averages(graph: Graph) -> Graph:
    """Turns a mean over a window whose size is no power of two into a convolution.

    Only where more than convolutions read it: elsewhere its factor stays in the scale of the
    result, which no shift could align with other scales.
    """
    done: list[Node] = []
    for node in graph.nodes:
        if isinstance(node, AvgPool) and _odd(node) and _mixes(graph, node.name):
            node = _convolution(node)
        done.append(node)
    return Graph(tuple(done), graph.output)


def _odd(node: AvgPool) -> bool:
    taps = node.kernel[0] * node.kernel[1]
    return taps & (taps - 1) != 0


def _mixes(graph: Graph, name: str) -> bool:
    """Whether its scale has to be aligned with another one; not where only convolutions read it."""
    for reader in graph.consumers(name):
        if isinstance(reader, MaxPool | Pad | Select | Upsample):
            if _mixes(graph, reader.name):
                return True
        elif not isinstance(reader, Conv):
            return True
    return False


def _convolution(node: AvgPool) -> Conv:
    count, taps = node.shape[0], node.kernel[0] * node.kernel[1]
    weight = np.zeros((count, count, *node.kernel))
    weight[np.arange(count), np.arange(count)] = 1 / taps
    geometry = (node.stride, node.padding, node.shape)
    return Conv(node.name, node.input, weight, np.zeros(count), *geometry)
