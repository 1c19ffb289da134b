"""The numbers of a vector engine: what it multiplies in a cycle, its buffers, what it skips.

    cfg = load_target("nvdla_large", EngineConfig)       # gpw_cli/config/target.py
    cfg.tile                     # (32, 64): the shape of a pruning group

The options in ``conf/target`` say where each number comes from.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from gpw_cli.errors import UsageError
from gpw_cli.targets.base import TargetConfig


@dataclass(frozen=True)
class EngineConfig(TargetConfig):
    """One engine. Buffers in bytes; an array is ``atomic_k`` x ``atomic_c`` multipliers.

    Every cycle an array multiplies ``atomic_c`` input channels at one kernel position with
    ``atomic_k`` output channels. Raises UsageError for a number out of range.
    """

    clock_mhz: float
    atomic_k: int
    atomic_c: int
    arrays: int  # side by side: over the output channels, then over the output pixels
    # a virtual neuron is one output channel x atomic_c, placed freely: groups of 1 x atomic_c
    virtual_neurons: bool
    input_width: int  # input values that reach an array in a cycle; 0: all atomic_c
    # cycles to bring one tile of weights to the multipliers, and whether the tile before it is
    # multiplied in the meantime
    weight_cycles: int
    weight_overlap: bool
    image_mode: bool  # the first convolution packs kernel columns and channels (NVDLA)
    winograd: bool  # 3x3, stride 1: 4 multiplications an output for 9 (NVDLA)

    value_bytes: int  # a weight or an activation
    memory_atom: int  # an activation's channels are padded to a multiple of this in DRAM
    dram_bytes: float  # a cycle, reads and writes together
    dram_latency: int  # cycles from a layer's first request to its first data
    # one buffer for weights and a sliding window of the input, or three, each used by halves
    shared_buffer: int
    input_buffer: int
    weight_buffer: int
    output_buffer: int
    accumulator_bytes: int
    overlaps_layers: bool  # a layer's first loads hide behind the layer before

    post_rate: float  # outputs a cycle through bias, ReLU, scale; 0: never a limit
    add_rate: float  # the same with a second operand; 0: an addition is a pass of its own
    pool_rate: float  # inputs of a pool a cycle; 0: a pool is a pass of its own

    skips_zero_tiles: bool
    hypothetical: bool  # the stock hardware does not skip them
    weight_compression: bool  # zero weights cost one bit in DRAM (NVDLA)
    batch: int  # images that share a fully connected layer's weights (NVDLA)

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            least = _LEAST.get(item.name, 0)
            if not isinstance(value, str) and not least <= value <= _MOST:  # nan too
                raise UsageError(f"target.{item.name}={value}, must be within {least} .. {_MOST}")
        if self.clock_mhz <= 0 or self.dram_bytes <= 0:
            raise UsageError("target.clock_mhz and target.dram_bytes must be above 0")
        apart = (self.input_buffer, self.weight_buffer, self.output_buffer)
        if bool(self.shared_buffer) == all(apart) or (self.shared_buffer and any(apart)):
            raise UsageError(
                f"target.shared_buffer={self.shared_buffer} beside input, weight and output "
                f"buffers of {apart}: give either the one or all three"
            )

    @property
    def tile(self) -> tuple[int, int]:
        """(output, input) channels of what can be skipped: the shape of a pruning group."""
        return (1 if self.virtual_neurons else self.atomic_k), self.atomic_c

    @property
    def multipliers(self) -> int:
        """Of all arrays."""
        return self.arrays * self.atomic_k * self.atomic_c

    @property
    def claims(self) -> bool:
        """Whether the cycles of a pruned network rest on what the stock hardware cannot do."""
        return self.skips_zero_tiles and self.hypothetical


_MOST = 10**12
_LEAST = dict.fromkeys(("atomic_k", "atomic_c", "arrays", "value_bytes", "memory_atom", "batch"), 1)
