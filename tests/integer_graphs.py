"""Small integer graphs with random weights, node by node."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from gpw_cli.graph.integer import (
    FULL_RANGE,
    IntAdd,
    IntAvgPool,
    IntConv,
    IntGraph,
    IntInput,
    IntMaxPool,
    IntNode,
    IntPad,
    IntRelu,
    Rescale,
    Shift,
)

SIGNED = (-128, 127)


@dataclass
class GraphMaker:
    """Adds nodes one after the other; each method returns the name of its tensor."""

    shape: tuple[int, int, int] = (3, 8, 8)
    seed: int = 0
    nodes: list[IntNode] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)
        self.nodes.append(IntInput("input", self.shape, 1.0))

    def conv(
        self,
        source: str,
        outs: int,
        kernel: int | tuple[int, int] = 3,
        stride: int = 1,
        padding: int | None = None,
        *,
        keep: float = 1.0,
        tile: int = 8,
        bias: int = 2000,
        residual: str | None = None,
        residual_shift: Shift = 0,
        relu: bool = True,
        rescale: Rescale | None = None,
        bits: int = 8,
    ) -> str:
        height, width = (kernel, kernel) if isinstance(kernel, int) else kernel
        pad = (height // 2 if padding is None else padding,) * 2
        ins, rows, cols = self.shape_of(source)
        weight = self.rng.integers(-127, 128, (outs, ins, height, width))
        mask = self.rng.random((-(-outs // tile), -(-ins // tile), height, width)) < keep
        mask = mask.repeat(tile, axis=0).repeat(tile, axis=1)[:outs, :ins]
        full = Rescale(0, False, *FULL_RANGE)
        node = IntConv(
            self._name("conv"),
            source,
            (weight * mask).astype(np.int8),
            self.rng.integers(-bias, bias + 1, outs).astype(np.int32),
            (stride, stride),
            pad,
            residual,
            residual_shift,
            relu,
            rescale or (Rescale(9, True, 0, 127) if bits == 8 else full),
            bits,
            (
                outs,
                (rows + 2 * pad[0] - height) // stride + 1,
                (cols + 2 * pad[1] - width) // stride + 1,
            ),
        )
        return self._add(node)

    def add(
        self,
        a: str,
        b: str,
        shift_a: int = 0,
        shift_b: int = 0,
        *,
        relu: bool = True,
        rescale: Rescale | None = None,
    ) -> str:
        rescale = rescale or Rescale(1, True, *SIGNED)
        name = self._name("add")
        return self._add(IntAdd(name, a, b, shift_a, shift_b, relu, rescale, self.shape_of(a)))

    def relu(self, source: str, rescale: Rescale | None = None) -> str:
        rescale = rescale or Rescale(0, False, *SIGNED)
        return self._add(IntRelu(self._name("relu"), source, rescale, self.shape_of(source)))

    def max_pool(self, source: str, kernel: int = 3, stride: int = 2, padding: int = 1) -> str:
        shape = self._pooled(source, kernel, stride, padding)
        window = ((kernel,) * 2, (stride,) * 2, (padding,) * 2)
        return self._add(IntMaxPool(self._name("max"), source, *window, shape))

    def avg_pool(
        self, source: str, kernel: int, stride: int = 1, padding: int = 0, shift: int = 2
    ) -> str:
        shape = self._pooled(source, kernel, stride, padding)
        window = ((kernel,) * 2, (stride,) * 2, (padding,) * 2)
        rescale = Rescale(shift, True, *SIGNED)
        return self._add(IntAvgPool(self._name("avg"), source, *window, rescale, shape))

    def pad(self, source: str, stride: int, before: int, after: int) -> str:
        channels, rows, cols = self.shape_of(source)
        shape = (channels + before + after, -(-rows // stride), -(-cols // stride))
        name = self._name("pad")
        return self._add(IntPad(name, source, (stride, stride), before, after, shape))

    def graph(self) -> IntGraph:
        """Its output is the last node."""
        scales = {node.name: 1.0 for node in self.nodes}
        return IntGraph(tuple(self.nodes), self.nodes[-1].name, scales, (0.0,), (1.0,))

    def shape_of(self, name: str) -> tuple[int, int, int]:
        return next(node.shape for node in self.nodes if node.name == name)

    def _pooled(self, source: str, kernel: int, stride: int, padding: int) -> tuple[int, int, int]:
        channels, rows, cols = self.shape_of(source)
        size = [(n + 2 * padding - kernel) // stride + 1 for n in (rows, cols)]
        return channels, size[0], size[1]

    def _name(self, kind: str) -> str:
        return f"{kind}{len(self.nodes)}"

    def _add(self, node: IntNode) -> str:
        self.nodes.append(node)
        return node.name
