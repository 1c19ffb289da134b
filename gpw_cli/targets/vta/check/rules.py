"""The rules of the hardware that a functional simulator does not notice when they are broken.

    report = check(program)     # raises ProgramError naming the first instruction that breaks one

Checked: token queues (isa/tokens.py); every scratchpad and DRAM address; reads of what was never
written; two modules touching the same bytes with no token order between them (vector clocks); the
ALU reading the accumulator that the previous micro-op wrote; GEMM accumulators reused too soon
where another order exists; shift amounts (shifts.py); the limit of 2048 micro-ops; instructions
that do nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpw_cli.arrays import Int64
from gpw_cli.errors import ProgramError
from gpw_cli.targets.vta.check.dram import DramState
from gpw_cli.targets.vta.check.hazards import Hazards
from gpw_cli.targets.vta.check.shifts import Amounts
from gpw_cli.targets.vta.isa.access import dram_elem_bytes, dst_indices, src_indices, wgt_indices
from gpw_cli.targets.vta.isa.access import transfer as moved_by
from gpw_cli.targets.vta.isa.encoding import decode, decode_uops
from gpw_cli.targets.vta.isa.instructions import (
    AluInsn,
    AluOp,
    GemmInsn,
    Insn,
    MemInsn,
    MemType,
    Opcode,
)
from gpw_cli.targets.vta.isa.modules import Module, module_of
from gpw_cli.targets.vta.isa.program import Program
from gpw_cli.targets.vta.isa.tokens import Clock, linearise, where

MIN_GEMM_DISTANCE = 4  # micro-ops between two uses of an accumulator, where the shape allows it


@dataclass(frozen=True)
class CheckReport:
    """``min_gemm_distance``: fewest micro-ops between two uses of an accumulator, 0: never reused.

    ``uops_resident_max``: micro-op scratchpad entries used. ``gemm_uops``: GEMM micro-ops of a run.
    """

    min_gemm_distance: int
    uops_resident_max: int
    gemm_uops: int


def check(program: Program) -> CheckReport:
    """Checks ``program``. Raises ProgramError naming the instruction that breaks a rule."""
    checker = _Checker(program)
    insns = decode(program.spec, program.insn)
    order = linearise(insns)
    for number in order.sequence:
        checker.run(number, insns[number], order.clock[number], order.index[number])
    checker.dram.check_output()
    return CheckReport(checker.distance, checker.uops_used, checker.gemm_uops)


def gemm_distance(dst: Int64) -> tuple[int, bool]:
    """(fewest micro-ops between two uses of an accumulator, or 0; whether an order with 4 exists).

    ``dst``: int64 [n], the accumulator of each micro-op, in execution order.
    """
    order = np.argsort(dst.astype(np.uint16), kind="stable")  # 16 bits: a radix sort
    same = np.diff(dst[order]) == 0
    if not same.any():
        return 0, True
    counts = np.bincount(dst)
    needed = (int(counts.max()) - 1) * MIN_GEMM_DISTANCE + int((counts == counts.max()).sum())
    return int(np.diff(order)[same].min()), needed <= len(dst)


class _Checker:
    """The state of the scratchpads while the instructions run in a legal order."""

    def __init__(self, program: Program) -> None:
        spec = self.spec = program.spec
        self.dram, self.amounts = DramState(program), Amounts(program)
        self.inp = Hazards(spec.inp_depth, "INP")
        self.wgt = Hazards(spec.wgt_depth, "WGT")
        self.acc = Hazards(spec.acc_depth, "ACC")
        self.uop = Hazards(spec.uop_limit, "UOP")
        self.uops: NDArray[np.uint32] = np.zeros(spec.uop_limit, np.uint32)
        self.distance = self.uops_used = self.gemm_uops = 0
        self.place, self.clock, self.stamp, self.module = "", (0, 0, 0), 0, Module.LOAD

    def run(self, number: int, insn: Insn, clock: Clock, index: int) -> None:
        self.place, self.clock = where(number, insn), clock
        self.stamp, self.module = index + 1, module_of(insn)
        if isinstance(insn, MemInsn):
            self._memory(insn)
        elif isinstance(insn, GemmInsn):
            self._gemm(insn)
        elif isinstance(insn, AluInsn):
            self._alu(insn)

    def _need(self, condition: bool, problem: str) -> None:
        if not condition:
            raise ProgramError(f"{self.place}: {problem}")

    def _read(self, pad: Hazards, index: Int64) -> None:
        pad.read(self.place, index, self.module, self.stamp, self.clock)

    def _write(self, pad: Hazards, index: Int64) -> None:
        pad.write(self.place, index, self.module, self.stamp, self.clock)

    # LOAD and STORE

    def _memory(self, insn: MemInsn) -> None:
        if insn.x_size == 0:
            flags = insn.pop_prev or insn.pop_next or insn.push_prev or insn.push_next
            self._need(flags, "x_size=0 moves nothing and carries no token")
            return
        self._need(insn.y_size > 0, "y_size=0 moves nothing")
        self._check_memory_type(insn)
        moved = moved_by(self.spec, insn)
        sram = np.concatenate([moved.sram, moved.pads])
        if insn.opcode == Opcode.STORE:
            self._read(self.acc, sram)
            self.dram.write(self.place, moved, self.stamp, self.clock)
            return
        self.dram.read(self.place, moved, self.module, self.stamp, self.clock)
        self._write(
            {MemType.UOP: self.uop, MemType.WGT: self.wgt, MemType.INP: self.inp}.get(
                insn.memory_type, self.acc
            ),
            sram,
        )
        if insn.memory_type in (MemType.ACC, MemType.ACC_8BIT):
            self.amounts.load(insn, moved)
        if insn.memory_type == MemType.UOP:
            size = dram_elem_bytes(self.spec, insn.memory_type)
            begin = insn.dram_base * size
            words = self.dram.image[begin : begin + size * insn.x_size].view("<u4")
            self.uops[moved.sram] = words
            self.uops_used = max(self.uops_used, int(moved.sram[-1]) + 1)

    def _check_memory_type(self, insn: MemInsn) -> None:
        kind, padded = (
            insn.memory_type,
            insn.y_pad_0 or insn.y_pad_1 or insn.x_pad_0 or insn.x_pad_1,
        )
        if insn.opcode == Opcode.STORE:
            self._need(kind == MemType.OUT, f"stores {kind.name}, only OUT can be stored")
            self._need(not padded, "a STORE has no padding")
            return
        self._need(kind != MemType.OUT, "loads OUT, which can only be stored")
        self._need(kind != MemType.ACC_8BIT or self.spec.acc_8bit, "this VTA has no ACC_8BIT")
        if kind in (MemType.UOP, MemType.WGT):
            self._need(not padded, f"a LOAD of {kind.name} has no padding")
        self._need(kind != MemType.UOP or insn.y_size == 1, "a LOAD of UOP has one row, y_size=1")

    # GEMM and ALU

    def _micro_ops(self, insn: GemmInsn | AluInsn) -> tuple[Int64, Int64, Int64]:
        self._need(insn.uop_bgn < insn.uop_end, f"no micro-op in [{insn.uop_bgn}, {insn.uop_end})")
        self._need(insn.iter_out > 0 and insn.iter_in > 0, "an iteration count is 0")
        limit = self.spec.uop_limit
        self._need(insn.uop_end <= limit, f"uop_end={insn.uop_end}, programs keep to {limit}")
        self._read(self.uop, np.arange(insn.uop_bgn, insn.uop_end))
        return decode_uops(self.spec, self.uops[insn.uop_bgn : insn.uop_end])

    def _gemm(self, insn: GemmInsn) -> None:
        dst, src, wgt = self._micro_ops(insn)
        dst = dst_indices(insn, dst)
        if not insn.reset:
            self._read(self.acc, dst)
            self._read(self.inp, src_indices(insn, src))
            self._read(self.wgt, wgt_indices(insn, wgt))
            self._check_distance(dst)
        self._write(self.acc, dst)
        self.amounts.forget(dst)

    def _check_distance(self, dst: Int64) -> None:
        distance, possible = gemm_distance(dst)
        self.gemm_uops += len(dst)
        if distance:
            self.distance = min(self.distance or distance, distance)
            self._need(
                distance >= MIN_GEMM_DISTANCE or not possible,
                f"an accumulator is used again after {distance} micro-ops, where another order "
                f"allows {MIN_GEMM_DISTANCE}",
            )

    def _alu(self, insn: AluInsn) -> None:
        self._need(not insn.reset, "the ALU has no reset")
        self._need(insn.alu_opcode != AluOp.MUL or self.spec.mul, "this VTA has no MUL")
        dst, src, _ = self._micro_ops(insn)
        dst = dst_indices(insn, dst)
        self._read(self.acc, dst)
        late, src = dst[1:] == dst[:-1], src_indices(insn, src)
        if not insn.use_imm:
            self._read(self.acc, src)
            late |= src[1:] == dst[:-1]
        if insn.alu_opcode == AluOp.SHR:
            self.amounts.check(self.place, insn, src)
        if late.any():
            number = int(np.flatnonzero(late)[0]) + 1
            raise ProgramError(
                f"{self.place}: micro-op {number} reads accumulator {int(dst[number - 1])}, which "
                "the previous micro-op writes"
            )
        self._write(self.acc, dst)
        self.amounts.forget(dst)
