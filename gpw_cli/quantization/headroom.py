"""Coarser output scales that make the upper clip redundant (``headroom``).

    bits = idle_bits(graph, most=1)          # integer node -> bits, only where they suffice

The largest accumulator of a convolution is bounded by its positive weights times the largest input
plus its negative weights times the smallest input plus the bias. If the shifted bound fits the
codes, the NPU needs no clipping pass (targets/vta/lowering/epilogue.py drops it). One more bit of
shift halves the bound and costs one bit of resolution.
"""

from __future__ import annotations

import numpy as np

from gpw_cli.graph.integer import IntConv, IntGraph, IntInput


def idle_bits(graph: IntGraph, most: int) -> dict[str, int]:
    """Extra bits of shift, 1 to ``most``, that make a convolution's upper clip redundant.

    Considers convolutions without a shortcut and with a single shift whose output only
    convolutions read, so that no other scale is tied to theirs.
    """
    found = {}
    for node in graph.nodes:
        if isinstance(node, IntConv) and _alone(graph, node):
            need = next((bits for bits in range(most + 1) if _idle(graph, node, bits)), 0)
            if need:
                found[node.name] = need
    return found


def _alone(graph: IntGraph, node: IntConv) -> bool:
    readers = list(graph.consumers(node.name))
    multiplied = all(isinstance(r, IntConv) and r.residual != node.name for r in readers)
    single = isinstance(node.rescale.shift, int) and node.rescale.shift > 0
    plain = node.residual is None and node.rescale.clips and not node.rescale.multiplies
    return bool(readers) and multiplied and single and plain


def _idle(graph: IntGraph, node: IntConv, bits: int) -> bool:
    """Whether no accumulator of ``node``, shifted by ``bits`` more, exceeds the highest code."""
    low, high = _codes(graph, node.input)
    weight = node.weight.astype(np.int64)
    plus, minus = (part.sum(axis=(1, 2, 3)) for part in (weight.clip(min=0), weight.clip(max=0)))
    most = plus * high + minus * low + node.bias
    assert isinstance(node.rescale.shift, int)
    shift = node.rescale.shift + bits
    half = 1 << (shift - 1) if node.rescale.rounding else 0
    return bool(((most + half) >> shift <= node.rescale.high).all())


def _codes(graph: IntGraph, name: str) -> tuple[int, int]:
    """Lowest and highest code of a tensor; zero is included, since it may pad the tensor."""
    node = graph.node(name)
    if isinstance(node, IntInput):
        return min(node.low, 0), max(node.high, 0)
    if isinstance(node, IntConv) and node.rescale.clips:
        return min(node.rescale.low, 0), max(node.rescale.high, 0)
    return -128, 127
