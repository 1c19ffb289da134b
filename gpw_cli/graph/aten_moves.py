"""ATen operators that move values: views, slices, permutations, concatenation, repetition.

An operator that only moves values within an image is recorded as a view (graph/views.py), which
costs nothing until a node reads it.
"""

from __future__ import annotations

from typing import Any

from torch import fx

from gpw_cli.graph.context import Context, argument, operator_name, result_shape
from gpw_cli.graph.ir import Node, Pad
from gpw_cli.graph.moves import Concat
from gpw_cli.graph.views import INDEX, moved


def same(context: Context, op: fx.Node) -> None:
    """Dropout in evaluation mode, or a copy: the same tensor."""
    source = op.all_input_nodes[0]
    context.see(op, context.name_of(source, op), context.index(source))


def move(context: Context, op: fx.Node, batch: int) -> None:
    """Any operator that moves values within an image; it is run on the index array."""
    source = op.all_input_nodes[0]
    name = context.name_of(source, op)
    args, kwargs = fx.node.map_arg((op.args, op.kwargs), lambda n: _given(context, op, n, source))
    try:
        found = moved(op.target, args, kwargs, context.index(source), batch)  # type: ignore[arg-type]
    except RuntimeError as error:  # after a refused operator
        context.refuse(op, f"cannot be followed: {str(error).splitlines()[0]}")
    if found is None:
        context.refuse(op, "moves values from one image to another")
    if isinstance(found, list):
        context.names[op] = name
        context.parts[op] = found
    else:
        context.see(op, name, found)


def _given(context: Context, op: fx.Node, node: fx.Node, source: fx.Node) -> Any:
    if node is source:
        return INDEX
    if node not in context.tensors:
        context.refuse(op, "moves values by the indices in another tensor")
    return context.tensors[node]


def getitem(context: Context, op: fx.Node) -> None:
    """One of the results of a split."""
    source, position = op.args
    assert isinstance(source, fx.Node)
    assert isinstance(position, int)
    name = context.name_of(source, op)
    parts = context.parts.get(source)
    if parts is not None:
        context.see(op, name, parts[position])
    elif position == 0:  # the values of a maximum; the indices follow
        context.see(op, name, context.index(source))
    else:
        context.refuse(op, "takes the places of the maxima")


def concat(context: Context, op: fx.Node) -> Node:
    """Concatenation along the channels."""
    tensors, rank = op.args[0], len(result_shape(op))
    assert isinstance(tensors, list | tuple)
    parts = [context.image(tensor, op) for tensor in tensors]
    flat = rank == 2 and all(part.shape[1:] == (1, 1) for part in parts)
    dim = int(argument(op, "dim", 0)) % rank
    if dim != 1 or not (rank == 4 or flat):
        context.refuse(op, f"concatenates along dimension {dim}; only channels (1) are supported")
    high, wide = parts[0].shape[1:]
    shape = (sum(part.shape[0] for part in parts), high, wide)
    return Concat(context.label(op), tuple(part.name for part in parts), shape)


def pad(context: Context, op: fx.Node) -> Node:
    """Zero channels before and after."""
    source = context.source(op)
    pads = [int(entry) for entry in argument(op, "pad")] + [0] * 6
    constant = operator_name(op) == "constant_pad_nd"
    mode, value = (
        "constant" if constant else argument(op, "mode", "constant"),
        argument(op, "value"),
    )
    around, (before, after), more = pads[:4], pads[4:6], pads[6:]
    if any(around) or any(more) or min(before, after) < 0 or mode != "constant" or value:
        context.refuse(op, f"pads {pads[:4]} around the image; only zero channels are supported")
    channels, high, wide = source.shape
    shape = (channels + before + after, high, wide)
    return Pad(context.label(op), source.name, (1, 1), before, after, shape)


SAME = ("dropout", "feature_dropout", "contiguous", "clone", "detach", "alias", "identity")
MOVING = (
    *("flatten", "unflatten", "view", "reshape", "_unsafe_view", "squeeze", "unsqueeze"),
    *("permute", "transpose", "t", "numpy_T", "movedim", "channel_shuffle", "flip", "roll"),
    *("slice", "narrow", "select", "chunk", "split", "split_with_sizes", "index_select"),
    *("expand", "repeat", "repeat_interleave", "tile", "upsample_nearest2d", "pixel_unshuffle"),
)
