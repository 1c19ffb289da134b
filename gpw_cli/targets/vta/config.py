"""The configuration of a VTA: its geometry and its timing.

    target = load_target("vta_pynq")           # gpw_cli/config/target.py
    target.timing.fetch_batch                  # 128 instructions

``conf/target/vta*.yaml`` holds the values. Sources: VTA's ``config/*.json`` for the geometry, the
Chisel sources of tvm-vta for the timing.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path

from gpw_cli.errors import UsageError
from gpw_cli.targets.base import TargetConfig

BUS_BITS = (64, 128, 256, 512)
_INSN_BITS = 128


@dataclass(frozen=True)
class VtaGeometry:
    """The keys of VTA's own JSON (vta_config.json), which hw_spec.h has with the prefix VTA_.

    LOG_BLOCK_IN and LOG_BLOCK_OUT override LOG_BLOCK. All LOG_ values are base-2 logarithms.
    """

    TARGET: str  # the platform that VTA is built for, such as sim or de10nano; only exported
    HW_VER: str  # version of the hardware; only exported
    LOG_INP_WIDTH: int  # bits of an input value; 3: 8 bits
    LOG_WGT_WIDTH: int  # bits of a weight; 3: 8 bits
    LOG_ACC_WIDTH: int  # bits of an accumulator; 5: 32 bits
    LOG_BATCH: int  # rows of an input tile: images at once; 0: 1
    LOG_BLOCK: int  # rows and columns of a weight tile; 4: 16 x 16
    LOG_BLOCK_IN: int | None  # input channels of a tile; null: LOG_BLOCK
    LOG_BLOCK_OUT: int | None  # output channels of a tile; null: LOG_BLOCK
    LOG_UOP_BUFF_SIZE: int  # bytes of the micro-op buffer
    LOG_INP_BUFF_SIZE: int  # bytes of the input buffer
    LOG_WGT_BUFF_SIZE: int  # bytes of the weight buffer
    LOG_ACC_BUFF_SIZE: int  # bytes of the accumulator buffer


@dataclass(frozen=True)
class VtaTiming:
    """Cycles of VTA's units and its memory port.

    Uncontended, with N data beats, U micro-ops and n instructions in a batch:
    LOAD = load_overhead + read_latency + N (wide_load_overhead where the bus is at least as wide as
    an element), FETCH = fetch_overhead + read_latency + N + n, GEMM = gemm_overhead +
    gemm_cycles * U. STORE = store_overhead, plus store_burst + N + store_row * (rows - 1) for each
    burst: the rows of an output element are read from the scratchpad one by one, unless the bus is
    as wide as an element. Raises UsageError for a number out of range.
    """

    clock_mhz: float  # MHz; turns cycles into milliseconds
    bus_bits: int  # one beat
    burst_beats: int  # longest burst; bursts end at multiples of its size
    read_latency: int  # from the cycle in which a request enters an empty queue to its first beat
    outstanding: int  # read bursts accepted and not yet delivered, of all clients
    command_interval: int  # cycles between two bursts of one client
    queue_entries: int  # instructions in the queue of each of LOAD, COMPUTE and STORE
    max_tokens: int  # where a dependency counter saturates
    sync_cycles: int  # of FINISH and of instructions that only carry tokens
    gemm_cycles: int  # per micro-op
    gemm_overhead: int  # cycles of a GEMM instruction besides its micro-ops
    alu_imm_cycles: int  # per micro-op with an immediate
    alu_cycles: int  # per micro-op with two tensors
    alu_overhead: int  # cycles of an ALU instruction besides its micro-ops
    # cycles of a LOAD besides latency and beats; the bus narrower than an element
    load_overhead: int
    wide_load_overhead: int  # the same where the bus is at least as wide as an element
    fetch_overhead: int  # cycles of a FETCH besides latency, beats and instructions; 64-bit bus
    wide_fetch_overhead: int  # bus of 128 bits and more
    store_overhead: int  # cycles of a STORE besides its bursts
    store_burst: int  # cycles of a burst of a STORE besides its beats
    # cycles between two rows of a burst of a STORE; 0 where the bus is as wide as a row
    store_row: int

    def __post_init__(self) -> None:
        if self.bus_bits not in BUS_BITS:
            raise UsageError(
                f"target.timing.bus_bits={self.bus_bits}, allowed are "
                f"{', '.join(map(str, BUS_BITS))}"
            )
        for item in fields(self):
            name, value = item.name, getattr(self, item.name)
            least, most = _LEAST.get(name, 0), _MOST.get(name, _MOST_CYCLES)
            if not least <= value <= most:  # nan too
                raise UsageError(f"target.timing.{name}={value}, must be within {least} .. {most}")
        if self.burst_beats & (self.burst_beats - 1):
            raise UsageError(
                f"target.timing.burst_beats={self.burst_beats}, must be a power of two: bursts end "
                "at multiples of their size"
            )

    @property
    def bus_bytes(self) -> int:
        """Bytes per beat."""
        return self.bus_bits // 8

    @property
    def burst_bytes(self) -> int:
        """Bytes of the longest burst; no burst crosses a multiple of it."""
        return self.burst_beats * self.bus_bytes

    @property
    def fetch_batch(self) -> int:
        """Instructions per fetch: one burst, but at most one instruction per beat."""
        return self.burst_beats * min(self.bus_bits, _INSN_BITS) // _INSN_BITS


_LEAST = dict.fromkeys(
    ("outstanding", "command_interval", "queue_entries", "max_tokens", "sync_cycles"), 1
) | {"burst_beats": 2, "clock_mhz": 0.001, "gemm_cycles": 1, "alu_imm_cycles": 1, "alu_cycles": 1}
# the cycles before and after a request is in the memory's queue
_LEAST |= {"load_overhead": 4, "wide_load_overhead": 4, "fetch_overhead": 3}
_LEAST |= {"wide_fetch_overhead": 3}
_MOST = {"clock_mhz": 100_000, "burst_beats": 256}  # AXI's longest burst
_MOST_CYCLES = 1_000_000


@dataclass(frozen=True)
class VtaConfig(TargetConfig):
    """One VTA. ``config_file``: VTA's own JSON, whose geometry then replaces ``vta``.

    ``mul``, ``acc_8bit``: whether the shell has these instructions. The exported manifest and the
    checker use them; the compiler emits neither.
    """

    config_file: str | None  # path of a vta_config.json, which replaces vta; null: none
    mul: bool  # whether the shell's ALU multiplies; only for the manifest and the checker
    # whether LOAD widens 8-bit values to accumulators; only for manifest and checker
    acc_8bit: bool
    vta: VtaGeometry  # the geometry
    timing: VtaTiming  # the timing

    def absolute(self) -> VtaConfig:
        """The same with an absolute ``config_file``."""
        file = self.config_file
        return replace(self, config_file=file and str(Path(file).absolute()))
