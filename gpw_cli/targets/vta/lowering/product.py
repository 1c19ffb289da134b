"""Scheduling of one ``ProductKernel``: tiles in turn, each loaded, multiplied, finished and stored.

    schedule = ProductSchedule(builder, dram, kernel, tensors)
    for segment in schedule.segments: segment.load(); segment.compute(); segment.finish()

A segment is what is loaded at once: one bundle of inputs (with the first weight set that it needs)
or a further weight set. ``network.py`` interleaves the segments of the whole network.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from gpw_cli.targets.vta.isa.instructions import AluOp
from gpw_cli.targets.vta.lowering.blocking import Bundle, Chunk, Cutter, Piece
from gpw_cli.targets.vta.lowering.builder import Builder
from gpw_cli.targets.vta.lowering.layout import DramImage, Tensor
from gpw_cli.targets.vta.lowering.loops import AccTile, clear, immediate, multiply, run_step
from gpw_cli.targets.vta.lowering.operands import Area, Inputs, Loaded, Vectors, Weights
from gpw_cli.targets.vta.lowering.tile_ir import ProductKernel
from gpw_cli.targets.vta.lowering.tile_search import choose
from gpw_cli.targets.vta.lowering.tiling import shape
from gpw_cli.targets.vta.lowering.transfer import store_tile


@dataclass(frozen=True, eq=False)
class Segment:
    """Loads, then products, then (after a tile's last products) ALU steps and STOREs.

    ``ready``: whether the STORE of everything that ``load`` reads stands in the stream.
    """

    layer: str
    ready: Callable[[], bool]
    load: Callable[[], None]
    compute: Callable[[], None]
    finish: Callable[[], None]


@dataclass(eq=False)
class _Tile:
    """One output tile under way; ``stage``: how many stages have had their ALU steps."""

    chunk: Chunk
    area: Area
    acc: AccTile | None = None
    stage: int = 0


@dataclass(eq=False)
class _Work:
    """One bundle of one tile; ``loaded`` once it is."""

    tile: _Tile
    bundle: Bundle
    loaded: Loaded = field(default_factory=dict)


class ProductSchedule:
    """The segments of one kernel; ``distance``: smallest of its GEMMs, 0 before ``compute``."""

    def __init__(
        self,
        builder: Builder,
        dram: DramImage,
        kernel: ProductKernel,
        tensors: dict[str, Tensor],
    ) -> None:
        self.builder, self.kernel = builder, kernel
        self.shaped = shape(kernel, tensors, builder.spec)
        self.out = self.shaped.out
        self.plan = choose(self.shaped, builder, builder.costs)
        cutter = Cutter(self.shaped, self.plan, builder)
        self.chunks = cutter.cut()
        self.pixel = self.out.pixel(builder.spec.block_out)
        self.weights = Weights(builder, dram, kernel.name, cutter.weights())
        self.vectors = Vectors(builder, dram, kernel, self.out.groups * self.pixel)
        self.inputs = Inputs(builder, self.shaped)
        self.distance = 0
        self.segments = [segment for tile in self._tiles() for segment in self._segments(tile)]

    def _tiles(self) -> list[_Tile]:
        _, height, width = self.out.shape
        rows, cols = self.plan.rows, self.plan.cols
        return [
            _Tile(chunk, Area(row, min(rows, height - row), col, min(cols, width - col)))
            for chunk in self.chunks
            for row in range(0, height, rows)
            for col in range(0, width, cols)
        ]

    def _segments(self, tile: _Tile) -> list[Segment]:
        bundles = tile.chunk.bundles
        return [
            self._segment(
                _work,
                step,
                first=number == 0,
                final=bundle is bundles[-1] and number == len(bundle.steps) - 1,
            )
            for bundle in bundles
            for _work in [_Work(tile, bundle)]
            for number, step in enumerate(bundle.steps)
        ]

    def _segment(
        self, work: _Work, step: tuple[Piece, ...], *, first: bool, final: bool
    ) -> Segment:
        def load() -> None:
            for piece in step[:1]:
                self.weights.need(piece.weights)
            if first:
                work.loaded = self.inputs.load(work.tile.area, work.bundle)

        def compute() -> None:
            acc = self._accumulators(work.tile)
            for piece in step:
                self._run_stages(work.tile, piece.stage)
                product = self.inputs.product(piece, work.loaded, acc)
                distance = multiply(self.builder, acc, product)
                self.distance = min(self.distance or distance, distance or self.distance)

        def finish() -> None:
            if final:
                self._run_stages(work.tile, len(self.kernel.stages))
                self._store(work.tile)

        def ready() -> bool:
            return not first or self.inputs.ready(work.tile.area, work.bundle)

        return Segment(self.kernel.name, ready, load, compute, finish)

    def _accumulators(self, tile: _Tile) -> AccTile:
        """The tile's accumulators, zeroed when it starts."""
        if tile.acc is None:
            self.vectors.need()
            chunk, area = tile.chunk, tile.area
            size = len(chunk.groups) * area.rows * area.cols * self.pixel
            base = self.builder.acc.next(size)
            tile.acc = AccTile(base, chunk.groups, area.rows, area.cols, self.pixel)
            clear(self.builder, tile.acc.span)
        return tile.acc

    def _run_stages(self, tile: _Tile, until: int) -> None:
        """ALU steps of the stages before ``until`` that have not had them."""
        assert tile.acc is not None
        while tile.stage < until:
            for step in self.kernel.stages[tile.stage].steps:
                run_step(self.builder, step, self.vectors.place.get(id(step), 0), tile.acc)
            tile.stage += 1

    def _store(self, tile: _Tile) -> None:
        """The low byte of every accumulator, and of it shifted by 8 for every further plane."""
        assert tile.acc is not None
        self._write(tile.acc, tile.area)

    def _write(self, acc: AccTile, area: Area) -> None:
        where = (
            acc.groups,
            slice(area.row, area.row + area.rows),
            slice(area.col, area.col + area.cols),
        )
        for plane in range(self.out.planes):
            if plane:
                immediate(self.builder, AluOp.SHR, 8, acc.span)
            store_tile(self.builder, self.out, where, acc.base, plane)
