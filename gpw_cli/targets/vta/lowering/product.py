"""The instructions of one ``ProductKernel``: tile by tile loaded, multiplied, finished and stored.

    for segment in ProductEmitter(builder, tiled, kernel).segments():
        segment.load(); segment.compute(); segment.finish()

A segment covers what is loaded at once: a bundle of inputs with its first weight set, or a further
weight set. ``emit.py`` interleaves the segments of the whole network.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from gpw_cli.targets.vta.isa.instructions import AluOp
from gpw_cli.targets.vta.lowering.blocking import Bundle, Chunk
from gpw_cli.targets.vta.lowering.builder import Builder
from gpw_cli.targets.vta.lowering.load_store import store_tile
from gpw_cli.targets.vta.lowering.loops import AccTile, clear, immediate, multiply, run_step
from gpw_cli.targets.vta.lowering.operands import Area, Inputs, Loaded, Vectors, Weights
from gpw_cli.targets.vta.lowering.state import TiledKernel
from gpw_cli.targets.vta.lowering.tile_ir import ProductKernel


@dataclass(frozen=True, eq=False)
class Segment:
    """Loads, then GEMMs, then (after a tile's last GEMM) ALU steps and STOREs.

    ``ready``: whether the STOREs of everything that ``load`` reads are in the stream.
    """

    ready: Callable[[], bool]
    load: Callable[[], None]
    compute: Callable[[], None]
    finish: Callable[[], None]


@dataclass(eq=False)
class _Tile:
    """One output tile in progress; ``phase``: the phases whose ALU steps have been emitted.

    ``loaded``: the inputs of the latest bundle.
    """

    chunk: Chunk
    area: Area
    loaded: Loaded = field(default_factory=dict)
    acc: AccTile | None = None
    phase: int = 0


class ProductEmitter:
    """The segments of one product kernel."""

    def __init__(self, builder: Builder, tiled: TiledKernel, kernel: ProductKernel) -> None:
        self.builder, self.tiled, self.kernel = builder, tiled, kernel
        self.out = tiled.shaped.out
        self.pixel = self.out.pixel(builder.spec.block_out)
        self.weights = Weights(builder, tiled.weight_base)
        self.inputs = Inputs(builder, tiled.shaped, self.weights)
        self.vectors = Vectors(builder, kernel, self.out.groups * self.pixel, tiled.vector_base)

    def segments(self) -> list[Segment]:
        """In the order to run."""
        return [segment for tile in self._tiles() for segment in self._of_tile(tile)]

    def _tiles(self) -> list[_Tile]:
        _, height, width = self.out.shape
        rows, cols = self.tiled.tiling.rows, self.tiled.tiling.cols
        return [
            _Tile(chunk, Area(row, min(rows, height - row), col, min(cols, width - col)))
            for chunk in self.tiled.blocks.chunks
            for row in range(0, height, rows)
            for col in range(0, width, cols)
        ]

    def _of_tile(self, tile: _Tile) -> list[Segment]:
        bundles = tile.chunk.bundles
        return [
            self._segment(
                tile,
                bundle,
                number,
                final=bundle is bundles[-1] and number == len(bundle.rounds) - 1,
            )
            for bundle in bundles
            for number in range(len(bundle.rounds))
        ]

    def _segment(self, tile: _Tile, bundle: Bundle, number: int, *, final: bool) -> Segment:
        """Round ``number`` of ``bundle``; the first one loads its inputs."""
        pieces, first = bundle.rounds[number], number == 0

        def load() -> None:
            for piece in pieces[:1]:
                self.weights.need(piece.weights)
            if first:
                tile.loaded = self.inputs.load(tile.area, bundle)

        def compute() -> None:
            acc = self._accumulators(tile)
            for piece in pieces:
                self._run_phases(tile, piece.phase)
                multiply(self.builder, acc, self.inputs.operands(piece, tile.loaded, acc))

        def finish() -> None:
            if final:
                self._run_phases(tile, len(self.kernel.phases))
                self.store(self._accumulators(tile), tile.area)

        def ready() -> bool:
            return not first or self.inputs.ready(tile.area, bundle)

        return Segment(ready, load, compute, finish)

    def _accumulators(self, tile: _Tile) -> AccTile:
        """The tile's accumulators, which are zeroed when it starts."""
        if tile.acc is None:
            self.vectors.need()
            chunk, area = tile.chunk, tile.area
            size = len(chunk.groups) * area.rows * area.cols * self.pixel
            base = self.builder.acc.next(size)
            tile.acc = AccTile(base, chunk.groups, area.rows, area.cols, self.pixel)
            clear(self.builder, tile.acc.span)
        return tile.acc

    def _run_phases(self, tile: _Tile, until: int) -> None:
        """Emits the ALU steps of the phases before ``until``, as far as that has not happened."""
        assert tile.acc is not None
        while tile.phase < until:
            for number, step in enumerate(self.kernel.phases[tile.phase].steps):
                vector = self.vectors.base.get((tile.phase, number), 0)
                run_step(self.builder, step, vector, tile.acc)
            tile.phase += 1

    def store(self, acc: AccTile, area: Area) -> None:
        """Stores the low byte of every accumulator, and shifts by 8 before each further byte."""
        where = (
            acc.groups,
            slice(area.row, area.row + area.rows),
            slice(area.col, area.col + area.cols),
        )
        for byte in range(self.out.value_bytes):
            if byte:
                immediate(self.builder, AluOp.SHR, 8, acc.span)
            store_tile(self.builder, self.out, where, acc.base, byte)
