"""Shift amounts: immediates, and accumulators that hold constants.

    amounts = Amounts(program)
    amounts.load(insn, moved); amounts.forget(dst); amounts.check(place, insn, src)

Between accumulators the RTL shifts right by the low 5 bits, whatever the sign, and the HLS design
keeps 5 signed bits; neither reports an amount out of range. Amounts that depend on the image cannot
be checked.
"""

from __future__ import annotations

import numpy as np

from gpw_cli.arrays import Int64
from gpw_cli.errors import ProgramError
from gpw_cli.targets.vta.isa.access import Transfer
from gpw_cli.targets.vta.isa.instructions import AluInsn, MemInsn, MemType
from gpw_cli.targets.vta.isa.program import Program

_CONSTANT = ("uop", "weight", "bias")  # kinds of regions that are never written


class Amounts:
    """Which accumulators hold constants: ``known`` [depth], ``value`` int32 [depth, lanes]."""

    def __init__(self, program: Program) -> None:
        spec = self.spec = program.spec
        self.image = program.dram
        self.known = np.zeros(spec.acc_depth, np.bool_)
        self.value = np.zeros((spec.acc_depth, spec.batch * spec.block_out), np.int32)
        self.constant = np.zeros(len(program.dram), np.bool_)
        for region in program.regions:
            span = slice(region.offset, region.offset + region.length)
            self.constant[span] = region.kind in _CONSTANT

    def load(self, insn: MemInsn, moved: Transfer) -> None:
        """Records a LOAD of accumulators."""
        self.forget(np.concatenate([moved.sram, moved.pads]))
        where = moved.rows[:, None] + np.arange(moved.row_bytes)
        if self.constant[where].all():
            narrow = insn.memory_type == MemType.ACC_8BIT
            data = self.image[where].reshape(-1).view(np.int8 if narrow else "<i4")
            self.value[moved.sram] = data.reshape(len(moved.sram), -1)
            self.known[moved.sram] = True

    def forget(self, index: Int64) -> None:
        """These accumulators are overwritten."""
        self.known[index] = False

    def check(self, place: str, insn: AluInsn, src: Int64) -> None:
        """Checks a SHR; ``src``: the accumulators with its amounts, unless it has an immediate.

        Raises ProgramError for an amount that the hardware cannot shift by.
        """
        least, most = self.spec.shift_range
        if insn.use_imm:
            if not least <= insn.imm <= most:
                raise ProgramError(
                    f"{place}: shifts by {insn.imm}, TARGET={self.spec.target} shifts by {least} "
                    f"to {most}: use two instructions"
                )
            return
        if insn.imm < 0:  # the RTL tests the sign although it does not use the value
            raise ProgramError(f"{place}: imm={insn.imm} without use_imm makes a SHR shift left")
        value = self.value[src[self.known[src]]]
        wrong = (value < 0) | (value > most)
        if wrong.any():
            number = int(src[self.known[src]][np.flatnonzero(wrong.any(axis=1))[0]])
            raise ProgramError(
                f"{place}: accumulator {number} holds the amount {int(value[wrong][0])}, between "
                f"accumulators TARGET={self.spec.target} shifts by 0 to {most} and never left: "
                f"shift left by an immediate"
            )
