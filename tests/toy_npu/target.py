"""One tile at one output pixel a cycle; zero tiles are skipped."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpw_cli.graph.integer import IntConv, IntGraph
from gpw_cli.targets.base import LayerCycles, Timing, UnitWork
from toy_npu.config import ToyConfig


@dataclass(frozen=True)
class Counted:
    """Timing only."""

    graph: IntGraph
    config: ToyConfig

    @property
    def facts(self) -> Mapping[str, int | str]:
        return {"lane_pairs": self.config.lanes**2, "remark": "made up"}

    def time(self) -> Timing:
        convs = [node for node in self.graph.nodes if isinstance(node, IntConv)]
        layers = [self._layer(conv) for conv in convs]
        cycles = sum(layer.cycles for layer in layers)
        return Timing(
            cycles=cycles,
            clock_mhz=self.config.clock_mhz,
            layers=layers,
            bound={"MAC": cycles},
            dram_bytes={"weights": sum(conv.weight.size for conv in convs)},
            units={"mac": UnitWork("tiles", cycles, 1.0)},
            images=1,
        )

    def _layer(self, conv: IntConv) -> LayerCycles:
        lanes, weight = self.config.lanes, conv.weight
        pads = [(0, -size % lanes) for size in weight.shape[:2]]
        padded = np.pad(weight, [*pads, (0, 0), (0, 0)])
        out, inp, height, width = padded.shape
        tiles = padded.reshape(out // lanes, lanes, inp // lanes, lanes, height, width)
        kept = int(tiles.any(axis=(1, 3)).sum())
        cycles = kept * conv.shape[1] * conv.shape[2]
        return LayerCycles(conv.name, cycles, {"multiply": cycles}, {"weights": weight.size})


@dataclass(frozen=True)
class Guessing(Counted):
    """Computes logits in an arithmetic of its own: always class 0."""

    @property
    def bit_exact(self) -> bool:
        return False

    def simulator(self) -> Callable[[NDArray[np.int8]], NDArray[Any]]:
        return lambda images: np.eye(1, 10)[[0] * len(images)]


@dataclass(frozen=True)
class Toy:
    """An Npu of the family."""

    config: ToyConfig

    @property
    def tile(self) -> tuple[int, int]:
        return self.config.lanes, self.config.lanes

    @property
    def program(self) -> type[Counted]:
        return Guessing if self.config.guesses else Counted

    def identity(self) -> Mapping[str, Any]:
        return {key: value for key, value in asdict(self.config).items() if key != "name"}

    def compile(self, graph: IntGraph) -> Counted:
        return self.program(graph, self.config)


def toy_of(config: ToyConfig) -> Toy:
    return Toy(config)
