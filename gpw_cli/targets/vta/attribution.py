"""Where the cycles of a schedule went: layer by layer, although layers overlap.

    layers = layer_timings(program, work, schedule)
    sum(layer.cycles for layer in layers)      # the program's cycles, exactly

A layer is charged the cycles from the end of all earlier layers' instructions to the end of its
own; a load that ran ahead, under its predecessor's arithmetic, costs it nothing. The first layer
includes the first fetch, the last one what follows it (FINISH).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpw_cli.targets.vta.pipeline import Schedule
from gpw_cli.targets.vta.program import LayerRange, Program
from gpw_cli.targets.vta.spec import INSN_BYTES
from gpw_cli.targets.vta.work import (
    ALU,
    COMPUTE,
    GEMM,
    KINDS,
    LOAD,
    OUT,
    STORE,
    SYNC,
    UOP,
    Ints,
    Work,
)

#: What a cycle is called: the first of these that ran in it, "stall" if none did.
SPLIT = ("gemm", "alu", "load", "store", "stall")
_MOVES = tuple(kind for kind in range(len(KINDS)) if kind not in (GEMM, ALU, SYNC))


@dataclass(frozen=True)
class LayerTiming:
    """One layer: its instructions ``begin`` to ``end - 1``, and its ``cycles``.

    ``split``: ``cycles`` by what ran in them (SPLIT; a load of any kind, by LOAD or COMPUTE).
    ``work``: cycles that the layer's own instructions take, each as if alone, by KINDS.
    ``dram_bytes``: of its own instructions, by inp, wgt, acc, uop, out and insn.
    ``gemm_uops``: its micro-ops that multiply.
    """

    name: str
    begin: int
    end: int
    cycles: int
    split: Mapping[str, int]
    work: Mapping[str, int]
    dram_bytes: Mapping[str, int]
    gemm_uops: int


def layer_timings(program: Program, work: Work, schedule: Schedule) -> tuple[LayerTiming, ...]:
    """One a layer, in order; one called "program" where the program names none."""
    total = len(work.unit)
    ranges = program.layers or (LayerRange("program", 0, total),)
    ends = boundaries(ranges, schedule)
    splits = _split(work, schedule, ends)
    cycles = np.diff(ends, prepend=0).tolist()
    return tuple(
        _layer(layer, work, cycles[number], splits[number]) for number, layer in enumerate(ranges)
    )


def boundaries(ranges: tuple[LayerRange, ...], schedule: Schedule) -> Ints:
    """The cycle in which each layer is over: int64 [layers], ascending, the last the program's."""
    ends = [int(schedule.end[layer.begin : layer.end].max(initial=0)) for layer in ranges]
    ends[-1] = int(schedule.end.max(initial=0))
    return np.maximum.accumulate(np.array(ends, np.int64))


def traffic(work: Work, first: int, last: int) -> dict[str, int]:
    """Bytes between DRAM and VTA for the instructions ``first`` to ``last - 1``, by kind."""
    moved = np.bincount(work.kind[first:last], weights=work.bytes[first:last], minlength=len(KINDS))
    found = {KINDS[kind]: int(moved[kind]) for kind in _MOVES}
    return found | {"insn": (last - first) * INSN_BYTES}


def _layer(layer: LayerRange, work: Work, cycles: int, split: Ints) -> LayerTiming:
    mine = slice(layer.begin, layer.end)
    took = np.bincount(work.kind[mine], weights=work.cycles[mine], minlength=len(KINDS))
    return LayerTiming(
        name=layer.name,
        begin=layer.begin,
        end=layer.end,
        cycles=cycles,
        split=dict(zip(SPLIT, split.tolist(), strict=True)),
        work=dict(zip(KINDS, took.astype(int).tolist(), strict=True)),
        dram_bytes=traffic(work, layer.begin, layer.end),
        gemm_uops=int(work.macs[mine].sum()),
    )


def _split(work: Work, schedule: Schedule, ends: Ints) -> Ints:
    """int64 [layers, SPLIT]: between any two events the modules' states are constant."""
    events = np.unique(np.concatenate([[0], schedule.start, schedule.end, ends]))
    times, lengths = events[:-1], np.diff(events)
    kinds = [_running(work, schedule, unit, times) for unit in (COMPUTE, LOAD, STORE)]
    compute, load, store = kinds
    moving = (load >= 0) & (load != SYNC) | (compute >= 0) & (compute <= UOP)
    what = np.select(
        [compute == GEMM, compute == ALU, moving, store == OUT], [0, 1, 2, 3], default=4
    )
    layer = np.searchsorted(ends, times, side="right")
    found = np.zeros((len(ends), len(SPLIT)), np.int64)
    np.add.at(found, (layer, what), lengths)
    return found


def _running(work: Work, schedule: Schedule, unit: int, times: Ints) -> NDArray[np.int64]:
    """The kind of instruction that ``unit`` executes at each of ``times``, -1 for none."""
    mine = np.flatnonzero(work.unit == unit)
    if not len(mine):
        return np.full(len(times), -1)
    last = mine[np.searchsorted(schedule.start[mine], times, side="right") - 1]
    runs = (schedule.start[last] <= times) & (times < schedule.end[last])
    return np.where(runs, work.kind[last], -1)
