"""From the integer graph to kernels: each node as tiles, constants and exact ALU steps.

    kernels, layout = legalize(graph, spec)

Each kernel writes the tensor of its name. An option-A shortcut (``IntPad``) that only additions
read becomes diagonal tiles of their kernels and gets no kernel of its own.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import takewhile

import numpy as np

from gpw_cli.arrays import Int64
from gpw_cli.errors import UnsupportedError
from gpw_cli.graph import integer
from gpw_cli.graph.integer import FULL_RANGE, IntGraph, IntNode, Rescale, wrap_int32
from gpw_cli.targets.vta.isa.geometry import VtaSpec
from gpw_cli.targets.vta.isa.input_layout import PLAIN, InputLayout
from gpw_cli.targets.vta.isa.instructions import AluOp
from gpw_cli.targets.vta.lowering.bounds import Bounds, any_int8, conv_bounds, stored
from gpw_cli.targets.vta.lowering.convolutions import Convolutions
from gpw_cli.targets.vta.lowering.epilogue import AluEpilogue, shorten, step
from gpw_cli.targets.vta.lowering.gathers import Gathers
from gpw_cli.targets.vta.lowering.identity_tiles import Summands
from gpw_cli.targets.vta.lowering.tile_ir import (
    AluStep,
    Kernel,
    MaxPoolKernel,
    Phase,
    ProductKernel,
    Term,
    UpsampleKernel,
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


class _Legalizer:
    """Visits the nodes; ``summands.bounds`` holds the possible values of each tensor."""

    def __init__(self, graph: IntGraph, spec: VtaSpec) -> None:
        self.graph, self.spec = graph, spec
        self.summands = Summands(graph, spec)
        self.gathers = Gathers(graph, spec.block_in)
        self.convs = Convolutions(graph, spec, self.gathers, self.summands.bounds)
        self.kernels: list[Kernel] = []
        self.layout = PLAIN

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
            terms, acc = summands.window_sum(node)
            self._finish(node, [Phase(terms)], acc, False, node.rescale)
        elif isinstance(node, integer.IntConcat | integer.IntSelect):
            self._gathered(node)
        elif isinstance(node, integer.IntUpsample):
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
        self, terms: tuple[Term, ...], bias: Int64, epilogue: AluEpilogue
    ) -> tuple[tuple[Term, ...], tuple[AluStep, ...]]:
        """``terms`` and ``epilogue.steps``, with a term or a step in front that adds ``bias``."""
        tiles = bias_tiles(bias, self.spec)
        if tiles is None:
            return terms, (step(AluOp.ADD, bias), *epilogue.steps)
        if len(tiles.out):
            terms = (Term(None, tiles, role="bias"), *terms)
        return terms, epilogue.steps

    def _emit(self, node: IntNode, phases: list[Phase], epilogue: AluEpilogue) -> None:
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
        found = self.convs.terms(node, wrap_int32(bias + epilogue.fold), epilogue)
        self.layout = found.layout or self.layout
        terms, steps = self._biased((*same, *found.terms), found.left, epilogue)
        late = self._late(node, acc, epilogue)
        if late is None:
            phases = [*before, Phase(terms, steps)]
        else:
            shifts = sum(1 for _ in takewhile(_shifts, epilogue.steps))
            cut = len(steps) - len(epilogue.steps) + shifts
            phases = [Phase(terms, steps[:cut]), Phase((late,), steps[cut:])]
        self._emit(node, phases, epilogue)

    def _gathered(self, node: integer.IntConcat | integer.IntSelect) -> None:
        """A kernel that copies the slices, unless only convolutions read them."""
        bounds = self.summands.bounds
        if isinstance(node, integer.IntConcat):
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

    def _upsample(self, node: integer.IntUpsample) -> None:
        count = node.shape[0]
        tiles = diagonal_tiles(np.ones(count, np.int64), count, self.spec)
        self.summands.bounds[node.name] = self.summands.bounds[node.input]
        copy = ProductKernel(node.name, (Phase((Term(node.input, tiles, role="copy"),)),))
        self.kernels.append(UpsampleKernel(copy, node.factor))

    def _late(self, node: integer.IntConv, acc: Bounds, epilogue: AluEpilogue) -> Term | None:
        """The shortcut as a term after the shift, if that is exact and saves work; else None.

        The epilogue must start with the shift, and blocks that it leaves out must have no shortcut.
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
        """Whether ``node`` is read by additions and as a shortcut only, and is not the output."""
        readers = list(self.graph.consumers(node.name))
        only_sums = all(
            isinstance(reader, integer.IntAdd)
            or (isinstance(reader, integer.IntConv) and reader.input != node.name)
            for reader in readers
        )
        return bool(readers) and only_sums and node.name != self.graph.output


def _shifts(step: AluStep) -> bool:
    return step.op is AluOp.SHR
