"""Which scratchpad elements and DRAM bytes one instruction touches, as index arrays.

The checker and the functional simulator share it. Everything is derived from the decoded
instruction and its micro-ops. Indices are int64, in execution order.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gpw_cli.arrays import Int64
from gpw_cli.targets.vta.isa.geometry import VtaSpec
from gpw_cli.targets.vta.isa.instructions import AluInsn, GemmInsn, MemInsn, MemType


@dataclass(frozen=True)
class Transfer:
    """A LOAD or STORE: the DRAM byte address of each row and the SRAM index of each element.

    ``rows``: int64 [y_size] first byte of each row of ``row_bytes``. ``sram``: int64
    [y_size * x_size] elements that hold data; ``pads``: int64 elements filled with zero.
    """

    rows: Int64
    row_bytes: int
    sram: Int64
    pads: Int64


def dram_elem_bytes(spec: VtaSpec, memory_type: MemType) -> int:
    """Bytes of one DRAM element of ``memory_type``: what ``dram_base`` and ``x_stride`` count."""
    sizes = {
        MemType.UOP: spec.uop_elem_bytes,
        MemType.WGT: spec.wgt_elem_bytes,
        MemType.INP: spec.inp_elem_bytes,
        MemType.ACC: spec.acc_elem_bytes,
        MemType.OUT: spec.out_elem_bytes,
        MemType.ACC_8BIT: spec.out_elem_bytes,
    }
    return sizes[memory_type]


def transfer(spec: VtaSpec, insn: MemInsn) -> Transfer:
    """What a LOAD or STORE with x_size > 0 transfers."""
    size = dram_elem_bytes(spec, insn.memory_type)
    rows = size * (insn.dram_base + insn.x_stride * np.arange(insn.y_size, dtype=np.int64))
    width = insn.x_pad_0 + insn.x_size + insn.x_pad_1
    height = insn.y_pad_0 + insn.y_size + insn.y_pad_1
    index = insn.sram_base + np.arange(height * width, dtype=np.int64).reshape(height, width)
    data = np.zeros((height, width), np.bool_)
    y, x = insn.y_pad_0, insn.x_pad_0
    data[y : y + insn.y_size, x : x + insn.x_size] = True
    return Transfer(rows, size * insn.x_size, index[data], index[~data])


def _expand(insn: GemmInsn | AluInsn, base: Int64, factor_out: int, factor_in: int) -> Int64:
    """Base [uops] -> [iter_out * iter_in * uops]."""
    outer = factor_out * np.arange(insn.iter_out, dtype=np.int64)
    inner = factor_in * np.arange(insn.iter_in, dtype=np.int64)
    return (outer[:, None, None] + inner[None, :, None] + base).reshape(-1)


def dst_indices(insn: GemmInsn | AluInsn, dst: Int64) -> Int64:
    """Accumulators written; ``dst``: the dst fields of the micro-ops [uop_bgn, uop_end)."""
    return _expand(insn, dst, insn.dst_factor_out, insn.dst_factor_in)


def src_indices(insn: GemmInsn | AluInsn, src: Int64) -> Int64:
    """Input elements (GEMM) or accumulators (ALU) that src selects."""
    return _expand(insn, src, insn.src_factor_out, insn.src_factor_in)


def wgt_indices(insn: GemmInsn, wgt: Int64) -> Int64:
    """Weight elements read."""
    return _expand(insn, wgt, insn.wgt_factor_out, insn.wgt_factor_in)
