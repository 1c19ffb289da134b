"""The vectorised simulator against a scalar interpreter, on random legal programs."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from vta_reference import NAMES, PAGE, SMALL, Interpreter, small_program, transfer

from gpw_cli.targets.vta.check.rules import gemm_distance
from gpw_cli.targets.vta.functional import matmul
from gpw_cli.targets.vta.functional.simulator import Simulator, final_dram, pack_input, simulate
from gpw_cli.targets.vta.isa.access import dst_indices, src_indices
from gpw_cli.targets.vta.isa.instructions import AluInsn, AluOp, GemmInsn, MemType, Opcode


def geometry(**logs):
    return dataclasses.replace(SMALL, **{f"log_{name}": value for name, value in logs.items()})


GEOMETRIES = {
    "block 4": SMALL,
    "4 in, 8 out": geometry(block_out=3, wgt_buff_size=8, acc_buff_size=10),
    "8 in, 4 out": geometry(block_in=3, inp_buff_size=7, wgt_buff_size=8),
    "batch 2": geometry(batch=1, inp_buff_size=7, acc_buff_size=10),
    "block 32": geometry(
        block_in=5, block_out=5, inp_buff_size=9, wgt_buff_size=12, acc_buff_size=12
    ),
    "mul, acc_8bit": dataclasses.replace(SMALL, mul=True, acc_8bit=True),
}
UOPS = 24


def loops(draw, spec, kind):
    """Loops that stay inside the scratchpads; micro-ops name elements below 8."""
    begin = draw(st.integers(0, UOPS - 1))
    end = draw(st.integers(begin + 1, min(UOPS, begin + 6)))
    factor = st.integers(0, 3)
    fields = {
        "uop_bgn": begin,
        "uop_end": end,
        "iter_out": draw(st.integers(1, 3)),
        "iter_in": draw(st.integers(1, 3)),
        "dst_factor_out": draw(factor),
        "dst_factor_in": draw(factor),
        "src_factor_out": draw(st.integers(0, 2)),
        "src_factor_in": draw(st.integers(0, 1)),
    }
    return kind(**fields, **extra(draw, spec, kind))


def extra(draw, spec, kind):
    if kind is GemmInsn:
        return {"reset": draw(st.integers(0, 4)) == 0}
    ops = [op for op in AluOp if spec.mul or op != AluOp.MUL]
    op, immediate = draw(st.sampled_from(ops)), draw(st.booleans())
    if op == AluOp.SHR:  # the checker refuses most constants as amounts; see test_vta_random
        immediate = True
    return {
        "alu_opcode": op,
        "use_imm": immediate,
        "imm": draw(st.integers(-31, 31) if op == AluOp.SHR else st.integers(-(2**15), 2**15 - 1)),
    }


def legal(insn, uops):
    """Whether the checker's two distance rules hold."""
    dst = dst_indices(insn, uops[0][insn.uop_bgn : insn.uop_end])
    src = src_indices(insn, uops[1][insn.uop_bgn : insn.uop_end])
    if isinstance(insn, GemmInsn):
        distance, possible = gemm_distance(dst)
        return insn.reset or distance == 0 or distance >= 4 or not possible
    late = dst[1:] == dst[:-1]
    return not (late | (not insn.use_imm) & (src[1:] == dst[:-1])).any()


@st.composite
def transfers(draw, spec):
    """A LOAD or STORE of inputs or accumulators, with padding and strides."""
    kinds = [MemType.INP, MemType.ACC, MemType.OUT] + [MemType.ACC_8BIT] * spec.acc_8bit
    kind = draw(st.sampled_from(kinds))
    store = kind == MemType.OUT
    x, y, stride = draw(st.integers(1, 3)), draw(st.integers(1, 2)), draw(st.integers(0, 4))
    pads = (0,) * 4 if store else tuple(draw(st.integers(0, 1)) for _ in range(4))
    size = {MemType.INP: spec.inp_elem_bytes, MemType.ACC: spec.acc_elem_bytes}.get(
        kind, spec.out_elem_bytes
    )
    region = "scratch" if store else draw(st.sampled_from(["bias", "scratch"]))
    base = (NAMES.index(region) * PAGE) // size + draw(st.integers(0, 3))
    opcode = Opcode.STORE if store else Opcode.LOAD
    if store:
        stride = max(stride, x)  # rows that do not overlap
    limit = spec.inp_depth if kind == MemType.INP else spec.acc_depth
    if (y + pads[0] + pads[1]) * (x + pads[2] + pads[3]) > limit:
        pads = (0,) * 4
    used = (y + pads[0] + pads[1]) * (x + pads[2] + pads[3])
    sram = draw(st.integers(0, limit - used))
    return transfer(opcode, kind, sram, base, x, y, stride, pads)


@st.composite
def programs(draw):
    spec = GEOMETRIES[draw(st.sampled_from(sorted(GEOMETRIES)))]
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    uops = (
        rng.integers(0, 8, UOPS),
        rng.integers(0, 8, UOPS),
        rng.integers(0, spec.wgt_depth, UOPS),
    )
    if draw(st.booleans()):  # regular micro-ops: strided views instead of gathers
        uops = (np.arange(UOPS) % 8, np.arange(UOPS) // 4, np.arange(UOPS) // 8)
    body = []
    for _ in range(draw(st.integers(1, 12))):
        choice = draw(st.integers(0, 2))
        if choice == 0:
            body.append(draw(transfers(spec)))
            continue
        insn = loops(draw, spec, GemmInsn if choice == 1 else AluInsn)
        if legal(insn, uops):
            body.append(insn)
    bits = draw(st.sampled_from([8, 16, 32]))
    return small_program(
        spec, [*fill_scratch(spec), *body, *fill_scratch(spec)[:1]], uops, rng, bits
    ), rng


def fill_scratch(spec):
    """Write the whole scratch region, so that any part of it may be loaded."""
    elements = PAGE // spec.out_elem_bytes
    base = NAMES.index("scratch") * elements
    return [
        transfer(Opcode.STORE, MemType.OUT, 0, base + begin, spec.acc_depth)
        for begin in range(0, elements, spec.acc_depth)
    ]


@settings(max_examples=150, deadline=None, print_blob=False)
@given(programs())
def test_simulator_equals_the_scalar_interpreter(case):
    program, rng = case
    images = rng.integers(-128, 128, (5, *program.input_shape)).astype(np.int8)
    logits = simulate(program, images, batch=2).logits
    spec = program.spec
    for begin in range(0, len(images), spec.batch):
        group = images[begin : begin + spec.batch]
        dram = program.dram.copy()
        region = program.region("input")
        packed = pack_input(program, group, 1)
        dram[region.offset : region.offset + region.length] = packed.reshape(-1).view(np.uint8)
        after = Interpreter(spec, dram).run(program.insn)
        assert np.array_equal(
            logits[begin : begin + len(group)], expected(program, after)[: len(group)]
        )
        if spec.batch == 1:
            assert np.array_equal(final_dram(program, group[0]), after)


def equal_to_interpreter(program, image):
    region = program.region("input")
    dram = program.dram.copy()
    packed = pack_input(program, image[None], 1).reshape(-1).view(np.uint8)
    dram[region.offset : region.offset + region.length] = packed
    after = Interpreter(program.spec, dram).run(program.insn)
    return np.array_equal(final_dram(program, image), after)


def test_inputs_and_weights_replaced_between_gemms():
    """Products are planned late: each must use what was loaded when its GEMM ran."""
    rng = np.random.default_rng(5)
    uops = (np.arange(8), np.arange(8), np.arange(8))
    inputs = NAMES.index("input") * PAGE // SMALL.inp_elem_bytes
    weights = NAMES.index("weight") * PAGE // SMALL.wgt_elem_bytes
    outside = NAMES.index("scratch") * PAGE // SMALL.out_elem_bytes
    body = [
        GemmInsn(uop_bgn=0, uop_end=8, dst_factor_out=8, iter_out=2),
        transfer(Opcode.LOAD, MemType.INP, 2, inputs + 1, 4),
        GemmInsn(uop_bgn=0, uop_end=8),
        transfer(Opcode.LOAD, MemType.WGT, 0, weights + 100, 8),
        GemmInsn(uop_bgn=0, uop_end=6, dst_factor_in=8, iter_in=2),
        transfer(Opcode.LOAD, MemType.INP, 0, inputs, 4, 2, 3, (1, 0, 0, 0)),
        GemmInsn(uop_bgn=2, uop_end=8, reset=True),
        GemmInsn(uop_bgn=0, uop_end=8),
        transfer(Opcode.STORE, MemType.OUT, 0, outside, 16),
    ]
    program = small_program(SMALL, body, uops, rng)
    assert equal_to_interpreter(program, rng.integers(-128, 128, (8, 2, 2)).astype(np.int8))


def test_threads_and_batches_do_not_change_the_result():
    rng = np.random.default_rng(3)
    uops = (np.arange(8), np.arange(8), np.arange(8))
    program = small_program(SMALL, [GemmInsn(uop_bgn=0, uop_end=8, iter_out=2)], uops, rng)
    images = rng.integers(-128, 128, (9, 8, 2, 2)).astype(np.int8)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        simulator = Simulator(program, batch=2)
        first, again = (simulator.run(images).logits for _ in range(2))
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    alone = [simulate(program, image[None]).logits[0] for image in images]
    assert np.array_equal(first, alone)
    assert np.array_equal(again, alone)
    assert simulate(program, images[:0]).logits.shape == (0, 4)


def test_a_cpu_without_exact_int8_products_uses_float64(monkeypatch):
    rng = np.random.default_rng(4)
    uops = (np.arange(8), np.arange(8), np.arange(8))
    program = small_program(SMALL, [GemmInsn(uop_bgn=0, uop_end=8)], uops, rng)
    images = rng.integers(-128, 128, (3, 8, 2, 2)).astype(np.int8)
    exact = simulate(program, images)
    monkeypatch.setattr(matmul, "_multiplier", lambda: matmul._wide_product)
    assert np.array_equal(simulate(program, images).logits, exact.logits)
    assert exact.macs == 8 * 4 * 4


def test_the_wide_product_wraps_around_as_int32():
    left = torch.full((1, 140_000), -128, dtype=torch.int8)
    out = torch.zeros((1, 1), dtype=torch.int32)
    matmul._wide_product(left, left.T, out)
    assert out.item() == 140_000 * 2**14 - 2**32


@pytest.mark.parametrize("amount", [-1, -32, 5, 37])
def test_a_shift_by_an_accumulator_takes_its_low_five_bits(amount):
    """... and never shifts left, whatever the sign; an immediate does."""
    uops = (np.arange(8), np.arange(8), np.zeros(8, int))
    image = np.arange(-16, 16, dtype=np.int8).reshape(8, 2, 2)
    gemm = GemmInsn(uop_bgn=0, uop_end=8, dst_factor_in=8, iter_in=2)
    clear = [
        AluInsn(uop_bgn=0, uop_end=4, alu_opcode=AluOp.MIN, use_imm=True, imm=amount),
        AluInsn(uop_bgn=0, uop_end=4, alu_opcode=AluOp.MAX, use_imm=True, imm=amount),
    ]  # accumulators 0 to 3 depend on the image as far as a plan can know, yet hold ``amount``
    uops[1][4:8] = np.arange(4)
    shift = AluInsn(uop_bgn=4, uop_end=8, alu_opcode=AluOp.SHR)
    back = AluInsn(uop_bgn=0, uop_end=4, alu_opcode=AluOp.ADD, use_imm=True, imm=0)
    copy = transfer(
        Opcode.STORE, MemType.OUT, 4, NAMES.index("scratch") * PAGE // SMALL.out_elem_bytes, 4
    )
    program = small_program(
        SMALL, [gemm, *clear, shift, back, copy], uops, np.random.default_rng(2)
    )
    assert equal_to_interpreter(program, image)
    before = small_program(SMALL, [gemm, *clear, copy], uops, np.random.default_rng(2))
    region = program.region("scratch").offset
    low = [final_dram(p, image)[region : region + 16].view(np.int8) for p in (before, program)]
    if amount in (5, 37):
        assert not np.array_equal(*low)


def expected(program, after):
    """Logits [batch, block_out] of the byte planes in a DRAM image."""
    spec, region = program.spec, program.region("output")
    planes = after[region.offset : region.offset + region.length]
    planes = planes.reshape(program.output_bits // 8, spec.batch, spec.block_out).astype(np.int64)
    whole = sum(plane << (8 * number) for number, plane in enumerate(planes))
    half = 1 << (program.output_bits - 1)
    return (whole + half) % (2 * half) - half
