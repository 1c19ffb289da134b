"""From the integer graph to kernels: each node as tiles, constants and exact ALU steps.

    kernels, layout = legalize(graph, spec)

Each kernel writes the tensor of its name. An option-A shortcut (``IntPad``) that only feeds
additions becomes diagonal tiles of those and is not computed on its own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import takewhile

import numpy as np

from gpw_cli.arrays import Int8, Int64
from gpw_cli.errors import UnsupportedError
from gpw_cli.graph import integer
from gpw_cli.graph.integer import (
    FULL_RANGE,
    IntConcat,
    IntGraph,
    IntNode,
    IntSelect,
    IntUpsample,
    Rescale,
    wrap_int32,
)
from gpw_cli.targets.vta.isa.geometry import VtaSpec
from gpw_cli.targets.vta.isa.input_layout import PLAIN, InputLayout
from gpw_cli.targets.vta.isa.instructions import AluOp
from gpw_cli.targets.vta.lowering.bounds import Bounds, any_int8, conv_bounds, stored
from gpw_cli.targets.vta.lowering.constant_channels import (
    inner_taps,
    offered,
    producing,
    riding,
)
from gpw_cli.targets.vta.lowering.epilogue import Epilogue, shorten, step
from gpw_cli.targets.vta.lowering.gathers import Gathers
from gpw_cli.targets.vta.lowering.host_layout import host_layout
from gpw_cli.targets.vta.lowering.identity_tiles import Summands
from gpw_cli.targets.vta.lowering.tile_ir import (
    AluStep,
    Kernel,
    MaxPoolKernel,
    Phase,
    ProductKernel,
    Term,
    UpsampleKernel,
    banded,
    bias_tiles,
    diagonal_tiles,
    weight_tiles,
)

_KEEP = Rescale(0, False, *FULL_RANGE)


def legalize(graph: IntGraph, spec: VtaSpec) -> tuple[list[Kernel], InputLayout]:
    """The kernels of ``graph``, in an order in which they can run, and the layout of the input.

    Raises UnsupportedError naming a node that VTA cannot compute.
    """
    return _Legalizer(graph, spec).run()


@dataclass(frozen=True, eq=False)
class _ConvTerms:
    """A convolution's ``terms``; ``left``: the bias that they do not add, int64 [O]."""

    terms: tuple[Term, ...]
    left: Int64
    layout: InputLayout | None = None

    def left_blocks(self, spec: VtaSpec) -> int:
        """Output blocks that still need a bias."""
        return len(np.unique(np.flatnonzero(self.left) // spec.block_out))


class _Legalizer:
    """Visits the nodes; ``summands.bounds`` holds the possible values of each tensor."""

    def __init__(self, graph: IntGraph, spec: VtaSpec) -> None:
        self.graph, self.spec = graph, spec
        self.summands = Summands(graph, spec)
        self.gathers = Gathers(graph, spec.block_in)
        self.kernels: list[Kernel] = []
        self.layout = PLAIN
        self.constants: dict[str, tuple[int, ...]] = {}  # values of a tensor's spare channels

    def run(self) -> tuple[list[Kernel], InputLayout]:
        for node in self.graph.nodes:
            self._node(node)
        return self.kernels, self.layout

    def _node(self, node: IntNode) -> None:
        summands = self.summands
        if isinstance(node, integer.IntInput):
            summands.bounds[node.name] = any_int8(node.shape[0])
        elif isinstance(node, integer.IntMaxPool):
            self._max_pool(node)
        elif isinstance(node, integer.IntConv):
            self._conv(node)
        elif isinstance(node, integer.IntAdd):
            self._finish(node, *summands.add(node), node.relu, node.rescale)
        elif isinstance(node, integer.IntRelu):
            term, acc = summands.term(node.input, 0, node.shape[0])
            self._finish(node, [Phase((replace(term, role="copy"),))], acc, True, node.rescale)
        elif isinstance(node, integer.IntAvgPool):
            terms, acc = summands.window(node)
            self._finish(node, [Phase(terms)], acc, False, node.rescale)
        elif isinstance(node, IntConcat | IntSelect):
            self._gathered(node)
        elif isinstance(node, IntUpsample):
            self._upsample(node)
        elif self._only_added(node):
            summands.absorbed.add(node.name)
            summands.bounds[node.name] = summands.padded(node)
        else:
            term, acc = summands.pad(node)
            self._finish(node, [Phase((term,))], acc, False, _KEEP)

    def _finish(
        self, node: IntNode, phases: list[Phase], acc: Bounds, relu: bool, rescale: Rescale
    ) -> None:
        """Adds a kernel of ``phases``; its last phase gets the steps of the epilogue."""
        epilogue = shorten(acc, relu, rescale, node.name, self.spec, by_block=True)
        terms, steps = self._biased(phases[-1].terms, epilogue.fold, epilogue)
        self._emit(node, [*phases[:-1], Phase(terms, steps)], epilogue)

    def _biased(
        self, terms: tuple[Term, ...], bias: Int64, epilogue: Epilogue
    ) -> tuple[tuple[Term, ...], tuple[AluStep, ...]]:
        """``terms`` and ``epilogue.steps``, one of which adds ``bias``."""
        tiles = bias_tiles(bias, self.spec)
        if tiles is None:
            return terms, (step(AluOp.ADD, bias), *epilogue.steps)
        return (
            (Term(None, tiles, role="bias"), *terms) if len(tiles.out) else terms
        ), epilogue.steps

    def _emit(self, node: IntNode, phases: list[Phase], epilogue: Epilogue) -> None:
        bits = node.out_bits if isinstance(node, integer.IntConv) else 8
        self.summands.bounds[node.name] = stored(epilogue.bounds, bits)
        self.kernels.append(ProductKernel(node.name, tuple(phases)))

    def _conv(self, node: integer.IntConv) -> None:
        weight = node.weight.astype(np.int64)
        source = self.summands.bounds[node.input]
        bias = node.bias.astype(np.int64)
        acc = conv_bounds(weight, source, padded=any(node.padding)).plus(bias)
        before: list[Phase] = []
        same: tuple[Term, ...] = ()
        extra = Bounds(np.zeros_like(bias), np.zeros_like(bias))
        if node.residual is not None:
            before, same, extra = self.summands.shortcut(node, node.residual)
        whole = acc.wrapped().plus(extra)
        epilogue = shorten(whole, node.relu, node.rescale, node.name, self.spec, by_block=True)
        products, bias = self._weights(node, wrap_int32(bias + epilogue.fold), epilogue)
        terms, steps = self._biased((*same, *products), bias, epilogue)
        late = self._late(node, acc, epilogue)
        if late is None:
            phases = [*before, Phase(terms, steps)]
        else:
            shifts = sum(1 for _ in takewhile(_shifts, epilogue.steps))
            cut = len(steps) - len(epilogue.steps) + shifts
            phases = [Phase(terms, steps[:cut]), Phase((late,), steps[cut:])]
        self._emit(node, phases, epilogue)

    def _weights(
        self, node: integer.IntConv, bias: Int64, epilogue: Epilogue
    ) -> tuple[tuple[Term, ...], Int64]:
        """The convolution as terms, and the rest of ``bias`` that they do not add."""
        offer = self._offered(node, epilogue)
        found = self._conv_terms(node, bias)
        if offer:
            full = self._conv_terms(
                _widened(node, len(offer)), np.append(bias, producing(offer, epilogue))
            )
            if full.left_blocks(self.spec) <= found.left_blocks(self.spec):
                self.constants[node.name] = offer
                found = full
        if found.layout is not None:
            self.layout = found.layout
        return found.terms, found.left

    def _conv_terms(self, node: integer.IntConv, bias: Int64) -> _ConvTerms:
        """The terms of ``node``, which add ``bias`` as far as constants in its input allow.

        There is one term for each slice of the input (gathers.py) and each band of a large kernel.
        """
        zero = self.summands.bounds[node.input].zero  # inputs whose weights have no effect
        node = replace(node, weight=node.weight * ~zero[:, None, None])
        if node.input in self.constants:
            taps = inner_taps(node, self.graph.node(node.input).shape)
            weight, left = riding(node.weight, bias, self.constants[node.input], taps, self.spec)
            return _ConvTerms(tuple(self._terms(node, node.input, weight)), left)
        laid = host_layout(self.graph, node, bias, self.spec)
        if laid is not None:
            return _ConvTerms((laid.term,), bias * (not laid.biased), laid.layout)
        terms: list[Term] = []
        for part in self.gathers.slices(node.input):
            weight = part.columns(node.weight, self.graph.node(part.source).shape[0])
            terms += self._terms(node, part.source, weight)
        return _ConvTerms(tuple(terms), bias)

    def _terms(self, node: integer.IntConv, source: str, weight: Int8) -> list[Term]:
        kernel = (weight.shape[2], weight.shape[3])
        tiles = weight_tiles(weight, self.spec)
        return banded(Term(source, tiles, kernel, node.stride, node.padding), self.spec)

    def _offered(self, node: integer.IntConv, epilogue: Epilogue) -> tuple[int, ...]:
        """Constants for ``node``'s spare channels, if a convolution reads its tensor."""
        readers = self.graph.consumers(node.name)
        read = any(isinstance(r, integer.IntConv) and r.input == node.name for r in readers)
        return offered(node, epilogue, self.spec) if read and node.name != self.graph.output else ()

    def _gathered(self, node: IntConcat | IntSelect) -> None:
        """A kernel that copies the slices, unless only convolutions read them."""
        bounds = self.summands.bounds
        if isinstance(node, IntConcat):
            parts = [bounds[part] for part in node.parts]
            low = np.concatenate([part.low for part in parts])
            high = np.concatenate([part.high for part in parts])
        else:
            low, high = (getattr(bounds[node.input], end)[node.channels] for end in ("low", "high"))
        acc = Bounds(low, high)
        bounds[node.name] = acc
        if self.gathers.absorb(node):
            return
        one = np.eye(node.shape[0], dtype=np.int8)[:, :, None, None]
        terms = []
        for part in self.gathers.parts_of(node):
            channels = self.graph.node(part.source).shape[0]
            tiles = weight_tiles(part.columns(one, channels), self.spec)
            terms.append(Term(part.source, tiles, role="copy"))
        self._finish(node, [Phase(tuple(terms))], acc, False, _KEEP)

    def _upsample(self, node: IntUpsample) -> None:
        count = node.shape[0]
        tiles = diagonal_tiles(np.ones(count, np.int64), count, self.spec)
        self.summands.bounds[node.name] = self.summands.bounds[node.input]
        copy = ProductKernel(node.name, (Phase((Term(node.input, tiles, role="copy"),)),))
        self.kernels.append(UpsampleKernel(copy, node.factor))

    def _late(self, node: integer.IntConv, acc: Bounds, epilogue: Epilogue) -> Term | None:
        """The shortcut as a term after the shift, the epilogue's first step, where that pays.

        None where a block has no shift although its shortcut adds a constant.
        """
        shifts_first = bool(epilogue.steps) and _shifts(epilogue.steps[0])
        if node.residual is None or not shifts_first:
            return None
        shifted = epilogue.steps[0].blocks
        if shifted is not None:
            still = ~shifted.repeat(self.spec.block_out)[: node.shape[0]]
            if not self.summands.bounds[node.residual].zero[still].all():
                return None
        return self.summands.behind_the_shift(node, node.residual, acc.plus(epilogue.fold))

    def _max_pool(self, node: integer.IntMaxPool) -> None:
        if any(2 * pad > size for pad, size in zip(node.padding, node.kernel, strict=True)):
            raise UnsupportedError(f"{node.name}: padding {node.padding} exceeds half the window")
        source = self.summands.bounds[node.input]
        count = node.shape[0]
        identity = diagonal_tiles(np.ones(count, np.int64), count, self.spec)
        floor = 0 if (source.low >= 0).all() else -128
        self.summands.bounds[node.name] = source
        pool = MaxPoolKernel(
            node.name, node.input, identity, node.kernel, node.stride, node.padding, floor
        )
        self.kernels.append(pool)

    def _only_added(self, node: integer.IntPad) -> bool:
        """Whether only shortcuts and additions read ``node`` and it is not the output."""
        readers = list(self.graph.consumers(node.name))
        only_sums = all(
            isinstance(reader, integer.IntAdd)
            or (isinstance(reader, integer.IntConv) and reader.input != node.name)
            for reader in readers
        )
        return bool(readers) and only_sums and node.name != self.graph.output


def _shifts(step: AluStep) -> bool:
    return step.op is AluOp.SHR


def _widened(node: integer.IntConv, many: int) -> integer.IntConv:
    """``node`` with ``many`` more output channels, without weights."""
    return replace(node, weight=np.pad(node.weight, ((0, many), (0, 0), (0, 0), (0, 0))))
