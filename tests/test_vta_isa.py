"""Encoding: golden words worked out by hand from the bit tables, round trips, overflows."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from vta_programs import vta_spec
from vta_reference import SMALL

from gpw_cli.errors import ProgramError, UnsupportedError
from gpw_cli.targets.vta.isa import fields
from gpw_cli.targets.vta.isa.encoding import decode, decode_uops, encode, encode_uops
from gpw_cli.targets.vta.isa.instructions import (
    AluInsn,
    AluOp,
    FinishInsn,
    GemmInsn,
    MemInsn,
    MemType,
    Opcode,
)
from gpw_cli.targets.vta.isa.vta_json import config_of, spec_from_config, spec_from_json

DEFAULT = vta_spec()
GEMM = GemmInsn(
    pop_prev=True,
    push_next=True,
    uop_bgn=5,
    uop_end=9,
    iter_out=16,
    iter_in=8,
    dst_factor_out=32,
    dst_factor_in=1,
    src_factor_out=34,
    src_factor_in=1,
    wgt_factor_out=3,
    wgt_factor_in=2,
)
LOAD = MemInsn(
    opcode=Opcode.LOAD,
    memory_type=MemType.INP,
    pop_next=True,
    sram_base=0x123,
    dram_base=0xABCDEF,
    y_size=3,
    x_size=32,
    x_stride=34,
    y_pad_0=1,
    y_pad_1=2,
    x_pad_0=3,
    x_pad_1=4,
)
STORE = MemInsn(
    opcode=Opcode.STORE,
    memory_type=MemType.OUT,
    push_prev=True,
    sram_base=7,
    dram_base=1,
    x_size=2,
    x_stride=2,
)
ALU = AluInsn(
    uop_bgn=0,
    uop_end=1,
    iter_in=64,
    dst_factor_in=1,
    src_factor_in=1,
    alu_opcode=AluOp.SHR,
    use_imm=True,
    imm=-5,
)
FINISH = FinishInsn(pop_next=True)


@pytest.mark.parametrize(
    ("insn", "word_0", "word_1"),
    [
        (GEMM, 0x001000800120054A, 0x0080300208800820),
        (LOAD, 0x0002AF37BC048D10, 0x4321002200200003),
        (STORE, 0x0000000004001E21, 0x0000000200020001),
        (ALU, 0x0080000800200004, 0xFFFBB00200000800),
        (FINISH, 0x13, 0),
    ],
)
def test_golden_words_of_the_default_geometry(insn, word_0, word_1):
    stream = encode(DEFAULT, [insn])
    assert np.frombuffer(stream, "<u8").tolist() == [word_0, word_1]
    assert decode(DEFAULT, stream) == [insn]


def test_a_field_that_fits_word_0_stays_there():
    """64 micro-ops, 32 accumulators, 16 inputs: word 0 has room for three factors more."""
    insn = GemmInsn(uop_bgn=1, uop_end=2, dst_factor_out=1, src_factor_out=1, src_factor_in=1)
    word_0 = 2 | 1 << 8 | 2 << 14 | 1 << 21 | 1 << 35 | 1 << 49 | 1 << 59
    assert np.frombuffer(encode(SMALL, [insn]), "<u8").tolist() == [word_0, 1]


def test_golden_micro_ops():
    words = encode_uops(DEFAULT, [2047, 0, 5], [1, 2047, 0], [1023, 0, 0])
    assert words.tolist() == [0xFFC00FFF, 0x003FF800, 5]
    assert [part.tolist() for part in decode_uops(DEFAULT, words)] == [
        [2047, 0, 5],
        [1, 2047, 0],
        [1023, 0, 0],
    ]


@st.composite
def geometries(draw):
    log = st.integers(0, 7)
    try:
        return vta_spec(
            log_batch=draw(st.integers(0, 2)),
            log_block_in=draw(log),
            log_block_out=draw(log),
            log_uop_buff_size=draw(st.integers(6, 16)),
            log_inp_buff_size=draw(st.integers(6, 18)),
            log_wgt_buff_size=draw(st.integers(8, 20)),
            log_acc_buff_size=draw(st.integers(8, 20)),
        )
    except UnsupportedError:
        assume(False)


LAYOUTS = {
    MemInsn: fields.MEM,
    GemmInsn: fields.GEMM,
    AluInsn: fields.ALU,
    FinishInsn: fields.FINISH,
}
FLAGS = ("pop_prev", "pop_next", "push_prev", "push_next", "reset", "use_imm")


def random_instruction(rng, spec):
    kind = list(LAYOUTS)[rng.integers(4)]
    values = {}
    for field in LAYOUTS[kind]:
        width = field.width(spec)
        low = -(1 << (width - 1)) if field.signed else 0
        number = int(rng.integers(low, low + (1 << width)))
        values[field.name] = bool(number) if field.name in FLAGS else number
    opcode = values.pop("opcode")
    if kind is MemInsn:
        values["opcode"] = Opcode(opcode % 2)
        values["memory_type"] = MemType(values["memory_type"] % 6)
    if kind is AluInsn:
        values["alu_opcode"] = AluOp(values["alu_opcode"] % 5)
    return kind(**values)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), geometries())
def test_round_trip_in_any_geometry(seed, spec):
    rng = np.random.default_rng(seed)
    insns = [random_instruction(rng, spec) for _ in range(6)]
    stream = encode(spec, insns)
    assert len(stream) == 16 * len(insns)
    assert decode(spec, stream) == insns
    parts = [
        rng.integers(0, limit, 4)
        for limit in (spec.acc_depth, max(spec.acc_depth, spec.inp_depth), spec.wgt_depth)
    ]
    assert np.array_equal(decode_uops(spec, encode_uops(spec, *parts)), parts)


def fields_of(insn, layout):
    return [(insn, field) for field in layout if field.name not in ("opcode",)]


@pytest.mark.parametrize(
    ("insn", "field"),
    [*fields_of(LOAD, fields.MEM), *fields_of(GEMM, fields.GEMM), *fields_of(ALU, fields.ALU)],
    ids=lambda part: part.name if isinstance(part, fields.Field) else type(part).__name__,
)
def test_every_overflow_is_refused(insn, field):
    width = field.width(DEFAULT)
    limit = 1 << (width - 1) if field.signed else 1 << width
    for bad in (limit, -limit - 1 if field.signed else -1):
        broken = dataclasses.replace(insn, **{field.name: bad})
        with pytest.raises(
            ProgramError, match=rf"instruction 1 .*{field.name}={bad} .*{width} bits"
        ):
            encode(DEFAULT, [FINISH, broken])


@pytest.mark.parametrize(
    ("parts", "name"), [((2048, 0, 0), "dst"), ((0, 2048, 0), "src"), ((0, 0, -1), "wgt")]
)
def test_micro_op_overflow_is_refused(parts, name):
    with pytest.raises(ProgramError, match=f"{name}="):
        encode_uops(DEFAULT, *parts)


@pytest.mark.parametrize(
    ("stream", "message"),
    [
        (encode(DEFAULT, [GEMM, FINISH])[:-3], "instruction 1 has 13 of 16 bytes"),
        (bytes([5] + [0] * 15), "instruction 0: opcode 5"),
        (bytes([0x80, 3] + [0] * 14), "instruction 0 .LOAD.: 7 is not a valid MemType"),
    ],
)
def test_broken_streams_are_refused(stream, message):
    with pytest.raises(ProgramError, match=message):
        decode(DEFAULT, stream)


def test_default_geometry():
    assert (DEFAULT.uop_depth, DEFAULT.inp_depth, DEFAULT.wgt_depth, DEFAULT.acc_depth) == (
        8192,
        2048,
        1024,
        2048,
    )
    assert (DEFAULT.inp_elem_bytes, DEFAULT.wgt_elem_bytes, DEFAULT.acc_elem_bytes) == (16, 256, 64)
    assert (DEFAULT.out_elem_bytes, DEFAULT.uop_limit, DEFAULT.tile) == (16, 2048, (16, 16))


CONFIG = config_of(DEFAULT)


def test_vtas_own_json(tmp_path):
    path = tmp_path / "vta.json"
    path.write_text(json.dumps(CONFIG | {"LOG_BLOCK_OUT": 5, "HW_FREQ": 100}))
    spec = spec_from_json(path)
    assert (spec.block_in, spec.block_out) == (16, 32)
    assert spec_from_config(config_of(spec)) == spec


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"LOG_BLOCK": 3}, "micro-op field wgt of 12 bits"),
        ({"LOG_UOP_BUFF_SIZE": 16}, "GEMM field wgt_factor_out of 10 bits"),
        ({"LOG_WGT_BUFF_SIZE": 7}, "LOG_WGT_BUFF_SIZE=7 is 128 bytes .* one wgt element of 256"),
        ({"LOG_INP_WIDTH": 2}, "LOG_INP_WIDTH=2, only 3"),
        ({"LOG_BLOCK": "4"}, "LOG_BLOCK='4'"),
        ({"LOG_OUT_WIDTH": 5}, "LOG_OUT_WIDTH=5"),
        ({"LOG_BATCH": None}, "LOG_BATCH=None"),
    ],
)
def test_bad_geometries_are_refused(change, message):
    with pytest.raises(UnsupportedError, match=message):
        spec_from_config(CONFIG | change)


def test_missing_key_and_file(tmp_path):
    for name in ("LOG_ACC_BUFF_SIZE", "TARGET", "HW_VER"):
        with pytest.raises(UnsupportedError, match=f"{name} is missing"):
            spec_from_config({k: v for k, v in CONFIG.items() if k != name})
    (tmp_path / "bad.json").write_text("[1]")
    for name in ("bad.json", "none.json"):
        with pytest.raises(UnsupportedError, match=name):
            spec_from_json(tmp_path / name)
