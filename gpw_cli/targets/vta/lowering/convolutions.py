"""A convolution as terms: its weight tiles on the tensors that it reads, and where its bias goes.

    convs = Convolutions(graph, spec, gathers, bounds)
    found = convs.terms(node, bias, epilogue)
    found.terms, found.left                # ``left``: the bias that no term adds

There is one term for each slice of the input (gathers.py) and each band of a large kernel. Where
the input holds constants, the weights of those add the bias, which then needs no term of its own.
The image can hold them (host_layout.py), and the spare channels of another convolution's output
(constant_channels.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from gpw_cli.arrays import Int8, Int64
from gpw_cli.graph.integer import IntConv, IntGraph
from gpw_cli.targets.vta.isa.geometry import VtaSpec
from gpw_cli.targets.vta.isa.input_layout import InputLayout
from gpw_cli.targets.vta.lowering.bounds import Bounds
from gpw_cli.targets.vta.lowering.constant_channels import (
    inner_taps,
    offered,
    producing,
    riding,
)
from gpw_cli.targets.vta.lowering.epilogue import AluEpilogue
from gpw_cli.targets.vta.lowering.gathers import Gathers
from gpw_cli.targets.vta.lowering.host_layout import host_layout
from gpw_cli.targets.vta.lowering.tile_ir import Term, banded, weight_tiles


@dataclass(frozen=True, eq=False)
class ConvTerms:
    """``terms``; ``left``: the bias that they do not add, int64 [O].

    ``layout``: of the image, where a term reads it in another than the plain one.
    """

    terms: tuple[Term, ...]
    left: Int64
    layout: InputLayout | None = None

    def left_blocks(self, spec: VtaSpec) -> int:
        """Output blocks that still need a bias."""
        return len(np.unique(np.flatnonzero(self.left) // spec.block_out))


@dataclass(frozen=True, eq=False)
class Convolutions:
    """The convolutions of ``graph``, visited in order; ``bounds``: of the tensors so far.

    ``constants``: the constants in the spare channels of a tensor, by its name.
    """

    graph: IntGraph
    spec: VtaSpec
    gathers: Gathers
    bounds: Mapping[str, Bounds]
    constants: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def terms(self, node: IntConv, bias: Int64, epilogue: AluEpilogue) -> ConvTerms:
        """The terms of ``node`` with ``bias`` int64 [O].

        The spare output channels of ``node`` get constants if a convolution reads them and no
        further block needs a bias for it.
        """
        offer = self._offered(node, epilogue)
        found = self._added(node, bias)
        if offer:
            full = self._added(
                _widened(node, len(offer)), np.append(bias, producing(offer, epilogue))
            )
            if full.left_blocks(self.spec) <= found.left_blocks(self.spec):
                self.constants[node.name] = offer
                found = full
        return found

    def _added(self, node: IntConv, bias: Int64) -> ConvTerms:
        """The terms of ``node``, which add ``bias`` as far as constants in its input allow."""
        zero = self.bounds[node.input].zero  # the weights of these inputs have no effect
        node = replace(node, weight=node.weight * ~zero[:, None, None])
        if node.input in self.constants:
            taps = inner_taps(node, self.graph.node(node.input).shape)
            weight, left = riding(node.weight, bias, self.constants[node.input], taps, self.spec)
            return ConvTerms(tuple(self._banded(node, node.input, weight)), left)
        laid = host_layout(self.graph, node, bias, self.spec)
        if laid is not None:
            return ConvTerms((laid.term,), bias * (not laid.biased), laid.layout)
        terms: list[Term] = []
        for part in self.gathers.slices(node.input):
            weight = part.columns(node.weight, self.graph.node(part.source).shape[0])
            terms += self._banded(node, part.source, weight)
        return ConvTerms(tuple(terms), bias)

    def _banded(self, node: IntConv, source: str, weight: Int8) -> list[Term]:
        kernel = (weight.shape[2], weight.shape[3])
        tiles = weight_tiles(weight, self.spec)
        return banded(Term(source, tiles, kernel, node.stride, node.padding), self.spec)

    def _offered(self, node: IntConv, epilogue: AluEpilogue) -> tuple[int, ...]:
        """Constants for ``node``'s spare channels, if a convolution reads its tensor."""
        readers = self.graph.consumers(node.name)
        read = any(isinstance(r, IntConv) and r.input == node.name for r in readers)
        return offered(node, epilogue, self.spec) if read and node.name != self.graph.output else ()


def _widened(node: IntConv, many: int) -> IntConv:
    """``node`` with ``many`` more output channels, without weights."""
    return replace(node, weight=np.pad(node.weight, ((0, many), (0, 0), (0, 0), (0, 0))))
