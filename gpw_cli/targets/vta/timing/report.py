"""The cycles of a program on VTA, and where they go.

    report = time_program(program, load_target("vta", VtaConfig).timing)
    report.cycles, report.milliseconds, report.bound_cycles
    write_trace(report, "trace.json")                    # trace.py

Equal to the RTL's cycle counter for every program that was run on it: 64-bit bus with bursts of 16
and of 256 beats, 256-bit bus. ``vta.config.VtaTiming`` holds the numbers. The model covers the
occupancy of every instruction, zero padding tile by tile, the batches and queues of FETCH, in-order
modules, token counters, and the shared read port burst by burst with its priorities and latency.
The counter stops when FINISH ends, and ``cycles`` with it: FINISH waits for the tokens that it
pops, not for other work in flight. Without FINISH, ``cycles`` is the end of the last instruction.
The buses of 128 and 512 bits and the older RTL, which differs in GEMM and ALU only, are modelled
from the sources and have not been measured. Not modelled: the host before the launch, writes that
wait for reads, banks and refresh of a real memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpw_cli.targets.base import Timing, UnitWork
from gpw_cli.targets.vta.config import VtaTiming
from gpw_cli.targets.vta.isa.modules import Module
from gpw_cli.targets.vta.isa.program import Program
from gpw_cli.targets.vta.timing.attribution import (
    LayerTiming,
    layer_names,
    layer_timings,
    traffic,
)
from gpw_cli.targets.vta.timing.occupancy import Occupancy, occupancy_of
from gpw_cli.targets.vta.timing.pipeline import run
from gpw_cli.targets.vta.timing.roles import by_role, weight_uops
from gpw_cli.targets.vta.timing.schedule import Schedule

MODULES = ("FETCH", *(module.name for module in Module))


@dataclass(frozen=True)
class ModuleTiming:
    """The cycles of one module; they sum to the program's.

    ``busy``: executing, without contention; ``memory``: the extra cycles because the read port is
    shared; ``instruction``: idle, the next instruction has not been fetched; ``token``: idle,
    waiting for a token (FETCH: for room in a queue); ``over``: after its last instruction.
    """

    busy: int
    memory: int
    instruction: int
    token: int
    over: int


@dataclass(frozen=True, eq=False)
class TimingReport(Timing):
    """``bound`` has COMPUTE, LOAD, STORE and the read port (PORT).

    ``names`` (of layers), ``work`` and ``schedule`` have an entry for every instruction.
    """

    layers: tuple[LayerTiming, ...]
    modules: Mapping[str, ModuleTiming]
    names: NDArray[np.object_]
    work: Occupancy
    schedule: Schedule

    @property
    def gemm_uops(self) -> int:
        """Micro-ops that multiply a tile; resets do not count."""
        return self.units["gemm"].count

    def to_dict(self) -> dict[str, Any]:
        """Everything except the individual instructions, for JSON."""
        modules = {name: asdict(module) for name, module in self.modules.items()}
        return super().to_dict() | {"modules": modules}


def time_program(program: Program, timing: VtaTiming) -> TimingReport:
    """Raises ProgramError for an illegal instruction or a deadlock, naming the instruction."""
    work = occupancy_of(program, timing)
    schedule = run(work, timing)
    cycles = int(schedule.end.max(initial=0))
    own = {module.name: _module(work, schedule, module, cycles) for module in Module}
    return TimingReport(
        cycles=cycles,
        clock_mhz=timing.clock_mhz,
        layers=layer_timings(program, work, schedule),
        modules={"FETCH": _fetch_module(schedule, cycles)} | own,
        bound={n: m.busy for n, m in own.items()} | {"PORT": schedule.read_beats},
        dram_bytes=traffic(work, np.arange(program.length)),
        names=layer_names(program),
        units=_units(program, work, cycles),
        cycles_by_pass=by_role(program, work, schedule),
        images=program.spec.batch,
        work=work,
        schedule=schedule,
    )


def _units(program: Program, work: Occupancy, cycles: int) -> dict[str, UnitWork]:
    """The GEMM core's micro-ops, at most one per cycle: all, the network's weights, and helpers.

    Helpers bring a bias, a shortcut or a pooled tensor into the accumulators.
    """
    uops, weights = int(work.macs.sum()), weight_uops(program, work)
    counts = {"gemm": uops, "gemm_weights": weights, "gemm_helpers": uops - weights}
    return {
        name: UnitWork("uops", count, count / cycles if cycles else 0.0)
        for name, count in counts.items()
    }


def _module(work: Occupancy, schedule: Schedule, unit: int, cycles: int) -> ModuleTiming:
    mine = work.unit == unit
    arrive, start, end = schedule.arrive[mine], schedule.start[mine], schedule.end[mine]
    free = np.concatenate([[0], end])[:-1]
    took = end - start
    busy = np.minimum(took, work.cycles[mine])  # on a busy port a load may skip the read latency
    fetched = np.maximum(free, arrive)
    return ModuleTiming(
        busy=int(busy.sum()),
        memory=int((took - busy).sum()),
        instruction=int((fetched - free).sum()),
        token=int((start - fetched).sum()),
        over=cycles - int(end.max(initial=0)),
    )


def _fetch_module(schedule: Schedule, cycles: int) -> ModuleTiming:
    took = sum(batch.end - batch.begin for batch in schedule.batches)
    memory = sum(batch.memory for batch in schedule.batches)
    blocked = sum(batch.blocked for batch in schedule.batches)
    return ModuleTiming(
        busy=took - memory - blocked,
        memory=memory,
        instruction=0,
        token=blocked,
        over=cycles - took,
    )
