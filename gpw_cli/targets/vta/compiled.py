"""A program with the timing of its shell: all that ``targets.base`` knows of a compiled network.

CompiledVta(compile_graph(graph, spec), timing).time().cycles
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gpw_cli.targets.vta.config import VtaTiming
from gpw_cli.targets.vta.export import export_program
from gpw_cli.targets.vta.functional.simulator import Simulator
from gpw_cli.targets.vta.isa.program import Program
from gpw_cli.targets.vta.timing.report import TimingReport, time_program
from gpw_cli.targets.vta.timing.trace import write_trace


@dataclass(frozen=True, eq=False)
class CompiledVta:
    """Compiled, Simulates, Exports and Traces; see ``targets.base`` for shapes and errors."""

    program: Program
    timing: VtaTiming

    @property
    def facts(self) -> Mapping[str, int | str]:
        """``min_gemm_distance``: fewest micro-ops after which an accumulator returns, 0: never."""
        return {
            "instructions": self.program.length,
            "min_gemm_distance": self.program.min_gemm_distance,
        }

    @property
    def bit_exact(self) -> bool:
        """VTA computes the integers of the reference executor."""
        return True

    def simulator(self) -> Callable[[NDArray[np.int8]], NDArray[np.int32]]:
        """Checks and plans the program once."""
        simulator = Simulator(self.program)
        return lambda pictures: simulator.run(pictures).logits

    def time(self) -> TimingReport:
        """By the RTL's task-level pipeline (timing/report.py)."""
        return time_program(self.program, self.timing)

    def export(self, picture: NDArray[np.int8], folder: Path) -> None:
        """The four files of export.py."""
        export_program(self.program, picture, folder)

    def write_trace(self, file: Path) -> None:
        """One thread a module (timing/trace.py)."""
        write_trace(self.time(), file)
