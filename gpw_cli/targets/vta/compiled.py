"""A program with the timing of its shell: a compiled network as ``targets.base`` defines it.

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
        """``min_gemm_distance``: fewest micro-ops between two uses of an accumulator, or 0."""
        return {
            "instructions": self.program.length,
            "min_gemm_distance": self.program.min_gemm_distance,
        }

    @property
    def bit_exact(self) -> bool:
        """VTA computes exactly the integers of the reference executor."""
        return True

    def simulator(self) -> Callable[[NDArray[np.int8]], NDArray[np.int32]]:
        """Checks and plans the program once."""
        simulator = Simulator(self.program)
        return lambda images: simulator.run(images).logits

    def time(self) -> TimingReport:
        """The cycles of the RTL's task-level pipeline (timing/report.py)."""
        return time_program(self.program, self.timing)

    def export(self, image: NDArray[np.int8], folder: Path) -> None:
        """Writes the four files of export.py."""
        export_program(self.program, image, folder)

    def write_trace(self, file: Path) -> None:
        """Writes a trace with one thread per module (timing/trace.py)."""
        write_trace(self.time(), file)
