"""A slow interpreter of VTA's instructions, one scalar at a time, and small random programs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from vta_programs import vta_spec

from gpw_cli.targets.vta.isa.encoding import decode, encode, encode_uops
from gpw_cli.targets.vta.isa.instructions import (
    AluInsn,
    AluOp,
    FinishInsn,
    GemmInsn,
    MemInsn,
    MemType,
    Opcode,
)
from gpw_cli.targets.vta.isa.program import LayerRange, Program, Region

SMALL = vta_spec(
    log_block_in=2,
    log_block_out=2,
    log_uop_buff_size=8,  # 64 micro-ops
    log_inp_buff_size=6,  # 16 elements
    log_wgt_buff_size=7,  # 8 tiles
    log_acc_buff_size=9,  # 32 accumulators
)


def wrap(value):
    return (value + 2**31) % 2**32 - 2**31


def alu(op, x, y, immediate=True):
    """As the RTL: only a negative immediate shifts left, else a shift takes the low 5 bits."""
    if op == AluOp.MIN:
        return min(x, y)
    if op == AluOp.MAX:
        return max(x, y)
    if op == AluOp.ADD:
        return wrap(x + y)
    if op == AluOp.MUL:
        return wrap(x * y)
    return wrap(x << (-y & 31)) if immediate and y < 0 else x >> (y & 31)


class Interpreter:
    """Runs instructions in stream order over one DRAM image (a bytearray)."""

    def __init__(self, spec, dram):
        self.spec, self.dram = spec, bytearray(dram.tobytes())
        b, bi, bo = spec.batch, spec.block_in, spec.block_out
        self.uop = [0] * spec.uop_depth
        self.inp = np.zeros((spec.inp_depth, b, bi), int)
        self.wgt = np.zeros((spec.wgt_depth, bo, bi), int)
        self.acc = np.zeros((spec.acc_depth, b, bo), int)

    def run(self, stream):
        for insn in decode(self.spec, stream):
            if isinstance(insn, MemInsn):
                (self.store if insn.opcode == Opcode.STORE else self.load)(insn)
            elif isinstance(insn, GemmInsn | AluInsn):
                self.loops(insn)
        return np.frombuffer(bytes(self.dram), np.uint8)

    def numbers(self, address, count, dtype):
        size = count * np.dtype(dtype).itemsize
        return np.frombuffer(bytes(self.dram[address : address + size]), dtype)

    def load(self, insn):
        if not insn.x_size:
            return
        pad, dtype = {
            MemType.UOP: (None, "<u4"),
            MemType.INP: (self.inp, "i1"),
            MemType.WGT: (self.wgt, "i1"),
            MemType.ACC: (self.acc, "<i4"),
            MemType.ACC_8BIT: (self.acc, "i1"),
        }[insn.memory_type]
        lanes = 1 if pad is None else pad[0].size
        size = lanes * np.dtype(dtype).itemsize
        at = insn.sram_base
        for y in range(-insn.y_pad_0, insn.y_size + insn.y_pad_1):
            for x in range(-insn.x_pad_0, insn.x_size + insn.x_pad_1):
                inside = 0 <= y < insn.y_size and 0 <= x < insn.x_size
                where = (insn.dram_base + y * insn.x_stride + x) * size
                value = self.numbers(where, lanes, dtype) if inside else np.zeros(lanes, int)
                if pad is None:
                    self.uop[at] = int(value[0])
                else:
                    pad[at] = value.reshape(pad[at].shape)
                at += 1

    def store(self, insn):
        size = self.acc[0].size
        for y in range(insn.y_size):
            for x in range(insn.x_size):
                value = self.acc[insn.sram_base + y * insn.x_size + x]
                where = (insn.dram_base + y * insn.x_stride + x) * size
                self.dram[where : where + size] = (value & 255).astype(np.uint8).tobytes()

    def loops(self, insn):
        s = self.spec
        source_bits = max(s.log_acc_depth, s.log_inp_depth)
        for i in range(insn.iter_out):
            for j in range(insn.iter_in):
                for word in self.uop[insn.uop_bgn : insn.uop_end]:
                    dst = word % 2**s.log_acc_depth
                    src = word >> s.log_acc_depth & (2**source_bits - 1)
                    wgt = word >> (s.log_acc_depth + source_bits)
                    dst += i * insn.dst_factor_out + j * insn.dst_factor_in
                    src += i * insn.src_factor_out + j * insn.src_factor_in
                    if isinstance(insn, AluInsn):
                        self.alu(insn, dst, src)
                    elif insn.reset:
                        self.acc[dst] = 0
                    else:
                        wgt += i * insn.wgt_factor_out + j * insn.wgt_factor_in
                        self.acc[dst] = wrap(self.acc[dst] + self.inp[src] @ self.wgt[wgt].T)

    def alu(self, insn, dst, src):
        for lane in np.ndindex(*self.acc[dst].shape):
            y = insn.imm if insn.use_imm else int(self.acc[src][lane])
            self.acc[dst][lane] = alu(insn.alu_opcode, int(self.acc[dst][lane]), y, insn.use_imm)


def module(insn):
    if insn.opcode == Opcode.STORE:
        return 2
    if isinstance(insn, MemInsn) and insn.memory_type in (MemType.INP, MemType.WGT):
        return 0
    return 1


def serialise(insns):
    """Tokens that make the instructions run strictly one after another, and FINISH."""
    out = []
    relay = MemInsn(opcode=Opcode.LOAD, memory_type=MemType.UOP)
    for insn in [*insns, FinishInsn()]:
        if out and abs(module(out[-1]) - module(insn)) == 2:
            hand_over(out, relay)
        hand_over(out, insn)
    return out


def hand_over(out, insn):
    if out:
        step = module(insn) - module(out[-1])
        if step:
            out[-1] = replace(out[-1], **{"push_next" if step > 0 else "push_prev": True})
            insn = replace(insn, **{"pop_prev" if step > 0 else "pop_next": True})
    out.append(insn)


def transfer(opcode, memory_type, sram, dram, x, y=1, stride=0, pads=(0, 0, 0, 0)):
    return MemInsn(
        opcode=opcode,
        memory_type=memory_type,
        sram_base=sram,
        dram_base=dram,
        x_size=x,
        y_size=y,
        x_stride=stride,
        y_pad_0=pads[0],
        y_pad_1=pads[1],
        x_pad_0=pads[2],
        x_pad_1=pads[3],
    )


PAGE = 4096
NAMES = ("uop", "weight", "bias", "input", "scratch", "output")


def small_program(spec, body, uops, rng, output_bits=8, finish=serialise):
    """A program with one region a page: everything is loaded, ``body`` runs, acc 0.. is stored.

    The input is int8 [2 * block_in, 2, 2]; the output one accumulator a plane.
    """
    kinds = ("uop", "weight", "bias", "input", "intermediate", "output")
    planes = output_bits // 8
    lengths = (PAGE, PAGE, PAGE, 8 * spec.inp_elem_bytes, PAGE, planes * spec.out_elem_bytes)
    regions = tuple(
        Region(name, number * PAGE, length, "int8", (length,), "bytes", kind)
        for number, (name, kind, length) in enumerate(zip(NAMES, kinds, lengths, strict=True))
    )
    dram = np.zeros(6 * PAGE, np.uint8)
    words = encode_uops(spec, *uops)
    dram[: 4 * len(words)] = words.view(np.uint8)
    dram[PAGE : 2 * PAGE] = rng.integers(0, 256, PAGE)
    dram[2 * PAGE : 3 * PAGE].view("<i4")[:] = rng.integers(-(2**31), 2**31, PAGE // 4)
    insns = finish([*load_everything(spec, len(words)), *body, *store_output(spec, planes)])
    return Program(
        spec=spec,
        insn=encode(spec, insns),
        dram=dram,
        regions=regions,
        input="input",
        output="output",
        input_shape=(2 * spec.block_in, 2, 2),
        output_shape=(spec.block_out, 1, 1),
        output_bits=output_bits,
        layers=(LayerRange("all", 0, len(insns)),),
    )


def load_everything(spec, uops):
    def base(region, size):
        return NAMES.index(region) * PAGE // size

    load = Opcode.LOAD
    return [
        transfer(load, MemType.UOP, 0, 0, uops),
        transfer(load, MemType.WGT, 0, base("weight", spec.wgt_elem_bytes), spec.wgt_depth),
        transfer(load, MemType.INP, 0, base("input", spec.inp_elem_bytes), 8),
        transfer(load, MemType.INP, 8, base("input", spec.inp_elem_bytes), 3, pads=(0, 1, 1, 0)),
        transfer(load, MemType.ACC, 0, base("bias", spec.acc_elem_bytes), spec.acc_depth),
    ]


def store_output(spec, planes):
    base = NAMES.index("output") * PAGE // spec.out_elem_bytes
    return [transfer(Opcode.STORE, MemType.OUT, 0, base, planes)]
