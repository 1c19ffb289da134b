"""The program under construction: its stream, and scratchpads split into slots.

    builder = Builder(spec, vectors=4)
    base = builder.inp.next(elements)           # alternates between two slots

While one slot is computed on, the other one is loaded or stored. Set apart at the end of the input
and accumulator scratchpads: the constant input of bias tiles, the vectors of tensor-tensor ALU
steps, and ``REST`` accumulators whose content nobody reads.
"""

from __future__ import annotations

from dataclasses import dataclass

from gpw_cli.errors import UnsupportedError
from gpw_cli.targets.vta.isa import fields
from gpw_cli.targets.vta.isa.geometry import VtaSpec
from gpw_cli.targets.vta.lowering.microops import REST
from gpw_cli.targets.vta.lowering.stream import Stream
from gpw_cli.targets.vta.lowering.unit_costs import UnitCosts

_MAX_ITER = fields.limits(fields.GEMM, "iter_in")[1]


@dataclass
class Slots:
    """Two halves of ``depth`` elements in turn, or the whole where half is too small."""

    depth: int
    turn: int = 0

    def capacity(self, slots: int) -> int:
        """Elements of one slot of ``slots``."""
        return self.depth // slots

    def next(self, elements: int) -> int:
        """First element of the next slot that holds ``elements``."""
        self.turn ^= 1
        half = self.depth // 2
        return half if self.turn and elements <= half else 0


class Builder:
    """The stream under construction and the slots of the scratchpads.

    ``vectors``: accumulators to set apart for operands of ALU steps. Raises UnsupportedError for
    scratchpads without room for one tile.
    """

    def __init__(self, spec: VtaSpec, vectors: int, costs: UnitCosts) -> None:
        self.spec, self.costs = spec, costs
        self.stream = Stream(spec)
        free = spec.acc_depth - REST - vectors
        if free < 1 or spec.inp_depth < 2:
            raise UnsupportedError(
                f"VTA geometry: {spec.acc_depth} accumulator and {spec.inp_depth} input elements "
                f"cannot hold one tile; enlarge LOG_ACC_BUFF_SIZE or LOG_INP_BUFF_SIZE"
            )
        self.acc = Slots(min(free, _MAX_ITER))
        self.inp = Slots(min(spec.inp_depth - 1, _MAX_ITER))
        self.wgt = Slots(spec.wgt_depth)
        self.spare = spec.acc_depth - REST  # REST accumulators, overwritten at any time
        self.vectors = self.spare - vectors
        self.constant = spec.inp_depth - 1
