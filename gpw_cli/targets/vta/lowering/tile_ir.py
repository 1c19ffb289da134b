"""The tile IR: kernels that sum tiled products and then run ALU steps.

Every node except max pooling and upsampling is a ``ProductKernel``: phases of terms (source x
weight tiles) that accumulate, each followed by ALU steps on the accumulators. VTA's LOAD brings
int8 values into the input scratchpad only. Shortcuts, additions and pooling sums therefore enter
the accumulators through tiles with powers of two on a diagonal, and biases through tiles on a
constant input.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gpw_cli.arrays import Int8, Int32, Int64
from gpw_cli.targets.vta.isa.geometry import VtaSpec
from gpw_cli.targets.vta.isa.instructions import AluOp

Pair = tuple[int, int]
_BIAS_TILES = 2  # more tiles cost more than the ALU's two cycles per accumulator


@dataclass(frozen=True, eq=False)
class TileSet:
    """Surviving weight tiles: position k uses ``data[tile[k]]`` int8 [block_out, block_in].

    ``out``, ``inp``: output and input channel block; ``row``, ``col``: tap; all int64 [tiles].
    """

    out: Int64
    inp: Int64
    row: Int64
    col: Int64
    tile: Int64
    data: Int8

    def select(self, which: NDArray[np.bool_] | Int64) -> TileSet:
        """The positions ``which``, a mask or indices; ``data`` is shared."""
        return TileSet(
            self.out[which],
            self.inp[which],
            self.row[which],
            self.col[which],
            self.tile[which],
            self.data,
        )


@dataclass(frozen=True, eq=False)
class Term:
    """``tiles`` over a ``source`` tensor (None: the constant input, the same at every position).

    ``role``: what the products are for, one of ``isa.program.ROLES``.
    """

    source: str | None
    tiles: TileSet
    kernel: Pair = (1, 1)
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    role: str = "tile"

    @property
    def row_step(self) -> int:
        """The step between loaded rows: one row of taps needs every stride-th row only."""
        return self.stride[0] if self.kernel[0] == 1 and self.padding[0] == 0 else 1


@dataclass(frozen=True, eq=False)
class AluStep:
    """acc = acc ``op`` operand: a signed 16-bit immediate, or int32 [C], one value per channel.

    ``blocks``: the output blocks that need it, bool [blocks]; None: all.
    """

    op: AluOp
    operand: int | Int32
    blocks: NDArray[np.bool_] | None = None


@dataclass(frozen=True, eq=False)
class Phase:
    """Terms that accumulate, then the ALU's steps."""

    terms: tuple[Term, ...]
    steps: tuple[AluStep, ...] = ()


@dataclass(frozen=True, eq=False)
class ProductKernel:
    """One node: ``phases`` on accumulators that start at zero; writes the tensor ``name``."""

    name: str
    phases: tuple[Phase, ...]

    @property
    def terms(self) -> tuple[Term, ...]:
        """All terms, in order."""
        return tuple(term for phase in self.phases for term in phase.terms)


@dataclass(frozen=True, eq=False)
class MaxPoolKernel:
    """Maximum over windows of ``source``; ``floor``: what the maximum starts from."""

    name: str
    source: str
    identity: TileSet
    kernel: Pair
    stride: Pair
    padding: Pair
    floor: int


@dataclass(frozen=True, eq=False)
class UpsampleKernel:
    """``copy`` of a tensor, with each pixel stored ``factor`` times along rows and columns."""

    copy: ProductKernel
    factor: Pair

    @property
    def name(self) -> str:
        """The tensor that it writes."""
        return self.copy.name


Kernel = ProductKernel | MaxPoolKernel | UpsampleKernel


def weight_tiles(weight: Int8, spec: VtaSpec) -> TileSet:
    """The tiles of int8 [O, I, KH, KW] that are not all zero, ordered by (out, inp, row, col)."""
    outs, ins, height, width = weight.shape
    block_out, block_in = spec.tile
    n_out, n_in = -(-outs // block_out), -(-ins // block_in)
    full = np.zeros((n_out * block_out, n_in * block_in, height, width), np.int8)
    full[:outs, :ins] = weight
    tiles = full.reshape(n_out, block_out, n_in, block_in, height, width).transpose(
        0, 2, 4, 5, 1, 3
    )
    kept = tiles.any(axis=(4, 5))
    out, inp, row, col = np.nonzero(kept)
    return TileSet(out, inp, row, col, np.arange(len(out)), np.ascontiguousarray(tiles[kept]))


def diagonal_tiles(
    values: Int64, in_channels: int, spec: VtaSpec, *, before: int = 0, kernel: Pair = (1, 1)
) -> TileSet:
    """Tiles that copy input channel c, times ``values[c + before]``, to output channel c + before.

    ``values``: 0 to 127, [O]. Every tap of ``kernel`` has the same tiles; equal tiles are kept
    once.
    """
    matrix = np.zeros((len(values), in_channels, 1, 1), np.int8)
    source = np.arange(in_channels)
    matrix[source + before, source, 0, 0] = values[before : before + in_channels]
    once = weight_tiles(matrix, spec)
    data, tile = np.unique(once.data, axis=0, return_inverse=True)
    taps = kernel[0] * kernel[1]
    row, col = np.divmod(np.arange(taps), kernel[1])
    repeat = len(once.out)
    return TileSet(
        np.tile(once.out, taps),
        np.tile(once.inp, taps),
        np.repeat(row, repeat),
        np.repeat(col, repeat),
        np.tile(tile.reshape(-1), taps),
        data,
    )


def banded(term: Term, spec: VtaSpec) -> list[Term]:
    """``term`` in bands of kernel rows, where its window would not fit the input scratchpad.

    A band is a kernel of these rows that starts further down: its padding is smaller or negative.
    """
    pixel = max(spec.block_in, spec.block_out) // spec.block_in
    fitting = (spec.inp_depth - 1) // (2 * pixel * term.kernel[1])
    if term.kernel[0] <= fitting or fitting <= max(1, term.padding[0]):
        return [term]
    bands = []
    for begin in range(0, term.kernel[0], fitting):
        rows = min(fitting, term.kernel[0] - begin)
        tiles = term.tiles
        mine = tiles.select((tiles.row >= begin) & (tiles.row < begin + rows))
        moved = replace(mine, row=mine.row - begin)
        padding = (term.padding[0] - begin, term.padding[1])
        bands.append(Term(term.source, moved, (rows, term.kernel[1]), term.stride, padding))
    return [band for band in bands if len(band.tiles.out)]


def constant_input(spec: VtaSpec) -> Int8:
    """The input element int8 [1, batch, block_in] that bias tiles multiply: 127, ..., 127, 1."""
    element = np.full((1, spec.batch, spec.block_in), 127, np.int8)
    element[..., -1] = 1
    return element


def bias_digits(bias: Int64, many: int, base: int = 127) -> Int8 | None:
    """int8 [many + 1, O]: ``bias`` [O] = base * (the sum of all rows but the last) + the last.

    ``base``: 1 to 127. None where ``many`` rows are not enough.
    """
    high = np.round(bias / base).astype(np.int64)
    digits = np.zeros((many + 1, len(bias)), np.int8)
    digits[-1] = bias - base * high
    for row in range(many):
        digits[row] = np.clip(high, -127, 127)
        high = high - digits[row]
    return None if high.any() else digits


def bias_tiles(bias: Int64, spec: VtaSpec) -> TileSet | None:
    """Tiles whose product with ``constant_input`` is ``bias`` [O] exactly; none for zero blocks.

    None if some block needs more than two tiles: then the ALU adds the bias.
    """
    lanes = spec.block_in - 1
    blocks = -(-len(bias) // spec.block_out)
    full = np.zeros(blocks * spec.block_out, np.int64)
    full[: len(bias)] = bias
    digits = bias_digits(full, lanes * _BIAS_TILES)
    if digits is None:
        return None
    rows = np.zeros((_BIAS_TILES, len(full), spec.block_in), np.int8)
    rows[0, :, -1] = digits[-1]
    rows[:, :, :-1] = digits[:-1].reshape(_BIAS_TILES, lanes, len(full)).transpose(0, 2, 1)
    tiles = rows.reshape(_BIAS_TILES, blocks, spec.block_out, spec.block_in)
    kept = tiles.any(axis=(2, 3))
    _, out = np.nonzero(kept)
    zero = np.zeros(len(out), np.int64)
    return TileSet(out, zero, zero, zero, np.arange(len(out)), tiles[kept])
