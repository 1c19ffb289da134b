"""The settings of an EIE, which ``conf/target/eie.yaml`` fills in.

load_target("eie", EieConfig).entries_per_line      # 8: 64 bits of 4-bit codes and 4-bit runs

Sources: Han et al., ISCA 2016 (arXiv 1602.01528) for sizes and clock; the C++ simulator that a
co-author published (RalphMao/EIE-simulator) for what happens in which cycle.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from gpw_cli.errors import UsageError
from gpw_cli.targets.base import TargetConfig

POINTER_BITS = 16
VALUE_BITS = 16  # activations, accumulators, shared weights
KIB = 1024


@dataclass(frozen=True)
class EnergyTable:
    """Picojoules per access in 45 nm; ``source`` is printed beside every estimate.

    SRAM accesses of another width than 32 bits are scaled by their bits; 16-bit arithmetic counts
    as 32-bit, which is an upper bound.
    """

    source: str
    add: float
    multiply: float
    register: float  # one access of a register file
    sram32: float  # 32 bits of a 32 KiB SRAM
    dram32: float


@dataclass(frozen=True)
class EieConfig(TargetConfig):
    """One EIE. UsageError for a number out of range.

    ``queue_depth`` counts the activations that a PE holds: the one in work and those waiting.
    """

    pes: int
    queue_depth: int
    code_bits: int  # of a weight: 2^code_bits shared values, the first is zero
    index_bits: int  # of a run of zeros
    sram_bits: int  # one line of the weight SRAM
    registers: int  # activations in each of a PE's two register files
    act_sram_bits: int  # one line of the activation SRAM
    weight_kib: int  # SRAMs of one PE
    pointer_kib: int
    act_kib: int
    pipeline_cycles: int  # to fill and drain the pipeline, in addition to the work
    clock_mhz: float
    timed_images: int  # test images whose cycles are counted, then averaged
    checked_images: int  # test images that also run through the reference executor
    energy: EnergyTable

    def __post_init__(self) -> None:
        for item in fields(self):
            low, high = _RANGE.get(item.name, (None, None))
            value: Any = getattr(self, item.name)
            if low is not None and not low <= value <= high:
                raise UsageError(f"target.{item.name}={value}, allowed are {low:g} to {high:g}")
        if self.sram_bits < self.entry_bits:
            raise UsageError(
                f"target.sram_bits={self.sram_bits} holds no entry of {self.entry_bits} bits: "
                f"try target.sram_bits=64"
            )

    @property
    def entry_bits(self) -> int:
        """Bits of one entry, a code and its run."""
        return self.code_bits + self.index_bits

    @property
    def entries_per_line(self) -> int:
        """Whole entries in one line of the weight SRAM."""
        return self.sram_bits // self.entry_bits

    @property
    def slot_bits(self) -> int:
        """Low bits of a pointer, which select the entry within a line."""
        return (self.entries_per_line - 1).bit_length()

    @property
    def max_entries(self) -> int:
        """The most entries of one PE that pointers can address, the end included."""
        return ((1 << (POINTER_BITS - self.slot_bits)) - 1) * self.entries_per_line

    @property
    def vector(self) -> int:
        """Activations that the register files of all PEs hold."""
        return self.registers * self.pes


_RANGE: dict[str, tuple[float, float]] = {
    "pes": (1, 4096),
    "queue_depth": (1, 4096),
    "code_bits": (1, 8),
    "index_bits": (1, 8),
    "sram_bits": (2, 1024),
    "registers": (1, 65536),
    "act_sram_bits": (16, 1024),
    "weight_kib": (1, 1 << 20),
    "pointer_kib": (1, 1 << 20),
    "act_kib": (1, 1 << 20),
    "pipeline_cycles": (0, 1000),
    "clock_mhz": (1e-3, 1e6),
    "timed_images": (1, 1000),
    "checked_images": (1, 100000),
}
