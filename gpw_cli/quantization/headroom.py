"""Output scales a few bits coarser, where the upper clip is then proven idle (``headroom``).

    bits = idle_bits(graph, most=1)          # integer node -> bits, only where they suffice

A convolution's accumulator is at most the sum of its positive weights times the largest input, and
its negative ones times the smallest, plus the bias. If that, shifted, stays within the codes, the
NPU needs no pass to clip it (targets/vta/lowering/epilogue.py drops it). One more bit of shift
halves it, and costs the tensor one bit of resolution.
"""

from __future__ import annotations

import numpy as np

from gpw_cli.graph.integer import IntConv, IntGraph, IntInput


def idle_bits(graph: IntGraph, most: int) -> dict[str, int]:
    """Bits, 1 to ``most``, by which a convolution's shift has to grow for an idle upper clip.

    Only convolutions without a shortcut and with one shift, whose tensor convolutions alone
    multiply: no other scale is tied to theirs.
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
    """Lowest and highest code of a tensor, and zero, which may pad it."""
    node = graph.node(name)
    if isinstance(node, IntInput):
        return min(node.low, 0), max(node.high, 0)
    if isinstance(node, IntConv) and node.rescale.clips:
        return min(node.rescale.low, 0), max(node.rescale.high, 0)
    return -128, 127
