"""What each instruction needs of VTA's units: cycles, memory bursts, tokens.

    work = occupancy_of(program, timing)
    work.cycles[3]                     # occupancy of instruction 3 when nothing else runs

Stored as columns, because a program has tens of thousands of instructions. ``vta.config.VtaTiming``
defines the occupancies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from gpw_cli.arrays import Int64
from gpw_cli.errors import ProgramError
from gpw_cli.targets.vta.config import VtaTiming
from gpw_cli.targets.vta.isa import fields
from gpw_cli.targets.vta.isa.encoding import decode_columns
from gpw_cli.targets.vta.isa.geometry import VtaSpec
from gpw_cli.targets.vta.isa.instructions import MemType, Opcode
from gpw_cli.targets.vta.isa.modules import FLAGS, modules_of
from gpw_cli.targets.vta.isa.program import Program

Bursts = tuple[int, ...]  # beats of each
Padding = tuple[int, int, int]  # zero tiles, rows that are skipped, zero tiles after them

KINDS = ("inp", "wgt", "acc", "uop", "gemm", "alu", "out", "sync")
INP, WGT, ACC, UOP, GEMM, ALU, OUT, SYNC = range(8)
#: The memory port's read clients in order of priority; instruction fetch is 0.
FETCH_CLIENT = 0
CLIENT = {UOP: 1, INP: 2, WGT: 3, ACC: 4}
LOAD_QUEUED = 3  # cycles from the start of a load until its first burst is in the memory's queue
_LOADS = {MemType.UOP: UOP, MemType.WGT: WGT, MemType.INP: INP, MemType.ACC: ACC}


@dataclass(frozen=True, eq=False)
class Occupancy:
    """One row per instruction, int64.

    ``unit``: a Module; ``kind``: an index of KINDS. ``cycles``: uncontended occupancy. ``uops``:
    executed micro-ops, ``macs``: those that multiply. ``bytes``: between DRAM and scratchpad.
    Loads also have ``bursts``, the beats of each request, and ``beats``, their sum; ``delay``,
    cycles before the first; ``tail``, cycles after the last beat; ``padding``, an argument of
    ``padding_end``.
    ``flags``: pop_prev, pop_next, push_prev, push_next, each 0 or 1.
    ``finish``: number of the first FINISH, -1 if there is none.
    """

    unit: Int64
    kind: Int64
    cycles: Int64
    uops: Int64
    macs: Int64
    bytes: Int64
    bursts: list[Bursts]
    beats: Int64
    delay: Int64
    tail: Int64
    padding: list[Padding]
    flags: dict[str, Int64]
    finish: int


def occupancy_of(program: Program, timing: VtaTiming) -> Occupancy:
    """The occupancy of all instructions. Raises ProgramError naming one that cannot execute."""
    columns = decode_columns(program.spec, program.insn)
    unit, kind = _dispatch(columns)
    uops = _uops(columns, kind)
    count, spec = len(unit), program.spec
    empty = np.zeros((4, count), np.int64)
    work = Occupancy(
        unit=unit,
        kind=kind,
        cycles=np.full(count, timing.sync_cycles),
        uops=uops,
        macs=uops * ((kind == GEMM) & (columns["reset"] == 0)),
        bytes=empty[0],
        bursts=[()] * count,
        beats=empty[1],
        delay=empty[2],
        tail=empty[3],
        padding=[(0, 0, 0)] * count,
        flags={name: columns[name] for name in FLAGS},
        finish=next(iter(np.flatnonzero(columns["opcode"] == Opcode.FINISH).tolist()), -1),
    )
    gemm, alu = kind == GEMM, kind == ALU
    a_uop = np.where(columns["use_imm"] == 1, timing.alu_imm_cycles, timing.alu_cycles)
    work.cycles[gemm] = (timing.gemm_overhead + timing.gemm_cycles * uops)[gemm]
    work.cycles[alu] = (timing.alu_overhead + a_uop * uops)[alu]
    for number in np.flatnonzero(kind == OUT).tolist():
        _store(work, columns, number, spec, timing)
    for number in np.flatnonzero(kind <= UOP).tolist():
        _load(work, columns, number, spec, timing)
    return work


def _refuse(bad: NDArray[np.bool_], why: Callable[[int], str]) -> None:
    if bad.any():
        number = int(np.argmax(bad))
        raise ProgramError(f"instruction {number}: {why(number)}")


def _dispatch(columns: dict[str, Int64]) -> tuple[Int64, Int64]:
    """(unit, kind) of every instruction."""
    opcode, memory = columns["opcode"], columns["memory_type"]
    kind = np.full(len(opcode), SYNC)
    load, moves = opcode == Opcode.LOAD, columns["x_size"] > 0
    for memory_type, name in _LOADS.items():
        kind[load & (memory == memory_type) & moves] = name
    kind[load & (memory == MemType.ACC_8BIT) & moves] = ACC
    kind[(opcode == Opcode.STORE) & moves] = OUT
    kind[opcode == Opcode.GEMM], kind[opcode == Opcode.ALU] = GEMM, ALU
    wrong = (load & ((memory == MemType.OUT) | (memory > MemType.ACC_8BIT))) | (
        (opcode == Opcode.STORE) & (memory != MemType.OUT)
    )
    _refuse(wrong, lambda i: f"{Opcode(opcode[i]).name} of memory type {memory[i]} does not exist")
    _refuse(
        (load | (opcode == Opcode.STORE)) & moves & (columns["y_size"] == 0),
        lambda i: "y_size=0 moves nothing; write x_size=0 to carry tokens only",
    )
    return modules_of(opcode, memory), kind


def _uops(columns: dict[str, Int64], kind: Int64) -> Int64:
    length = columns["uop_end"] - columns["uop_bgn"]
    uops = columns["iter_out"] * columns["iter_in"] * length
    computes = (kind == GEMM) | (kind == ALU)
    _refuse(
        computes & ((uops <= 0) | (length <= 0)),
        lambda i: f"{KINDS[kind[i]].upper()} has no micro-op; the hardware would wrap around",
    )
    return uops


def _load(
    work: Occupancy, columns: dict[str, Int64], number: int, spec: VtaSpec, timing: VtaTiming
) -> None:
    row = {name: int(columns[name][number]) for name in _MEMORY}
    kind = int(work.kind[number])
    size = int(getattr(spec, f"{KINDS[kind]}_elem_bytes"))
    wide = timing.bus_bytes >= size
    if row["memory_type"] == MemType.ACC_8BIT:
        size //= 4
    work.bursts[number] = _bursts(row, size, timing)
    work.beats[number] = beats = sum(work.bursts[number])
    work.bytes[number] = row["x_size"] * row["y_size"] * size
    work.padding[number] = zeros = _padding(row)
    above = row["y_pad_0"]
    overhead = timing.wide_load_overhead if wide else timing.load_overhead
    work.delay[number], work.tail[number] = above, overhead - LOAD_QUEUED
    first = timing.read_latency + LOAD_QUEUED + above  # cycle of the first beat, from the start
    end = max(first + beats, padding_end(0, zeros, ((first, beats),)))
    work.cycles[number] = end + overhead - LOAD_QUEUED


def _padding(row: dict[str, int]) -> Padding:
    """The padding above and beside the data is one run of zero tiles, the padding below another.

    Without padding beside the data, the rows of data between the two are skipped, one per cycle.
    """
    sides, below = row["x_pad_0"] + row["x_pad_1"], row["y_pad_1"]
    width = row["x_size"] + sides
    tiles = row["y_pad_0"] * width + row["y_size"] * sides
    return tiles, row["y_size"] if below and not sides else 0, below * width


def padding_end(start: int, padding: Padding, served: Iterable[tuple[int, int]]) -> int:
    """The cycle in which the zero padding of a load is done, on the memory's time scale.

    ``start``: cycle in which the load starts. ``served``: (cycle of the first beat, beats) of its
    bursts, ascending. A zero tile is written in a cycle without a beat; a row is skipped in any
    cycle. Source: ``ZeroPadding`` in ``core/TensorLoadNarrowVME.scala``.
    """
    tiles, rows, last = padding
    served = tuple(served)
    cycle = _fill(start - 1, tiles, served) + rows
    return _fill(cycle, last, served)


def _fill(cycle: int, tiles: int, served: tuple[tuple[int, int], ...]) -> int:
    """The cycle after the last of ``tiles`` zero tiles is written, starting from ``cycle``."""
    for begin, beats in served:
        free = max(0, begin - cycle)
        if tiles <= free:
            break
        if begin + beats > cycle:
            tiles, cycle = tiles - free, begin + beats
    return cycle + tiles


_MEMORY = tuple(field.name for field in fields.MEM)


def _store(
    work: Occupancy, columns: dict[str, Int64], number: int, spec: VtaSpec, timing: VtaTiming
) -> None:
    row = {name: int(columns[name][number]) for name in _MEMORY}
    size = spec.out_elem_bytes
    bursts = _bursts(row, size, timing)
    beats = max(1, size // spec.batch // timing.bus_bytes)  # of one row of an element
    pause = timing.store_row if size > timing.bus_bytes else 0
    work.bytes[number] = row["x_size"] * row["y_size"] * size
    work.cycles[number] = timing.store_overhead + sum(
        timing.store_burst + burst + pause * (burst // beats - 1) for burst in bursts
    )


def _bursts(row: dict[str, int], size: int, timing: VtaTiming) -> Bursts:
    return split(
        row["dram_base"] * size % timing.burst_bytes,
        row["x_size"] * size,
        row["y_size"],
        row["x_stride"] * size % timing.burst_bytes,
        timing.bus_bytes,
        timing.burst_bytes,
    )


@lru_cache(maxsize=1 << 16)
def split(
    address: int, length: int, rows: int, stride: int, bus_bytes: int, burst_bytes: int
) -> Bursts:
    """Beats of each burst of ``rows`` rows of ``length`` bytes, ``stride`` bytes apart.

    A burst ends with its row and at every multiple of ``burst_bytes``; beats are aligned.
    """
    bursts: list[int] = []
    for number in range(rows):
        begin = (address + number * stride) % burst_bytes
        end = -(-(begin + length) // bus_bytes)
        begin //= bus_bytes
        most = burst_bytes // bus_bytes
        first = min(most, end) - begin
        full, last = divmod(max(0, end - most), most)
        bursts += [first, *[most] * full, *([last] if last else [])]
    return tuple(bursts)
