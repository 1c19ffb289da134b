"""The first convolution on a picture that the host lays out: fewer tiles, and the bias in them.

    laid = host_layout(graph, node, bias, spec)     # None where the plain picture is as good
    laid.layout, laid.term                          # what the host does, what is multiplied

A picture has few channels, so a tile would use few of its inputs. Either the whole kernel window
lies in the channels of one position and the convolution becomes 1x1, or the columns of the window
do and the kernel rows remain. Padding is the host's too. Channels left over hold constants, 127 and
a last one 1, whose weights are the digits of the bias: it costs no pass of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from gpw_cli.graph.integer import IntConv, IntGraph
from gpw_cli.targets.vta.isa.geometry import VtaSpec
from gpw_cli.targets.vta.isa.input_layout import PLAIN, InputLayout
from gpw_cli.targets.vta.lowering.tile_ir import Int8, Int64, Term, bias_digits, weight_tiles

_GROWTH = 2  # a laid-out picture is at most so many times as large as the plain one


@dataclass(frozen=True, eq=False)
class LaidOut:
    """``term`` reads the picture in ``layout``; ``biased``: it adds the bias too."""

    layout: InputLayout
    term: Term
    biased: bool

    def tiles(self, bias_blocks: int) -> int:
        """Tile passes of all output blocks, ``bias_blocks`` of which have a bias."""
        return len(self.term.tiles.out) + (0 if self.biased else bias_blocks)


def host_layout(graph: IntGraph, node: IntConv, bias: Int64, spec: VtaSpec) -> LaidOut | None:
    """The layout with the fewest tiles for ``node`` and its ``bias`` int64 [O], of int32 values.

    None unless ``node`` alone reads the picture and some layout has fewer tiles than the plain one,
    pruned ones not counted.
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
    """Output blocks with a bias: one tile each, at least, where no constants are laid out."""
    return np.unique(np.flatnonzero(bias) // spec.block_out)


def _layouts(node: IntConv) -> Iterator[InputLayout]:
    """The whole window in one position; its columns only, of every row with the padding's."""
    rows, cols = node.weight.shape[2:]
    yield InputLayout((rows, cols), node.stride, node.padding)
    yield InputLayout((1, cols), (1, node.stride[1]), node.padding)


def _elements(layout: InputLayout, picture: tuple[int, int, int], spec: VtaSpec) -> int:
    channels, rows, cols = layout.shape(picture)
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
    """Weights int8 [O, lanes, rows, 1] of as few constant channels as hold ``bias``.

    No lanes for a zero bias, None where ``spare`` channels do not hold it.
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
