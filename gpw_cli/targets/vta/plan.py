"""From encoded instructions to a plan: everything that does not depend on the pictures, done once.

    plan = make_plan(program)
    machine = Machine(program.spec, plan.pages, program.dram, images)
    operations = [op for step in plan.steps for op in step.bind(machine)]

Addresses are static in VTA, so the decoded instructions are walked once, in an order that the
tokens allow. Micro-op and weight scratchpads are followed here; accumulators that hold values known
beforehand (resets, biases) are kept as constants; GEMM micro-ops are collected until something
reads their accumulators or overwrites their inputs, then become matrix products (gemm_groups.py).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpw_cli.errors import ProgramError
from gpw_cli.targets.vta.access import (
    Mask,
    dram_elem_bytes,
    dst_indices,
    src_indices,
    transfer,
    wgt_indices,
)
from gpw_cli.targets.vta.alu import fold, waves
from gpw_cli.targets.vta.gemm_groups import products
from gpw_cli.targets.vta.isa import (
    AluInsn,
    AluOp,
    GemmInsn,
    Index,
    Insn,
    MemInsn,
    MemType,
    Opcode,
    decode,
    decode_uops,
)
from gpw_cli.targets.vta.machine import Pages, granule_bytes
from gpw_cli.targets.vta.matmul import Block, Matmul
from gpw_cli.targets.vta.order import linearise, where
from gpw_cli.targets.vta.program import REGION_ALIGN, Bytes, Program
from gpw_cli.targets.vta.rows import Rows
from gpw_cli.targets.vta.steps import (
    Alu,
    Clamp,
    Lanes,
    SetAccumulators,
    SetInputs,
    Step,
    Transfer,
    Zero,
)

Int8 = NDArray[np.int8]


@dataclass(frozen=True, eq=False)
class Plan:
    """``steps`` in order; ``pages``: the DRAM held per image; ``uops``: GEMM micro-ops a run."""

    steps: tuple[Step, ...]
    pages: Pages
    uops: int


def make_plan(program: Program) -> Plan:
    """The plan of a program that the checker has passed.

    Raises ProgramError where weights or micro-ops are loaded from bytes that the program writes.
    """
    insns = decode(program.spec, program.insn)
    planner = _Planner(program, varying_pages(program, insns))
    for number in linearise(insns).sequence:
        planner.run(number, insns[number])
    return Plan(tuple(planner.steps), planner.pages, planner.uop_count)


def varying_pages(program: Program, insns: list[Insn]) -> Pages:
    """The pages of the input, of all that is stored, and of what is loaded along with those."""
    varies = np.zeros(-(-len(program.dram) // REGION_ALIGN), np.bool_)
    region = program.region(program.input)
    varies[region.offset // REGION_ALIGN : -(-(region.offset + region.length) // REGION_ALIGN)] = (
        True
    )
    spans: list[tuple[int, int]] = []
    for insn in insns:
        if isinstance(insn, MemInsn) and insn.x_size:
            rows = transfer(program.spec, insn)
            begin, end = int(rows.rows.min()), int(rows.rows.max()) + rows.row_bytes
            span = (begin // REGION_ALIGN, -(-end // REGION_ALIGN))
            if insn.opcode == Opcode.STORE:
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
    """Walks the instructions; ``steps`` grows."""

    def __init__(self, program: Program, pages: Pages) -> None:
        spec = self.spec = program.spec
        self.dram, self.pages = program.dram, pages
        self.steps: list[Step] = []
        self.uop_count = 0
        self.uops = np.zeros(spec.uop_depth, np.uint32)
        self.tile = np.zeros(spec.wgt_depth, np.int64)  # DRAM element that each weight came from
        lanes = spec.batch * spec.block_out
        self.known: Mask = np.ones(spec.acc_depth, np.bool_)  # accumulators known beforehand
        self.value: Lanes = np.zeros((spec.acc_depth, lanes), np.int32)  # and what they hold
        self.pending: list[tuple[Index, Index, Index]] = []  # GEMM micro-ops not yet planned
        self.pending_dst: Mask = np.zeros(spec.acc_depth, np.bool_)
        self.pending_src: Mask = np.zeros(spec.inp_depth, np.bool_)

    def run(self, number: int, insn: Insn) -> None:
        if isinstance(insn, MemInsn):
            if insn.x_size and insn.opcode == Opcode.STORE:
                self._store(insn)
            elif insn.x_size:
                self._load(number, insn)
        elif isinstance(insn, GemmInsn):
            self._gemm(insn)
        elif isinstance(insn, AluInsn):
            self._alu(insn)

    # LOAD and STORE

    def _load(self, number: int, insn: MemInsn) -> None:
        moved = transfer(self.spec, insn)
        varies = self.pages.holds(int(moved.rows.min()), int(moved.rows.max()) + moved.row_bytes)
        if insn.memory_type in (MemType.UOP, MemType.WGT):
            if varies:
                raise ProgramError(
                    f"{where(number, insn)}: loads {insn.memory_type.name} from DRAM that the "
                    f"program or the input writes; the simulator needs them constant"
                )
            self._load_constant(insn, moved.sram)
        elif insn.memory_type == MemType.INP:
            if self.pending_src[moved.sram].any() or self.pending_src[moved.pads].any():
                self.flush()
            self._zero(insn, moved.pads)
            self.steps.append(
                self._transfer(insn) if varies else SetInputs(*self._constant_inputs(insn))
            )
        else:
            self._load_accumulators(insn, varies)

    def _load_constant(self, insn: MemInsn, sram: Index) -> None:
        elements = insn.dram_base + insn.x_stride * np.arange(insn.y_size)[:, None]
        elements = (elements + np.arange(insn.x_size)).reshape(-1)
        if insn.memory_type == MemType.WGT:
            self.tile[sram] = elements
        else:
            size = self.spec.uop_elem_bytes
            words = self.dram[: len(self.dram) // size * size].view("<u4")
            self.uops[sram] = words[elements]

    def _load_accumulators(self, insn: MemInsn, varies: bool) -> None:
        moved = transfer(self.spec, insn)
        self._before_reading(moved.sram)
        self._before_reading(moved.pads)
        self.known[moved.pads], self.value[moved.pads] = True, 0
        self.known[moved.sram] = not varies
        if varies:
            self.steps.append(self._transfer(insn))
        else:
            narrow = insn.memory_type == MemType.ACC_8BIT
            data = self._constant_rows(insn).view(np.int8 if narrow else "<i4")
            self.value[moved.sram] = data.reshape(len(moved.sram), -1)

    def _constant_rows(self, insn: MemInsn) -> Bytes:
        moved = transfer(self.spec, insn)
        data: Bytes = self.dram[moved.rows[:, None] + np.arange(moved.row_bytes)].reshape(-1)
        return data

    def _constant_inputs(self, insn: MemInsn) -> tuple[Rows, Int8]:
        value = self._constant_rows(insn).view(np.int8)
        return _inside(insn), value.reshape(-1, self.spec.inp_elem_bytes)

    def _zero(self, insn: MemInsn, pads: Index) -> None:
        """Zero the padding; the data, loaded after it, may be zeroed too."""
        if len(pads):
            width = insn.x_pad_0 + insn.x_size + insn.x_pad_1
            height = insn.y_pad_0 + insn.y_size + insn.y_pad_1
            end = insn.sram_base + width * height
            self.steps.append(Zero(insn.memory_type, insn.sram_base, end))

    def _transfer(self, insn: MemInsn) -> Transfer:
        granule = granule_bytes(self.spec)
        size = dram_elem_bytes(self.spec, insn.memory_type)
        parts = size // granule
        base = self.pages.address(insn.dram_base * size) // granule
        dram = Rows.box(base, (insn.y_size, insn.x_size, parts), (insn.x_stride * parts, parts, 1))
        return Transfer(insn.memory_type, _inside(insn), dram, insn.opcode == Opcode.STORE)

    def _store(self, insn: MemInsn) -> None:
        self._materialise(_inside(insn).index)
        self.steps.append(self._transfer(insn))

    # GEMM

    def _gemm(self, insn: GemmInsn) -> None:
        dst, src, wgt = decode_uops(self.spec, self.uops[insn.uop_bgn : insn.uop_end])
        dst = dst_indices(insn, dst)
        if insn.reset:
            self._before_reading(dst)
            self.known[dst], self.value[dst] = True, 0
            return
        src = src_indices(insn, src)
        self.uop_count += len(dst)
        self.pending.append((dst, src, self.tile[wgt_indices(insn, wgt)]))
        self.pending_dst[dst], self.pending_src[src] = True, True

    def flush(self) -> None:
        """Plan the collected GEMM micro-ops."""
        if not self.pending:
            return
        dst, src, tile = (np.concatenate(part) for part in zip(*self.pending, strict=True))
        self.pending.clear()
        self.pending_dst[:], self.pending_src[:] = False, False
        for product in products(dst, src, tile):
            blocks = tuple(Block(dst, self._start(dst)) for dst, _ in product.blocks)
            weight = np.concatenate([self._weight(tiles) for _, tiles in product.blocks], axis=1)
            self.steps.append(Matmul(product.src, weight, blocks))

    def _weight(self, tiles: Index) -> Int8:
        """Tiles [K] -> int8 [K * block_in, block_out]."""
        size = self.spec.wgt_elem_bytes
        data = self.dram[tiles[:, None] * size + np.arange(size)].view(np.int8)
        data = data.reshape(-1, self.spec.block_out, self.spec.block_in)
        weight: Int8 = data.transpose(0, 2, 1).reshape(-1, self.spec.block_out)
        return weight

    def _start(self, dst: Index) -> Lanes | None:
        """What accumulators start from if that is one constant; they are not known any more."""
        known, value = self.known[dst], self.value[dst]
        if known.all() and (value == value[0]).all():
            self.known[dst] = False
            start: Lanes = value[0].copy()
            return start
        self._set_known(dst)
        return None

    # accumulators

    def _before_reading(self, index: Index) -> None:
        if len(index) and self.pending_dst[index].any():
            self.flush()

    def _materialise(self, index: Index) -> None:
        """Make the accumulators hold their values on the machine."""
        self._before_reading(index)
        self._set_known(index)

    def _set_known(self, index: Index) -> None:
        known = np.unique(index[self.known[index]])
        if not len(known):
            return
        value = self.value[known]
        uniform = (value == value[0]).all()
        self.steps.append(SetAccumulators(Rows(known), value[0].copy() if uniform else value))
        self.known[known] = False

    # ALU

    def _alu(self, insn: AluInsn) -> None:
        dst, src, _ = decode_uops(self.spec, self.uops[insn.uop_bgn : insn.uop_end])
        dst, src = dst_indices(insn, dst), src_indices(insn, src)
        self._before_reading(dst)
        if insn.use_imm:
            for wave in waves(dst, None):
                self._alu_immediate(insn, np.sort(dst[wave]))
            return
        self._before_reading(src)
        for wave in waves(dst, src):
            self._alu_tensor(insn, dst[wave], src[wave])

    def _alu_immediate(self, insn: AluInsn, dst: Index) -> None:
        if self.known[dst].all():
            self.value[dst] = fold(insn.alu_opcode, self.value[dst], np.int32(insn.imm))
            return
        self._set_known(dst)
        rows, last = Rows(dst), self.steps[-1]
        if (
            insn.alu_opcode == AluOp.MIN
            and isinstance(last, Alu)
            and last.op == AluOp.MAX
            and isinstance(last.operand, int)
            and last.operand <= insn.imm
            and last.dst.same(rows)
        ):
            self.steps[-1] = Clamp(rows, last.operand, insn.imm)
        else:
            self.steps.append(Alu(insn.alu_opcode, rows, insn.imm))

    def _alu_tensor(self, insn: AluInsn, dst: Index, src: Index) -> None:
        if not self.known[src].all():
            self._set_known(src)
            self._set_known(dst)
            order = np.argsort(dst, kind="stable")
            rows, operand = Rows.joint(dst[order], src[order])
            self.steps.append(Alu(insn.alu_opcode, rows, operand))
        elif self.known[dst].all():
            self.value[dst] = fold(insn.alu_opcode, self.value[dst], self.value[src])
        else:
            self._set_known(dst)
            order = np.argsort(dst, kind="stable")
            value = self.value[src[order]]
            uniform = (value == value[0]).all()
            self.steps.append(
                Alu(insn.alu_opcode, Rows(dst[order]), value[0].copy() if uniform else value)
            )


def _inside(insn: MemInsn) -> Rows:
    """The scratchpad elements [y, x] that hold a transfer's data."""
    width = insn.x_pad_0 + insn.x_size + insn.x_pad_1
    base = insn.sram_base + insn.y_pad_0 * width + insn.x_pad_0
    return Rows.box(base, (insn.y_size, insn.x_size), (width, 1))
