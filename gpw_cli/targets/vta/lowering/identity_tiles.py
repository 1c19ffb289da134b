"""Tensors as summands: diagonal tiles bring int8 values into the accumulators, shifted left.

    summands = Summands(graph, spec)
    term, bounds = summands.term("layer1.relu", shift, outs)

VTA loads int8 activations into the input scratchpad only, so a summand is multiplied by a diagonal
of powers of two, up to 2^6 in int8. The ALU does larger shifts, between two phases.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from gpw_cli.arrays import Int64
from gpw_cli.graph.integer import (
    FULL_RANGE,
    IntAdd,
    IntAvgPool,
    IntConv,
    IntGraph,
    IntPad,
    Rescale,
)
from gpw_cli.targets.vta.isa.geometry import VtaSpec
from gpw_cli.targets.vta.isa.instructions import AluOp
from gpw_cli.targets.vta.lowering.bounds import Bounds
from gpw_cli.targets.vta.lowering.epilogue import channels, shift_steps, shorten, step
from gpw_cli.targets.vta.lowering.tile_ir import AluStep, Pair, Phase, Term, banded, diagonal_tiles

POWER = 6  # the largest power of two in int8


@dataclass
class Summands:
    """``bounds``: the possible values of each tensor; ``absorbed``: pads that have no kernel."""

    graph: IntGraph
    spec: VtaSpec
    bounds: dict[str, Bounds] = field(default_factory=dict)
    absorbed: set[str] = field(default_factory=set)

    def term(self, name: str, shift: int | Int64, outs: int) -> tuple[Term, Bounds]:
        """(term that adds tensor ``name`` << ``shift``, bounds of the tensor before the shift).

        ``shift``: 0 to 6, or int64 [outs]. An absorbed pad is read from its own source.
        """
        source, before, stride = self._behind(name)
        values = np.broadcast_to(1 << np.asarray(shift, np.int64), outs)
        values = np.where(self.bounds[name].zero, 0, values)
        ins = self.graph.node(source).shape[0]
        tiles = diagonal_tiles(values, ins, self.spec, before=before)
        return Term(source, tiles, stride=stride, role="shortcut"), self.bounds[name]

    def _behind(self, name: str) -> tuple[str, int, Pair]:
        """(source, channels before, stride)."""
        node = self.graph.node(name)
        if isinstance(node, IntPad) and name in self.absorbed:
            return node.input, node.before, node.stride
        return name, 0, (1, 1)

    def padded(self, node: IntPad) -> Bounds:
        """Bounds of a pad's result."""
        inner, zeros = self.bounds[node.input], np.zeros(node.shape[0], np.int64)
        low, high = zeros.copy(), zeros.copy()
        inside = slice(node.before, node.before + len(inner.low))
        low[inside], high[inside] = inner.low, inner.high
        return Bounds(low, high)

    def pad(self, node: IntPad) -> tuple[Term, Bounds]:
        """A pad as a kernel of its own."""
        ones = np.ones(node.shape[0], np.int64)
        ins = self.graph.node(node.input).shape[0]
        tiles = diagonal_tiles(ones, ins, self.spec, before=node.before)
        return Term(node.input, tiles, stride=node.stride, role="copy"), self.padded(node)

    def window_sum(self, node: IntAvgPool) -> tuple[tuple[Term, ...], Bounds]:
        """The sum over a window."""
        source, taps = self.bounds[node.input], node.kernel[0] * node.kernel[1]
        ones = np.where(source.zero, 0, 1)
        tiles = diagonal_tiles(ones, len(ones), self.spec, kernel=node.kernel)
        low = np.minimum(source.low, 0) if any(node.padding) else source.low
        high = np.maximum(source.high, 0) if any(node.padding) else source.high
        term = Term(node.input, tiles, node.kernel, node.stride, node.padding, "pool")
        return tuple(banded(term, self.spec)), Bounds(low * taps, high * taps)

    def add(self, node: IntAdd) -> tuple[list[Phase], Bounds]:
        """Stages of an addition: ((larger shift << apart) + smaller shift) << common."""
        outs = node.shape[0]
        pairs = sorted(((node.shift_a, node.a), (node.shift_b, node.b)), reverse=True)
        (high, big), (low, small) = pairs
        left, right = (
            self.bounds[name].shifted(-channels(shift, outs, node.name)).wrapped()
            for shift, name in pairs
        )
        acc = left.plus(right)
        if high <= POWER:
            return [Phase(tuple(self.term(name, shift, outs)[0] for shift, name in pairs))], acc
        apart = high - low
        first, second = self.term(big, min(apart, POWER), outs)[0], self.term(small, 0, outs)[0]
        up = self._up(low)
        phases = [Phase((first, second), up)]
        if apart > POWER:
            between = self._up(apart - POWER)
            phases = [Phase((first,), between), Phase((second,), up)]
        return [*phases, Phase(())] if up else phases, acc

    def shortcut(self, node: IntConv, name: str) -> tuple[list[Phase], tuple[Term, ...], Bounds]:
        """(phases before that of the convolution, terms that join its phase, bounds)."""
        outs = node.shape[0]
        shift = channels(node.residual_shift, outs, node.name)
        top, bottom = int(shift.max()), int(shift.min())
        if bottom < 0:
            return self._rounded(name, -bottom, outs)
        acc = self.bounds[name].shifted(-shift).wrapped()
        if top <= POWER:
            return [], (self.term(name, shift, outs)[0],), acc
        common = top - POWER if top - bottom <= POWER else 0
        if common:
            term = self.term(name, shift - common, outs)[0]
            return [Phase((term,), self._up(common))], (), acc
        steps = shift_steps(-shift, self.bounds[name], node.name, self.spec)
        return [Phase((self.term(name, 0, outs)[0],), steps)], (), acc

    def _up(self, bits: int) -> tuple[AluStep, ...]:
        """All channels shifted left by ``bits`` >= 0."""
        zero = np.zeros(1, np.int64)
        return shift_steps(zero - bits, Bounds(zero, zero), "", self.spec)

    def _rounded(
        self, name: str, bits: int, outs: int
    ) -> tuple[list[Phase], tuple[Term, ...], Bounds]:
        """A shortcut shifted right, rounded half up."""
        term, acc = self.term(name, 0, outs)
        epilogue = shorten(acc, False, Rescale(bits, True, *FULL_RANGE), name, self.spec)
        return (
            [Phase((term,), (step(AluOp.ADD, epilogue.fold), *epilogue.steps))],
            (),
            epilogue.bounds,
        )

    def behind_the_shift(self, node: IntConv, name: str, acc: Bounds) -> Term | None:
        """The shortcut as a summand after the rescale's shift by n, if exact and shorter.

        ``(acc + (x << k)) >> n == (acc >> n) + (x << (k - n))`` for k >= n where nothing overflows
        (``acc`` has the rounding term but not the shortcut). It saves the step that shifts x.
        """
        outs = node.shape[0]
        shift = channels(node.residual_shift, outs, node.name)
        right = channels(node.rescale.shift, outs, node.name)
        apart = shift - right
        whole = acc.plus(self.bounds[name].shifted(-np.maximum(shift, 0)))
        exact = (right >= 0).all() and not acc.overflow and not whole.overflow
        shorter = shift.max() > POWER and apart.min() >= 0 and apart.max() <= POWER
        return self.term(name, apart, outs)[0] if exact and shorter else None
