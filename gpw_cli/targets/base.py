"""What an NPU is to the rest of gpw; ``registry.py`` has the one that a configuration names.

    npu = npu_of(config.target)
    tile_out, tile_in = npu.tile               # the shape of a pruning group (pruning/groups.py)
    compiled = npu.compile(graph)              # the integer network, fused (graph/integer.py)
    logits = compiled.simulator()(pictures)    # bit for bit
    compiled.time().cycles

A new NPU is a package beside ``vta/`` that satisfies ``Npu``. Importing this, or asking an NPU for
its tile or identity, must not import torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from gpw_cli.graph.integer import IntGraph


@dataclass(frozen=True)
class LayerCycles:
    """The cycles of one layer; ``split``: by what ran in them; ``dram_bytes``: by what it moves."""

    name: str
    cycles: int
    split: Mapping[str, int]
    dram_bytes: Mapping[str, int]


@dataclass(frozen=True, eq=False)
class Timing:
    """The cycles of one run, over ``pictures`` pictures. ``bound``: what each unit needs at least.

    ``layers`` in the order of the program. ``dram_bytes``: by what is moved. ``gemm_uops``: tiles
    that are multiplied (resets do not count).
    """

    cycles: int
    clock_mhz: float
    layers: Sequence[LayerCycles]
    bound: Mapping[str, int]
    dram_bytes: Mapping[str, int]
    gemm_uops: int
    pictures: int

    @property
    def milliseconds(self) -> float:
        """Of one run, at the target's clock."""
        return self.cycles / self.clock_mhz / 1e3

    @property
    def bound_cycles(self) -> int:
        """No schedule of the same instructions takes fewer: the busiest of ``bound``."""
        return max(self.bound.values())

    @property
    def gemm_utilisation(self) -> float:
        """Share of the cycles in which the GEMM array multiplies, at one micro-op a cycle."""
        return self.gemm_uops / self.cycles if self.cycles else 0.0

    def to_dict(self) -> dict[str, Any]:
        """All of it, for JSON."""
        return {
            "pictures": self.pictures,
            "cycles": self.cycles,
            "milliseconds": self.milliseconds,
            "clock_mhz": self.clock_mhz,
            "bound_cycles": self.bound_cycles,
            "bound": dict(self.bound),
            "gemm_uops": self.gemm_uops,
            "gemm_utilisation": self.gemm_utilisation,
            "dram_bytes": dict(self.dram_bytes),
            "layers": [asdict(layer) for layer in self.layers],
        }


class Npu(Protocol):
    """A vector-engine NPU; ``vta.target.Vta`` is one."""

    @property
    def tile(self) -> tuple[int, int]:
        """(b_out, b_in): output and input channels of one weight tile."""
        ...

    def identity(self) -> Mapping[str, Any]:
        """Everything that programs and their cycles depend on, plain data: part of stage keys."""
        ...

    def compile(self, graph: IntGraph) -> Compiled:
        """The whole network as one program. Raises UnsupportedError for what the NPU lacks."""
        ...


class Compiled(Protocol):
    """A network as a program of one NPU."""

    @property
    def facts(self) -> Mapping[str, int]:
        """Counts that this NPU's users look for, such as its instructions; kept as metrics."""
        ...

    def simulator(self) -> Callable[[NDArray[np.int8]], NDArray[np.int32]]:
        """int8 [N, C, H, W] -> logits int32 [N, classes], by the encoded program.

        Raises ProgramError for a program that breaks a rule of the hardware.
        """
        ...

    def time(self) -> Timing:
        """Of one run: of as many pictures as the NPU takes at once."""
        ...

    def export(self, picture: NDArray[np.int8], folder: Path) -> None:
        """Program, memory image with ``picture`` int8 [C, H, W], and what a run leaves there.

        Raises UsageError where the folder cannot be written.
        """
        ...

    def write_trace(self, file: Path) -> None:
        """The cycles of one run in the Trace Event Format; OSError if it cannot be written."""
        ...
