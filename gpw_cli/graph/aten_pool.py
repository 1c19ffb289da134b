"""ATen's pooling operators: maximum and mean over windows of any geometry."""

from __future__ import annotations

import numpy as np
from torch import fx

from gpw_cli.arrays import Int64
from gpw_cli.graph.context import Context, argument, pair, result_shape
from gpw_cli.graph.frame import Pair, Shape
from gpw_cli.graph.ir import AvgPool, BatchNorm, MaxPool, Node, output_size
from gpw_cli.graph.moves import Spread
from gpw_cli.graph.views import averages, uniform, windows


def max_pool(context: Context, op: fx.Node) -> Node:
    """With ``ceil_mode`` the last windows reach beyond the input."""
    source = context.source(op)
    if pair(argument(op, "dilation", 1)) != (1, 1):
        context.refuse(op, "is dilated; only dilation=1 is supported")
    kernel, stride, padding = _window(op)
    shape = _result(op, source.shape)
    reach = [(shape[i + 1] - 1) * stride[i] + kernel[i] - padding[i] for i in (0, 1)]
    floor = output_size(source.shape, kernel, stride, padding)
    beyond = [reach[i] - source.shape[i + 1] - padding[i] for i in (0, 1)]
    after = tuple(beyond[i] if shape[i + 1] > floor[i] else 0 for i in (0, 1))
    return MaxPool(
        context.label(op), source.name, kernel, stride, padding, shape, (after[0], after[1])
    )


def avg_pool(context: Context, op: fx.Node) -> Node:
    """Windows that cover different numbers of pixels become a ``Spread``."""
    source = context.source(op)
    kernel, stride, padding = _window(op)
    shape = _result(op, source.shape)
    inside = bool(argument(op, "count_include_pad", True))
    divisor = argument(op, "divisor_override")
    even = shape[1:] == output_size(source.shape, kernel, stride, padding)
    if even and (inside or padding == (0, 0)):
        pool = AvgPool(context.label(op), source.name, kernel, stride, padding, shape)
        return pool if divisor is None else _rescaled(context, op, pool, int(divisor))
    if divisor is not None:
        context.refuse(op, "has divisor_override with windows of different sizes")
    means = []
    for axis in (0, 1):
        size, pad = source.shape[axis + 1], padding[axis]
        first = np.arange(shape[axis + 1]) * stride[axis] - pad
        end = np.minimum(first + kernel[axis], size + pad)
        counted = end - first if inside else np.minimum(end, size) - np.maximum(first, 0)
        share = averages(first, end, size) * ((end - first) / counted)[:, None]
        means.append(share)
    return Spread(context.label(op), source.name, means[0], means[1], shape)


def _rescaled(context: Context, op: fx.Node, pool: AvgPool, divisor: int) -> Node:
    context.nodes[pool.name] = pool
    scale = np.full(pool.shape[0], pool.kernel[0] * pool.kernel[1] / divisor)
    return BatchNorm(context.label(op), pool.name, scale, np.zeros_like(scale), pool.shape)


def _window(op: fx.Node) -> tuple[Pair, Pair, Pair]:
    kernel = pair(argument(op, "kernel_size"))
    return kernel, pair(argument(op, "stride") or kernel), pair(argument(op, "padding", 0))


def _result(op: fx.Node, source: Shape) -> Shape:
    high, wide = result_shape(op)[-2:]
    return source[0], high, wide


def adaptive_avg(context: Context, op: fx.Node) -> Node | str:
    """Windows of one size and stride, the input itself, or windows of different sizes."""
    source = context.source(op)
    shape = _result(op, source.shape)
    if shape == source.shape:
        return source.name
    (high, wide), even = _adaptive(source.shape, shape)
    if even is not None:
        kernel, stride = even
        return AvgPool(context.label(op), source.name, kernel, stride, (0, 0), shape)
    rows, cols = averages(*high, source.shape[1]), averages(*wide, source.shape[2])
    return Spread(context.label(op), source.name, rows, cols, shape)


def adaptive_max(context: Context, op: fx.Node) -> Node | str:
    """Windows of one size and stride, or the input itself."""
    source = context.source(op)
    shape = _result(op, source.shape)
    if shape == source.shape:
        return source.name
    _, even = _adaptive(source.shape, shape)
    if even is None:
        context.refuse(op, f"makes {shape[1:]} of {source.shape[1:]}, whose windows differ in size")
    kernel, stride = even
    return MaxPool(context.label(op), source.name, kernel, stride, (0, 0), shape)


Windows = tuple[tuple[Int64, Int64], tuple[Int64, Int64]]


def _adaptive(source: Shape, shape: Shape) -> tuple[Windows, tuple[Pair, Pair] | None]:
    """The windows of rows and columns, and (kernel, stride) where they are regular."""
    high, wide = windows(source[1], shape[1]), windows(source[2], shape[2])
    down, right = uniform(*high), uniform(*wide)
    if down is None or right is None:
        return (high, wide), None
    kernel, stride = (down[0], right[0]), (down[1], right[1])
    regular = output_size(source, kernel, stride, (0, 0)) == shape[1:]
    return (high, wide), (kernel, stride) if regular else None


def mean(context: Context, op: fx.Node) -> Node | str:
    """The mean over rows and columns."""
    source = context.source(op)
    dims = argument(op, "dim")
    rank = len(result_shape(op.all_input_nodes[0]))
    if rank != 4 or dims is None or {int(dim) % 4 for dim in dims} != {2, 3}:
        context.refuse(op, f"is over dimensions {dims}; only rows and columns [2, 3] are supported")
    kernel = source.shape[1:]
    if kernel == (1, 1):
        return source.name
    return AvgPool(context.label(op), source.name, kernel, kernel, (0, 0), (source.shape[0], 1, 1))
