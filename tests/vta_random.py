"""Random legal programs: loads of every kind, GEMM, all ALU operations, stores, any token graph.

    program, insns = random_program(seed=3, count=40)

``Linker`` follows who touched what last and adds the tokens that order two modules (and some that
nobody needs); the instructions are drawn so that no other rule of the hardware is broken.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from vta_linker import GRANULE, Linker, Touch
from vta_programs import vta_spec
from vta_reference import NAMES, PAGE, small_program

from gpw_cli.targets.vta.isa.access import dst_indices, src_indices, transfer, wgt_indices
from gpw_cli.targets.vta.isa.encoding import decode_uops, encode_uops
from gpw_cli.targets.vta.isa.geometry import VtaSpec
from gpw_cli.targets.vta.isa.instructions import (
    AluInsn,
    AluOp,
    GemmInsn,
    Insn,
    MemInsn,
    MemType,
    Opcode,
)
from gpw_cli.targets.vta.isa.program import Program

SMALL_BLOCK = vta_spec(
    log_block_in=2,
    log_block_out=2,
    log_uop_buff_size=8,  # 64 micro-ops
    log_inp_buff_size=9,  # 128 elements
    log_wgt_buff_size=8,  # 16 tiles
    log_acc_buff_size=11,  # 128 accumulators
)
SPECS = {
    "4": SMALL_BLOCK,
    "4, mul": replace(SMALL_BLOCK, mul=True),
    "8 in, 16 out": replace(SMALL_BLOCK, log_block_in=3, log_block_out=4, log_inp_buff_size=10,
                            log_wgt_buff_size=11, log_acc_buff_size=13),
}  # fmt: skip
UOPS = 48
PADS = {MemType.INP: "inp", MemType.WGT: "wgt", MemType.ACC: "acc", MemType.UOP: "uop"}
REGION = {MemType.INP: "input", MemType.WGT: "weight", MemType.ACC: "bias", MemType.UOP: "uop"}


class Maker:
    """Draws instructions that a machine in the present state may run."""

    def __init__(self, spec: VtaSpec, rng: random.Random, words: NDArray[np.uint32]) -> None:
        self.spec, self.rng, self.words = spec, rng, words
        self.uops = words.copy()  # what the micro-op scratchpad holds
        self.filled = np.zeros(PAGE // GRANULE, np.bool_)  # of the scratch region
        self.constant = np.ones(spec.acc_depth, np.bool_)  # accumulators that are no amounts

    def draw(self) -> tuple[Insn, list[Touch]]:
        kind = self.rng.choices(("load", "store", "gemm", "alu"), (5, 2, 3, 4))[0]
        if kind == "load":
            memory_type = self.rng.choice([MemType.INP, MemType.ACC, MemType.WGT, MemType.UOP])
            return self._load(memory_type)
        return self._store() if kind == "store" else self._loops(kind)

    def touches(self, insn: Insn) -> list[Touch]:
        """What ``insn`` reads and writes."""
        if isinstance(insn, GemmInsn | AluInsn):
            return self._computed(insn)
        assert isinstance(insn, MemInsn)
        moved = transfer(self.spec, insn)
        count = -(-moved.row_bytes // GRANULE)
        dram = (moved.rows[:, None] // GRANULE + np.arange(count)).reshape(-1)
        if insn.opcode is Opcode.STORE:
            return [("acc", moved.sram, False), ("dram", dram, True)]
        index = np.concatenate([moved.sram, moved.pads])
        return [("dram", dram, False), (PADS[insn.memory_type], index, True)]

    def _computed(self, insn: GemmInsn | AluInsn) -> list[Touch]:
        words = self.uops[insn.uop_bgn : insn.uop_end]
        dst, src, wgt = decode_uops(self.spec, words)
        found = [("uop", np.arange(insn.uop_bgn, insn.uop_end), False)]
        found.append(("acc", dst_indices(insn, dst), True))
        if isinstance(insn, AluInsn):
            return found if insn.use_imm else [*found, ("acc", src_indices(insn, src), False)]
        if insn.reset:
            return found
        found.append(("inp", src_indices(insn, src), False))
        return [*found, ("wgt", wgt_indices(insn, wgt), False)]

    def _load(self, memory_type: MemType) -> tuple[Insn, list[Touch]]:
        rng, spec = self.rng, self.spec
        if memory_type is MemType.UOP:
            x, at = rng.randint(1, 24), rng.randint(0, UOPS - 24)
            base = rng.randint(0, UOPS - 24)
            self.uops[at : at + x] = self.words[base : base + x]
            insn = MemInsn(
                opcode=Opcode.LOAD, memory_type=memory_type, sram_base=at, dram_base=base, x_size=x
            )
            return insn, self.touches(insn)
        x, y = rng.choice([1, 2, 3, 7, 20]), rng.choice([1, 1, 2, 4, 9])
        pads = [
            rng.choice([0, 0, 1, 2, 6]) if memory_type is not MemType.WGT else 0 for _ in "1234"
        ]
        size, limit = size_of(spec, memory_type), depth_of(spec, memory_type)
        while (y + pads[0] + pads[1]) * (x + pads[2] + pads[3]) > limit:
            x, y, pads = -(-x // 2), -(-y // 2), [pad // 2 for pad in pads]
        stride = rng.choice([0, 1, x, x + 3, 30])
        length = 8 * spec.inp_elem_bytes if memory_type is MemType.INP else PAGE
        region = REGION[memory_type]
        if memory_type is not MemType.WGT and rng.random() < 0.5:
            region, length = "scratch", PAGE
        room = length // size - x
        if room < 0:
            x, room = length // size, 0
        stride = min(stride, room // max(1, y - 1))
        offset = rng.randint(0, room - stride * (y - 1))
        insn = MemInsn(
            opcode=Opcode.LOAD,
            memory_type=memory_type,
            sram_base=rng.randint(0, limit - (y + pads[0] + pads[1]) * (x + pads[2] + pads[3])),
            dram_base=NAMES.index(region) * PAGE // size + offset,
            x_size=x,
            y_size=y,
            x_stride=stride,
            y_pad_0=pads[0],
            y_pad_1=pads[1],
            x_pad_0=pads[2],
            x_pad_1=pads[3],
        )
        touches = self.touches(insn)
        begin = NAMES.index("scratch") * PAGE // GRANULE
        if region == "scratch" and not self.filled[touches[0][1] - begin].all():
            return self._store()
        if memory_type is MemType.ACC:
            self.constant[touches[1][1]] = region != "scratch"
        return insn, touches

    def _store(self) -> tuple[Insn, list[Touch]]:
        rng, size = self.rng, self.spec.out_elem_bytes
        x, y = rng.choice([1, 2, 5, 24]), rng.randint(1, 5)
        stride = x + rng.choice([0, 0, 1, 9])
        room = PAGE // size - stride * (y - 1) - x
        insn = MemInsn(
            opcode=Opcode.STORE,
            memory_type=MemType.OUT,
            sram_base=rng.randint(0, self.spec.acc_depth - x * y),
            dram_base=NAMES.index("scratch") * PAGE // size + rng.randint(0, room),
            x_size=x,
            y_size=y,
            x_stride=stride,
        )
        touches = self.touches(insn)
        self.filled[touches[1][1] - NAMES.index("scratch") * PAGE // GRANULE] = True
        return insn, touches

    def _loops(self, kind: str) -> tuple[Insn, list[Touch]]:
        for insn in self._candidates(kind):
            touches = self.touches(insn)
            inside = all(index.max() < self._depth(name) for name, index, _ in touches)
            if inside and self._allowed(insn, touches):
                self.constant[touches[1][1]] = isinstance(insn, GemmInsn) and insn.reset
                return insn, touches
        raise AssertionError("one micro-op is always allowed")

    def _candidates(self, kind: str) -> Iterator[GemmInsn | AluInsn]:
        rng = self.rng
        for size in (4, 3, 2):
            begin = rng.randrange(UOPS)
            loops = {
                "uop_bgn": begin,
                "uop_end": min(UOPS, begin + rng.randint(1, size)),
                "iter_out": rng.randint(1, size),
                "iter_in": rng.randint(1, size),
            }
            for name in ("dst", "src") if kind == "alu" else ("dst", "src", "wgt"):
                most = 1 if name == "wgt" else 6
                loops |= {f"{name}_factor_{which}": rng.randint(0, most) for which in ("in", "out")}
            yield self._kind(kind, loops)
        one = {"uop_bgn": begin, "uop_end": begin + 1}
        yield AluInsn(**one, alu_opcode=AluOp.ADD) if kind == "alu" else GemmInsn(**one)

    def _kind(self, kind: str, loops: dict[str, int]) -> GemmInsn | AluInsn:
        rng = self.rng
        if kind == "gemm":
            return GemmInsn(**loops, reset=rng.random() < 0.2)
        op = rng.choice([op for op in AluOp if self.spec.mul or op is not AluOp.MUL])
        immediate = rng.random() < 0.5
        low, high = (-31, 31) if op is AluOp.SHR else (-(2**15), 2**15 - 1)
        imm = rng.randint(low, high) if immediate else 0
        return AluInsn(**loops, alu_opcode=op, use_imm=immediate, imm=imm)

    def _depth(self, name: str) -> int:
        return int(getattr(self.spec, f"{name}_depth"))

    def _allowed(self, insn: GemmInsn | AluInsn, touches: list[Touch]) -> bool:
        """The ALU may not read what the micro-op before wrote; accumulators stay 4 apart."""
        dst = touches[1][1]
        if isinstance(insn, AluInsn):
            shifts = insn.alu_opcode is AluOp.SHR and not insn.use_imm
            if shifts and self.constant[touches[2][1]].any():
                return False  # a constant amount may be one that the checker refuses
            late = dst[1:] == dst[:-1]
            if not insn.use_imm:
                late |= touches[2][1][1:] == dst[:-1]
            return not late.any()
        if insn.reset:
            return True
        return all((dst[gap:] != dst[:-gap]).all() for gap in (1, 2, 3) if gap < len(dst))


def fill(spec: VtaSpec) -> Iterator[MemInsn]:
    """Every element of every scratchpad is written; its rows are the same bytes of DRAM."""
    yield load(MemType.UOP, 0, UOPS, 1)
    lengths = {MemType.INP: 8 * spec.inp_elem_bytes, MemType.WGT: PAGE, MemType.ACC: PAGE}
    for memory_type, length in lengths.items():
        depth, size = depth_of(spec, memory_type), size_of(spec, memory_type)
        x = min(depth, length // size)
        yield load(memory_type, NAMES.index(REGION[memory_type]) * PAGE // size, x, depth // x)


def load(memory_type: MemType, dram: int, x: int, y: int) -> MemInsn:
    return MemInsn(opcode=Opcode.LOAD, memory_type=memory_type, dram_base=dram, x_size=x, y_size=y)


def depth_of(spec: VtaSpec, memory_type: MemType) -> int:
    return int(getattr(spec, f"{PADS[memory_type]}_depth"))


def size_of(spec: VtaSpec, memory_type: MemType) -> int:
    return int(getattr(spec, f"{PADS[memory_type]}_elem_bytes"))


def random_program(seed: int, count: int) -> tuple[Program, list[Insn]]:
    """``count`` random instructions between loads of everything and a store of the output.

    The first instructions of a seed do not depend on ``count``.
    """
    rng = random.Random(seed)
    spec = SPECS[rng.choice(sorted(SPECS))]
    numbers = np.random.default_rng(seed)
    uops = (
        numbers.integers(0, 60, UOPS),
        numbers.integers(0, 60, UOPS),
        numbers.integers(0, spec.wgt_depth // 2, UOPS),
    )
    linker = Linker(spec, rng)
    maker = Maker(spec, rng, encode_uops(spec, *uops))
    for insn in fill(spec):
        linker.add(insn, maker.touches(insn))
    for _ in range(count):
        linker.add(*maker.draw())
    insns: list[Insn] = []

    def finish(wanted: list[Insn]) -> list[Insn]:
        for insn in wanted[-1:]:
            linker.add(insn, maker.touches(insn))
        insns.extend(linker.finish())
        return insns

    bits = rng.choice([8, 16, 32])
    return small_program(spec, [], uops, numbers, bits, finish=finish), insns
