"""A lower bound on the estimate of a tiling, which takes a fraction of the estimate's time.

    bound = CostBound(model)
    bound.below(tiling) <= model.estimate(tiling)

Arithmetic, loads and stores are added up over the whole kernel, as if each hid behind the others.
The tile search estimates only tilings whose bound is below the best estimate so far.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from gpw_cli.targets.vta.lowering.cost import CostModel, exposed
from gpw_cli.targets.vta.lowering.microops import REST
from gpw_cli.targets.vta.lowering.tiling import Tiling, input_sizes

_ROUNDING = 1 - 1e-9  # the same sums in another order


@dataclass(frozen=True)
class _Chunks:
    """Sums over the chunks of a group size; the loads and micro-ops are those of one output tile.

    ``inputs``: input groups that are loaded, by term; ``weights``: cycles of weights that are
    loaded for every tile; ``once``: of those that serve all tiles; ``again``: of micro-ops that
    the scratchpad cannot keep; ``issues``: GEMM instructions.
    """

    count: int
    inputs: tuple[int, ...]
    weights: float
    once: float
    again: float
    issues: int


@dataclass(frozen=True, eq=False)
class CostBound:
    """Bounds for the kernel of ``model``."""

    model: CostModel
    _known: dict[tuple[int, int], _Chunks] = field(default_factory=dict)

    def below(self, tiling: Tiling) -> float:
        """Cycles; at most ``model.estimate(tiling)``."""
        model, out = self.model, self.model.shaped.out
        _, height, width = out.shape
        chunks = self._chunks(tiling.groups, tiling.slots)
        tiles = -(-height // tiling.rows) * -(-width // tiling.cols)
        accumulators = height * width * len(out.live) * model.pixel
        outputs = tiling.rows * tiling.cols * tiling.groups * model.pixel
        busy = height * width * self._kept * max(1, -(-REST // outputs)) * model.costs.gemm_uop
        busy += tiles * (chunks.issues * model.costs.gemm + chunks.count * model.finish[0])
        busy += accumulators * model.finish[1]
        one = chunks.weights + self._input_cycles(chunks, tiling)
        alone = tiles * chunks.count == 1
        total = max(busy, 0.0 if alone else tiles * one) + tiles * chunks.again
        load = tiles * one + chunks.once
        last = load / tiles / chunks.count + model.store(outputs)
        whole = 0.0 if alone else load
        found = max(total, whole, model.store(accumulators))
        return _ROUNDING * (found + last * exposed(tiling, height, width, chunks.count))

    @cached_property
    def _kept(self) -> int:
        """Tiles that read an input."""
        shaped = self.model.shaped
        return sum(
            int(count[shaped.out.live].sum())
            for count, source in zip(shaped.counts, shaped.sources, strict=True)
            if source is not None
        )

    def _input_cycles(self, chunks: _Chunks, tiling: Tiling) -> float:
        model = self.model
        each = model.spec.inp_elem_bytes / model.costs.bus_bytes
        sizes = input_sizes(model.shaped, tiling, model.spec)
        loads = zip(chunks.inputs, sizes, strict=True)
        return sum(count * (model.costs.inp_request + size * each) for count, size in loads)

    def _chunks(self, groups: int, slots: int) -> _Chunks:
        key = (groups, slots)
        if key not in self._known:
            self._known[key] = self._summed(groups, self.model.sram.wgt // slots)
        return self._known[key]

    def _summed(self, groups: int, room: int) -> _Chunks:
        model, shaped = self.model, self.model.shaped
        live = shaped.out.live
        starts = np.arange(0, len(live), groups)
        kept = np.zeros(len(starts), np.int64)
        read = np.zeros(len(starts), np.int64)
        inputs, issues = [], 0
        for count, source in zip(shaped.counts, shaped.sources, strict=True):
            tiles = np.add.reduceat(count[live], starts, axis=0)
            kept += tiles.sum(1)
            inputs.append(0 if source is None else int(np.count_nonzero(tiles)))
            if source is not None:
                read += tiles.sum(1)
                issues += int(np.count_nonzero(tiles.any(1)))
        streamed = kept > room if model.total > room else np.zeros(len(starts), bool)
        weights = sum(model.weights(n) for n in read[streamed].tolist())
        lasting = kept[~streamed] if model.total > room else kept[:0]
        once = sum(model.weights(n) for n in lasting.tolist())
        many = kept[2 * kept > model.spec.uop_limit].tolist()
        again = sum(model.uop_beats(n) + model.costs.uop_request for n in many)
        return _Chunks(len(starts), tuple(inputs), weights, once, again, issues)
