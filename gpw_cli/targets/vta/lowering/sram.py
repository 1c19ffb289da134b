"""How the scratchpads are divided: room for tiles, and what is set apart at the end.

    sram = sram_layout(spec, vectors=4)
    sram.inp // slots                           # input elements of one slot

Set apart at the end of the input and accumulator scratchpads: the constant input of bias tiles, the
vectors of tensor-tensor ALU steps, and ``REST`` accumulators whose content nobody reads.
"""

from __future__ import annotations

from dataclasses import dataclass

from gpw_cli.errors import UnsupportedError
from gpw_cli.targets.vta.isa import fields
from gpw_cli.targets.vta.isa.geometry import VtaSpec
from gpw_cli.targets.vta.lowering.microops import REST

_MAX_ITER = fields.limits(fields.GEMM, "iter_in")[1]


@dataclass(frozen=True)
class SramLayout:
    """``acc``, ``inp``, ``wgt``: elements that tiles may use, from element 0.

    ``vectors``: first accumulator of the operands of ALU steps. ``spare``: first of the ``REST``
    accumulators that may be overwritten at any time. ``constant``: the input element of bias tiles.
    """

    acc: int
    inp: int
    wgt: int
    vectors: int
    spare: int
    constant: int


def sram_layout(spec: VtaSpec, vectors: int) -> SramLayout:
    """``vectors``: accumulators to set apart for operands of ALU steps.

    Raises UnsupportedError for scratchpads without room for one tile.
    """
    free = spec.acc_depth - REST - vectors
    if free < 1 or spec.inp_depth < 2:
        raise UnsupportedError(
            f"VTA geometry: {spec.acc_depth} accumulator and {spec.inp_depth} input elements "
            f"cannot hold one tile; enlarge LOG_ACC_BUFF_SIZE or LOG_INP_BUFF_SIZE"
        )
    spare = spec.acc_depth - REST
    return SramLayout(
        acc=min(free, _MAX_ITER),
        inp=min(spec.inp_depth - 1, _MAX_ITER),
        wgt=spec.wgt_depth,
        vectors=spare - vectors,
        spare=spare,
        constant=spec.inp_depth - 1,
    )
