"""The NPU: it counts a cycle for every weight that is not zero and every pixel that it meets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from gpw_cli.graph.integer import IntConv, IntGraph
from gpw_cli.targets.base import LayerCycles, Timing, UnitWork
from gpw_example.config import AdderConfig


@dataclass(frozen=True, eq=False)
class Counted:
    """A network on it; without a simulation the accuracy is the integer reference's."""

    graph: IntGraph
    config: AdderConfig

    @property
    def facts(self) -> Mapping[str, int | str]:
        """Nothing beside cycles."""
        return {}

    def time(self) -> Timing:
        """Of one image."""
        layers = [_layer(node) for node in self.graph.nodes if isinstance(node, IntConv)]
        cycles = sum(layer.cycles for layer in layers)
        moved = sum(layer.dram_bytes["weights"] for layer in layers)
        return Timing(
            cycles=cycles,
            clock_mhz=self.config.clock_mhz,
            layers=layers,
            bound={"adder": cycles},
            dram_bytes={"weights": moved},
            units={"adder": UnitWork("multiplies", cycles, 1.0)},
            images=1,
        )


def _layer(conv: IntConv) -> LayerCycles:
    kept = int((conv.weight != 0).sum())
    cycles = kept * conv.shape[1] * conv.shape[2]
    return LayerCycles(conv.name, cycles, {"multiply": cycles}, {"weights": kept})


@dataclass(frozen=True)
class Adder:
    """What ``npu`` of the family's line makes of a configuration."""

    config: AdderConfig

    @property
    def tile(self) -> tuple[int, int]:
        """(output, input) channels."""
        return self.config.lanes, self.config.lanes

    @property
    def program(self) -> type[Counted]:
        """What ``compile`` returns."""
        return Counted

    def identity(self) -> Mapping[str, Any]:
        """All that cycles depend on."""
        return {key: value for key, value in asdict(self.config).items() if key != "name"}

    def compile(self, graph: IntGraph) -> Counted:
        """Anything runs on it."""
        return Counted(graph, self.config)
