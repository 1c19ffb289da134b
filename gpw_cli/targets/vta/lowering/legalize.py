"""Integer graph to kernels: every node in terms of tiles, constants and exact ALU steps.

    kernels = legalize(graph, spec)

Each kernel writes the tensor of its name. An option-A shortcut (``IntPad``) that only feeds
additions becomes shifted diagonal tiles of those and is not computed on its own.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from gpw_cli.errors import UnsupportedError
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
)
from gpw_cli.targets.vta.isa import AluOp
from gpw_cli.targets.vta.lowering.kernels import (
    AluStep,
    Int32,
    Int64,
    Kernel,
    MaxPoolKernel,
    Pair,
    ProductKernel,
    Stage,
    Term,
    bias_tiles,
    diagonal_tiles,
    weight_tiles,
)
from gpw_cli.targets.vta.lowering.tail import Bounds, channels, shorten
from gpw_cli.targets.vta.spec import VtaSpec

_POWER = 6  # the largest power of two in int8
_KEEP = Rescale(0, False, *FULL_RANGE)


@dataclass
class Legalizer:
    """Walks a graph; ``bounds`` holds the values that each tensor can take."""

    graph: IntGraph
    spec: VtaSpec
    kernels: list[Kernel] = field(default_factory=list)
    bounds: dict[str, Bounds] = field(default_factory=dict)

    def run(self) -> list[Kernel]:
        """Every node in order."""
        for node in self.graph.nodes:
            if isinstance(node, IntInput):
                self.bounds[node.name] = self._any_int8(node.shape[0])
            elif isinstance(node, IntMaxPool):
                self._max_pool(node)
            elif isinstance(node, IntPad) and self._absorbed(node):
                self.bounds[node.name] = self._bounds_of_copy(node)
            else:
                self._product(node)
        return self.kernels

    def _product(self, node: IntNode) -> None:
        if isinstance(node, IntConv):
            stages, acc = self._conv(node)
            self._finish(node, stages, acc, node.bias, node.relu, node.rescale)
        elif isinstance(node, IntAdd):
            stages, acc = self._add(node)
            self._finish(node, stages, acc, None, node.relu, node.rescale)
        elif isinstance(node, IntRelu):
            term, acc = self._copy(node.input, 0, node.shape[0])
            self._finish(node, [Stage((term,))], acc, None, True, node.rescale)
        elif isinstance(node, IntAvgPool):
            stages, acc = self._sum(node)
            self._finish(node, stages, acc, None, False, node.rescale)
        elif isinstance(node, IntPad):
            term, acc = self._copy(node.name, 0, node.shape[0])
            self._finish(node, [Stage((term,))], acc, None, False, _KEEP)
        else:
            raise UnsupportedError(f"{node.name}: {type(node).__name__} cannot run on VTA")

    def _finish(
        self,
        node: IntNode,
        stages: list[Stage],
        acc: Bounds,
        bias: Int32 | None,
        relu: bool,
        rescale: Rescale,
    ) -> None:
        """Adds bias and tail to the last stage."""
        start = np.zeros(node.shape[0], np.int64) if bias is None else bias.astype(np.int64)
        tail = shorten(acc.plus(start), relu, rescale, node.name)
        last, terms, steps = stages[-1], stages[-1].terms, list(tail.steps)
        tiles = bias_tiles(_wrap(start + tail.fold), self.spec)
        if tiles is None:
            steps.insert(0, AluStep(AluOp.ADD, _wrap(start + tail.fold).astype(np.int32)))
        elif len(tiles.out):
            terms = (Term(None, tiles), *terms)
        stages[-1] = Stage(terms, (*last.steps, *steps))
        bits = node.out_bits if isinstance(node, IntConv) else 8
        self.bounds[node.name] = _stored(tail.bounds, bits)
        self.kernels.append(ProductKernel(node.name, tuple(stages)))

    def _conv(self, node: IntConv) -> tuple[list[Stage], Bounds]:
        source = self.bounds[node.input]
        weight = node.weight.astype(np.int64)
        acc = _conv_bounds(weight, source, padded=any(node.padding))
        term = Term(
            node.input,
            weight_tiles(node.weight, self.spec),
            (weight.shape[2], weight.shape[3]),
            node.stride,
            node.padding,
        )
        if node.residual is None:
            return [Stage((term,))], acc
        before, same, extra = self._shortcut(node, node.residual)
        return [*before, Stage((*same, term))], acc.wrapped().plus(extra)

    def _shortcut(self, node: IntConv, name: str) -> tuple[list[Stage], tuple[Term, ...], Bounds]:
        """(stages before, terms that join the convolution's stage, bounds)."""
        outs = node.shape[0]
        shift = channels(node.residual_shift, outs, node.name)
        top, bottom = int(shift.max()), int(shift.min())
        if bottom < 0:
            return self._rounded(name, -bottom, outs)
        acc = self._copied(name).shifted(-shift).wrapped()
        if top <= _POWER:
            return [], (self._copy(name, shift, outs)[0],), acc
        common = top - _POWER if top - bottom <= _POWER else 0
        if common:
            term = self._copy(name, shift - common, outs)[0]
            return [Stage((term,), (AluStep(AluOp.SHR, -common),))], (), acc
        term = self._copy(name, 0, outs)[0]
        return [Stage((term,), (AluStep(AluOp.SHR, (-shift).astype(np.int32)),))], (), acc

    def _rounded(
        self, name: str, bits: int, outs: int
    ) -> tuple[list[Stage], tuple[Term, ...], Bounds]:
        term, acc = self._copy(name, 0, outs)
        tail = shorten(acc, False, Rescale(bits, True, *FULL_RANGE), name)
        add = AluStep(AluOp.ADD, tail.fold.astype(np.int32))
        if tail.fold[0] < 2**15:
            add = AluStep(AluOp.ADD, int(tail.fold[0]))
        return [Stage((term,), (add, *tail.steps))], (), tail.bounds

    def _add(self, node: IntAdd) -> tuple[list[Stage], Bounds]:
        """The operand with the larger shift first: ((big << d) + small) << common."""
        outs = node.shape[0]
        pairs = sorted(((node.shift_a, node.a), (node.shift_b, node.b)), reverse=True)
        (high, big), (low, small) = pairs
        bounds = [
            self._copied(name).shifted(-channels(shift, outs, node.name)).wrapped()
            for shift, name in pairs
        ]
        acc = bounds[0].plus(bounds[1])
        if high <= _POWER:
            terms = tuple(self._copy(name, shift, outs)[0] for shift, name in pairs)
            return [Stage(terms)], acc
        apart = high - low
        first, second = self._copy(big, min(apart, _POWER), outs), self._copy(small, 0, outs)
        up = () if low == 0 else (AluStep(AluOp.SHR, -low),)
        stages = [Stage((first[0], second[0]), up)]
        if apart > _POWER:
            stages = [
                Stage((first[0],), (AluStep(AluOp.SHR, _POWER - apart),)),
                Stage((second[0],), up),
            ]
        return [*stages, Stage(())] if up else stages, acc

    def _sum(self, node: IntAvgPool) -> tuple[list[Stage], Bounds]:
        ones = np.ones(node.shape[0], np.int64)
        tiles = diagonal_tiles(ones, len(ones), self.spec, kernel=node.kernel)
        term = Term(node.input, tiles, node.kernel, node.stride, node.padding)
        source, taps = self._copied(node.input), node.kernel[0] * node.kernel[1]
        low = np.minimum(source.low, 0) if any(node.padding) else source.low
        high = np.maximum(source.high, 0) if any(node.padding) else source.high
        return [Stage((term,))], Bounds(low * taps, high * taps)

    def _max_pool(self, node: IntMaxPool) -> None:
        if any(2 * pad > size for pad, size in zip(node.padding, node.kernel, strict=True)):
            raise UnsupportedError(f"{node.name}: padding {node.padding} exceeds half the window")
        source = self.bounds[node.input]
        count = node.shape[0]
        identity = diagonal_tiles(np.ones(count, np.int64), count, self.spec)
        floor = 0 if (source.low >= 0).all() else -128
        self.bounds[node.name] = source
        pool = MaxPoolKernel(
            node.name, node.input, identity, node.kernel, node.stride, node.padding, floor
        )
        self.kernels.append(pool)

    def _copy(self, name: str, shift: int | Int64, outs: int) -> tuple[Term, Bounds]:
        """A diagonal term that reads tensor ``name``, through it if it is an absorbed pad."""
        values = np.broadcast_to(1 << np.asarray(shift, np.int64), outs)
        source, before, stride = self._behind(name)
        ins = self.graph.node(source).shape[0]
        tiles = diagonal_tiles(values, ins, self.spec, before=before)
        return Term(source, tiles, stride=stride), self._copied(name)

    def _behind(self, name: str) -> tuple[str, int, Pair]:
        """(source, channels before, stride): of a pad without a kernel, or the tensor itself."""
        node = self.graph.node(name)
        if isinstance(node, IntPad) and name not in {kernel.name for kernel in self.kernels}:
            return node.input, node.before, node.stride
        return name, 0, (1, 1)

    def _copied(self, name: str) -> Bounds:
        node = self.graph.node(name)
        if name not in self.bounds and isinstance(node, IntPad):
            return self._bounds_of_copy(node)
        return self.bounds[name]

    def _bounds_of_copy(self, node: IntPad) -> Bounds:
        inner, zeros = self.bounds[node.input], np.zeros(node.shape[0], np.int64)
        low, high = zeros.copy(), zeros.copy()
        inside = slice(node.before, node.before + len(inner.low))
        low[inside], high[inside] = inner.low, inner.high
        return Bounds(low, high)

    def _absorbed(self, node: IntPad) -> bool:
        """Whether only shortcuts and additions read it, none of them the network's output."""
        readers = list(self.graph.consumers(node.name))
        only_sums = all(
            isinstance(reader, IntAdd)
            or (isinstance(reader, IntConv) and reader.input != node.name)
            for reader in readers
        )
        return bool(readers) and only_sums and node.name != self.graph.output

    def _any_int8(self, count: int) -> Bounds:
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


def _wrap(value: Int64) -> Int64:
    return ((value + 2**31) & (2**32 - 1)) - 2**31


def legalize(graph: IntGraph, spec: VtaSpec) -> list[Kernel]:
    """The kernels of ``graph``, in an order in which they can run.

    Raises UnsupportedError for a node that VTA cannot compute, by name.
    """
    return Legalizer(graph, spec).run()
