"""The settings of an EIE, which ``conf/target/eie.yaml`` fills in.

EieConfig(pes=64, queue_depth=8).entries_per_line      # 8: 64 bits of 4-bit codes and 4-bit runs

Sources: Han et al., ISCA 2016 (arXiv 1602.01528) for sizes and clock; the C++ simulator that a
co-author published (RalphMao/EIE-simulator) for what happens in which cycle.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from gpw_cli.errors import UsageError
from gpw_cli.targets.base import TargetConfig

POINTER_BITS = 16
VALUE_BITS = 16  # activations, accumulators, shared weights
KIB = 1024


@dataclass(frozen=True)
class EnergyTable:
    """Picojoules per access in 45 nm; ``source`` is printed beside every estimate.

    These are the 32-bit numbers of the table that EIE's authors print. SRAM accesses of another
    width are scaled by their bits; 16-bit arithmetic counts as 32-bit, which is an upper bound.
    """

    source: str = "45 nm table of EIE's authors (int32 0.1 and 3.1 pJ, 32-bit SRAM 5, DRAM 640)"
    add: float = 0.1
    multiply: float = 3.1
    register: float = 1.0  # one access of a register file
    sram32: float = 5.0  # 32 bits of a 32 KiB SRAM
    dram32: float = 640.0  # 128 times that


@dataclass(frozen=True)
class EieConfig(TargetConfig):
    """One EIE. UsageError for a number out of range.

    ``queue_depth`` counts the activations that a PE holds: the one in work and those waiting.
    """

    family: str = "eie"
    name: str = "eie"
    pes: int = 64
    queue_depth: int = 8
    code_bits: int = 4  # of a weight: 2^code_bits shared values, the first is zero
    index_bits: int = 4  # of a run of zeros
    sram_bits: int = 64  # one line of the weight SRAM
    registers: int = 64  # activations in each of a PE's two register files
    act_sram_bits: int = 64  # one line of the activation SRAM
    weight_kib: int = 128  # SRAMs of one PE
    pointer_kib: int = 32
    act_kib: int = 2
    pipeline_cycles: int = 7  # to fill and drain the pipeline, in addition to the work
    clock_mhz: float = 800.0
    timed_images: int = 1  # test images whose cycles are counted, then averaged
    checked_images: int = 2  # test images that also run through the reference executor
    energy: EnergyTable = field(default_factory=EnergyTable)

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
