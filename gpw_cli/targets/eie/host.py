"""What EIE leaves to the host, and how results return to the activation SRAM.

Tensors are int16 [C, H, W, N]: the integer graph's values times 2^8.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from gpw_cli.arrays import Int16
from gpw_cli.graph import integer
from gpw_cli.graph.frame import Pair, kernel_positions
from gpw_cli.graph.integer import IntConcat, IntNode, IntSelect, IntUpsample
from gpw_cli.targets.eie.fixed import EXTRA, rounded, saturated, shifted
from gpw_cli.targets.eie.network import MatrixLayer, limits, scale_of


def finish(layer: MatrixLayer, sums: Int16, tensors: Mapping[str, Int16]) -> Int16:
    """The tensor that the next layer reads, from accumulators [O, OH, OW, N]."""
    wide = sums.astype(np.int64)
    if layer.residual is not None:
        shortcut = tensors[layer.residual] * layer.residual_scale[:, None, None, None]
        found = wide * 2.0**layer.back + shortcut
        found = np.maximum(found, 0) if layer.relu else found
        return rounded(found).clip(layer.low, layer.high)
    wide = np.maximum(wide, 0) if layer.relu else wide
    return saturated(shifted(wide, layer.back)).clip(layer.low, layer.high)


def compute(node: IntNode, tensors: Mapping[str, Int16]) -> Int16:
    """Any node but the input and convolutions. Sums are exact, then rounded half up and clipped."""
    if isinstance(node, integer.IntAdd):
        total = tensors[node.a] * 2.0**node.shift_a + tensors[node.b] * 2.0**node.shift_b
        total = np.maximum(total, 0) if node.relu else total
        return rounded(total * scale_of(node.rescale, 1)).clip(*limits(node.rescale))
    if isinstance(node, integer.IntRelu):
        value = np.maximum(tensors[node.input], 0) * scale_of(node.rescale, 1)
        return rounded(value).clip(*limits(node.rescale))
    if isinstance(node, integer.IntMaxPool | integer.IntAvgPool):
        return _pooled(node, tensors[node.input])
    return _moved(node, tensors)


def _pooled(node: integer.IntMaxPool | integer.IntAvgPool, x: Int16) -> Int16:
    if isinstance(node, integer.IntAvgPool):
        views = windows(x, node.kernel, node.stride, node.padding, 0)
        total = np.sum(views, axis=0, dtype=np.int64) * scale_of(node.rescale, 1)
        return rounded(total).clip(*limits(node.rescale))
    beside = ((0, 0), (0, node.after[0]), (0, node.after[1]), (0, 0))
    x = np.pad(x, beside, constant_values=-(2**15))
    views = windows(x, node.kernel, node.stride, node.padding, -(2**15))
    return np.asarray(np.max(views, axis=0), np.int16)


def _moved(node: IntNode, tensors: Mapping[str, Int16]) -> Int16:
    if isinstance(node, IntConcat):
        return np.concatenate([tensors[part] for part in node.parts])
    if isinstance(node, IntSelect):
        return tensors[node.input][node.channels]
    if isinstance(node, IntUpsample):
        return tensors[node.input].repeat(node.factor[0], 1).repeat(node.factor[1], 2)
    assert isinstance(node, integer.IntPad)
    sampled = tensors[node.input][:, :: node.stride[0], :: node.stride[1]]
    return np.pad(sampled, ((node.before, node.after), (0, 0), (0, 0), (0, 0)))


def widened(node: integer.IntInput, images: np.ndarray) -> Int16:
    """int8 [N, C, H, W] to int16 [C, H, W, N]."""
    assert node.shape == images.shape[1:]
    return np.ascontiguousarray(np.moveaxis(images, 0, -1)).astype(np.int16) << EXTRA


def windows(x: np.ndarray, kernel: Pair, stride: Pair, padding: Pair, fill: int) -> list[Int16]:
    """One view [C, OH, OW, N] a kernel position, rows first, of ``x`` with ``fill`` around it."""
    around = ((0, 0), (padding[0], padding[0]), (padding[1], padding[1]), (0, 0))
    x = np.pad(x, around, constant_values=fill) if any(padding) else x
    size = (x.shape[1], x.shape[2])
    return [x[:, rows, columns] for rows, columns in kernel_positions(size, kernel, stride)]
