"""What an NPU is to the rest of gpw; ``registry.py`` makes the one that a configuration describes.

    npu = npu_of(config.target)
    tile_out, tile_in = npu.tile               # the shape of a pruning group (pruning/groups.py)
    compiled = npu.compile(graph)              # the integer network, fused (graph/integer.py)
    compiled.time().cycles
    if isinstance(compiled, Simulates):
        logits = compiled.simulator()(images)

Every NPU counts cycles. ``Simulates``, ``Exports`` and ``Traces`` are what it may do beyond that.
Importing this, or asking an NPU for its tile or identity, must not import torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from gpw_cli.graph.integer import IntGraph


@dataclass(frozen=True)
class TargetConfig:
    """What every option of ``conf/target`` says; the schema of a family adds its own fields.

    ``family``: a key of ``registry.FAMILIES``. ``name``: what the output calls this NPU.
    """

    family: str  # vta, engine, eie or a plug-in's: decides the schema, compiler and timing
    name: str  # what the output calls this NPU

    def absolute(self) -> Self:
        """With every path made absolute: for a family whose schema names files."""
        return self


@dataclass(frozen=True)
class LayerCycles:
    """The cycles of one layer; ``split``: by what ran in them; ``dram_bytes``: by what it moves.

    The values of ``split`` sum to ``cycles``.
    """

    name: str
    cycles: int
    split: Mapping[str, int]
    dram_bytes: Mapping[str, int]


@dataclass(frozen=True)
class UnitWork:
    """What one unit of the NPU did in a run.

    ``count``: how many ``of``, a plural noun such as "uops" or "multiplies". ``utilisation``: their
    share (0 to 1) of what the unit could have done in the cycles of the run.
    """

    of: str
    count: int
    utilisation: float


@dataclass(frozen=True, eq=False)
class Timing:
    """The cycles of one run over ``images`` images. ``bound``: what each unit needs at least.

    ``layers`` in the order of the program. ``dram_bytes``: by what is moved. ``units``: by the name
    of the unit, the one that pruning relieves first. ``cycles_by_pass``: ``cycles`` by what each
    pass over the accumulators is for, where the NPU works in passes.
    """

    cycles: int
    clock_mhz: float
    layers: Sequence[LayerCycles]
    bound: Mapping[str, int]
    dram_bytes: Mapping[str, int]
    units: Mapping[str, UnitWork]
    images: int
    cycles_by_pass: Mapping[str, int] = field(default_factory=dict, kw_only=True)

    @property
    def milliseconds(self) -> float:
        """Of one run, at the target's clock."""
        return self.cycles / self.clock_mhz / 1e3

    @property
    def bound_cycles(self) -> int:
        """No schedule of the same work takes fewer: the busiest of ``bound``."""
        return max(self.bound.values())

    def counts(self) -> dict[str, int | float]:
        """``units`` flat: ``gemm_uops`` and ``gemm_utilisation`` for the uops of a unit "gemm"."""
        found: dict[str, int | float] = {}
        for name, unit in self.units.items():
            found |= {f"{name}_{unit.of}": unit.count, f"{name}_utilisation": unit.utilisation}
        return found

    def to_dict(self) -> dict[str, Any]:
        """All of it, for JSON."""
        return {
            "pictures": self.images,
            "cycles": self.cycles,
            "milliseconds": self.milliseconds,
            "clock_mhz": self.clock_mhz,
            "bound_cycles": self.bound_cycles,
            "bound": dict(self.bound),
            **self.counts(),
            **({"cycles_by_pass": dict(self.cycles_by_pass)} if self.cycles_by_pass else {}),
            "dram_bytes": dict(self.dram_bytes),
            "layers": [asdict(layer) for layer in self.layers],
        }


class Npu(Protocol):
    """An NPU with weight tiles; ``vta.target.Vta`` is one."""

    @property
    def tile(self) -> tuple[int, int]:
        """(b_out, b_in): output and input channels of one weight tile."""
        ...

    @property
    def program(self) -> type[Compiled]:
        """The class that ``compile`` returns: what it offers is known before anything runs."""
        ...

    def identity(self) -> Mapping[str, Any]:
        """Everything that programs and their cycles depend on, plain data: part of stage keys."""
        ...

    def compile(self, graph: IntGraph) -> Compiled:
        """The whole network for this NPU. Raises UnsupportedError for what the NPU lacks."""
        ...


class Compiled(Protocol):
    """A network made ready for one NPU."""

    @property
    def facts(self) -> Mapping[str, int | str]:
        """What this NPU's users look for beside cycles, such as the number of instructions, or a
        remark on what its numbers rest on; kept as metrics and shown under these names.
        """
        ...

    def time(self) -> Timing:
        """Of one run: of as many images as the NPU takes at once."""
        ...


@runtime_checkable
class Simulates(Protocol):
    """A compiled network that computes logits as its NPU does.

    Without it the accuracy is that of the integer reference executor (quantization/reference.py).
    """

    @property
    def bit_exact(self) -> bool:
        """Whether its logits have to be the reference's, every bit; else its arithmetic is its own,
        and so is its accuracy.
        """
        ...

    def simulator(self) -> Callable[[NDArray[np.int8]], NDArray[Any]]:
        """int8 [N, C, H, W], quantized as the graph's input is -> logits [N, classes].

        Raises ProgramError for a program that breaks a rule of the hardware.
        """
        ...


@runtime_checkable
class DataDependent(Protocol):
    """A compiled network whose cycles depend on the images; its ``time`` takes made-up ones."""

    @property
    def timed_images(self) -> int:
        """How many images ``time_on`` wants."""
        ...

    def time_on(self, images: NDArray[np.int8]) -> Timing:
        """The mean of one run over ``images`` int8 [N, C, H, W], quantized as for ``simulator``."""
        ...


@runtime_checkable
class Exports(Protocol):
    """A compiled network that can be written out for a board or another simulator."""

    def export(self, image: NDArray[np.int8], folder: Path) -> None:
        """Program, the DRAM contents with ``image`` int8 [C, H, W], and what a run leaves there.

        Raises UsageError where the folder cannot be written.
        """
        ...


@runtime_checkable
class Traces(Protocol):
    """A compiled network whose run can be looked at cycle by cycle."""

    def write_trace(self, file: Path) -> None:
        """The cycles of one run in the Trace Event Format; OSError if it cannot be written."""
        ...
