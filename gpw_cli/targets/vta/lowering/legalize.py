"""Integer graph to kernels: every node in terms of tiles, constants and exact ALU steps.

    kernels, layout = legalize(graph, spec)

Each kernel writes the tensor of its name. An option-A shortcut (``IntPad``) that only feeds
additions becomes shifted diagonal tiles of those and is not computed on its own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import takewhile

import numpy as np

from gpw_cli.errors import UnsupportedError
from gpw_cli.graph import integer
from gpw_cli.graph.integer import FULL_RANGE, IntGraph, IntNode, Rescale, wrap_int32
from gpw_cli.graph.integer_moves import IntConcat, IntSelect, IntUpsample
from gpw_cli.targets.vta.isa.geometry import VtaSpec
from gpw_cli.targets.vta.isa.input_layout import PLAIN, InputLayout
from gpw_cli.targets.vta.isa.instructions import AluOp
from gpw_cli.targets.vta.lowering.constant_channels import (
    inner_taps,
    offered,
    producing,
    riding,
)
from gpw_cli.targets.vta.lowering.epilogue import Bounds, Tail, shorten, step
from gpw_cli.targets.vta.lowering.gathers import Gathers
from gpw_cli.targets.vta.lowering.host_layout import host_layout
from gpw_cli.targets.vta.lowering.identity_tiles import Copies
from gpw_cli.targets.vta.lowering.tile_ir import (
    AluStep,
    Int8,
    Int64,
    Kernel,
    MaxPoolKernel,
    ProductKernel,
    Stage,
    Term,
    UpsampleKernel,
    banded,
    bias_tiles,
    diagonal_tiles,
    weight_tiles,
)

_KEEP = Rescale(0, False, *FULL_RANGE)


def legalize(graph: IntGraph, spec: VtaSpec) -> tuple[list[Kernel], InputLayout]:
    """The kernels of ``graph``, in an order in which they can run, and what the host prepares.

    Raises UnsupportedError for a node that VTA cannot compute, by name.
    """
    return _Legalizer(graph, spec).run()


@dataclass(frozen=True, eq=False)
class _Product:
    """A convolution's ``terms``; ``left``: the bias that they do not add, int64 [O]."""

    terms: tuple[Term, ...]
    left: Int64
    layout: InputLayout | None = None

    def left_blocks(self, spec: VtaSpec) -> int:
        """Output blocks that still need a bias."""
        return len(np.unique(np.flatnonzero(self.left) // spec.block_out))


class _Legalizer:
    """Walks a graph; ``copies.bounds`` holds the values that each tensor can take."""

    def __init__(self, graph: IntGraph, spec: VtaSpec) -> None:
        self.graph, self.spec = graph, spec
        self.copies = Copies(graph, spec)
        self.gathers = Gathers(graph, spec.block_in)
        self.kernels: list[Kernel] = []
        self.layout = PLAIN
        self.constants: dict[str, tuple[int, ...]] = {}  # what a tensor's spare channels hold

    def run(self) -> tuple[list[Kernel], InputLayout]:
        for node in self.graph.nodes:
            self._node(node)
        return self.kernels, self.layout

    def _node(self, node: IntNode) -> None:
        copies = self.copies
        if isinstance(node, integer.IntInput):
            copies.bounds[node.name] = _any_int8(node.shape[0])
        elif isinstance(node, integer.IntMaxPool):
            self._max_pool(node)
        elif isinstance(node, integer.IntConv):
            self._conv(node)
        elif isinstance(node, integer.IntAdd):
            self._finish(node, *copies.add(node), node.relu, node.rescale)
        elif isinstance(node, integer.IntRelu):
            term, acc = copies.term(node.input, 0, node.shape[0])
            self._finish(node, [Stage((replace(term, role="copy"),))], acc, True, node.rescale)
        elif isinstance(node, integer.IntAvgPool):
            terms, acc = copies.window(node)
            self._finish(node, [Stage(terms)], acc, False, node.rescale)
        elif isinstance(node, IntConcat | IntSelect):
            self._gathered(node)
        elif isinstance(node, IntUpsample):
            self._upsample(node)
        elif self._only_added(node):
            copies.absorbed.add(node.name)
            copies.bounds[node.name] = copies.padded(node)
        else:
            term, acc = copies.pad(node)
            self._finish(node, [Stage((term,))], acc, False, _KEEP)

    def _finish(
        self, node: IntNode, stages: list[Stage], acc: Bounds, relu: bool, rescale: Rescale
    ) -> None:
        """A kernel of ``stages`` whose last one has no steps yet, without bias."""
        tail = shorten(acc, relu, rescale, node.name, self.spec, by_block=True)
        terms, steps = self._biased(stages[-1].terms, tail.fold, tail)
        self._emit(node, [*stages[:-1], Stage(terms, steps)], tail)

    def _biased(
        self, terms: tuple[Term, ...], bias: Int64, tail: Tail
    ) -> tuple[tuple[Term, ...], tuple[AluStep, ...]]:
        """``terms`` and ``tail.steps`` with ``bias`` in either."""
        tiles = bias_tiles(bias, self.spec)
        if tiles is None:
            return terms, (step(AluOp.ADD, bias), *tail.steps)
        return ((Term(None, tiles, role="bias"), *terms) if len(tiles.out) else terms), tail.steps

    def _emit(self, node: IntNode, stages: list[Stage], tail: Tail) -> None:
        bits = node.out_bits if isinstance(node, integer.IntConv) else 8
        self.copies.bounds[node.name] = _stored(tail.bounds, bits)
        self.kernels.append(ProductKernel(node.name, tuple(stages)))

    def _conv(self, node: integer.IntConv) -> None:
        weight = node.weight.astype(np.int64)
        source = self.copies.bounds[node.input]
        bias = node.bias.astype(np.int64)
        acc = _conv_bounds(weight, source, padded=any(node.padding)).plus(bias)
        before: list[Stage] = []
        same: tuple[Term, ...] = ()
        extra = Bounds(np.zeros_like(bias), np.zeros_like(bias))
        if node.residual is not None:
            before, same, extra = self.copies.shortcut(node, node.residual)
        whole = acc.wrapped().plus(extra)
        tail = shorten(whole, node.relu, node.rescale, node.name, self.spec, by_block=True)
        products, bias = self._weights(node, wrap_int32(bias + tail.fold), tail)
        terms, steps = self._biased((*same, *products), bias, tail)
        late = self._late(node, acc, tail)
        if late is None:
            stages = [*before, Stage(terms, steps)]
        else:
            shifts = sum(1 for _ in takewhile(_shifts, tail.steps))
            cut = len(steps) - len(tail.steps) + shifts
            stages = [Stage(terms, steps[:cut]), Stage((late,), steps[cut:])]
        self._emit(node, stages, tail)

    def _weights(
        self, node: integer.IntConv, bias: Int64, tail: Tail
    ) -> tuple[tuple[Term, ...], Int64]:
        """The convolution as terms, and what of ``bias`` that leaves to add."""
        offer = self._offered(node, tail)
        found = self._product(node, bias)
        if offer:
            full = self._product(
                _widened(node, len(offer)), np.append(bias, producing(offer, tail))
            )
            if full.left_blocks(self.spec) <= found.left_blocks(self.spec):
                self.constants[node.name] = offer
                found = full
        if found.layout is not None:
            self.layout = found.layout
        return found.terms, found.left

    def _product(self, node: integer.IntConv, bias: Int64) -> _Product:
        """``node`` with ``bias`` in constants that its input holds, as far as they take it.

        A term a piece of the input (gathers.py) and, if the kernel is large, a band of it.
        """
        zero = self.copies.bounds[node.input].zero  # inputs whose weights do nothing
        node = replace(node, weight=node.weight * ~zero[:, None, None])
        if node.input in self.constants:
            taps = inner_taps(node, self.graph.node(node.input).shape)
            weight, left = riding(node.weight, bias, self.constants[node.input], taps, self.spec)
            return _Product(tuple(self._terms(node, node.input, weight)), left)
        laid = host_layout(self.graph, node, bias, self.spec)
        if laid is not None:
            return _Product((laid.term,), bias * (not laid.biased), laid.layout)
        terms: list[Term] = []
        for piece in self.gathers.pieces(node.input):
            weight = piece.columns(node.weight, self.graph.node(piece.source).shape[0])
            terms += self._terms(node, piece.source, weight)
        return _Product(tuple(terms), bias)

    def _terms(self, node: integer.IntConv, source: str, weight: Int8) -> list[Term]:
        kernel = (weight.shape[2], weight.shape[3])
        tiles = weight_tiles(weight, self.spec)
        return banded(Term(source, tiles, kernel, node.stride, node.padding), self.spec)

    def _offered(self, node: integer.IntConv, tail: Tail) -> tuple[int, ...]:
        """Constants for ``node``'s spare channels, if a convolution reads its tensor."""
        readers = self.graph.consumers(node.name)
        read = any(isinstance(r, integer.IntConv) and r.input == node.name for r in readers)
        return offered(node, tail, self.spec) if read and node.name != self.graph.output else ()

    def _gathered(self, node: IntConcat | IntSelect) -> None:
        """Nothing where only convolutions read it; else a copy."""
        bounds = self.copies.bounds
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
        for piece in self.gathers.parts_of(node):
            channels = self.graph.node(piece.source).shape[0]
            tiles = weight_tiles(piece.columns(one, channels), self.spec)
            terms.append(Term(piece.source, tiles, role="copy"))
        self._finish(node, [Stage(tuple(terms))], acc, False, _KEEP)

    def _upsample(self, node: IntUpsample) -> None:
        count = node.shape[0]
        tiles = diagonal_tiles(np.ones(count, np.int64), count, self.spec)
        self.copies.bounds[node.name] = self.copies.bounds[node.input]
        copy = ProductKernel(node.name, (Stage((Term(node.input, tiles, role="copy"),)),))
        self.kernels.append(UpsampleKernel(copy, node.factor))

    def _late(self, node: integer.IntConv, acc: Bounds, tail: Tail) -> Term | None:
        """The shortcut as a term after the tail's shift, its first step, where that pays.

        Not where a block has no shift although its shortcut adds something, a constant.
        """
        shifts_first = bool(tail.steps) and _shifts(tail.steps[0])
        if node.residual is None or not shifts_first:
            return None
        shifted = tail.steps[0].blocks
        if shifted is not None:
            still = ~shifted.repeat(self.spec.block_out)[: node.shape[0]]
            if not self.copies.bounds[node.residual].zero[still].all():
                return None
        return self.copies.behind_the_shift(node, node.residual, acc.plus(tail.fold))

    def _max_pool(self, node: integer.IntMaxPool) -> None:
        if any(2 * pad > size for pad, size in zip(node.padding, node.kernel, strict=True)):
            raise UnsupportedError(f"{node.name}: padding {node.padding} exceeds half the window")
        source = self.copies.bounds[node.input]
        count = node.shape[0]
        identity = diagonal_tiles(np.ones(count, np.int64), count, self.spec)
        floor = 0 if (source.low >= 0).all() else -128
        self.copies.bounds[node.name] = source
        pool = MaxPoolKernel(
            node.name, node.input, identity, node.kernel, node.stride, node.padding, floor
        )
        self.kernels.append(pool)

    def _only_added(self, node: integer.IntPad) -> bool:
        """Whether only shortcuts and additions read it, and it is not the network's output."""
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


def _any_int8(count: int) -> Bounds:
    return Bounds(np.full(count, -128, np.int64), np.full(count, 127, np.int64))


def _conv_bounds(weight: Int64, source: Bounds, *, padded: bool) -> Bounds:
    low = np.minimum(source.low, 0) if padded else source.low
    high = np.maximum(source.high, 0) if padded else source.high
    plus = np.maximum(weight, 0).sum(axis=(2, 3))
    minus = np.minimum(weight, 0).sum(axis=(2, 3))
    return Bounds(plus @ low + minus @ high, plus @ high + minus @ low)


def _stored(bounds: Bounds, bits: int) -> Bounds:
    """What the truncating store leaves: the same values, or any where they do not fit."""
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    fits = (bounds.low >= low).all() and (bounds.high <= high).all()
    full = Bounds(np.full_like(bounds.low, low), np.full_like(bounds.high, high))
    return bounds if fits else full
