"""500 random legal programs: bytes against the scalar interpreter, cycles against the walker."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from vta_cycles import walk
from vta_random import random_program
from vta_reference import Interpreter

from gpw_cli.config.target import load_target
from gpw_cli.targets.vta.config import VtaConfig, VtaTiming
from gpw_cli.targets.vta.functional.simulator import final_dram, pack_input
from gpw_cli.targets.vta.isa.encoding import encode
from gpw_cli.targets.vta.timing.report import time_program

COUNTS = st.one_of(st.integers(1, 8), st.integers(9, 40), st.integers(41, 200))
DE10 = load_target("vta", VtaConfig).timing
TIMINGS = st.builds(
    replace,
    st.just(DE10),
    bus_bits=st.sampled_from([64, 64, 128, 256, 512]),
    burst_beats=st.sampled_from([16, 16, 256]),
    outstanding=st.sampled_from([16, 16, 3, 1]),
    queue_entries=st.sampled_from([512, 512, 3, 1]),
)


@settings(max_examples=500, print_blob=False)
@given(st.integers(0, 10**6), COUNTS, TIMINGS)
def test_random_programs(seed: int, count: int, timing: VtaTiming) -> None:
    program, insns = random_program(seed, count)
    image = np.random.default_rng(seed).integers(-128, 128, program.input_shape).astype(np.int8)
    region = program.region("input")
    dram = program.dram.copy()
    packed = pack_input(program, image[None], 1).reshape(-1).view(np.uint8)
    dram[region.offset : region.offset + region.length] = packed
    assert np.array_equal(
        final_dram(program, image), Interpreter(program.spec, dram).run(program.insn)
    )
    schedule = time_program(program, timing).schedule
    walked = walk(insns, timing, program.spec)
    assert list(zip(schedule.start.tolist(), schedule.end.tolist(), strict=True)) == walked.times
    assert schedule.end[-1] == walked.cycles


def test_a_finish_that_waits_for_nothing_ends_the_count() -> None:
    """The walker stops at FINISH; the model cuts off what still runs."""
    for seed in range(20):
        program, insns = random_program(seed, 30)
        insns[-1] = replace(insns[-1], pop_prev=False, pop_next=False)
        cut = replace(program, insn=encode(program.spec, insns))
        report = time_program(cut, DE10)
        walked = walk(insns, DE10, program.spec)
        assert report.cycles == walked.cycles <= time_program(program, DE10).cycles
        schedule = report.schedule
        assert list(zip(schedule.start, schedule.end, strict=True)) == walked.times
