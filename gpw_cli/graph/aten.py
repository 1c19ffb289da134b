"""What each ATen operator means in the typed graph: one small function an operator, one table.

    made = HANDLERS["conv2d"](context, op)    # a new node, or the name of the tensor it only views

``Context`` holds what has been traced so far. Every function raises UnsupportedError, naming the
operator and the module path, for an argument that the graph cannot express.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from torch import fx

from gpw_cli.graph.context import Context, argument, operator_name, pair, result_shape
from gpw_cli.graph.ir import (
    Add,
    AvgPool,
    BatchNorm,
    Conv,
    Float,
    MaxPool,
    Node,
    Pad,
    Pair,
    ReLU,
    Shape,
    window,
)

BATCH = 2  # a batch of one would let export mistake the batch for a dimension of size one
SUPPORTED = (
    "conv2d, linear, batch_norm, relu, add, max_pool2d, avg_pool2d, adaptive_avg_pool2d, mean, "
    "flatten, view, channel pad, strided slice, dropout"
)


def _conv(context: Context, op: fx.Node) -> Node:
    source = context.source(op)
    weight = context.array(argument(op, "weight"), op)
    bias = context.array(argument(op, "bias"), op)
    assert weight is not None
    groups, padding = argument(op, "groups", 1), argument(op, "padding", 0)
    if groups != 1:
        context.refuse(
            op, f"has groups={groups} (depthwise or grouped); only groups=1 is supported"
        )
    if pair(argument(op, "dilation", 1)) != (1, 1):
        context.refuse(op, "is dilated; only dilation=1 is supported")
    if isinstance(padding, str):
        padding = _named_padding(context, op, padding, weight.shape)
    stride, around = pair(argument(op, "stride", 1)), pair(padding)
    shape = (len(weight), *window(source.shape, _hw(weight), stride, around))
    bias = np.zeros(len(weight)) if bias is None else bias
    return Conv(context.label(op), source.name, weight, bias, stride, around, shape)


def _named_padding(context: Context, op: fx.Node, padding: str, shape: tuple[int, ...]) -> Pair:
    if padding == "same" and (shape[2] % 2 == 0 or shape[3] % 2 == 0):
        context.refuse(op, f"pads unevenly (padding='same' with a {shape[2]}x{shape[3]} kernel)")
    return ((shape[2] - 1) // 2, (shape[3] - 1) // 2) if padding == "same" else (0, 0)


def _linear(context: Context, op: fx.Node) -> Node:
    source = context.source(op)
    weight = context.array(argument(op, "weight"), op)
    bias = context.array(argument(op, "bias"), op)
    assert weight is not None
    channels, high, wide = source.shape
    if len(result_shape(op)) != 2 or weight.shape[1] != channels * high * wide:
        context.refuse(op, f"takes {weight.shape[1]} features of a tensor of shape {source.shape}")
    kernel = weight.reshape(len(weight), channels, high, wide)
    bias = np.zeros(len(weight)) if bias is None else bias
    shape = (len(weight), 1, 1)
    return Conv(context.label(op), source.name, kernel, bias, (1, 1), (0, 0), shape)


def _batch_norm(context: Context, op: fx.Node) -> Node:
    source = context.source(op)
    mean = context.array(argument(op, "running_mean"), op)
    variance = context.array(argument(op, "running_var"), op)
    if mean is None or variance is None:
        context.refuse(op, "keeps no running statistics (track_running_stats=False)")
    gamma = context.array(argument(op, "weight"), op)
    beta = context.array(argument(op, "bias"), op)
    scale = (1.0 if gamma is None else gamma) / (variance + float(argument(op, "eps"))) ** 0.5
    shift = (0.0 if beta is None else beta) - mean * scale
    return BatchNorm(context.label(op), source.name, scale, shift, source.shape)


def _relu(context: Context, op: fx.Node) -> Node:
    source = context.source(op)
    return ReLU(context.label(op), source.name, source.shape)


def _clamp(context: Context, op: fx.Node) -> Node:
    """``clamp(min=0)`` and ``clamp_min(0)`` are a ReLU."""
    above = None if operator_name(op).startswith("clamp_min") else argument(op, "max")
    if argument(op, "min") != 0 or above is not None:
        context.refuse(op, "is not a ReLU: only min=0 without max is supported")
    return _relu(context, op)


def _add(context: Context, op: fx.Node) -> Node:
    a, b = context.source(op), context.nodes[context.name_of(op.args[1], op)]
    if argument(op, "alpha", 1) != 1 or a.shape != b.shape:
        context.refuse(op, f"adds shapes {a.shape} and {b.shape}; they must agree, with alpha=1")
    return Add(context.label(op), a.name, b.name, a.shape)


def _max_pool(context: Context, op: fx.Node) -> Node:
    source = context.source(op)
    if pair(argument(op, "dilation", 1)) != (1, 1):
        context.refuse(op, "is dilated; only dilation=1 is supported")
    kernel, stride, padding, shape = _pool_window(context, op, source.shape)
    return MaxPool(context.label(op), source.name, kernel, stride, padding, shape)


def _avg_pool(context: Context, op: fx.Node) -> Node:
    source = context.source(op)
    kernel, stride, padding, shape = _pool_window(context, op, source.shape)
    if padding != (0, 0) and not argument(op, "count_include_pad", True):
        context.refuse(op, "has count_include_pad=False with padding")
    if argument(op, "divisor_override") is not None:
        context.refuse(op, "has divisor_override")
    return AvgPool(context.label(op), source.name, kernel, stride, padding, shape)


def _pool_window(context: Context, op: fx.Node, source: Shape) -> tuple[Pair, Pair, Pair, Shape]:
    kernel = pair(argument(op, "kernel_size"))
    stride = pair(argument(op, "stride") or kernel)
    padding = pair(argument(op, "padding", 0))
    shape = (source[0], *window(source, kernel, stride, padding))
    if result_shape(op)[1:] != shape:  # ceil_mode that adds a partial window
        context.refuse(op, "has ceil_mode=True with a partial window")
    return kernel, stride, padding, shape


def _adaptive(context: Context, op: fx.Node) -> Node | str:
    """Windows of one size that tile the picture, or the picture itself."""
    source = context.source(op)
    size = result_shape(op)[-2:]
    if size == source.shape[1:]:
        return source.name
    if source.shape[1] % size[0] or source.shape[2] % size[1]:
        context.refuse(op, f"makes {size} of {source.shape[1:]}, whose windows differ in size")
    kernel = (source.shape[1] // size[0], source.shape[2] // size[1])
    shape = (source.shape[0], size[0], size[1])
    return AvgPool(context.label(op), source.name, kernel, kernel, (0, 0), shape)


def _mean(context: Context, op: fx.Node) -> Node | str:
    source = context.source(op)
    dims = argument(op, "dim")
    rank = len(result_shape(op.all_input_nodes[0]))
    if rank != 4 or dims is None or {int(dim) % 4 for dim in dims} != {2, 3}:
        context.refuse(op, f"is over dimensions {dims}; only rows and columns [2, 3] are supported")
    kernel = source.shape[1:]
    if kernel == (1, 1):
        return source.name
    return AvgPool(context.label(op), source.name, kernel, kernel, (0, 0), (source.shape[0], 1, 1))


def _same(context: Context, op: fx.Node) -> str:
    return context.source(op).name


def _view(context: Context, op: fx.Node) -> str:
    """Another shape of the same pictures: [N, C, H, W], or [N, C*H*W] in that order."""
    source = context.source(op)
    shape = list(result_shape(op))
    channels, high, wide = source.shape
    while len(shape) > 2 and shape[-1] == 1:
        shape.pop()
    full = [BATCH, channels, high, wide]
    while len(full) > 2 and full[-1] == 1:
        full.pop()
    if shape not in (full, [BATCH, channels * high * wide]):
        context.refuse(op, f"makes {result_shape(op)} of pictures of shape {source.shape}")
    return source.name


def _slice(context: Context, op: fx.Node) -> Node | str:
    source = context.source(op)
    dim, step = int(argument(op, "dim", 0)), int(argument(op, "step", 1))
    rank = len(result_shape(op))
    size = result_shape(op.all_input_nodes[0])[dim % rank]
    start, end = argument(op, "start") or 0, argument(op, "end")
    if start != 0 or (end is not None and end < size):
        context.refuse(op, f"takes [{start}:{end}:{step}]; only whole rows from 0 are supported")
    if step == 1:
        return source.name
    if rank != 4 or dim % 4 < 2:
        context.refuse(op, "takes every n-th channel; only rows and columns are supported")
    stride = (step, 1) if dim % 4 == 2 else (1, step)
    high, wide = (-(-source.shape[i + 1] // stride[i]) for i in (0, 1))
    return Pad(context.label(op), source.name, stride, 0, 0, (source.shape[0], high, wide))


def _pad(context: Context, op: fx.Node) -> Node:
    source = context.source(op)
    pads = [int(entry) for entry in argument(op, "pad")] + [0] * 6
    mode, value = argument(op, "mode", "constant"), argument(op, "value")
    around, (before, after), more = pads[:4], pads[4:6], pads[6:]
    if any(around) or any(more) or min(before, after) < 0 or mode != "constant" or value:
        context.refuse(op, f"pads {pads[:4]} around the picture; only zero channels are supported")
    channels, high, wide = source.shape
    shape = (channels + before + after, high, wide)
    return Pad(context.label(op), source.name, (1, 1), before, after, shape)


def _hw(weight: Float) -> Pair:
    return int(weight.shape[2]), int(weight.shape[3])


Handler = Callable[[Context, fx.Node], Node | str]
HANDLERS: dict[str, Handler] = {
    "conv2d": _conv,
    "linear": _linear,
    "batch_norm": _batch_norm,
    "relu": _relu,
    "clamp": _clamp,
    "clamp_min": _clamp,
    "add": _add,
    "max_pool2d": _max_pool,
    "avg_pool2d": _avg_pool,
    "adaptive_avg_pool2d": _adaptive,
    "mean": _mean,
    "slice": _slice,
    "pad": _pad,
    "constant_pad_nd": _pad,
    **dict.fromkeys(("dropout", "contiguous", "clone", "detach", "alias", "identity"), _same),
    **dict.fromkeys(("flatten", "view", "reshape", "squeeze", "unsqueeze", "_unsafe_view"), _view),
}
# Operators with a handler, and those that only take a tensor apart, fail behind a refused one.
FOLLOWERS = {*HANDLERS, "getitem", "permute", "transpose", "expand", "select", "t"}
_PRODUCT = (
    "it multiplies two tensors that are both computed; VTA's GEMM multiplies by stored weights "
    "only: it would take an element-wise product of accumulators"
)
_TABLE = (
    "it is no piecewise linear function; it would take a table of 256 entries behind an int8 "
    "result, which VTA's ALU does not have: train with ReLU or ReLU6 in its place"
)
# What an operator that is refused would take, where that is known.
NEEDS = {
    **dict.fromkeys(("hardswish", "silu", "mul"), _PRODUCT),
    **dict.fromkeys(("sigmoid", "gelu", "tanh", "softmax", "elu"), _TABLE),
    "hardsigmoid": "it would be a diagonal convolution and a clip, but only ever feeds a product",
    "layer_norm": "its statistics depend on the picture; batch norm's are stored and fold away",
}
