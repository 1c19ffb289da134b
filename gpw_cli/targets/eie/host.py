"""What EIE leaves to the host: pooling and additions, in the integers that EIE reads and writes.

Tensors are int16 [C, H, W, N].
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from gpw_cli.graph.ir import Add, AvgPool, MaxPool, Node, Pad, Pair, ReLU
from gpw_cli.targets.eie.fixed import Int16, Int64, saturated, shifted


def compute(node: Node, tensors: Mapping[str, Int16], fractions: Mapping[str, int]) -> Int16:
    """Every node but Input and Conv. Sums are exact, then rounded half up and clipped."""
    if isinstance(node, Add):
        to = fractions[node.name]
        parts = [
            shifted(tensors[name].astype(np.int64), fractions[name] - to)
            for name in (node.a, node.b)
        ]
        return saturated(parts[0] + parts[1])
    if isinstance(node, ReLU):
        return np.maximum(tensors[node.input], 0)
    if isinstance(node, Pad):
        sampled = tensors[node.input][:, :: node.stride[0], :: node.stride[1]]
        return np.pad(sampled, ((node.before, node.after), (0, 0), (0, 0), (0, 0)))
    if isinstance(node, MaxPool):
        views = windows(tensors[node.input], node.kernel, node.stride, node.padding, -(2**15))
        return np.asarray(np.max(views, axis=0), np.int16)
    assert isinstance(node, AvgPool)
    views = windows(tensors[node.input], node.kernel, node.stride, node.padding, 0)
    total = np.asarray(np.sum(views, axis=0, dtype=np.int64))
    return _mean(total, len(views), fractions[node.name] - fractions[node.input])


def _mean(total: Int64, count: int, more: int) -> Int16:
    """round(total * 2^more / count)."""
    up, down = 1 << max(more, 0), count << max(-more, 0)
    return saturated((2 * total * up + down) // (2 * down))


def windows(x: Int16, kernel: Pair, stride: Pair, padding: Pair, fill: int) -> list[Int16]:
    """One view [C, OH, OW, N] a kernel position, rows first, of ``x`` with ``fill`` around it."""
    around = ((0, 0), (padding[0], padding[0]), (padding[1], padding[1]), (0, 0))
    x = np.pad(x, around, constant_values=fill) if any(padding) else x
    high = (x.shape[1] - kernel[0]) // stride[0] + 1
    wide = (x.shape[2] - kernel[1]) // stride[1] + 1
    return [
        x[:, i : i + stride[0] * high : stride[0], j : j + stride[1] * wide : stride[1]]
        for i in range(kernel[0])
        for j in range(kernel[1])
    ]
