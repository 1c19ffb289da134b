"""Scheduling of max pooling: pixels copied into the accumulators, then maxima between those.

The pixels of a tile enter the accumulators through identity tiles; beside them lie the results,
which start from the smallest possible value. Each tap of the window is one ALU instruction over the
outputs for which it lies inside the picture, so no padding is loaded.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from gpw_cli.errors import UnsupportedError
from gpw_cli.targets.vta.isa.instructions import AluInsn, AluOp, encode_uops
from gpw_cli.targets.vta.lowering.blocking import Bundle, Part, Piece, WeightSet
from gpw_cli.targets.vta.lowering.builder import Builder
from gpw_cli.targets.vta.lowering.layout import DramImage, Tensor
from gpw_cli.targets.vta.lowering.loops import AccTile, clear, immediate, multiply
from gpw_cli.targets.vta.lowering.microops import smallest_distance
from gpw_cli.targets.vta.lowering.operands import Area, Inputs, Loaded, Weights
from gpw_cli.targets.vta.lowering.product import Segment
from gpw_cli.targets.vta.lowering.stream import Span
from gpw_cli.targets.vta.lowering.tile_ir import MaxPoolKernel, ProductKernel, Stage, Term
from gpw_cli.targets.vta.lowering.tiling import parts, shape
from gpw_cli.targets.vta.lowering.transfer import store_tile


@dataclass(eq=False)
class _Tile:
    """Outputs ``area`` of group ``group``, which the input pixels ``inner`` decide."""

    group: int
    area: Area
    inner: Area
    loaded: Loaded = field(default_factory=dict)
    acc: AccTile | None = None


class MaxPoolSchedule:
    """The segments of one max pooling."""

    def __init__(
        self,
        builder: Builder,
        dram: DramImage,
        kernel: MaxPoolKernel,
        tensors: dict[str, Tensor],
    ) -> None:
        self.builder, self.kernel = builder, kernel
        self.source, self.out = tensors[kernel.source], tensors[kernel.name]
        copy = ProductKernel(
            kernel.name, (Stage((Term(kernel.source, kernel.identity, role="pool"),)),)
        )
        self.inputs = Inputs(builder, shape(copy, tensors, builder.spec))
        self.weights = Weights(builder, dram, kernel.name, kernel.identity.data)
        count = len(kernel.identity.data)
        self.shared = WeightSet(0, True, count, {0: np.arange(count)})
        self.pixel = self.out.pixel(builder.spec.block_out)
        self.distance = 0
        self.segments = [
            self._segment(_Tile(group, area, self._inner(area)), self._bundle(group))
            for area in self._areas()
            for group in self.out.live.tolist()
        ]

    def _areas(self) -> list[Area]:
        _, height, width = self.out.shape
        rows, cols = self._tile_size()
        return [
            Area(row, min(rows, height - row), col, min(cols, width - col))
            for row in range(0, height, rows)
            for col in range(0, width, cols)
        ]

    def _tile_size(self) -> tuple[int, int]:
        """The largest tile that fits, of at most a quarter of the rows.

        Raises UnsupportedError if not even one window fits.
        """
        _, height, width = self.out.shape
        for slots in (2, 1):
            fitting = [
                (rows * cols, rows, cols)
                for rows in parts(height)
                for cols in parts(width)
                if rows <= max(1, height // 4) and self._fits(rows, cols, slots)
            ]
            if fitting:
                return max(fitting)[1:]
        raise UnsupportedError(
            f"{self.kernel.name}: one window of {self.kernel.kernel} does not fit the scratchpads "
            f"of {self.builder.spec.inp_depth} input and {self.builder.spec.acc_depth} accumulator "
            f"elements; enlarge LOG_INP_BUFF_SIZE or LOG_ACC_BUFF_SIZE"
        )

    def _fits(self, rows: int, cols: int, slots: int) -> bool:
        tall = (rows - 1) * self.kernel.stride[0] + self.kernel.kernel[0]
        wide = (cols - 1) * self.kernel.stride[1] + self.kernel.kernel[1]
        spec = self.builder.spec
        loaded = tall * wide * max(self.out.group, self.source.group) // spec.block_in
        accumulators = (tall * wide + rows * cols) * self.pixel
        return (
            loaded <= self.builder.inp.capacity(slots)
            and accumulators <= self.builder.acc.capacity(slots)
            and len(self.kernel.identity.data) <= self.builder.wgt.capacity(slots)
        )

    def _inner(self, area: Area) -> Area:
        """The input pixels that lie in the windows of ``area``."""
        row, rows = self._range(0, area.row, area.rows)
        col, cols = self._range(1, area.col, area.cols)
        return Area(row, rows, col, cols)

    def _range(self, axis: int, first: int, count: int) -> tuple[int, int]:
        step, size = self.kernel.stride[axis], self.kernel.kernel[axis]
        begin = first * step - self.kernel.padding[axis]
        end = begin + (count - 1) * step + size
        begin, end = max(begin, 0), min(end, self.source.shape[1 + axis])
        return begin, end - begin

    def _bundle(self, group: int) -> Bundle:
        """The input groups and identity tiles of output group ``group``."""
        tiles = self.kernel.identity
        tiles = tiles.select(tiles.out // self.pixel == group)
        groups = np.unique(tiles.inp // self.source.pixel(self.builder.spec.block_in))
        piece = Piece(0, 0, tiles, smallest_distance(tiles.out), self.shared)
        return Bundle((Part(0, groups),), ((piece,),))

    def _segment(self, tile: _Tile, bundle: Bundle) -> Segment:
        piece = bundle.steps[0][0]

        def load() -> None:
            self.weights.need(self.shared)
            tile.loaded = self.inputs.load(tile.inner, bundle)

        def compute() -> None:
            self._copy(tile, piece)

        def finish() -> None:
            self._maxima(tile)

        def ready() -> bool:
            return self.inputs.ready(tile.inner, bundle)

        return Segment(self.kernel.name, ready, load, compute, finish)

    def _copy(self, tile: _Tile, piece: Piece) -> None:
        """The tile's input pixels in the accumulators, followed by zeros for its results."""
        inner, area = tile.inner, tile.area
        results = area.rows * area.cols * self.pixel
        base = self.builder.acc.next(inner.rows * inner.cols * self.pixel + results)
        acc = AccTile(base, np.array([tile.group]), inner.rows, inner.cols, self.pixel)
        clear(self.builder, Span(base, base + acc.size + results))
        distance = multiply(self.builder, acc, self.inputs.product(piece, tile.loaded, acc))
        self.distance = min(self.distance or distance, distance or self.distance)
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
        """max(out, inner pixel at this tap) where that pixel exists."""
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
        """Inside the picture: (first output of the tile, how many, input relative to ``begin``)."""
        step, size = self.kernel.stride[axis], self.source.shape[1 + axis]
        offset = first * step - self.kernel.padding[axis] + tap
        low = max(0, -(offset // step))
        high = min(count, (size - 1 - offset) // step + 1)
        return low, high - low, offset + low * step - begin
