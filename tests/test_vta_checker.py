"""Every rule of the hardware: a program that breaks it is refused by instruction number."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from vta_reference import NAMES, PAGE, SMALL, serialise, small_program, transfer

from gpw_cli.errors import ProgramError
from gpw_cli.targets.vta.check.rules import check, gemm_distance
from gpw_cli.targets.vta.isa.instructions import (
    AluInsn,
    AluOp,
    FinishInsn,
    GemmInsn,
    MemInsn,
    MemType,
    Opcode,
)

UOPS = (np.arange(8), np.arange(8), np.zeros(8, int))
FIRST = 5  # number of the first instruction after the loads


def program(*body, spec=SMALL, uops=UOPS, finish=serialise):
    return small_program(spec, body, uops, np.random.default_rng(0), finish=finish)


def gemm(end=4, **more):
    return GemmInsn(uop_bgn=0, uop_end=end, **more)


def shift(amount, op=AluOp.SHR):
    return AluInsn(uop_bgn=0, uop_end=4, alu_opcode=op, use_imm=True, imm=amount)


def add(**more):
    return AluInsn(**{"uop_bgn": 0, "uop_end": 4, "alu_opcode": AluOp.ADD} | more)


def load(memory_type, sram, region, x=1, size=16, **more):
    return transfer(Opcode.LOAD, memory_type, sram, NAMES.index(region) * PAGE // size, x, **more)


def store(region, x=1, offset=0, **more):
    return transfer(
        Opcode.STORE, MemType.OUT, 0, NAMES.index(region) * PAGE // 4 + offset, x, **more
    )


NOTHING = MemInsn(opcode=Opcode.LOAD, memory_type=MemType.UOP)


def test_a_legal_program():
    body = [
        gemm(iter_out=3),
        shift(-31),
        store("scratch", 4),
        load(MemType.INP, 0, "scratch", 4, 4),
    ]
    report = check(program(*body))
    assert (report.min_gemm_distance, report.uops_resident_max, report.gemm_uops) == (4, 8, 12)


@pytest.mark.parametrize(
    ("insn", "message"),
    [
        (gemm(src_factor_in=13, iter_in=2), "INP element 16, there are 16"),
        (gemm(dst_factor_out=10, iter_out=4), "ACC element 33, there are 32"),
        (gemm(wgt_factor_in=4, iter_in=3), "WGT element 8, there are 8"),
        (load(MemType.INP, 15, "input", 2, 4), "INP element 16, there are 16"),
        (gemm(end=9), "reads UOP element 8, never written"),
        (gemm(end=65), "uop_end=65, programs keep to 64"),
        (load(MemType.UOP, 60, "uop", 8, 4), "UOP element 67, there are 64"),
        (gemm(end=0), "no micro-op in .0, 0."),
        (gemm(iter_out=0), "an iteration count is 0"),
        (store("scratch", 1, y=0), "y_size=0"),
        (load(MemType.ACC, 0, "scratch"), "never written"),
        (load(MemType.INP, 0, "output", 1, 4), "never written"),
        (store("bias"), "writes to bias, a bias region"),
        (store("scratch", 3, y=2, stride=2), "rows overlap"),
        (store("output", 1, 1), "are not in one region"),
        (store("output", 1, PAGE // 4), "the image has"),
        (load(MemType.ACC, 0, "bias", 1, 16, y=2, stride=255), None),
        (add(src_factor_in=1, iter_in=2), None),
        (AluInsn(uop_bgn=0, uop_end=1, alu_opcode=AluOp.ADD, iter_in=2), "micro-op 1 reads acc"),
        (
            AluInsn(uop_bgn=0, uop_end=1, alu_opcode=AluOp.ADD, iter_in=2, use_imm=True),
            "micro-op 1",
        ),
        (add(uop_bgn=1, uop_end=2, iter_in=2, src_factor_in=1), "micro-op 1 reads accumulator 1"),
        (add(iter_in=2, src_factor_in=3, dst_factor_in=4), "micro-op 4 reads accumulator 3"),
        (
            GemmInsn(uop_bgn=0, uop_end=4, dst_factor_in=1, iter_in=8),
            "used again after 3 micro-ops",
        ),
        (add(reset=True), "the ALU has no reset"),
        (shift(32), "shifts by 32, TARGET=sim shifts by -31 to 31"),
        (shift(-32), "shifts by -32"),
        (AluInsn(uop_bgn=0, uop_end=1, alu_opcode=AluOp.SHR, imm=-1), "imm=-1 without use_imm"),
        (shift(2, AluOp.MUL), "no MUL"),
        (load(MemType.ACC_8BIT, 0, "bias", 1, 4), "no ACC_8BIT"),
        (load(MemType.OUT, 0, "bias", 1, 4), "only be stored"),
        (transfer(Opcode.STORE, MemType.ACC, 0, 1024, 1), "only OUT"),
        (store("scratch", pads=(1, 0, 0, 0)), "no padding"),
        (load(MemType.WGT, 0, "weight", pads=(0, 0, 0, 1)), "WGT has no padding"),
        (load(MemType.UOP, 0, "uop", 2, 4, y=2), "one row"),
    ],
)
def test_one_bad_instruction(insn, message):
    if message is None:
        check(program(insn))
        return
    with pytest.raises(ProgramError, match=f"instruction {FIRST} .*{message}"):
        check(program(insn))


def test_capabilities():
    spec = dataclasses.replace(SMALL, mul=True, acc_8bit=True)
    check(program(shift(2, AluOp.MUL), load(MemType.ACC_8BIT, 0, "bias", 1, 4), spec=spec))


def shift_by_accumulators():
    """Accumulators 0 to 3 shifted by what 8 to 11 hold."""
    return AluInsn(uop_bgn=0, uop_end=4, alu_opcode=AluOp.SHR)


def amounts(value, *between, spec=SMALL):
    """Accumulators 8 to 11 are loaded from a bias of ``value``, then shift others."""
    uops = (np.arange(8), np.arange(8) + 8, np.zeros(8, int))
    body = [load(MemType.ACC, 8, "bias", 4), *between, shift_by_accumulators()]
    made = program(*body, spec=spec, uops=uops)
    made.dram[2 * PAGE : 3 * PAGE].view("<i4")[:] = value
    return made


@pytest.mark.parametrize(("value", "legal"), [(0, 1), (31, 1), (-1, 0), (32, 0), (2**31 - 1, 0)])
def test_a_constant_amount_is_in_range(value, legal):
    if legal:
        check(amounts(value))
        return
    with pytest.raises(ProgramError, match=f"accumulator 8 holds the amount {value}, .*0 to 31"):
        check(amounts(value))


def test_an_amount_that_is_no_constant_is_not_judged():
    check(amounts(-1, AluInsn(uop_bgn=0, uop_end=8, dst_factor_in=4, src_factor_in=1, iter_in=2,
                              alu_opcode=AluOp.ADD, use_imm=True, imm=3)))  # fmt: skip
    stored = amounts(-1, store("scratch", 16), load(MemType.ACC, 8, "scratch", 4))
    at = NAMES.index("scratch") * PAGE
    stored.dram[at : at + PAGE].view("<i4")[:] = -1  # before the STORE
    check(stored)


def test_amounts_on_the_hls_design():
    hls = dataclasses.replace(SMALL, target="ultra96")
    check(amounts(15, shift(-16), shift(15), spec=hls))
    with pytest.raises(ProgramError, match=r"holds the amount 16, .*TARGET=ultra96 shifts by 0 to"):
        check(amounts(16, spec=hls))
    for imm in (16, -17):
        with pytest.raises(ProgramError, match=f"shifts by {imm}, TARGET=ultra96 .*-16 to 15"):
            check(program(shift(imm), spec=hls))


@pytest.mark.parametrize(
    ("dst", "distance", "possible"),
    [
        ([0, 1, 2, 3], 0, True),
        ([0, 1, 2, 3, 0], 4, True),
        ([0, 0], 1, False),
        ([0, 1, 2, 0, 1, 2], 3, False),
        ([0, 0, 1, 1, 2, 2, 3, 3], 1, True),
        ([0, 1, 2, 3, 0, 1, 2, 3, 3], 1, True),
        ([0, 0, 0, 1, 1, 2, 2], 1, False),
    ],
)
def test_gemm_distance(dst, distance, possible):
    assert gemm_distance(np.array(dst)) == (distance, possible)


def flags(number, **changes):
    """``serialise``, then other flags on instruction ``number``."""

    def finish(insns):
        out = serialise(insns)
        out[number] = dataclasses.replace(out[number], **changes)
        return out

    return finish


@pytest.mark.parametrize(
    ("finish", "message"),
    [
        (flags(4, pop_prev=False), "instruction 3 .*load->compute token is never popped"),
        (flags(3, push_next=False), "instruction 4 .*deadlock.*load->compute"),
        (flags(3, push_prev=True), "instruction 3 .*LOAD has no such neighbour"),
        (flags(-1, pop_next=False), "store->compute token is never popped"),
        (lambda insns: serialise(insns)[:-1], "must end in FINISH"),
        (lambda insns: [*serialise(insns), FinishInsn()], "FINISH before the end"),
        (lambda insns: [*serialise(insns)[:-1], NOTHING, FinishInsn()], "carries no token|popped"),
        (lambda _: [], "must end in FINISH"),
    ],
)
def test_tokens(finish, message):
    with pytest.raises(ProgramError, match=message):
        check(program(gemm(), finish=finish))


def drop(first, second):
    """``serialise``, then without the token that ``first`` pushes and ``second`` pops."""

    def finish(insns):
        out = serialise(insns)
        none = {"pop_prev": False, "pop_next": False}
        out[first] = dataclasses.replace(out[first], push_prev=False, push_next=False)
        out[second] = dataclasses.replace(out[second], **none)
        return out

    return finish


def test_races_are_found():
    """Loads of weights and inputs are 1 to 3, accumulators 4, the body starts at 5."""
    again = load(MemType.INP, 0, "input", 1, 4)
    with pytest.raises(
        ProgramError, match=r"GEMM.: reads INP element 0 while LOAD may still be wr"
    ):
        check(program(gemm(), again, finish=drop(3, 4)))
    with pytest.raises(ProgramError, match="writes INP element 0 while COMPUTE may still be read"):
        check(program(gemm(), again, gemm(), finish=drop(5, 6)))
    with pytest.raises(ProgramError, match=r"STORE.: reads ACC element 0 while COMPUTE may still"):
        check(program(gemm(), finish=drop(5, 6)))
    body = [store("scratch"), shift(1), store("scratch", 1, 8)]
    with pytest.raises(ProgramError, match="writes ACC element 0 while STORE may still be reading"):
        check(program(*body, finish=drop(5, 6)))
    body = [store("scratch", 4), load(MemType.ACC, 0, "scratch")]
    with pytest.raises(ProgramError, match=r"reads DRAM .* while STORE may still be writing"):
        check(program(*body, finish=drop(5, 6)))


def test_finish_must_wait_for_the_last_store():
    with pytest.raises(ProgramError, match="does not wait for the last 1 instructions of STORE"):
        check(program(gemm(), finish=drop(-2, -1)))


def test_regions():
    good = program(gemm())
    bad = dataclasses.replace(good.regions[1], offset=100)
    with pytest.raises(ProgramError, match="region weight: 4096 bytes at 100"):
        check(dataclasses.replace(good, regions=(good.regions[0], bad, *good.regions[2:])))
    bad = dataclasses.replace(good.regions[1], offset=0)
    with pytest.raises(ProgramError, match="region weight: overlaps"):
        check(dataclasses.replace(good, regions=(good.regions[0], bad, *good.regions[2:])))
    with pytest.raises(ProgramError, match=r"region input: 32 bytes, .3, 2, 2. takes 16"):
        check(dataclasses.replace(good, input_shape=(3, 2, 2)))
    with pytest.raises(ProgramError, match="region output: its byte 0 is never written"):
        check(small_program(SMALL, (), UOPS, np.random.default_rng(0), 8, skip_output))


def skip_output(insns):
    return serialise(insns[:-1])
