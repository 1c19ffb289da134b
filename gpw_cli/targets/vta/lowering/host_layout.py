"""A host layout of the image that gives the first convolution fewer tiles, which also add its bias.

    laid = host_layout(graph, node, bias, spec)     # None where the plain image is as good
    laid.layout, laid.term                          # for the host; for the convolution

An image has few channels, so a tile would use few of its inputs. Either the channels of one
position hold the whole kernel window and the convolution becomes 1x1, or they hold the columns of
the window and the kernel rows remain. The host also pads. Spare channels hold the constants 127,
..., 127, 1, whose weights are the digits of the bias, so that the bias needs no pass of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from gpw_cli.arrays import Int8, Int64
from gpw_cli.graph.integer import IntConv, IntGraph
from gpw_cli.targets.vta.isa.geometry import VtaSpec
from gpw_cli.targets.vta.isa.input_layout import PLAIN, InputLayout
from gpw_cli.targets.vta.lowering.tile_ir import Term, bias_digits, weight_tiles

_GROWTH = 2  # largest size of a laid-out image relative to the plain one


@dataclass(frozen=True, eq=False)
class LaidOut:
    """``term`` reads the image in ``layout``; ``biased``: it adds the bias too."""

    layout: InputLayout
    term: Term
    biased: bool

    def tiles(self, bias_blocks: int) -> int:
        """Tiles per position over all output blocks, ``bias_blocks`` of which have a bias."""
        return len(self.term.tiles.out) + (0 if self.biased else bias_blocks)


def host_layout(graph: IntGraph, node: IntConv, bias: Int64, spec: VtaSpec) -> LaidOut | None:
    """The layout with the fewest tiles for ``node`` and its ``bias`` int64 [O], of int32 values.

    None unless ``node`` is the only reader of the image and some layout has fewer tiles than the
    plain one; pruned tiles do not count.
    """
    readers = [reader.name for reader in graph.consumers(graph.input.name)]
    if readers != [node.name] or node.residual == graph.input.name:
        return None
    most = _GROWTH * _elements(PLAIN, graph.input.shape, spec)
    fitting = [
        _laid_out(node, layout, bias, spec)
        for layout in _layouts(node)
        if _elements(layout, graph.input.shape, spec) <= most
    ]
    blocks = len(_kept(bias, spec))
    plain = len(weight_tiles(node.weight, spec).out) + blocks
    best = min(fitting, key=lambda laid: laid.tiles(blocks), default=None)
    return best if best is not None and best.tiles(blocks) < plain else None


def _kept(bias: Int64, spec: VtaSpec) -> Int64:
    """The output blocks with a bias; each needs a tile if the layout has no constants."""
    return np.unique(np.flatnonzero(bias) // spec.block_out)


def _layouts(node: IntConv) -> Iterator[InputLayout]:
    """The whole window in one position; only its columns, for every row including padding."""
    rows, cols = node.weight.shape[2:]
    yield InputLayout((rows, cols), node.stride, node.padding)
    yield InputLayout((1, cols), (1, node.stride[1]), node.padding)


def _elements(layout: InputLayout, image: tuple[int, int, int], spec: VtaSpec) -> int:
    channels, rows, cols = layout.shape(image)
    return -(-channels // spec.block_in) * rows * cols


def _laid_out(node: IntConv, layout: InputLayout, bias: Int64, spec: VtaSpec) -> LaidOut:
    weight = _folded(node.weight, layout)
    channels, rows = weight.shape[1:3]
    constants = _constants(bias, -channels % spec.block_in, rows)
    biased = constants is not None
    if constants is not None and constants.shape[1]:
        lanes = constants.shape[1]
        layout = replace(layout, constants=(127,) * (lanes - 1) + (1,))
        weight = np.concatenate([weight, constants], axis=1)
    stride = (node.stride[0] if rows > 1 else 1, 1)
    tiles = weight_tiles(np.ascontiguousarray(weight), spec)
    return LaidOut(layout, Term(node.input, tiles, (rows, 1), stride), biased)


def _folded(weight: Int8, layout: InputLayout) -> Int8:
    """int8 [O, I, KH, KW] -> [O, channels of ``layout``, remaining rows, 1]."""
    outs, _, rows, _ = weight.shape
    if layout.kernel[0] == rows:
        return weight.transpose(0, 2, 3, 1).reshape(outs, -1, 1, 1)
    return weight.transpose(0, 3, 1, 2).reshape(outs, -1, rows, 1)


def _constants(bias: Int64, spare: int, rows: int) -> Int8 | None:
    """Weights int8 [O, lanes, rows, 1] for the fewest constant channels that can hold ``bias``.

    A zero bias needs no lanes; None where ``spare`` channels are not enough.
    """
    if not bias.any():
        return np.zeros((len(bias), 0, rows, 1), np.int8)
    for lanes in range(1, spare + 1):
        digits = bias_digits(bias, (lanes - 1) * rows)
        if digits is not None:
            high, low = digits[:-1], digits[-1]
            weight = np.zeros((len(bias), lanes, rows, 1), np.int8)
            weight[:, :-1, :, 0] = high.reshape(rows, lanes - 1, len(bias)).transpose(2, 1, 0)
            weight[:, -1, 0, 0] = low
            return weight
    return None
