"""What VTA's units charge for their work, as the tile search needs to know it.

In a file of its own, because a stage key needs it and must not import the lowering.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class UnitCosts:
    """Cycles; ``target.unit_costs`` derives them from a VTA's timing.

    ``inp_request``, ``wgt_request``, ``uop_request``: a LOAD of inputs, weights or micro-ops
    without its beats of ``bus_bytes`` bytes. ``gemm``, ``alu``: an instruction without its
    micro-ops. ``gemm_uop``, ``alu_imm_uop``, ``alu_tensor_uop``: a micro-op of GEMM, of the ALU
    with an immediate, with two tensors. ``store``: an output element, with its share of what a
    burst costs.
    """

    inp_request: int
    wgt_request: int
    uop_request: int
    bus_bytes: int
    gemm: int
    gemm_uop: int
    alu: int
    alu_imm_uop: int
    alu_tensor_uop: int
    store: float
