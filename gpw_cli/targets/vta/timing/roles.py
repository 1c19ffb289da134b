"""The cycles of a program by what each pass over the accumulators is for.

    by_role(program, work, schedule)           # {"tile": 120_832, "first_layer": 6_312, ...}
    weight_uops(program, work)                 # micro-ops that multiply weights of the network

A cycle belongs to what COMPUTE does in it: ``first_layer`` for every GEMM and ALU instruction of
the layer that reads the image, else the role of the instruction (``isa.program.ROLES``). While
COMPUTE runs neither, it is ``load`` or ``store`` if one of them runs, else ``stall``. The values
sum to the program's cycles.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gpw_cli.arrays import Int64
from gpw_cli.targets.vta.isa.encoding import decode_columns
from gpw_cli.targets.vta.isa.instructions import AluOp, Opcode
from gpw_cli.targets.vta.isa.modules import Module
from gpw_cli.targets.vta.isa.program import ROLES, Program
from gpw_cli.targets.vta.timing.occupancy import ALU, GEMM, OUT, SYNC, UOP, Occupancy
from gpw_cli.targets.vta.timing.schedule import Schedule

#: The categories of cycles.
CYCLES = (*ROLES, "first_layer", "load", "store", "stall")
_ALU = {AluOp.SHR: "shift", AluOp.MUL: "shift", AluOp.ADD: "bias"}


def by_role(program: Program, work: Occupancy, schedule: Schedule) -> dict[str, int]:
    """The number of cycles in each category of CYCLES."""
    events = np.unique(np.concatenate([[0], schedule.start, schedule.end]))
    times, lengths = events[:-1], np.diff(events)
    load, compute, store = (running(work, schedule, unit, times) for unit in Module)
    calculates = np.isin(kinds(work, compute), (GEMM, ALU))
    moves = (load >= 0) & (kinds(work, load) != SYNC) | np.isin(
        kinds(work, compute), range(UOP + 1)
    )
    what = np.select(
        [calculates, moves, kinds(work, store) == OUT],
        [_numbers(program)[compute], CYCLES.index("load"), CYCLES.index("store")],
        default=CYCLES.index("stall"),
    )
    cycles = np.bincount(what, weights=lengths, minlength=len(CYCLES)).astype(np.int64)
    return dict(zip(CYCLES, cycles.tolist(), strict=True))


def weight_uops(program: Program, work: Occupancy) -> int:
    """GEMM micro-ops that multiply the network's weights, not a bias, shortcut or pool."""
    return int(work.macs[[name == "tile" for name in roles(program)]].sum())


def roles(program: Program) -> list[str]:
    """The role of each instruction, guessed from its operation where the program does not say."""
    if program.roles:
        return list(program.roles)
    columns = decode_columns(program.spec, program.insn)
    gemm = np.where(columns["reset"] == 1, "reset", "tile").tolist()
    alu = [_ALU.get(AluOp(op), "clamp") for op in columns["alu_opcode"].tolist()]
    return [
        a if opcode == Opcode.ALU else g
        for opcode, g, a in zip(columns["opcode"].tolist(), gemm, alu, strict=True)
    ]


def _numbers(program: Program) -> Int64:
    """The category of each instruction, as an index of CYCLES."""
    found = np.array([CYCLES.index(name) for name in roles(program)], np.int64)
    filled = [layer for layer in program.layers if layer.end > layer.begin]
    for layer in filled:
        if layer.name == filled[0].name:
            found[layer.begin : layer.end] = CYCLES.index("first_layer")
    return found


def running(work: Occupancy, schedule: Schedule, unit: int, times: Int64) -> NDArray[np.int64]:
    """The instruction that ``unit`` executes at each of ``times``; -1: none."""
    mine = np.flatnonzero(work.unit == unit)
    if not len(mine):
        return np.full(len(times), -1)
    last = mine[np.searchsorted(schedule.start[mine], times, side="right") - 1]
    runs = (schedule.start[last] <= times) & (times < schedule.end[last])
    return np.where(runs, last, -1)


def kinds(work: Occupancy, numbers: Int64) -> NDArray[np.int64]:
    """The kinds of instructions ``numbers``; -1 stays -1."""
    return np.where(numbers >= 0, work.kind[numbers], -1)
