"""VTA's instructions as typed objects.

    insn = GemmInsn(uop_bgn=0, uop_end=9, iter_out=4, iter_in=8, dst_factor_out=8)

``encoding.py`` turns them into bits. Source: VTA's ``include/vta/hw_spec.h``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar


class Opcode(IntEnum):
    """What an instruction does."""

    LOAD = 0
    STORE = 1
    GEMM = 2
    FINISH = 3
    ALU = 4


class MemType(IntEnum):
    """The scratchpad of a LOAD or STORE; ``dram_base`` is in units of its elements."""

    UOP = 0
    WGT = 1
    INP = 2
    ACC = 3
    OUT = 4
    ACC_8BIT = 5


class AluOp(IntEnum):
    """The ALU's operations. SHR is arithmetic; only a negative immediate shifts left."""

    MIN = 0
    MAX = 1
    ADD = 2
    SHR = 3
    MUL = 4


@dataclass(frozen=True, kw_only=True)
class _Flags:
    """Dependency tokens popped before, and pushed after, the instruction."""

    pop_prev: bool = False
    pop_next: bool = False
    push_prev: bool = False
    push_next: bool = False


@dataclass(frozen=True, kw_only=True)
class MemInsn(_Flags):
    """LOAD or STORE of ``y_size`` rows of ``x_size`` elements, ``x_stride`` apart in DRAM.

    In SRAM a loaded row is x_pad_0 + x_size + x_pad_1 elements long; rows follow one another.
    """

    opcode: Opcode
    memory_type: MemType
    sram_base: int = 0
    dram_base: int = 0
    y_size: int = 1
    x_size: int = 0
    x_stride: int = 0
    y_pad_0: int = 0
    y_pad_1: int = 0
    x_pad_0: int = 0
    x_pad_1: int = 0


@dataclass(frozen=True, kw_only=True)
class _Loops(_Flags):
    """For i < iter_out, j < iter_in, uops [bgn, end): index + i*factor_out + j*factor_in."""

    reset: bool = False
    uop_bgn: int
    uop_end: int
    iter_out: int = 1
    iter_in: int = 1
    dst_factor_out: int = 0
    dst_factor_in: int = 0
    src_factor_out: int = 0
    src_factor_in: int = 0


@dataclass(frozen=True, kw_only=True)
class GemmInsn(_Loops):
    """acc[dst] += inp[src] . wgt[wgt]^T, or acc[dst] = 0 with ``reset``."""

    opcode: ClassVar[Opcode] = Opcode.GEMM
    wgt_factor_out: int = 0
    wgt_factor_in: int = 0


@dataclass(frozen=True, kw_only=True)
class AluInsn(_Loops):
    """acc[dst] = acc[dst] op (imm if use_imm else acc[src]); ``imm`` is signed, 16 bits."""

    opcode: ClassVar[Opcode] = Opcode.ALU
    alu_opcode: AluOp
    use_imm: bool = False
    imm: int = 0


@dataclass(frozen=True, kw_only=True)
class FinishInsn(_Flags):
    """The end of the program: COMPUTE raises its done flag."""

    opcode: ClassVar[Opcode] = Opcode.FINISH


Insn = MemInsn | GemmInsn | AluInsn | FinishInsn
