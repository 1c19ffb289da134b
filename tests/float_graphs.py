"""Small random float graphs of whole numbers, with dead channels: their arithmetic is exact."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from gpw_cli.graph.ir import (
    Add,
    AvgPool,
    Conv,
    Graph,
    Input,
    MaxPool,
    Node,
    Pad,
    Pair,
    ReLU,
    Shape,
    output_size,
    verify,
)


def random_graph(seed: int, length: int = 8) -> Graph:
    """A chain of ``length`` random nodes with shortcuts, then a classifier of 3 classes."""
    maker = FloatMaker(np.random.default_rng(seed))
    for _ in range(length):
        maker.grow()
    return maker.finish()


def whole_images(graph: Graph, count: int = 2) -> Tensor:
    """float64 [count, C, H, W] of small whole numbers."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(-3, 4, (count, *graph.input.shape), generator=generator).double()


@dataclass
class FloatMaker:
    rng: np.random.Generator
    nodes: list[Node] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.nodes.append(Input("input", (3, 6, 6), (0.0,) * 3, (1.0,) * 3))

    def grow(self) -> None:
        kinds = [self.conv, self.conv, self.relu, self.relu, self.add, self.pool, self.pad]
        kinds[int(self.rng.integers(len(kinds)))]()

    def conv(self, kernel: int | None = None, outs: int | None = None) -> None:
        source = self.nodes[-1]
        size = kernel or int(self.rng.choice([1, 3]))
        around = 0 if kernel or source.shape[1] < 4 else int(self.rng.integers(2))
        if source.shape[1] + 2 * around < size:
            size = 1
        stride = 1 if kernel else int(self.rng.choice([1, 1, 2]))
        outs = outs or int(self.rng.choice([source.shape[0], 2, 4]))
        weight = self.rng.integers(-2, 3, (outs, source.shape[0], size, size)).astype(float)
        weight *= self.rng.random((outs, 1, 1, 1)) < self.rng.choice([0, 0.4, 1])
        weight *= self.rng.random((1, source.shape[0], 1, 1)) < 0.7
        bias = self.rng.integers(-2, 3, outs) * (self.rng.random(outs) < 0.4)
        step, padding = (stride, stride), (around, around)
        shape = (outs, *output_size(source.shape, (size, size), step, padding))
        self._put(lambda n: Conv(n, source.name, weight, bias.astype(float), step, padding, shape))

    def relu(self) -> None:
        source = self.nodes[-1]
        self._put(lambda n: ReLU(n, source.name, source.shape))

    def add(self) -> None:
        source = self.nodes[-1]
        same = [node for node in self.nodes[:-1] if node.shape == source.shape]
        if same:
            other = same[int(self.rng.integers(len(same)))]
            pair = (
                (source.name, other.name) if self.rng.random() < 0.5 else (other.name, source.name)
            )
            self._put(lambda n: Add(n, *pair, source.shape))

    def pool(self) -> None:
        source = self.nodes[-1]
        if source.shape[1] < 4:
            return
        kind = MaxPool if self.rng.random() < 0.5 else AvgPool
        around = int(self.rng.integers(2))
        shape = self._window(source.shape, (2, 2), (2, 2), (around, around))
        self._put(lambda n: kind(n, source.name, (2, 2), (2, 2), (around, around), shape))

    def pad(self) -> None:
        source = self.nodes[-1]
        stride, before, after = (int(self.rng.integers(low, 3)) for low in (1, 0, 0))
        high, wide = (-(-source.shape[i] // stride) for i in (1, 2))
        shape = (source.shape[0] + before + after, high, wide)
        self._put(lambda n: Pad(n, source.name, (stride, stride), before, after, shape))

    def finish(self) -> Graph:
        self.conv(kernel=self.nodes[-1].shape[1], outs=3)
        return verify(Graph(tuple(self.nodes), self.nodes[-1].name))

    def _put(self, make) -> None:  # type: ignore[no-untyped-def]
        self.nodes.append(make(f"n{len(self.nodes)}"))

    @staticmethod
    def _window(shape: Shape, kernel: Pair, stride: Pair, padding: Pair) -> Shape:
        return (shape[0], *output_size(shape, kernel, stride, padding))
