"""Estimated cycles of a kernel under a plan: enough to choose between plans, not to report.

    cycles = CostModel(shaped, builder, costs).estimate(plan)

Within a tile, the load of each step hides behind the arithmetic of the step before.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from gpw_cli.targets.vta.lowering.builder import Builder
from gpw_cli.targets.vta.lowering.input_blocking import Shaped, Unit, needed, pack
from gpw_cli.targets.vta.lowering.loops import unroll
from gpw_cli.targets.vta.lowering.microops import REST
from gpw_cli.targets.vta.lowering.tile_ir import Int64
from gpw_cli.targets.vta.lowering.tiling import Plan, input_sizes
from gpw_cli.targets.vta.lowering.unit_costs import UnitCosts

_EXPOSED = {1: 1.0, 2: 0.5}  # share of the last tile's STORE and the next LOAD that nothing hides


@dataclass(frozen=True)
class _Step:
    """One load and what it allows: ``load`` cycles, ``tiles`` a pixel, ``issue`` cycles."""

    load: float
    tiles: float
    issue: int


@dataclass(frozen=True)
class _Chunk:
    """``groups`` output groups.

    ``once``: cycles of loads that serve all tiles; ``uops``: micro-ops of a tile.
    """

    groups: int
    once: float
    steps: tuple[_Step, ...]
    uops: float


class CostModel:
    """Estimates for one kernel."""

    def __init__(self, shaped: Shaped, builder: Builder, costs: UnitCosts) -> None:
        self.shaped, self.builder, self.spec, self.costs = shaped, builder, builder.spec, costs
        self.pixel = shaped.out.pixel(self.spec.block_out)
        self.total = sum(int(count.sum()) for count in shaped.counts)
        steps = [step for stage in shaped.kernel.stages for step in stage.steps]
        # reset, bias and ALU steps: the instructions, and the micro-ops of one accumulator
        self.issue = 2 * costs.gemm + len(steps) * costs.alu
        self.each = 2 * costs.gemm_uop + sum(
            costs.alu_imm_uop if isinstance(step.operand, int) else costs.alu_tensor_uop
            for step in steps
        )

    def estimate(self, plan: Plan) -> float:
        """Cycles of the whole kernel, and a part of the wait for its last tile."""
        _, height, width = self.shaped.out.shape
        shapes = [
            (many * more, rows * cols)
            for many, rows in _shapes(height, plan.rows)
            for more, cols in _shapes(width, plan.cols)
        ]
        live = self.shaped.out.live
        chunks = [
            self._chunk(plan, live[begin : begin + plan.groups])
            for begin in range(0, len(live), plan.groups)
        ]
        tiles = sum(many for many, _ in shapes)
        alone = tiles * len(chunks) == 1
        total = sum(
            many * self._tile(chunk, plan, pixels, alone=alone)
            for chunk in chunks
            for many, pixels in shapes
        )
        total += sum(self._once(chunk, plan, height * width, tiles) for chunk in chunks)
        load = sum(tiles * step.load for chunk in chunks for step in chunk.steps)
        load += sum(chunk.once for chunk in chunks)
        outputs = shapes[0][1] * plan.groups * self.pixel
        last = load / tiles / len(chunks) + self._store(outputs)
        shared = self.total <= self.builder.wgt.capacity(plan.slots)
        load += self._weights(self.total) * shared
        lag = 1 if len(chunks) > 1 else _lag(ceil(height / plan.rows), ceil(width / plan.cols))
        exposed = _EXPOSED.get(lag, 0.1 if plan.cols == width else 0.2)
        return max(total, 0.0 if alone else load) + last * exposed

    def _tile(self, chunk: _Chunk, plan: Plan, pixels: int, *, alone: bool) -> float:
        """Cycles of one output tile; another one follows it unless it is ``alone``."""
        outputs = pixels * chunk.groups * self.pixel
        rest = max(1, ceil(REST / outputs))
        uop = self.costs.gemm_uop
        arithmetic = [step.issue + step.tiles * pixels * rest * uop for step in chunk.steps]
        arithmetic[-1] += self.issue
        arithmetic[-1] += outputs * self.each
        loads = [step.load for step in chunk.steps]
        behind = sum(map(max, arithmetic, [*loads[1:], 0.0 if alone else loads[0]]))
        again = 0.0
        if 2 * chunk.uops > self.spec.uop_limit:
            again = self._uop_beats(chunk.uops) + self.costs.wgt_request
        return max(behind + again, self._store(outputs))

    def _once(self, chunk: _Chunk, plan: Plan, area: int, tiles: int) -> float:
        """What a chunk adds to its tiles: its micro-ops, and weights that nothing hides."""
        before = chunk.steps[-1].tiles * area / tiles * self.costs.gemm_uop
        uops = min(2 * chunk.uops, self.spec.uop_limit)
        return max(0.0, chunk.once - before) + self._uop_beats(uops)

    def _uop_beats(self, uops: float) -> float:
        return uops * self.spec.uop_elem_bytes / self.costs.bus_bytes

    def _store(self, outputs: int) -> float:
        return outputs * self.costs.store * self.shaped.out.planes

    def _weights(self, tiles: float) -> float:
        return self.costs.wgt_request + tiles * self.spec.wgt_elem_bytes / self.costs.bus_bytes

    def _chunk(self, plan: Plan, groups: Int64) -> _Chunk:
        room = self.builder.wgt.capacity(plan.slots)
        sizes = input_sizes(self.shaped, plan, self.spec)
        bundles = pack(needed(self.shaped, sizes, groups), self.builder.inp.capacity(plan.slots))
        kept = sum(int(count[groups].sum()) for count in self.shaped.counts)
        need = -(-REST // (len(groups) * self.pixel))
        tall, wide = unroll(plan.rows, plan.cols, need)
        uops = kept * tall * wide
        if self.total <= room or kept <= room:
            once = 0.0 if self.total <= room else self._weights(kept)
            return _Chunk(len(groups), once, tuple(self._step(bundle) for bundle in bundles), uops)
        steps = [step for bundle in bundles for step in self._streamed(bundle, room)]
        return _Chunk(len(groups), 0.0, tuple(steps), uops)

    def _step(self, bundle: list[Unit]) -> _Step:
        costs, size = self.costs, self.spec.inp_elem_bytes
        load = sum(costs.inp_request + unit.size * size / costs.bus_bytes for unit in bundle)
        tiles = sum(unit.tiles for unit in bundle)
        return _Step(load, tiles, costs.gemm * len({unit.term for unit in bundle}))

    def _streamed(self, bundle: list[Unit], room: int) -> list[_Step]:
        """The steps of a bundle whose weights are loaded anew for every tile."""
        step = self._step(bundle)
        count = max(1, ceil(step.tiles / room))
        weights = self._weights(step.tiles / count)
        return [
            _Step(step.load * (part == 0) + weights, step.tiles / count, step.issue)
            for part in range(count)
        ]


def _lag(bands: int, columns: int) -> int:
    """How many tiles after its last input tile the next layer's first tile comes.

    It needs its own and the neighbouring tiles; from 3 on, no module waits.
    """
    last = (min(2, bands) - 1) * columns + min(2, columns) - 1
    return bands * columns - last


def _shapes(size: int, step: int) -> list[tuple[int, int]]:
    """(how many, extent) of the tiles along one axis: whole ones, then the rest."""
    whole, rest = divmod(size, step)
    return [(whole, step)] * (whole > 0) + [(1, rest)] * (rest > 0)
