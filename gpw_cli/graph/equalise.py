"""Cross-layer equalisation (Nagel et al. 2019): makes one weight scale fit all channels better.

    graph = equalise(fold(graph))     # computes the same function

Between two convolutions with only a ReLU between them, a channel may be multiplied by any s > 0 on
one side and divided by it on the other. s = sqrt(r1 r2) / r1 gives the channel the same largest
weight on both sides.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from gpw_cli.arrays import Floats
from gpw_cli.graph.ir import Conv, Graph, Node, ReLU, verify

ROUNDS = 20
LIMIT = 4.0  # limit of a channel's total factor, which widens the range of its activations


def equalise(graph: Graph) -> Graph:
    """``graph`` with equalised weights; zeros (pruned weights, pruned channels) stay zeros."""
    nodes: dict[str, Node] = {node.name: node for node in graph.nodes}
    total: dict[str, Floats] = {}
    for _ in range(ROUNDS):
        for first, second in _pairs(graph):
            a, b = nodes[first], nodes[second]
            assert isinstance(a, Conv)
            assert isinstance(b, Conv)
            before = total.get(first, np.ones(len(a.weight)))
            total[first] = np.clip(before * _factors(a, b), 1 / LIMIT, LIMIT)
            factor = total[first] / before
            weight = a.weight * factor[:, None, None, None]
            nodes[first] = replace(a, weight=weight, bias=a.bias * factor)
            nodes[second] = replace(b, weight=b.weight / factor[None, :, None, None])
    return verify(Graph(tuple(nodes[node.name] for node in graph.nodes), graph.output))


def _pairs(graph: Graph) -> list[tuple[str, str]]:
    """Pairs of convolutions (first, second) with only a ReLU between them, read by nothing else."""
    found = []
    for node in graph.nodes:
        relu = graph.only_consumer(node.name) if isinstance(node, Conv) else None
        after = graph.only_consumer(relu.name) if isinstance(relu, ReLU) else None
        if isinstance(after, Conv):
            found.append((node.name, after.name))
    return found


def _factors(a: Conv, b: Conv) -> Floats:
    """sqrt(r1 r2) / r1 per channel; 1 where either side is all zero."""
    r1, r2 = np.abs(a.weight).max((1, 2, 3)), np.abs(b.weight).max((0, 2, 3))
    used = (r1 > 0) & (r2 > 0)
    return np.where(used, np.sqrt(r1 * r2) / np.where(used, r1, 1.0), 1.0)
