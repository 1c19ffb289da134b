"""ATen operators in the typed graph: one small function per operator, in one table.

    made = HANDLERS["conv2d"](context, op)    # a new node, the name of one, or None: a view

``Context`` holds what has been traced so far. Every function raises UnsupportedError for an
argument that the graph cannot express, naming the operator and the module path.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from torch import fx

from gpw_cli.arrays import Floats
from gpw_cli.graph import aten_moves, aten_pool
from gpw_cli.graph.context import Context, argument, operator_name, pair, result_shape
from gpw_cli.graph.frame import Pair
from gpw_cli.graph.ir import Add, BatchNorm, Clip, Conv, Node, ReLU, output_size

BATCH = 2  # with a batch of one, export could confuse the batch with a dimension of size one
SUPPORTED = (
    "conv2d, linear, batch_norm, relu, relu6, hardtanh, clamp, add, cat, max_pool2d, avg_pool2d, "
    "adaptive_avg_pool2d, mean, upsample_nearest2d, views, slices and permutations of channels, "
    "sums and products with stored values, dropout"
)


def _conv(context: Context, op: fx.Node) -> Node:
    """Groups and dilation become zeros in a dense kernel: tiles without a weight cost nothing."""
    source = context.source(op)
    weight = context.array(argument(op, "weight"), op)
    bias = context.array(argument(op, "bias"), op)
    assert weight is not None
    padding = argument(op, "padding", 0)
    weight = _dilated(weight, pair(argument(op, "dilation", 1)))
    if isinstance(padding, str):
        padding = _named_padding(context, op, padding, weight.shape)
    stride, around = pair(argument(op, "stride", 1)), pair(padding)
    weight = _ungrouped(weight, int(argument(op, "groups", 1)))
    shape = (len(weight), *output_size(source.shape, _hw(weight), stride, around))
    bias = np.zeros(len(weight)) if bias is None else bias
    return Conv(context.label(op), source.name, weight, bias, stride, around, shape)


def _ungrouped(weight: Floats, groups: int) -> Floats:
    """[O, I * groups, KH, KW] from [O, I, KH, KW]: zero between channels of different groups."""
    if groups == 1:
        return weight
    outs, ins = len(weight) // groups, weight.shape[1]
    full = np.zeros((len(weight), ins * groups, *weight.shape[2:]))
    for group in range(groups):
        mine = slice(group * outs, (group + 1) * outs)
        full[mine, group * ins : (group + 1) * ins] = weight[mine]
    return full


def _dilated(weight: Floats, dilation: Pair) -> Floats:
    if dilation == (1, 1):
        return weight
    high, wide = ((size - 1) * step + 1 for size, step in zip(_hw(weight), dilation, strict=True))
    full = np.zeros((*weight.shape[:2], high, wide))
    full[:, :, :: dilation[0], :: dilation[1]] = weight
    return full


def _named_padding(context: Context, op: fx.Node, padding: str, shape: tuple[int, ...]) -> Pair:
    if padding == "same" and (shape[2] % 2 == 0 or shape[3] % 2 == 0):
        context.refuse(op, f"pads unevenly (padding='same' with a {shape[2]}x{shape[3]} kernel)")
    return ((shape[2] - 1) // 2, (shape[3] - 1) // 2) if padding == "same" else (0, 0)


def _linear(context: Context, op: fx.Node) -> Node:
    """A convolution over the whole input; its weights follow whatever order the features have."""
    given = op.args[0]
    source = context.nodes[context.name_of(given, op)]
    weight = context.array(argument(op, "weight"), op)
    bias = context.array(argument(op, "bias"), op)
    assert isinstance(given, fx.Node)
    assert weight is not None
    channels, high, wide = source.shape
    index = context.index(given).ravel()
    if len(result_shape(op)) != 2 or weight.shape[1] != len(index):
        context.refuse(op, f"takes {weight.shape[1]} features of a tensor of shape {source.shape}")
    if given in context.views:
        full = np.zeros((channels * high * wide, len(weight)))
        np.add.at(full, index, weight.T)
        weight = full.T.copy()
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


def _clip(context: Context, op: fx.Node) -> Node:
    """``relu6``, ``hardtanh`` and ``clamp``; a ReLU where the limits are 0 and none."""
    name = operator_name(op).removesuffix("_")
    low, high = (0.0, 6.0) if name == "relu6" else _limits(op, name)
    if low == 0 and high == np.inf:
        return _relu(context, op)
    source = context.source(op)
    return Clip(context.label(op), source.name, low, high, source.shape)


def _limits(op: fx.Node, name: str) -> tuple[float, float]:
    names = ("min_val", "max_val") if name == "hardtanh" else ("min", "max")
    given = {entry.name: entry for entry in op.target._schema.arguments}  # type: ignore[union-attr]
    fallback = {"min_val": -1.0, "max_val": 1.0}
    low, high = (argument(op, n, fallback.get(n)) if n in given else None for n in names)
    return -np.inf if low is None else float(low), np.inf if high is None else float(high)


def _add(context: Context, op: fx.Node) -> Node:
    if not (_computed(context, op.args[0]) and _computed(context, op.args[1])):
        return _affine(context, op)
    a, b = context.source(op), context.source(op, 1)
    if argument(op, "alpha", 1) != 1 or a.shape != b.shape:
        context.refuse(op, f"adds shapes {a.shape} and {b.shape}; they must agree, with alpha=1")
    return Add(context.label(op), a.name, b.name, a.shape)


def _affine(context: Context, op: fx.Node) -> Node:
    """A sum or product with stored values, at most one per channel: a batch norm."""
    name = operator_name(op).removesuffix("_")
    first, second = op.args[0], op.args[1]
    if _computed(context, first) and _computed(context, second):
        context.refuse(op, f"is not supported: {NEEDS['sub' if 'sub' in name else 'mul']}")
    turned = not _computed(context, first)
    source = context.image(second if turned else first, op)
    stored = _channels(context, op, first if turned else second, source)
    ones, zeros = np.ones(source.shape[0]), np.zeros(source.shape[0])
    if argument(op, "alpha", 1) != 1 if name.endswith(("add", "sub")) else name == "div" and turned:
        context.refuse(op, "divides by a computed tensor, or has alpha")
    scale, shift = {
        "add": (ones, stored),
        "sub": (-ones, stored) if turned else (ones, -stored),
        "rsub": (-ones, stored),
        "mul": (stored, zeros),
        "div": (1 / np.where(stored == 0, np.nan, stored), zeros),
    }[name]
    return BatchNorm(context.label(op), source.name, scale, shift, source.shape)


def _computed(context: Context, value: object) -> bool:
    return isinstance(value, fx.Node) and value in context.names


def _channels(context: Context, op: fx.Node, value: object, source: Node) -> Floats:
    """A number, or a stored tensor that broadcasts to one value per channel, as float64 [C]."""
    if isinstance(value, int | float):
        return np.full(source.shape[0], float(value))
    array = context.array(value, op)
    assert array is not None
    rank = len(result_shape(op))
    shape = (1,) * (rank - array.ndim) + array.shape
    if len(shape) != rank or any(size != 1 for axis, size in enumerate(shape) if axis != 1):
        context.refuse(
            op, f"takes a stored tensor of shape {array.shape}, not one value per channel"
        )
    return np.broadcast_to(array.reshape(-1), (source.shape[0],)).astype(np.float64)


def _hw(weight: Floats) -> Pair:
    return int(weight.shape[2]), int(weight.shape[3])


Handler = Callable[[Context, fx.Node], Node | str | None]
HANDLERS: dict[str, Handler] = {
    "conv2d": _conv,
    "linear": _linear,
    "batch_norm": _batch_norm,
    "relu": _relu,
    **dict.fromkeys(("relu6", "hardtanh", "clamp", "clamp_min", "clamp_max"), _clip),
    "add": _add,
    **dict.fromkeys(("sub", "rsub", "mul", "div"), _affine),
    "max_pool2d": aten_pool.max_pool,
    "avg_pool2d": aten_pool.avg_pool,
    "adaptive_avg_pool2d": aten_pool.adaptive_avg,
    "adaptive_max_pool2d": aten_pool.adaptive_max,
    "mean": aten_pool.mean,
    "cat": aten_moves.concat,
    "getitem": aten_moves.getitem,
    **dict.fromkeys(("pad", "constant_pad_nd"), aten_moves.pad),
    **dict.fromkeys(aten_moves.SAME, aten_moves.same),
    **dict.fromkeys(aten_moves.MOVING, lambda context, op: aten_moves.move(context, op, BATCH)),
}
# Operators with a handler, and those that only split a tensor, fail after a refused one.
FOLLOWERS = frozenset(HANDLERS) - {"mul"}
_PRODUCT = (
    "it multiplies two tensors that are both computed; VTA's GEMM multiplies by stored weights "
    "only: it would take an element-wise product of accumulators"
)
_TABLE = (
    "it is no piecewise linear function; it would take a table of 256 entries behind an int8 "
    "result, which VTA's ALU does not have: train with ReLU or ReLU6 in its place"
)
_LAST = f"{_TABLE}; at the end leave it out: the largest logit is the same class"
_SLOPE = "VTA's ALU has no multiplication by a slope: train with ReLU or ReLU6 in its place"
# Why an operator is refused, where there is more to say.
NEEDS = {
    **dict.fromkeys(("hardswish", "silu", "mul"), _PRODUCT),
    **dict.fromkeys(("sigmoid", "gelu", "tanh", "elu"), _TABLE),
    **dict.fromkeys(("softmax", "log_softmax"), _LAST),
    **dict.fromkeys(("leaky_relu", "prelu"), _SLOPE),
    "sub": "it takes one computed tensor from another: add them, behind a layer that is negated",
    "hardsigmoid": "it would be a diagonal convolution and a clip, but only ever feeds a product",
    "layer_norm": "its statistics depend on the image; batch norm's are stored and fold away",
}
