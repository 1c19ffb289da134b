"""Cycles that VTA's RTL took, each to the cycle.

55 random programs (tests/data/rtl_random), and 13 networks that gpw exported at commit efc6058
(rtl_networks): digits and ResNet-20, dense and pruned, with several quantizers.

The numbers are the value of the core's cycle counter (register 0x04) after a run of the Chisel
sources of apache/tvm-vta at d4a15f6 under Verilator, for the DE10 shell (64-bit bus, bursts of at
most 16 beats), the Pynq shell (256 beats) and the DE10 shell with a 256-bit bus.
"""

from __future__ import annotations

import json
from dataclasses import replace
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from vta_cycles import walk
from vta_programs import vta_spec

from gpw_cli.config.target import load_target
from gpw_cli.targets.vta.config import VtaConfig, VtaTiming
from gpw_cli.targets.vta.isa.encoding import decode
from gpw_cli.targets.vta.isa.program import Program
from gpw_cli.targets.vta.timing.report import time_program

DATA = Path(__file__).parent / "data"
FOLDER, NETWORKS = DATA / "rtl_random", DATA / "rtl_networks"
RUNS: list[dict[str, Any]] = json.loads((FOLDER / "rtl.json").read_text())
NETWORK_RUNS: list[dict[str, Any]] = json.loads((NETWORKS / "rtl.json").read_text())


def timing_of(run: dict[str, Any]) -> VtaTiming:
    return replace(load_target(run["target"], VtaConfig).timing, bus_bits=run["bus_bits"])


def program_of(run: dict[str, Any], folder: Path = FOLDER) -> Program:
    return Program(
        spec=vta_spec(),
        insn=(folder / f"{run['name']}.insn").read_bytes(),
        dram=np.zeros(0, np.uint8),
        regions=(),
        input="",
        output="",
        input_shape=(1, 1, 1),
        output_shape=(1, 1, 1),
        output_bits=8,
        layers=(),
    )


def test_all_kinds_are_there() -> None:
    assert len(RUNS) == 55
    assert {(run["target"], run["bus_bits"]) for run in RUNS} == {
        ("vta", 64),
        ("vta_pynq", 64),
        ("vta", 256),
    }


@pytest.mark.parametrize("run", RUNS, ids=[run["name"] for run in RUNS])
def test_cycles_equal_the_rtl(run: dict[str, Any]) -> None:
    report = time_program(program_of(run), timing_of(run))
    assert report.cycles == run["rtl_cycles"]
    assert len(report.work.unit) == run["instructions"]
    assert sum(layer.cycles for layer in report.layers) == report.cycles


@pytest.mark.parametrize(
    "run", json.loads((NETWORKS / "rtl.json").read_text()), ids=itemgetter("name")
)
def test_cycles_of_networks_equal_the_rtl(run: dict[str, Any]) -> None:
    assert time_program(program_of(run, NETWORKS), timing_of(run)).cycles == run["rtl_cycles"]


@pytest.mark.parametrize("bus", [64, 256])
def test_the_walker_of_these_tests_equals_the_rtl(bus: int) -> None:
    """What it says of other programs is worth as much as what it says of these."""
    runs = [run for run in RUNS if run["bus_bits"] == bus and run["rtl_cycles"] < 6000]
    assert len(runs) > 6
    for run in runs:
        insns = decode(vta_spec(), program_of(run).insn)
        assert (run["name"], walk(insns, timing_of(run)).cycles) == (run["name"], run["rtl_cycles"])
