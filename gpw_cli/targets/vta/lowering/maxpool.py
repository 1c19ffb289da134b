"""Max pooling: pixels are copied into the accumulators, and the ALU takes maxima.

    tiling = pool_tiling(kernel, shaped, spec, sram)
    blocks = pool_blocks(kernel, shaped, spec)
    for segment in MaxPoolEmitter(builder, tiled, kernel).segments(): ...

Identity tiles bring the pixels of a tile into the accumulators. The results, next to them, start
from the smallest possible value. Each tap of the window is one ALU instruction over the outputs for
which it lies inside the tensor, so no padding is loaded.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from gpw_cli.errors import UnsupportedError
from gpw_cli.targets.vta.isa.encoding import encode_uops
from gpw_cli.targets.vta.isa.geometry import VtaSpec
from gpw_cli.targets.vta.isa.instructions import AluInsn, AluOp
from gpw_cli.targets.vta.lowering.blocking import Blocks, Bundle, Chunk, Part, Piece, WeightSet
from gpw_cli.targets.vta.lowering.builder import Builder
from gpw_cli.targets.vta.lowering.input_blocking import Shaped
from gpw_cli.targets.vta.lowering.layout import Tensor
from gpw_cli.targets.vta.lowering.load_store import store_tile
from gpw_cli.targets.vta.lowering.loops import AccTile, clear, immediate, multiply
from gpw_cli.targets.vta.lowering.microops import smallest_distance
from gpw_cli.targets.vta.lowering.operands import Area, Inputs, Loaded, Weights
from gpw_cli.targets.vta.lowering.product import Segment
from gpw_cli.targets.vta.lowering.sram import SramLayout
from gpw_cli.targets.vta.lowering.state import TiledKernel
from gpw_cli.targets.vta.lowering.stream import Span
from gpw_cli.targets.vta.lowering.tile_ir import MaxPoolKernel, Phase, ProductKernel, Term
from gpw_cli.targets.vta.lowering.tiling import Tiling, tile_sizes


def pool_copy(kernel: MaxPoolKernel) -> ProductKernel:
    """The product kernel that copies the input of max pooling."""
    return ProductKernel(
        kernel.name, (Phase((Term(kernel.source, kernel.identity, role="pool"),)),)
    )


def pool_tiling(kernel: MaxPoolKernel, shaped: Shaped, spec: VtaSpec, sram: SramLayout) -> Tiling:
    """The largest tile of one group that fits, of at most a quarter of the rows.

    Raises UnsupportedError if not even one window fits.
    """
    _, height, width = shaped.out.shape
    for slots in (2, 1):
        fitting = [
            (rows * cols, rows, cols)
            for rows in tile_sizes(height)
            for cols in tile_sizes(width)
            if rows <= max(1, height // 4)
            and pool_fits(kernel, shaped, Tiling(rows, cols, 1, slots), spec, sram)
        ]
        if fitting:
            return Tiling(*max(fitting)[1:], 1, slots)
    raise UnsupportedError(
        f"{kernel.name}: one window of {kernel.kernel} does not fit the scratchpads "
        f"of {spec.inp_depth} input and {spec.acc_depth} accumulator "
        f"elements; enlarge LOG_INP_BUFF_SIZE or LOG_ACC_BUFF_SIZE"
    )


def pool_fits(
    kernel: MaxPoolKernel, shaped: Shaped, tiling: Tiling, spec: VtaSpec, sram: SramLayout
) -> bool:
    """Whether a slot of each scratchpad can hold the pixels and results of a tile."""
    rows, cols, slots = tiling.rows, tiling.cols, tiling.slots
    tall = (rows - 1) * kernel.stride[0] + kernel.kernel[0]
    wide = (cols - 1) * kernel.stride[1] + kernel.kernel[1]
    source, out = shaped.sources[0], shaped.out
    assert source is not None
    loaded = tall * wide * max(out.group, source.group) // spec.block_in
    accumulators = (tall * wide + rows * cols) * out.pixel(spec.block_out)
    return (
        loaded <= sram.inp // slots
        and accumulators <= sram.acc // slots
        and len(kernel.identity.data) <= sram.wgt // slots
    )


def pool_blocks(kernel: MaxPoolKernel, shaped: Shaped, spec: VtaSpec) -> Blocks:
    """One chunk per live output group; all share one set of identity tiles."""
    source, pixel = shaped.sources[0], shaped.out.pixel(spec.block_out)
    assert source is not None
    count = len(kernel.identity.data)
    shared = WeightSet(0, True, count, {0: np.arange(count)})
    chunks = []
    for group in shaped.out.live.tolist():
        tiles = kernel.identity
        tiles = tiles.select(tiles.out // pixel == group)
        groups = np.unique(tiles.inp // source.pixel(spec.block_in))
        piece = Piece(0, 0, tiles, smallest_distance(tiles.out), shared)
        bundle = Bundle((Part(0, groups),), ((piece,),))
        chunks.append(Chunk(np.array([group]), (bundle,)))
    return Blocks(tuple(chunks), kernel.identity.data)


@dataclass(eq=False)
class _Tile:
    """Outputs ``area`` of group ``group``, which depend on the input pixels ``inner``."""

    group: int
    area: Area
    inner: Area
    loaded: Loaded = field(default_factory=dict)
    acc: AccTile | None = None


class MaxPoolEmitter:
    """The segments of one max pooling."""

    def __init__(self, builder: Builder, tiled: TiledKernel, kernel: MaxPoolKernel) -> None:
        self.builder, self.tiled, self.kernel = builder, tiled, kernel
        self.out, source = tiled.shaped.out, tiled.shaped.sources[0]
        assert source is not None
        self.source: Tensor = source
        self.pixel = self.out.pixel(builder.spec.block_out)
        self.weights = Weights(builder, tiled.weight_base)
        self.inputs = Inputs(builder, tiled.shaped, self.weights)

    def segments(self) -> list[Segment]:
        """In the order to run."""
        return [
            self._segment(_Tile(int(chunk.groups[0]), area, self._inner(area)), chunk.bundles[0])
            for area in self._areas()
            for chunk in self.tiled.blocks.chunks
        ]

    def _areas(self) -> list[Area]:
        _, height, width = self.out.shape
        rows, cols = self.tiled.tiling.rows, self.tiled.tiling.cols
        return [
            Area(row, min(rows, height - row), col, min(cols, width - col))
            for row in range(0, height, rows)
            for col in range(0, width, cols)
        ]

    def _inner(self, area: Area) -> Area:
        """The input pixels in the windows of ``area``."""
        row, rows = self._range(0, area.row, area.rows)
        col, cols = self._range(1, area.col, area.cols)
        return Area(row, rows, col, cols)

    def _range(self, axis: int, first: int, count: int) -> tuple[int, int]:
        step, size = self.kernel.stride[axis], self.kernel.kernel[axis]
        begin = first * step - self.kernel.padding[axis]
        end = begin + (count - 1) * step + size
        begin, end = max(begin, 0), min(end, self.source.shape[1 + axis])
        return begin, end - begin

    def _segment(self, tile: _Tile, bundle: Bundle) -> Segment:
        piece = bundle.rounds[0][0]

        def load() -> None:
            self.weights.need(piece.weights)
            tile.loaded = self.inputs.load(tile.inner, bundle)

        def compute() -> None:
            self._copy(tile, piece)

        def finish() -> None:
            self._maxima(tile)

        def ready() -> bool:
            return self.inputs.ready(tile.inner, bundle)

        return Segment(ready, load, compute, finish)

    def _copy(self, tile: _Tile, piece: Piece) -> None:
        """Copies the input pixels into the accumulators, followed by zeros for the results."""
        inner, area = tile.inner, tile.area
        results = area.rows * area.cols * self.pixel
        base = self.builder.acc.next(inner.rows * inner.cols * self.pixel + results)
        acc = AccTile(base, np.array([tile.group]), inner.rows, inner.cols, self.pixel)
        clear(self.builder, Span(base, base + acc.size + results))
        multiply(self.builder, acc, self.inputs.operands(piece, tile.loaded, acc))
        tile.acc = acc

    def _maxima(self, tile: _Tile) -> None:
        assert tile.acc is not None
        area, group = tile.area, tile.group
        first = tile.acc.base + tile.acc.size
        out = AccTile(first, np.array([group]), area.rows, area.cols, self.pixel)
        if self.kernel.floor:
            immediate(self.builder, AluOp.ADD, self.kernel.floor, out.span)
        for row in range(self.kernel.kernel[0]):
            for col in range(self.kernel.kernel[1]):
                self._tap(tile, tile.acc, out, row, col)
        where = (
            np.array([group]),
            slice(area.row, area.row + area.rows),
            slice(area.col, area.col + area.cols),
        )
        store_tile(self.builder, self.out, where, out.base, 0)

    def _tap(self, tile: _Tile, inner: AccTile, out: AccTile, row: int, col: int) -> None:
        """Out = max(out, inner pixel at this tap), where that pixel exists."""
        top, tall, above = self._valid(0, row, tile.area.row, out.rows, tile.inner.row)
        left, wide, before = self._valid(1, col, tile.area.col, out.cols, tile.inner.col)
        if tall <= 0 or wide <= 0:
            return
        blocks = np.arange(self.pixel)
        dst = out.base + (top * out.cols + left) * self.pixel + blocks
        src = inner.base + (above * inner.cols + before) * self.pixel + blocks
        down, right = self.kernel.stride
        insn = AluInsn(
            uop_bgn=0,
            uop_end=0,
            iter_out=tall,
            iter_in=wide,
            dst_factor_out=out.cols * self.pixel if tall > 1 else 0,
            dst_factor_in=self.pixel if wide > 1 else 0,
            src_factor_out=down * inner.cols * self.pixel if tall > 1 else 0,
            src_factor_in=right * self.pixel if wide > 1 else 0,
            alu_opcode=AluOp.MAX,
        )
        self.builder.stream.alu(
            insn, encode_uops(self.builder.spec, dst, src, [0]), out.span, role="pool"
        )

    def _valid(
        self, axis: int, tap: int, first: int, count: int, begin: int
    ) -> tuple[int, int, int]:
        """Outputs whose tap lies inside the tensor: (first, count, input relative to ``begin``)."""
        step, size = self.kernel.stride[axis], self.source.shape[1 + axis]
        offset = first * step - self.kernel.padding[axis] + tap
        low = max(0, -(offset // step))
        high = min(count, (size - 1 - offset) // step + 1)
        return low, high - low, offset + low * step - begin
