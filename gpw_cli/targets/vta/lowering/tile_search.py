"""Chooses the tiling of a kernel: the one with the lowest estimate that fits the scratchpads.

tiling = choose_tiling(shaped, spec, sram, costs)        # rows x cols outputs, groups of channels
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from gpw_cli.errors import UnsupportedError
from gpw_cli.targets.vta.isa.geometry import VtaSpec
from gpw_cli.targets.vta.lowering.cost import CostModel
from gpw_cli.targets.vta.lowering.cost_bound import CostBound
from gpw_cli.targets.vta.lowering.input_blocking import Shaped
from gpw_cli.targets.vta.lowering.sram import SramLayout
from gpw_cli.targets.vta.lowering.tiling import Tiling, input_sizes, tile_sizes
from gpw_cli.targets.vta.lowering.unit_costs import UnitCosts


def choose_tiling(shaped: Shaped, spec: VtaSpec, sram: SramLayout, costs: UnitCosts) -> Tiling:
    """The cheapest tiling with two slots, or with one where nothing else fits.

    Raises UnsupportedError where not even one output pixel of one group fits.
    """
    for slots in (2, 1):
        fitting = [tiling for tiling in _tilings(shaped, slots) if fits(shaped, tiling, spec, sram)]
        if fitting:
            return cheapest(fitting, CostModel(shaped, spec, sram, costs))
    raise UnsupportedError(
        f"{shaped.kernel.name}: one output pixel of kernel "
        f"{max(term.kernel for term in shaped.kernel.terms)} does not fit the scratchpads of "
        f"{spec.inp_depth} input, {spec.wgt_depth} weight and {spec.acc_depth} accumulator "
        f"elements; enlarge LOG_INP_BUFF_SIZE, LOG_WGT_BUFF_SIZE or LOG_ACC_BUFF_SIZE"
    )


def cheapest(tilings: Sequence[Tiling], model: CostModel) -> Tiling:
    """The first with the lowest estimate; those whose bound is above it are not estimated."""
    bound = CostBound(model)
    best = (math.inf, 0)
    for low, number in sorted((bound.below(tiling), n) for n, tiling in enumerate(tilings)):
        if low > best[0]:
            break
        best = min(best, (model.estimate(tilings[number]), number))
    return tilings[best[1]]


def _tilings(shaped: Shaped, slots: int) -> Iterator[Tiling]:
    _, height, width = shaped.out.shape
    for cols in tile_sizes(width):
        for rows in tile_sizes(height):
            if cols < width and rows > 1 and rows * 4 > cols * 64:
                continue
            for groups in tile_sizes(len(shaped.out.live)):
                yield Tiling(rows, cols, groups, slots)


def fits(shaped: Shaped, tiling: Tiling, spec: VtaSpec, sram: SramLayout) -> bool:
    """Whether a slot of each scratchpad can hold a tile of ``tiling``."""
    outputs = tiling.rows * tiling.cols * tiling.groups * shaped.out.pixel(spec.block_out)
    return (
        outputs <= sram.acc // tiling.slots
        and max(input_sizes(shaped, tiling, spec), default=0) <= sram.inp // tiling.slots
        and sram.wgt // tiling.slots > 0
    )
