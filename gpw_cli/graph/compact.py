"""Removes channels that are zero for every image from the tensors of the float graph.

    graph = compact(remove_dead(fold(traced)))

The other channels move together, so that they fill fewer channel blocks of the NPU. A channel that
takes part in an addition is removed from both summands and from everything that reads the sum, so
along a shortcut only channels that every producer leaves zero are removed. The zero channels with
which an option-A shortcut pads (``Pad``) may be removed too.

The logits are the same within rounding: a convolution sums fewer zeros, perhaps in another order.
A graph without such channels is returned unchanged.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from gpw_cli.arrays import Bools, Int64
from gpw_cli.graph.constants import Known, known
from gpw_cli.graph.ir import Add, Conv, Graph, Input, Node, Pad, inputs, verify
from gpw_cli.graph.moves import Concat, Select


def compact(graph: Graph) -> Graph:
    """``graph`` (without batch norms) without its zero channels; verified."""
    kept = kept_channels(graph)
    if all(rows.all() for rows in kept.values()):
        return graph
    nodes = tuple(_narrowed(node, kept) for node in graph.nodes)
    return verify(Graph(nodes, graph.output))


def kept_channels(graph: Graph) -> dict[str, Bools]:
    """Tensor -> bool [C]: the channels that ``compact`` keeps, at least one."""
    ids = tied_channels(graph)
    facts: dict[str, Known] = {}
    gone = np.ones(1 + max(int(own.max()) for own in ids.values()), bool)
    for node in graph.nodes:
        facts[node.name] = known(node, facts)
        if isinstance(node, Input) or node.name == graph.output:
            gone[ids[node.name]] = False
        gone[ids[node.name][~facts[node.name].zero]] = False
    for own in ids.values():
        if gone[own].all():
            gone[own[0]] = False
    return {name: ~gone[own] for name, own in ids.items()}


def tied_channels(graph: Graph) -> dict[str, Int64]:
    """Tensor -> int64 [C]: channels with the same number are kept or removed together."""
    ids: dict[str, Int64] = {}
    same = _Same()
    for node in graph.nodes:
        if isinstance(node, Input | Conv):
            ids[node.name] = same.new(node.shape[0])
        elif isinstance(node, Concat):
            ids[node.name] = np.concatenate([ids[part] for part in node.parts])
        elif isinstance(node, Select):
            ids[node.name] = ids[node.input][node.channels]
        elif isinstance(node, Pad):
            parts = (same.new(node.before), ids[node.input], same.new(node.after))
            ids[node.name] = np.concatenate(parts)
        else:
            ids[node.name] = ids[inputs(node)[0]]
        if isinstance(node, Add):
            same.join(ids[node.a], ids[node.b])
    return {name: same.leaders(own) for name, own in ids.items()}


class _Same:
    """A union-find structure over numbers."""

    def __init__(self) -> None:
        self.leader: list[int] = []

    def new(self, count: int) -> Int64:
        """``count`` new numbers."""
        first = len(self.leader)
        self.leader += range(first, first + count)
        return np.arange(first, first + count)

    def join(self, a: Int64, b: Int64) -> None:
        """Joins the sets of the numbers, pair by pair."""
        for one, other in zip(a.tolist(), b.tolist(), strict=True):
            self.leader[self._find(other)] = self._find(one)

    def leaders(self, numbers: Int64) -> Int64:
        """One number for each set."""
        return np.array([self._find(number) for number in numbers.tolist()], np.int64)

    def _find(self, number: int) -> int:
        while self.leader[number] != number:
            number = self.leader[number]
        return number


def _narrowed(node: Node, kept: Mapping[str, Bools]) -> Node:
    rows = kept[node.name]
    if isinstance(node, Input):
        return node
    shape = (int(rows.sum()), *node.shape[1:])
    if isinstance(node, Conv):
        weight = node.weight[rows][:, kept[node.input]]
        return replace(node, weight=weight, bias=node.bias[rows], shape=shape)
    if isinstance(node, Pad):
        before = int(rows[: node.before].sum())
        after = int(rows[len(rows) - node.after :].sum())
        return replace(node, before=before, after=after, shape=shape)
    if isinstance(node, Select):
        places = np.cumsum(kept[node.input]) - 1
        return replace(node, channels=places[node.channels[rows]], shape=shape)
    return replace(node, shape=shape)
