"""The cycles of a schedule by layer, although layers overlap.

    layers = layer_timings(program, work, schedule)
    sum(layer.cycles for layer in layers)      # the program's cycles, exactly

A layer consists of all instructions that carry its name and ends with the last of them. Layers are
listed in the order of their ends, and each is charged the cycles since the previous end. A load
that ran during an earlier layer's arithmetic thus costs its own layer nothing. The first layer
includes the first fetch, the last one includes FINISH.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpw_cli.arrays import Int64
from gpw_cli.targets.base import LayerCycles
from gpw_cli.targets.vta.isa.geometry import INSN_BYTES
from gpw_cli.targets.vta.isa.modules import Module
from gpw_cli.targets.vta.isa.program import Program
from gpw_cli.targets.vta.timing.occupancy import (
    ALU,
    GEMM,
    KINDS,
    OUT,
    SYNC,
    UOP,
    Occupancy,
)
from gpw_cli.targets.vta.timing.roles import kinds, running
from gpw_cli.targets.vta.timing.schedule import Schedule

#: The category of a cycle: the first of these that was active, "stall" if none was.
SPLIT = ("gemm", "alu", "load", "store", "stall")
_MOVES = tuple(kind for kind in range(len(KINDS)) if kind not in (GEMM, ALU, SYNC))


@dataclass(frozen=True)
class LayerTiming(LayerCycles):
    """One layer of ``instructions`` instructions.

    ``split``: by SPLIT ("load" covers loads by LOAD and by COMPUTE).
    ``work``: uncontended cycles of the layer's own instructions, by KINDS.
    ``dram_bytes``: of its own instructions, by inp, wgt, acc, uop, out and insn.
    ``gemm_uops``: micro-ops that multiply.
    """

    instructions: int
    work: Mapping[str, int]
    dram_bytes: Mapping[str, int]
    gemm_uops: int


def layer_names(program: Program) -> NDArray[np.object_]:
    """The layer of each instruction; "program" for instructions of no layer."""
    names = np.full(program.length, "program", object)
    for layer in program.layers:
        names[layer.begin : layer.end] = layer.name
    return names


def layer_timings(program: Program, work: Occupancy, schedule: Schedule) -> tuple[LayerTiming, ...]:
    """One entry per layer, in the order in which they end."""
    found: dict[str, list[int]] = {}
    for number, name in enumerate(layer_names(program).tolist()):
        found.setdefault(name, []).append(number)
    over = {name: int(schedule.end[numbers].max()) for name, numbers in found.items()}
    names = sorted(found, key=lambda name: over[name])
    ends = np.array([over[name] for name in names], np.int64)
    cycles, splits = np.diff(ends, prepend=0).tolist(), _split(work, schedule, ends)
    return tuple(
        _layer(name, work, np.array(found[name]), cycles[place], splits[place])
        for place, name in enumerate(names)
    )


def traffic(work: Occupancy, numbers: Int64) -> dict[str, int]:
    """Bytes between DRAM and VTA for the instructions ``numbers``, by kind."""
    moved = np.bincount(work.kind[numbers], weights=work.bytes[numbers], minlength=len(KINDS))
    return {KINDS[kind]: int(moved[kind]) for kind in _MOVES} | {"insn": len(numbers) * INSN_BYTES}


def _layer(name: str, work: Occupancy, mine: Int64, cycles: int, split: Int64) -> LayerTiming:
    took = np.bincount(work.kind[mine], weights=work.cycles[mine], minlength=len(KINDS))
    return LayerTiming(
        name=name,
        instructions=len(mine),
        cycles=cycles,
        split=dict(zip(SPLIT, split.tolist(), strict=True)),
        work=dict(zip(KINDS, took.astype(int).tolist(), strict=True)),
        dram_bytes=traffic(work, mine),
        gemm_uops=int(work.macs[mine].sum()),
    )


def _split(work: Occupancy, schedule: Schedule, ends: Int64) -> Int64:
    """int64 [layers, SPLIT]. The modules' states are constant between successive events."""
    events = np.unique(np.concatenate([[0], schedule.start, schedule.end, ends]))
    times, lengths = events[:-1], np.diff(events)
    load, compute, store = (
        kinds(work, running(work, schedule, module, times)) for module in Module
    )
    moving = (load >= 0) & (load != SYNC) | (compute >= 0) & (compute <= UOP)
    what = np.select(
        [compute == GEMM, compute == ALU, moving, store == OUT], [0, 1, 2, 3], default=4
    )
    layer = np.searchsorted(ends, times, side="right")
    found = np.zeros((len(ends), len(SPLIT)), np.int64)
    np.add.at(found, (layer, what), lengths)
    return found
