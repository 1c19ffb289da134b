"""The exported programs in results/: legal, with the bytes and cycles that the docs say."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpw_cli.config.target import load_target
from gpw_cli.targets.vta.config import VtaConfig
from gpw_cli.targets.vta.export import load_exported
from gpw_cli.targets.vta.functional.simulator import final_dram
from gpw_cli.targets.vta.timing.report import time_program

RESULTS = Path(__file__).resolve().parent.parent / "results"
#: folder -> instructions, cycles
COMMITTED = {
    "frontier/programs/budget_60000": (412, 59012),
    "frontier/programs/budget_72000": (424, 71475),
    "frontier/programs/budget_100000": (528, 98562),
    "programs/mobilenet_v2_small": (1048, 263197),
    "programs/densenet121_small": (4144, 204487),
}


def test_no_other_program_is_committed() -> None:
    found = {file.parent.relative_to(RESULTS).as_posix() for file in RESULTS.rglob("insn.bin")}
    assert found == set(COMMITTED)


@pytest.mark.parametrize("folder", COMMITTED)
def test_bytes_and_cycles(folder: str) -> None:
    exported = load_exported(RESULTS / folder)
    after = final_dram(exported.program, exported.image)
    assert after.tobytes() == (RESULTS / folder / "expected.bin").read_bytes()
    cycles = time_program(exported.program, load_target("vta", VtaConfig).timing).cycles
    assert (exported.program.length, cycles) == COMMITTED[folder]
