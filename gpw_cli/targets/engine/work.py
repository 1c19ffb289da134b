"""What an engine has to do for a network: one ``Work`` a layer, shapes and which weights are there.

    works = works_of(graph, cfg)       # from the integer network (graph/integer.py)
    works[3].kept                      # bool [ceil(O/tile), ceil(I/tile), KH, KW]

The values of the weights are not read, only where they are zero.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gpw_cli.arrays import Bools
from gpw_cli.graph import integer
from gpw_cli.graph.integer import IntGraph, IntNode, IntSelect
from gpw_cli.targets.engine.config import EngineConfig

Shape = tuple[int, int, int]  # channels, height, width


@dataclass(frozen=True)
class Pool:
    """A pool behind a convolution, in its pipeline: values in, and the shape that is stored."""

    values: int
    out: Shape


@dataclass(frozen=True, eq=False)
class Work:
    """One layer. ``source`` and ``out`` are shapes; bytes of a stored value in ``out_bytes``."""

    name: str
    source: Shape
    out: Shape
    out_bytes: int


@dataclass(frozen=True, eq=False)
class ConvWork(Work):
    """A convolution with what its pipeline does. ``nonzero`` bool [O, I, KH, KW] of its weights.

    ``image``: it reads the input image. ``adds``: an addition is in the pipeline, its second
    operand as large as ``out``. ``pool``: a pool behind it.
    """

    nonzero: Bools
    stride: tuple[int, int]
    image: bool
    adds: bool
    pool: Pool | None

    @property
    def kernel(self) -> tuple[int, int]:
        """(KH, KW)."""
        return self.nonzero.shape[2], self.nonzero.shape[3]

    @property
    def pixels(self) -> int:
        """Output positions."""
        return self.out[1] * self.out[2]

    @property
    def stored(self) -> Shape:
        """The shape that goes to DRAM."""
        return self.out if self.pool is None else self.pool.out


@dataclass(frozen=True, eq=False)
class PassWork(Work):
    """A layer without weights as a pass through memory; ``reads``: the shapes that it reads."""

    reads: tuple[Shape, ...]


def tiles(nonzero: Bools, tile: tuple[int, int]) -> Bools:
    """Whether any weight of a tile is not zero: bool [ceil(O/k), ceil(I/c), KH, KW]."""
    ko, ci = (-(-n // t) for n, t in zip(nonzero.shape[:2], tile, strict=True))
    grown = np.zeros((ko * tile[0], ci * tile[1], *nonzero.shape[2:]), np.bool_)
    grown[: nonzero.shape[0], : nonzero.shape[1]] = nonzero
    split = grown.reshape(ko, tile[0], ci, tile[1], *nonzero.shape[2:])
    return np.asarray(split.any((1, 3)), np.bool_)


def works_of(graph: IntGraph, cfg: EngineConfig) -> list[Work]:
    """The layers of ``graph`` in order; what a convolution's pipeline takes over is in its work."""
    works: list[Work] = []
    taken: set[str] = set()
    for node in graph.nodes:
        if node.name in taken or isinstance(node, integer.IntInput):
            continue
        if not isinstance(node, integer.IntConv):
            works.append(_pass(node, graph))
            continue
        added = cfg.add_rate > 0
        if node.residual is not None and not added:
            works += [_conv(node, graph, None, adds=False), _addition(node)]
            continue
        pool = _pool_behind(node, graph) if cfg.pool_rate > 0 else None
        taken |= {pool.name} if pool is not None else set()
        works.append(_conv(node, graph, pool, adds=node.residual is not None))
    return works


def _conv(node: integer.IntConv, graph: IntGraph, pool: IntNode | None, *, adds: bool) -> ConvWork:
    source = graph.node(node.input)
    behind = None if pool is None else Pool(int(np.prod(node.shape)), pool.shape)
    image = isinstance(source, integer.IntInput)
    nonzero = node.weight != 0
    bits = node.out_bits // 8
    return ConvWork(
        node.name, source.shape, node.shape, bits, nonzero, node.stride, image, adds, behind
    )


def _addition(node: integer.IntConv) -> PassWork:
    """The addition that a convolution's pipeline cannot take."""
    reads = (node.shape, node.shape)
    return PassWork(f"{node.name}+add", node.shape, node.shape, node.out_bits // 8, reads)


def _pass(node: IntNode, graph: IntGraph) -> PassWork:
    """It reads its inputs; a shortcut the pixels, a selection the channels that it keeps."""
    sources = tuple(graph.node(name).shape for name in node.inputs)
    reads = sources
    if isinstance(node, integer.IntPad):
        reads = ((sources[0][0], *node.shape[1:]),)
    if isinstance(node, IntSelect):
        reads = (node.shape,)
    return PassWork(node.name, sources[0], node.shape, 1, reads)


def _pool_behind(node: integer.IntConv, graph: IntGraph) -> IntNode | None:
    """The pool that alone reads ``node``."""
    readers = list(graph.consumers(node.name))
    if len(readers) == 1 and isinstance(readers[0], integer.IntMaxPool | integer.IntAvgPool):
        return readers[0]
    return None
