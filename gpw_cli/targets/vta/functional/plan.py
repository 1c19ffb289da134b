"""From encoded instructions to a plan: everything that does not depend on the images is done once.

    plan = execution_plan(program)
    machine = Machine(program.spec, plan.pages, program.dram, instances)
    operations = [op for step in plan.steps for op in step.bind(machine)]

All addresses are static, so the decoded instructions are visited once, in an order that the tokens
allow. This module tracks the micro-op and weight scratchpads; ``constants.py`` tracks constant
inputs and accumulators and collects GEMM micro-ops.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gpw_cli.arrays import Int64
from gpw_cli.errors import ProgramError
from gpw_cli.targets.vta.functional.alu import fold, waves
from gpw_cli.targets.vta.functional.constants import Scratchpads
from gpw_cli.targets.vta.functional.machine import Pages, granule_bytes
from gpw_cli.targets.vta.functional.steps import Alu, Clamp, Move, PlanStep, SetInputs, Zero
from gpw_cli.targets.vta.functional.strided import Rows
from gpw_cli.targets.vta.isa import instructions as isa
from gpw_cli.targets.vta.isa.access import (
    Transfer,
    dram_elem_bytes,
    dst_indices,
    src_indices,
    transfer,
    wgt_indices,
)
from gpw_cli.targets.vta.isa.encoding import decode, decode_uops
from gpw_cli.targets.vta.isa.program import REGION_ALIGN, Bytes, Program
from gpw_cli.targets.vta.isa.tokens import linearise, where


@dataclass(frozen=True, eq=False)
class ExecutionPlan:
    """``steps`` in order; ``pages``: DRAM held per instance; ``uops``: GEMM micro-ops of a run."""

    steps: tuple[PlanStep, ...]
    pages: Pages
    uops: int


def execution_plan(program: Program) -> ExecutionPlan:
    """The plan of a program that the checker has passed.

    Raises ProgramError where weights or micro-ops are loaded from bytes that the program writes.
    """
    insns = decode(program.spec, program.insn)
    planner = _Planner(program, varying_pages(program, insns))
    for number in linearise(insns).sequence:
        planner.run(number, insns[number])
    return ExecutionPlan(tuple(planner.steps), planner.pages, planner.uop_count)


def varying_pages(program: Program, insns: list[isa.Insn]) -> Pages:
    """The pages of the input, of everything stored, and of what is loaded together with them."""
    varies = np.zeros(-(-len(program.dram) // REGION_ALIGN), np.bool_)
    region = program.region(program.input)
    varies[region.offset // REGION_ALIGN : -(-(region.offset + region.length) // REGION_ALIGN)] = (
        True
    )
    spans: list[tuple[int, int]] = []
    for insn in insns:
        if isinstance(insn, isa.MemInsn) and insn.x_size:
            rows = transfer(program.spec, insn)
            begin, end = int(rows.rows.min()), int(rows.rows.max()) + rows.row_bytes
            span = (begin // REGION_ALIGN, -(-end // REGION_ALIGN))
            if insn.opcode == isa.Opcode.STORE:
                varies[span[0] : span[1]] = True
            else:
                spans.append(span)
    before = -1
    while before != int(varies.sum()):
        before = int(varies.sum())
        for begin, end in spans:
            if varies[begin:end].any():
                varies[begin:end] = True
    return Pages(np.where(varies, np.cumsum(varies) - 1, -1))


class _Planner:
    """Visits the instructions and appends to ``steps``."""

    def __init__(self, program: Program, pages: Pages) -> None:
        spec = self.spec = program.spec
        self.dram, self.pages = program.dram, pages
        self.steps: list[PlanStep] = []
        self.uop_count = 0
        self.uops = np.zeros(spec.uop_depth, np.uint32)
        self.tile = np.zeros(spec.wgt_depth, np.int64)  # DRAM element of each weight tile
        self.pads = Scratchpads(spec, program.dram, self.steps)

    def run(self, number: int, insn: isa.Insn) -> None:
        if isinstance(insn, isa.MemInsn):
            if insn.x_size and insn.opcode == isa.Opcode.STORE:
                self.pads.materialise(_inside(insn).index)
                self.steps.append(self._transfer(insn))
            elif insn.x_size:
                self._load(number, insn)
        elif isinstance(insn, isa.GemmInsn):
            self._gemm(insn)
        elif isinstance(insn, isa.AluInsn):
            self._alu(insn)

    def _load(self, number: int, insn: isa.MemInsn) -> None:
        moved = transfer(self.spec, insn)
        varies = self.pages.holds(int(moved.rows.min()), int(moved.rows.max()) + moved.row_bytes)
        if insn.memory_type == isa.MemType.INP:
            self._load_inputs(insn, moved, varies)
        elif insn.memory_type in (isa.MemType.ACC, isa.MemType.ACC_8BIT):
            self._load_accumulators(insn, moved, varies)
        elif varies:
            raise ProgramError(
                f"{where(number, insn)}: loads {insn.memory_type.name} from DRAM that the program "
                f"or the input writes; the simulator needs them constant"
            )
        elif insn.memory_type == isa.MemType.WGT:
            elements = insn.dram_base + insn.x_stride * np.arange(insn.y_size)[:, None]
            self.tile[moved.sram] = (elements + np.arange(insn.x_size)).reshape(-1)
        else:
            self.uops[moved.sram] = self._constant(moved).view("<u4").reshape(-1)

    def _load_inputs(self, insn: isa.MemInsn, moved: Transfer, varies: bool) -> None:
        """One fill zeroes the padding, and possibly the data, which is loaded after it."""
        pads = self.pads
        pads.before_loading(np.concatenate([moved.sram, moved.pads]))
        if len(moved.pads):
            first, last = min(moved.pads[0], moved.sram[0]), max(moved.pads[-1], moved.sram[-1])
            self.steps.append(Zero(isa.MemType.INP, int(first), int(last) + 1))
        pads.inputs.set(moved.pads, np.int8(0))
        if varies:
            pads.inputs.forget(moved.sram)
            self.steps.append(self._transfer(insn))
        else:
            value = self._constant(moved).view(np.int8).reshape(len(moved.sram), -1)
            pads.inputs.set(moved.sram, value)
            self.steps.append(SetInputs(_inside(insn), value))

    def _load_accumulators(self, insn: isa.MemInsn, moved: Transfer, varies: bool) -> None:
        pads = self.pads
        pads.before_reading(np.concatenate([moved.sram, moved.pads]))
        pads.accumulators.set(moved.pads, np.int32(0))
        if varies:
            pads.accumulators.forget(moved.sram)
            self.steps.append(self._transfer(insn))
        else:
            narrow = insn.memory_type == isa.MemType.ACC_8BIT
            value = self._constant(moved).view(np.int8 if narrow else "<i4")
            pads.accumulators.set(moved.sram, value.reshape(len(moved.sram), -1))

    def _constant(self, moved: Transfer) -> Bytes:
        """The bytes that a LOAD of constant DRAM transfers."""
        data: Bytes = self.dram[moved.rows[:, None] + np.arange(moved.row_bytes)].reshape(-1)
        return data

    def _transfer(self, insn: isa.MemInsn) -> Move:
        granule = granule_bytes(self.spec)
        size = dram_elem_bytes(self.spec, insn.memory_type)
        parts = size // granule
        base = self.pages.address(insn.dram_base * size) // granule
        shape = (insn.y_size, insn.x_size, parts)
        dram = Rows.box(base, shape, (insn.x_stride * parts, parts, 1))
        return Move(insn.memory_type, _inside(insn), dram, insn.opcode == isa.Opcode.STORE)

    def _gemm(self, insn: isa.GemmInsn) -> None:
        dst, src, wgt = decode_uops(self.spec, self.uops[insn.uop_bgn : insn.uop_end])
        dst = dst_indices(insn, dst)
        if insn.reset:
            self.pads.before_reading(dst)
            self.pads.accumulators.set(dst, np.int32(0))
        else:
            self.uop_count += len(dst)
            tile = self.tile[wgt_indices(insn, wgt)]
            self.pads.collect(dst, src_indices(insn, src), tile)

    def _alu(self, insn: isa.AluInsn) -> None:
        dst, src, _ = decode_uops(self.spec, self.uops[insn.uop_bgn : insn.uop_end])
        dst, src = dst_indices(insn, dst), src_indices(insn, src)
        self.pads.before_reading(dst)
        if insn.use_imm:
            for wave in waves(dst, None):
                self._alu_immediate(insn, np.sort(dst[wave]))
            return
        self.pads.before_reading(src)
        for wave in waves(dst, src):
            turn = wave[np.argsort(dst[wave], kind="stable")]
            self._alu_tensor(insn, dst[turn], src[turn])

    def _alu_immediate(self, insn: isa.AluInsn, dst: Int64) -> None:
        known = self.pads.accumulators
        if known.mask[dst].all():
            known.set(dst, fold(insn.alu_opcode, known.value[dst], np.int32(insn.imm)))
            return
        self.pads.materialise(dst)
        rows, last = Rows(dst), self.steps[-1]
        if (
            insn.alu_opcode == isa.AluOp.MIN
            and isinstance(last, Alu)
            and last.op == isa.AluOp.MAX
            and isinstance(last.operand, int)
            and last.operand <= insn.imm
            and last.dst.same(rows)
        ):
            self.steps[-1] = Clamp(rows, last.operand, insn.imm)
        else:
            self.steps.append(Alu(insn.alu_opcode, rows, insn.imm))

    def _alu_tensor(self, insn: isa.AluInsn, dst: Int64, src: Int64) -> None:
        known = self.pads.accumulators
        constant = bool(known.mask[src].all())
        if constant and known.mask[dst].all():
            known.set(dst, fold(insn.alu_opcode, known.value[dst], known.value[src]))
            return
        self.pads.materialise(dst)
        if constant:
            value = known.uniform(src)
            self.steps.append(
                Alu(insn.alu_opcode, Rows(dst), known.value[src] if value is None else value)
            )
        else:
            self.pads.materialise(src)
            rows, operand = Rows.joint(dst, src)
            self.steps.append(Alu(insn.alu_opcode, rows, operand))


def _inside(insn: isa.MemInsn) -> Rows:
    """The scratchpad elements [y, x] that hold the data of a transfer."""
    width = insn.x_pad_0 + insn.x_size + insn.x_pad_1
    base = insn.sram_base + insn.y_pad_0 * width + insn.x_pad_0
    return Rows.box(base, (insn.y_size, insn.x_size), (width, 1))
