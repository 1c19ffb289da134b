"""Removes dead parts of the float graph: what is constantly zero, and what nobody reads.

    graph = remove_dead(fold(trace(model, (3, 32, 32))))
    left = simplify(graph)               # also says which tensor now has the values of each old one
    left.same["layer1.1.relu2"]          # "relu": only the shortcut of the block is left

Two sweeps alternate until nothing changes. The forward sweep removes constant channels from the
convolutions that read them (their weights become zero), replaces an addition of zero by its other
summand, and a ReLU of a tensor that is never negative by its input. The backward sweep zeroes the
weights of channels that nobody reads, and removes nodes that nobody reads.

The logits stay the same, bit for bit where only zeros are removed, since x + 0 and 0 * x are exact.
Moving another constant into the next bias changes the order of a sum, and so its last bits. This is
done only without padding, because pixels at the border see fewer constants.
A graph in which nothing is dead is returned unchanged.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from gpw_cli.arrays import Bools
from gpw_cli.graph.constants import Known, known, never_negative
from gpw_cli.graph.ir import (
    Add,
    BatchNorm,
    Conv,
    Graph,
    Node,
    Pad,
    ReLU,
    inputs,
    renamed,
    verify,
)
from gpw_cli.graph.moves import Concat, Select


@dataclass(frozen=True, eq=False)
class Simplified:
    """``same``: tensor of the original graph -> tensor of ``graph`` with the same values, if any.

    Values that nobody reads may differ.
    """

    graph: Graph
    same: Mapping[str, str]


def remove_dead(graph: Graph) -> Graph:
    """``graph`` without its dead parts; verified."""
    return simplify(graph).graph


def simplify(graph: Graph) -> Simplified:
    """``graph`` without its dead parts, and the tensors that now hold the old ones' values."""
    same = {node.name: node.name for node in graph.nodes}
    while True:
        swept, names = _forwards(graph)
        after = _backwards(swept)
        left = {node.name for node in after.nodes}
        if _size(after) == _size(graph):
            return Simplified(verify(graph), same)
        same = {old: names[new] for old, new in same.items() if names[new] in left}
        graph = after


def _size(graph: Graph) -> tuple[int, int, int]:
    """The numbers of nodes, nonzero weights and nonzero biases; every change reduces the triple."""
    weights = biases = 0
    for node in graph.nodes:
        if isinstance(node, Conv):
            weights += int(np.count_nonzero(node.weight))
            biases += int(np.count_nonzero(node.bias))
        if isinstance(node, BatchNorm):
            weights += int(np.count_nonzero(node.scale))
            biases += int(np.count_nonzero(node.shift))
    return len(graph.nodes), weights, biases


def _forwards(graph: Graph) -> tuple[Graph, dict[str, str]]:
    """The forward sweep; also the tensor that now holds the values of each old one."""
    facts: dict[str, Known] = {}
    names: dict[str, str] = {}
    done: list[Node] = []
    for old in graph.nodes:
        node = renamed(old, names)
        alias = _alias(node, facts)
        if alias is None:
            if isinstance(node, Conv):
                node = _without_constants(node, facts[node.input])
            facts[node.name] = known(node, facts)
            done.append(node)
        names[old.name] = node.name if alias is None else alias
    return Graph(tuple(done), names[graph.output]), names


def _alias(node: Node, facts: Mapping[str, Known]) -> str | None:
    """The tensor that ``node`` passes on unchanged, if it does."""
    if isinstance(node, ReLU) and never_negative(facts[node.input]):
        return node.input
    if isinstance(node, Add):
        if facts[node.a].zero.all():
            return node.b
        if facts[node.b].zero.all():
            return node.a
    return None


def _without_constants(conv: Conv, source: Known) -> Conv:
    """``conv`` with zero weights for the constant channels that it does not need."""
    foldable = ~np.isnan(source.constant) if conv.padding == (0, 0) else source.zero
    if not conv.weight[:, foldable].any():
        return conv
    values = np.where(foldable, source.constant, 0.0)
    bias = conv.bias + np.einsum("oihw,i->o", conv.weight, values)
    weight = conv.weight.copy()
    weight[:, foldable] = 0.0
    return replace(conv, weight=weight, bias=bias)


def _backwards(graph: Graph) -> Graph:
    """The backward sweep: removes channels and nodes that nobody reads."""
    read: dict[str, Bools] = {node.name: np.zeros(node.shape[0], bool) for node in graph.nodes}
    read[graph.output][:] = True
    kept = {graph.output, graph.input.name}
    for node in reversed(graph.nodes):
        if node.name not in kept:
            continue
        for name, rows in _reads(node, read[node.name], read):
            read[name] |= rows
            if rows.any() or not isinstance(node, Conv):
                kept.add(name)
    done: list[Node] = []
    for node in graph.nodes:
        if node.name in kept:
            done.append(_grounded(_trimmed(node, read[node.name]), done, kept))
    return Graph(tuple(done), graph.output)


def _reads(node: Node, rows: Bools, tensors: Mapping[str, Bools]) -> Iterator[tuple[str, Bools]]:
    """The channels of each input that the output channels ``rows`` of ``node`` depend on."""
    if isinstance(node, Conv):
        rows = np.asarray(node.weight[rows].any((0, 2, 3)))
    if isinstance(node, BatchNorm):
        rows = np.asarray(rows & (node.scale != 0))
    if isinstance(node, Pad):
        rows = rows[node.before : len(rows) - node.after]
    if isinstance(node, Select):
        chosen = np.zeros_like(tensors[node.input])
        chosen[node.channels[rows]] = True
        rows = chosen
    begin = 0
    for name in inputs(node):
        end = begin + len(tensors[name])
        yield name, rows[begin:end] if isinstance(node, Concat) else rows
        begin = end


def _trimmed(node: Node, rows: Bools) -> Node:
    """``node`` with zeros for the output channels that are not in ``rows``."""
    if isinstance(node, Conv):
        weight = np.where(rows[:, None, None, None], node.weight, 0.0)
        return replace(node, weight=weight, bias=np.where(rows, node.bias, 0.0))
    if isinstance(node, BatchNorm):
        scale, shift = np.where(rows, node.scale, 0.0), np.where(rows, node.shift, 0.0)
        return replace(node, scale=scale, shift=shift)
    return node


def _grounded(node: Node, before: list[Node], kept: set[str]) -> Node:
    """A convolution without weights whose input was removed reads another tensor, times zero."""
    if not isinstance(node, Conv) or node.input in kept:
        return node
    same_size = (n for n in before[1:] if n.shape[1:] == node.shape[1:])
    source = next(same_size, before[0])
    around = [max(0, -(-(node.shape[i] - source.shape[i]) // 2)) for i in (1, 2)]
    kernel = [source.shape[i + 1] + 2 * around[i] - node.shape[i + 1] + 1 for i in (0, 1)]
    weight = np.zeros((len(node.weight), source.shape[0], *kernel))
    padding = (around[0], around[1])
    return replace(node, input=source.name, weight=weight, stride=(1, 1), padding=padding)
