"""Cycles of VTA: the occupancy table row by row, then programs worked out by hand."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import astuple, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vta_programs import vta_spec

from gpw_cli.config.target import load_target
from gpw_cli.errors import ProgramError, UnsupportedError, UsageError
from gpw_cli.targets.vta.config import VtaConfig, VtaTiming
from gpw_cli.targets.vta.isa.encoding import encode
from gpw_cli.targets.vta.isa.geometry import VtaSpec
from gpw_cli.targets.vta.isa.instructions import (
    AluInsn,
    AluOp,
    FinishInsn,
    GemmInsn,
    Insn,
    MemInsn,
    MemType,
    Opcode,
)
from gpw_cli.targets.vta.isa.program import LayerRange, Program
from gpw_cli.targets.vta.isa.vta_json import config_of
from gpw_cli.targets.vta.target import spec_of
from gpw_cli.targets.vta.timing.memory_port import ReadPort
from gpw_cli.targets.vta.timing.report import TimingReport, time_program
from gpw_cli.targets.vta.timing.trace import write_trace

VTA = load_target("vta", VtaConfig)
DE10 = VTA.timing
PYNQ = replace(DE10, burst_beats=256)
SPEC = vta_spec()


def program(*insns: Insn, layers: tuple[LayerRange, ...] = (), spec: VtaSpec = SPEC) -> Program:
    return Program(
        spec=spec,
        insn=encode(spec, insns),
        dram=np.zeros(0, np.uint8),
        regions=(),
        input="",
        output="",
        input_shape=(1, 1, 1),
        output_shape=(1, 1, 1),
        output_bits=8,
        layers=layers,
    )


def load(memory: MemType, x_size: int = 0, **more: Any) -> MemInsn:
    more = {"x_stride": x_size} | more
    return MemInsn(opcode=Opcode.LOAD, memory_type=memory, x_size=x_size, **more)


def store(x_size: int = 0, **more: Any) -> MemInsn:
    more = {"x_stride": x_size} | more
    return MemInsn(opcode=Opcode.STORE, memory_type=MemType.OUT, x_size=x_size, **more)


def gemm(uops: int, **more: Any) -> GemmInsn:
    return GemmInsn(uop_bgn=0, uop_end=uops, **more)


def alu(uops: int, **more: Any) -> AluInsn:
    return AluInsn(uop_bgn=0, uop_end=uops, alu_opcode=AluOp.ADD, **more)


NOTHING = load(MemType.UOP)  # two cycles of COMPUTE


def times(report: TimingReport) -> list[tuple[int, int]]:
    return list(zip(report.schedule.start.tolist(), report.schedule.end.tolist(), strict=True))


def occupancy(insn: Insn, timing: VtaTiming = DE10, spec: VtaSpec = SPEC) -> int:
    ((start, end),) = times(time_program(program(insn, spec=spec), timing))
    return end - start


ROWS: list[tuple[str, Insn, int]] = [
    ("GEMM U+7", gemm(9, iter_out=4, iter_in=8), 9 * 4 * 8 + 7),
    ("GEMM reset U+7", gemm(3, iter_in=5, reset=True), 15 + 7),
    ("ALU immediate U+7", alu(3, iter_out=5, iter_in=7, use_imm=True), 105 + 7),
    ("ALU tensor 2U+7", alu(3, iter_out=5, iter_in=7), 2 * 105 + 7),
    ("LOAD inp", load(MemType.INP, 1), 23 + 2),
    ("LOAD inp, rows", load(MemType.INP, 20, y_size=5, x_stride=33, dram_base=3), 23 + 200),
    ("LOAD inp, short rows", load(MemType.INP, 1, y_size=60, x_stride=9), 23 + 120),
    ("LOAD wgt", load(MemType.WGT, 36), 23 + 36 * 32),
    ("LOAD acc", load(MemType.ACC, 5, dram_base=1), 23 + 40),
    ("LOAD uop, aligned", load(MemType.UOP, 6), 22 + 3),
    ("LOAD uop, odd begin", load(MemType.UOP, 6, dram_base=1), 22 + 4),
    ("LOAD uop, long", load(MemType.UOP, 500, dram_base=3), 22 + 251),
    ("padding hidden", load(MemType.INP, 4, y_size=4, x_pad_0=1, x_pad_1=1), 23 + 32),
    # P = 3 * 8 + 6 * 2 = 36
    (
        "padding, all sides",
        load(MemType.INP, 6, y_size=6, x_stride=8, y_pad_0=1, y_pad_1=2, x_pad_0=1, x_pad_1=1),
        1 + 23 + 72 + (36 - 20 - 1),
    ),
    # P = 5 * 6, after 6 rows of data that are passed over
    ("padding below", load(MemType.INP, 6, y_size=6, y_pad_1=5), 23 + 72 + (30 + 6 - 20)),
    # the last 10 of 30 rows are passed over while data are written; P = 9 * 2, all of it after them
    (
        "padding below, passing under data",
        load(MemType.INP, 2, y_size=30, y_pad_1=9),
        23 + 120 + 18,
    ),
    # above 1 * 2 in 2 of 21 free cycles, 3 rows, 5 * 2 in 10
    ("padding above and below", load(MemType.INP, 2, y_size=3, y_pad_0=1, y_pad_1=5), 1 + 23 + 12),
    ("padding above", load(MemType.INP, 6, y_size=6, y_pad_0=5), 5 + 23 + 72 + (30 - 20 - 5)),
    ("STORE 8 tiles", store(8), 27 + 1),
    ("STORE 1 tile", store(1), 6 + 1),
    ("STORE split at 128 B", store(8, dram_base=6), (3 * 2 + 3) + (3 * 6 + 3) + 1),
    ("STORE rows", store(3, y_size=4, x_stride=8), 4 * 12 + 1),
    ("no-op LOAD", load(MemType.INP), 2),
    ("no-op COMPUTE", load(MemType.UOP), 2),
    ("no-op STORE", store(), 2),
    ("FINISH", FinishInsn(), 2),
]


@pytest.mark.parametrize(("insn", "cycles"), [r[1:] for r in ROWS], ids=[r[0] for r in ROWS])
def test_occupancy_table(insn: Insn, cycles: int) -> None:
    assert occupancy(insn) == cycles
    report = time_program(program(insn), DE10)
    assert sum(module.busy for name, module in report.modules.items() if name != "FETCH") == cycles
    assert all(module.memory == 0 for module in report.modules.values())


@pytest.mark.parametrize("count", range(1, 9))
def test_fetch_takes_3n_plus_21(count: int) -> None:
    report = time_program(program(*[NOTHING] * (8 + count)), DE10)
    first, second = report.schedule.batches
    assert (first.begin, first.end, second.begin, second.end) == (0, 45, 45, 45 + 3 * count + 21)
    # handed over one a cycle in the batch's last cycles but one, visible the cycle after
    assert report.schedule.arrive.tolist()[:8] == list(range(37, 45))


def test_fetch_batch_of_the_pynq_shell() -> None:
    report = time_program(program(*[NOTHING] * 130), PYNQ)
    assert [batch.count for batch in report.schedule.batches] == [128, 2]
    assert report.schedule.batches[0].end == 3 * 128 + 21


@pytest.mark.parametrize(("bus", "batch"), [(64, 8), (128, 16), (256, 16), (512, 16)])
def test_fetch_batch_by_bus(bus: int, batch: int) -> None:
    assert replace(DE10, bus_bits=bus).fetch_batch == batch


def test_pynq_bursts_are_2048_bytes() -> None:
    assert occupancy(store(128), PYNQ) == 3 * 128 + 3 + 1
    assert occupancy(load(MemType.WGT, 36), PYNQ) == 23 + 36 * 32


@pytest.mark.parametrize(
    ("bus", "wgt", "inp", "acc", "uop", "out"),
    [
        (64, 23 + 1152, 23 + 40, 23 + 160, 22 + 5, 27 + 1),
        (128, 23 + 576, 22 + 20, 23 + 80, 22 + 3, 8 + 4 + 1),
        (256, 23 + 288, 22 + 10, 23 + 40, 22 + 2, 4 + 4 + 1),
        (512, 23 + 144, 22 + 5, 22 + 20, 22 + 1, 2 + 4 + 1),
    ],
)
def test_bus_widths(bus: int, wgt: int, inp: int, acc: int, uop: int, out: int) -> None:
    insns = [load(MemType.WGT, 36), load(MemType.INP, 20), load(MemType.ACC, 20)]
    insns += [load(MemType.UOP, 10), store(8)]
    assert [occupancy(i, replace(DE10, bus_bits=bus)) for i in insns] == [wgt, inp, acc, uop, out]


def test_old_rtl() -> None:
    old = load_target("vta_old_rtl", VtaConfig).timing
    assert occupancy(gemm(9, iter_in=8), old) == 4 * 72 + 7
    assert occupancy(alu(9, use_imm=True), old) == 5 * 9 + 7
    assert occupancy(alu(9), old) == 6 * 9 + 7


def test_block_of_32() -> None:
    spec = vta_spec(log_block_in=5, log_block_out=5)
    assert occupancy(load(MemType.WGT, 2), spec=spec) == 23 + 2 * 128
    assert occupancy(load(MemType.INP, 3), spec=spec) == 23 + 3 * 4
    assert occupancy(store(2), spec=spec) == (2 * 4 + 1 + 4) + 1  # one pause between two tiles


def test_two_loads_back_to_back() -> None:
    report = time_program(program(load(MemType.WGT, 2), load(MemType.INP, 4)), DE10)
    # two instructions: 4 beats from cycle 18, handed over in 24 and 25
    assert times(report) == [(25, 25 + 87), (112, 112 + 31)]
    assert report.modules["LOAD"].busy == 87 + 31
    assert report.modules["LOAD"].instruction == 25


def test_chain_through_all_modules() -> None:
    report = time_program(
        program(
            load(MemType.WGT, 1, push_next=True),
            gemm(10, pop_prev=True, push_next=True),
            store(8, pop_prev=True, push_prev=True),
            FinishInsn(pop_next=True),
        ),
        DE10,
    )
    assert times(report) == [(29, 84), (84, 101), (101, 129), (129, 131)]
    assert report.cycles == 131
    compute = report.modules["COMPUTE"]
    assert (compute.busy, compute.instruction, compute.token) == (19, 30, (84 - 30) + (129 - 101))
    assert report.bound == {"LOAD": 55, "COMPUTE": 19, "STORE": 28, "PORT": 8 + 32}
    assert report.bound_cycles == 55
    assert report.milliseconds == pytest.approx(131 / 100e3)
    assert report.units["gemm"].utilisation == pytest.approx(10 / 131)
    assert report.dram_bytes == {
        "inp": 0,
        "wgt": 256,
        "acc": 0,
        "uop": 0,
        "out": 128,
        "insn": 64,
    }


def test_double_buffering_overlaps() -> None:
    report = time_program(
        program(
            load(MemType.WGT, 1, push_next=True),
            load(MemType.WGT, 1, push_next=True),
            gemm(100, pop_prev=True, push_prev=True),
            gemm(100, pop_prev=True),
            load(MemType.WGT, 1, pop_next=True),
        ),
        DE10,
    )
    # fetched with 10 beats from 18: handed over from 30 on
    assert times(report) == [(31, 86), (86, 141), (86, 193), (193, 300), (193, 248)]


def test_the_counter_stops_at_finish() -> None:
    insns: list[Insn] = [load(MemType.WGT, 4), store(8), NOTHING, FinishInsn(), gemm(50)]
    # five instructions from 30: no-op 33 to 35, FINISH 35 to 37, all else is cut off there
    report = time_program(program(*insns), DE10)
    assert times(report) == [(31, 37), (32, 37), (33, 35), (35, 37), (37, 37)]
    assert report.cycles == 37
    assert all(sum(m.values()) == 37 for m in report.to_dict()["modules"].values())
    assert sum(layer.cycles for layer in report.layers) == 37
    assert report.bound_cycles <= 37
    insns[3] = FinishInsn(pop_next=True)
    insns[1] = store(8, push_prev=True)
    assert time_program(program(*insns), DE10).cycles == 32 + 28 + 2
    assert time_program(program(*insns[:3]), DE10).cycles == 27 + 23 + 128


def test_priority_and_contention_on_the_read_port() -> None:
    report = time_program(program(load(MemType.WGT, 1), load(MemType.ACC, 4)), DE10)
    # wgt offers in 27 and 29, acc in 28 and, wgt going first in 29, in 30; served w a w a from 44
    assert times(report) == [(25, 44 + 48 + 4), (26, 44 + 64 + 4)]
    assert report.modules["LOAD"].memory == (96 - 25) - 55
    assert report.modules["COMPUTE"].memory == (112 - 26) - 55


def test_fetch_waits_behind_accepted_bursts() -> None:
    report = time_program(program(load(MemType.WGT, 64), *[NOTHING] * 15), DE10)
    first, second = report.schedule.batches
    # the load starts in 37, offers a burst each second cycle from 39; FETCH offers in 46: before it
    # lie the bursts of 39, 41, 43 and 45, the first served from 56
    assert (first.end, second.begin) == (45, 45)
    assert second.end == 56 + 4 * 16 + 16 + 3 + 8
    assert report.modules["FETCH"].memory == second.end - 90


def test_sixteen_outstanding_bursts() -> None:
    port = ReadPort(replace(DE10, outstanding=2))
    port.request(3, 0, (16,) * 4)
    # accepted in 0 and 2, served from 17 and 33; the third is accepted in 34, the cycle after the
    # first ended, when the queue is empty again: served from 51; the fourth, of 50, joins it
    assert port.serve(1000) == (3, 34 + 1 + 16 + 16 * 2)
    port = ReadPort(replace(DE10, outstanding=1))
    port.request(3, 0, (16, 16))
    # the second is accepted in 34, when the queue is long empty: the latency counts anew
    assert port.serve(1000) == (3, 34 + 1 + 16 + 16)


def test_full_queue_blocks_fetch() -> None:
    timing = replace(DE10, queue_entries=2)
    report = time_program(program(gemm(93), *[NOTHING] * 3, store(1)), timing)
    # five instructions from 30; gemm 31 to 131; the third finds room in 131, the fourth in 133
    assert report.schedule.arrive.tolist() == [31, 32, 132, 134, 135]
    assert report.modules["FETCH"].token == (131 - 32) + 1


def test_token_counter_saturates() -> None:
    pushes, pops = [load(MemType.INP, push_next=True)] * 3, [gemm(1, pop_prev=True)] * 3
    # all three tokens are there before the first is popped
    late = program(*pushes, load(MemType.UOP, 100), *pops)
    assert time_program(late, DE10).cycles > 0
    with pytest.raises(ProgramError, match="instruction 6 "):
        time_program(late, replace(DE10, max_tokens=2))


def test_deadlock_names_the_instruction() -> None:
    with pytest.raises(
        ProgramError, match=r"instruction 1 \(gemm in COMPUTE\) for a token of LOAD"
    ):
        time_program(program(load(MemType.WGT, 1), gemm(1, pop_prev=True)), DE10)


def test_deadlock_of_a_full_queue() -> None:
    insns: list[Insn] = [load(MemType.WGT, 1, pop_next=True)] * 4
    insns += [gemm(1, push_prev=True)] * 4
    assert time_program(program(*insns), DE10).cycles > 0
    with pytest.raises(ProgramError, match=r"instruction 0 .*FETCH for room in the queue of LOAD"):
        time_program(program(*insns), replace(DE10, queue_entries=3))


def test_flags_that_a_module_does_not_have_are_ignored() -> None:
    insns = (load(MemType.WGT, 1, pop_prev=True), store(1, pop_next=True))
    assert times(time_program(program(*insns), DE10)) == [(25, 80), (26, 33)]


@pytest.mark.parametrize(
    ("insn", "text"),
    [
        (gemm(0), "instruction 1: GEMM has no micro-op"),
        (alu(2, iter_out=0), "instruction 1: ALU has no micro-op"),
        (load(MemType.OUT, 1), "instruction 1: LOAD of memory type 4 does not exist"),
        (load(MemType.INP, 1, y_size=0), "instruction 1: y_size=0"),
    ],
)
def test_what_no_vta_executes_is_refused(insn: Insn, text: str) -> None:
    with pytest.raises(ProgramError, match=text):
        time_program(program(FinishInsn(), insn), DE10)


def test_truncated_and_unknown_streams_are_refused() -> None:
    whole = program(FinishInsn())
    with pytest.raises(ProgramError, match="truncated"):
        time_program(replace(whole, insn=whole.insn[:-1]), DE10)
    with pytest.raises(ProgramError, match="opcode 7 is unknown"):
        time_program(replace(whole, insn=b"\x07" + whole.insn[1:]), DE10)


def test_layers_share_the_cycles() -> None:
    report = time_program(
        program(
            load(MemType.WGT, 1, push_next=True),
            gemm(100, pop_prev=True),
            load(MemType.WGT, 2, push_next=True),  # ahead, under the first layer's GEMM
            gemm(50, pop_prev=True, push_next=True),
            store(8, pop_prev=True, push_prev=True),
            FinishInsn(pop_next=True),
            layers=(
                LayerRange("a", 0, 1),
                LayerRange("b", 2, 3),  # its weights come before the arithmetic of "a"
                LayerRange("a", 1, 2),
                LayerRange("b", 3, 6),
            ),
        ),
        DE10,
    )
    # in the queues from 33 on: loads 33-88 and 88-175, GEMM 88-195 and 195-252, store 252-280
    first, second = report.layers
    assert (first.name, second.name) == ("a", "b")
    assert (first.cycles, second.cycles) == (195, 282 - 195)
    assert first.split == {"gemm": 107, "alu": 0, "load": 55, "store": 0, "stall": 33}
    assert second.split == {"gemm": 57, "alu": 0, "load": 0, "store": 28, "stall": 2}
    assert second.work["wgt"] == 87
    assert second.dram_bytes["wgt"] == 512
    assert (first.gemm_uops, second.gemm_uops) == (100, 50)
    passes = {name: cycles for name, cycles in report.cycles_by_pass.items() if cycles}
    assert passes == {"first_layer": 107, "tile": 57, "load": 55, "store": 28, "stall": 35}


INSNS = st.one_of(
    st.builds(load, st.sampled_from([MemType.INP, MemType.ACC]), st.integers(0, 9)),
    st.builds(load, st.just(MemType.WGT), st.integers(0, 12), dram_base=st.integers(0, 3)),
    st.builds(load, st.just(MemType.UOP), st.integers(0, 40), dram_base=st.integers(0, 3)),
    st.builds(store, st.integers(0, 20), y_size=st.integers(1, 3)),
    st.builds(gemm, st.integers(1, 60)),
    st.builds(alu, st.integers(1, 60)),
)


@settings(deadline=None, max_examples=60)
@given(st.lists(INSNS, min_size=1, max_size=60), st.sampled_from([64, 128, 256, 512]))
def test_everything_adds_up(insns: Sequence[Insn], bus: int) -> None:
    middle = len(insns) // 2
    layers = (LayerRange("a", 0, middle), LayerRange("b", middle, len(insns)))
    report = time_program(program(*insns, layers=layers), replace(DE10, bus_bits=bus))
    assert sum(layer.cycles for layer in report.layers) == report.cycles
    assert sum(report.cycles_by_pass.values()) == report.cycles
    for layer in report.layers:
        assert sum(layer.split.values()) == layer.cycles
    for module in report.to_dict()["modules"].values():
        assert sum(module.values()) == report.cycles
        assert min(module.values()) >= 0
    assert report.bound_cycles <= report.cycles
    assert (
        report.schedule.read_beats * bus // 8
        >= sum(report.dram_bytes.values()) - (report.dram_bytes["out"])
    )


def test_trace_opens_and_modules_never_overlap(tmp_path: Path) -> None:
    insns: list[Insn] = [load(MemType.WGT, 2, push_next=True), gemm(30, pop_prev=True)] * 12
    report = time_program(program(*insns, store(9), FinishInsn()), DE10)
    write_trace(report, tmp_path / "trace.json")
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    names = {e["tid"]: e["args"]["name"] for e in events if e["name"] == "thread_name"}
    assert list(names.values()) == ["FETCH", "LOAD", "COMPUTE", "STORE", "layers"]
    for thread in names:
        spans = sorted(
            (e["ts"], e["ts"] + e["dur"]) for e in events if e["ph"] == "X" and e["tid"] == thread
        )
        assert spans
        assert all(a[1] <= b[0] for a, b in pairwise(spans))
    assert max(e["ts"] + e["dur"] for e in events if e["ph"] == "X") == report.cycles


def test_target_files() -> None:
    assert astuple(spec_of(VTA)) == (
        *("sim", "0.0.2", 3, 3, 5),  # widths of input, weight and accumulator
        *(0, 4, 4),  # batch, channels in and out
        *(15, 15, 18, 17),  # buffers: micro-ops, inputs, weights, accumulators
        *(False, False),
    )
    pynq = load_target("vta_pynq", VtaConfig)
    assert (pynq.timing.fetch_batch, pynq.timing.burst_bytes) == (128, 2048)
    assert spec_of(pynq).target == "pynq"
    with pytest.raises(UsageError, match=r"no target 'npu': expected one of .*vta, "):
        load_target("npu", VtaConfig)


def test_a_users_own_geometry(tmp_path: Path) -> None:
    path = tmp_path / "vta_config.json"
    path.write_text(json.dumps(config_of(vta_spec(log_block_in=5, log_block_out=5))))
    assert spec_of(replace(VTA, config_file=str(path))).tile == (32, 32)
    assert spec_of(replace(VTA, vta=replace(VTA.vta, LOG_BLOCK_OUT=5))).tile == (32, 16)
    with pytest.raises(UnsupportedError, match="none"):
        spec_of(replace(VTA, config_file="none.json"))


def test_timing_numbers_out_of_range_are_refused() -> None:
    with pytest.raises(UsageError, match="bus_bits=96, allowed are 64, 128, 256, 512"):
        replace(DE10, bus_bits=96)
    with pytest.raises(UsageError, match="clock_mhz=0"):
        replace(DE10, clock_mhz=0)
    with pytest.raises(UsageError, match="queue_entries=0, must be within 1"):
        replace(DE10, queue_entries=0)
