"""Choosing the tile of a kernel: of all that fit the scratchpads, the one estimated cheapest.

plan = choose(shaped, builder, costs)        # rows x cols outputs, groups of channels
"""

from __future__ import annotations

from collections.abc import Iterator

from gpw_cli.errors import UnsupportedError
from gpw_cli.targets.vta.lowering.builder import Builder
from gpw_cli.targets.vta.lowering.cost import CostModel
from gpw_cli.targets.vta.lowering.input_blocking import Shaped
from gpw_cli.targets.vta.lowering.tiling import Plan, input_sizes, parts
from gpw_cli.targets.vta.lowering.unit_costs import UnitCosts


def choose(shaped: Shaped, builder: Builder, costs: UnitCosts) -> Plan:
    """The cheapest plan with two slots, or with one where nothing else fits.

    Raises UnsupportedError where not even one output pixel of one group fits.
    """
    for slots in (2, 1):
        fitting = [plan for plan in _plans(shaped, slots) if _fits(shaped, plan, builder)]
        if fitting:
            return min(fitting, key=CostModel(shaped, builder, costs).estimate)
    spec = builder.spec
    raise UnsupportedError(
        f"{shaped.kernel.name}: one output pixel of kernel "
        f"{max(term.kernel for term in shaped.kernel.terms)} does not fit the scratchpads of "
        f"{spec.inp_depth} input, {spec.wgt_depth} weight and {spec.acc_depth} accumulator "
        f"elements; enlarge LOG_INP_BUFF_SIZE, LOG_WGT_BUFF_SIZE or LOG_ACC_BUFF_SIZE"
    )


def _plans(shaped: Shaped, slots: int) -> Iterator[Plan]:
    _, height, width = shaped.out.shape
    for cols in parts(width):
        for rows in parts(height):
            if cols < width and rows > 1 and rows * 4 > cols * 64:
                continue
            for groups in parts(len(shaped.out.live)):
                yield Plan(rows, cols, groups, slots)


def _fits(shaped: Shaped, plan: Plan, builder: Builder) -> bool:
    outputs = plan.rows * plan.cols * plan.groups * shaped.out.pixel(builder.spec.block_out)
    return (
        outputs <= builder.acc.capacity(plan.slots)
        and max(input_sizes(shaped, plan, builder.spec), default=0)
        <= builder.inp.capacity(plan.slots)
        and builder.wgt.capacity(plan.slots) > 0
    )
