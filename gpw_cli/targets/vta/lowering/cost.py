"""Estimated cycles of a kernel under a tiling, good enough to choose between tilings.

    cycles = CostModel(shaped, spec, sram, costs).estimate(tiling)

Within a tile, each load hides behind the arithmetic that the load before it allowed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import ceil

from gpw_cli.arrays import Int64
from gpw_cli.targets.vta.isa.geometry import VtaSpec
from gpw_cli.targets.vta.lowering.input_blocking import InputGroup, Shaped, in_bundles, needed
from gpw_cli.targets.vta.lowering.loops import unroll
from gpw_cli.targets.vta.lowering.microops import REST
from gpw_cli.targets.vta.lowering.sram import SramLayout
from gpw_cli.targets.vta.lowering.tiling import Tiling, input_sizes
from gpw_cli.targets.vta.lowering.unit_costs import UnitCosts

_EXPOSED = {1: 1.0, 2: 0.5}  # share of the last STORE and the next LOAD that nothing hides, by lag


@dataclass(frozen=True)
class _LoadCost:
    """One load takes ``cycles``. The GEMMs that read it have ``issue`` cycles of overhead and
    multiply ``tiles`` tiles per output pixel.
    """

    cycles: float
    tiles: float
    issue: int


@dataclass(frozen=True)
class _ChunkCost:
    """``groups`` output groups.

    ``once``: cycles of loads that serve all tiles; ``uops``: micro-ops of a tile.
    """

    groups: int
    once: float
    loads: tuple[_LoadCost, ...]
    uops: float


@dataclass(frozen=True, eq=False)
class CostModel:
    """Estimates for one kernel."""

    shaped: Shaped
    spec: VtaSpec
    sram: SramLayout
    costs: UnitCosts

    @cached_property
    def pixel(self) -> int:
        """Accumulators of one output pixel of one group."""
        return self.shaped.out.pixel(self.spec.block_out)

    @cached_property
    def total(self) -> int:
        """Tiles of the kernel."""
        return sum(int(count.sum()) for count in self.shaped.counts)

    @cached_property
    def finish(self) -> tuple[int, int]:
        """Cycles of reset, bias and ALU steps: of the instructions, and of each accumulator."""
        costs = self.costs
        steps = [step for phase in self.shaped.kernel.phases for step in phase.steps]
        each = 2 * costs.gemm_uop + sum(
            costs.alu_imm_uop if isinstance(step.operand, int) else costs.alu_tensor_uop
            for step in steps
        )
        return 2 * costs.gemm + len(steps) * costs.alu, each

    def estimate(self, tiling: Tiling) -> float:
        """Cycles of the whole kernel, with the exposed part of the last tile's transfers."""
        _, height, width = self.shaped.out.shape
        shapes = [
            (many * more, rows * cols)
            for many, rows in _shapes(height, tiling.rows)
            for more, cols in _shapes(width, tiling.cols)
        ]
        live = self.shaped.out.live
        chunks = [
            self._chunk(tiling, live[begin : begin + tiling.groups])
            for begin in range(0, len(live), tiling.groups)
        ]
        tiles = sum(many for many, _ in shapes)
        alone = tiles * len(chunks) == 1
        total = sum(
            many * self._tile(chunk, tiling, pixels, alone=alone)
            for chunk in chunks
            for many, pixels in shapes
        )
        total += sum(self._once(chunk, tiling, height * width, tiles) for chunk in chunks)
        load = sum(tiles * one.cycles for chunk in chunks for one in chunk.loads)
        load += sum(chunk.once for chunk in chunks)
        outputs = shapes[0][1] * tiling.groups * self.pixel
        last = load / tiles / len(chunks) + self.store(outputs)
        shared = self.total <= self.sram.wgt // tiling.slots
        load += self.weights(self.total) * shared
        share = exposed(tiling, height, width, len(chunks))
        return max(total, 0.0 if alone else load) + last * share

    def _tile(self, chunk: _ChunkCost, tiling: Tiling, pixels: int, *, alone: bool) -> float:
        """Cycles of one output tile; another one follows unless it is ``alone``."""
        outputs = pixels * chunk.groups * self.pixel
        rest = max(1, ceil(REST / outputs))
        uop = self.costs.gemm_uop
        arithmetic = [one.issue + one.tiles * pixels * rest * uop for one in chunk.loads]
        issue, each = self.finish
        arithmetic[-1] += issue
        arithmetic[-1] += outputs * each
        loads = [one.cycles for one in chunk.loads]
        behind = sum(map(max, arithmetic, [*loads[1:], 0.0 if alone else loads[0]]))
        again = 0.0
        if 2 * chunk.uops > self.spec.uop_limit:
            again = self.uop_beats(chunk.uops) + self.costs.uop_request
        return max(behind + again, self.store(outputs))

    def _once(self, chunk: _ChunkCost, tiling: Tiling, area: int, tiles: int) -> float:
        """What a chunk adds to its tiles: its micro-ops, and weights whose load is not hidden."""
        before = chunk.loads[-1].tiles * area / tiles * self.costs.gemm_uop
        uops = min(2 * chunk.uops, self.spec.uop_limit)
        return max(0.0, chunk.once - before) + self.uop_beats(uops)

    def uop_beats(self, uops: float) -> float:
        """Cycles of loading micro-ops."""
        return uops * self.spec.uop_elem_bytes / self.costs.bus_bytes

    def store(self, outputs: int) -> float:
        """Cycles of storing the accumulators ``outputs``."""
        return outputs * self.costs.store * self.shaped.out.value_bytes

    def weights(self, tiles: float) -> float:
        """Cycles of one LOAD of weights."""
        return self.costs.wgt_request + tiles * self.spec.wgt_elem_bytes / self.costs.bus_bytes

    def _chunk(self, tiling: Tiling, groups: Int64) -> _ChunkCost:
        room = self.sram.wgt // tiling.slots
        sizes = input_sizes(self.shaped, tiling, self.spec)
        bundles = in_bundles(needed(self.shaped, sizes, groups), self.sram.inp // tiling.slots)
        kept = sum(int(count[groups].sum()) for count in self.shaped.counts)
        need = -(-REST // (len(groups) * self.pixel))
        tall, wide = unroll(tiling.rows, tiling.cols, need)
        uops = kept * tall * wide
        if self.total <= room or kept <= room:
            once = 0.0 if self.total <= room else self.weights(kept)
            return _ChunkCost(
                len(groups), once, tuple(self._load(bundle) for bundle in bundles), uops
            )
        loads = [load for bundle in bundles for load in self._streamed(bundle, room)]
        return _ChunkCost(len(groups), 0.0, tuple(loads), uops)

    def _load(self, bundle: list[InputGroup]) -> _LoadCost:
        costs, size = self.costs, self.spec.inp_elem_bytes
        cycles = sum(costs.inp_request + group.size * size / costs.bus_bytes for group in bundle)
        tiles = sum(group.tiles for group in bundle)
        return _LoadCost(cycles, tiles, costs.gemm * len({group.term for group in bundle}))

    def _streamed(self, bundle: list[InputGroup], room: int) -> list[_LoadCost]:
        """The loads of a bundle whose weights are loaded anew for every tile."""
        whole = self._load(bundle)
        count = max(1, ceil(whole.tiles / room))
        weights = self.weights(whole.tiles / count)
        return [
            _LoadCost(whole.cycles * (part == 0) + weights, whole.tiles / count, whole.issue)
            for part in range(count)
        ]


def exposed(tiling: Tiling, height: int, width: int, chunks: int) -> float:
    """The share of the last tile's loads and store that nothing hides."""
    lag = 1 if chunks > 1 else _lag(ceil(height / tiling.rows), ceil(width / tiling.cols))
    return _EXPOSED.get(lag, 0.1 if tiling.cols == width else 0.2)


def _lag(bands: int, columns: int) -> int:
    """The distance in tiles between the next layer's first tile and the last of its input tiles.

    It reads the tile at its own place and the neighbouring ones. At 3 or more, no module waits.
    """
    last = (min(2, bands) - 1) * columns + min(2, columns) - 1
    return bands * columns - last


def _shapes(size: int, step: int) -> list[tuple[int, int]]:
    """(how many, extent) of the tiles along one axis: whole ones, then the rest."""
    whole, rest = divmod(size, step)
    return [(whole, step)] * (whole > 0) + [(1, rest)] * (rest > 0)
