"""The operands of a kernel's GEMMs and ALU steps: inputs, weight sets, vectors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gpw_cli.arrays import Int32, Int64
from gpw_cli.targets.vta.isa.instructions import MemType
from gpw_cli.targets.vta.lowering.blocking import Bundle, Piece, WeightSet
from gpw_cli.targets.vta.lowering.builder import Builder
from gpw_cli.targets.vta.lowering.input_blocking import Shaped
from gpw_cli.targets.vta.lowering.layout import Tensor
from gpw_cli.targets.vta.lowering.load_store import inside, load_row, load_window
from gpw_cli.targets.vta.lowering.loops import AccTile, GemmOperands
from gpw_cli.targets.vta.lowering.stream import Span
from gpw_cli.targets.vta.lowering.tile_ir import ProductKernel
from gpw_cli.targets.vta.lowering.tiling import Window, window


class Weights:
    """The weight sets of one kernel, whose tiles lie in DRAM from element ``first``.

    ``loaded``: first tile of a set -> the element to which it was loaded last.
    """

    def __init__(self, builder: Builder, first: int) -> None:
        self.builder, self.first = builder, first
        self.loaded: dict[int, int] = {}

    def need(self, weights: WeightSet) -> None:
        """Loads the set, unless it is a lasting one that has been loaded."""
        begin = weights.begin
        if weights.count and not (weights.lasting and begin in self.loaded):
            self.loaded[begin] = self.builder.wgt.next(weights.count)
            first = self.first + begin
            load_row(self.builder, MemType.WGT, first, self.loaded[begin], weights.count)

    def elements(self, piece: Piece) -> Int64:
        """The scratchpad element of each tile of ``piece``."""
        weights = piece.weights
        found: Int64 = self.loaded[weights.begin] + weights.index[piece.term][piece.tiles.tile]
        return found


def vector_steps(kernel: ProductKernel) -> list[tuple[tuple[int, int], Int32]]:
    """((phase, step), operand) of each ALU step with one value per channel."""
    return [
        ((index, number), step.operand)
        for index, phase in enumerate(kernel.phases)
        for number, step in enumerate(phase.steps)
        if not isinstance(step.operand, int)
    ]


class Vectors:
    """Operands of ALU steps with one value per channel, loaded before the first tile.

    They are in DRAM from element ``first`` on, each ``blocks`` accumulators long.
    """

    def __init__(self, builder: Builder, kernel: ProductKernel, blocks: int, first: int) -> None:
        self.builder, self.first = builder, first
        steps = [step for step, _ in vector_steps(kernel)]
        base = builder.sram.vectors
        self.base = {step: base + blocks * number for number, step in enumerate(steps)}
        self.count = blocks * len(steps)
        self.loaded = not steps

    def need(self) -> None:
        """Loads them once."""
        if not self.loaded:
            load_row(self.builder, MemType.ACC, self.first, self.builder.sram.vectors, self.count)
            self.loaded = True


@dataclass(frozen=True)
class Area:
    """Output pixels of one tile."""

    row: int
    rows: int
    col: int
    cols: int


@dataclass(frozen=True, eq=False)
class LoadedPart:
    """The ``view`` of each of ``groups`` of a term's source, from input element ``base`` on."""

    base: int
    view: Window
    groups: Int64
    source: Tensor


Loaded = dict[int, LoadedPart]  # by term


class Inputs:
    """The input tiles of one kernel."""

    def __init__(self, builder: Builder, shaped: Shaped, weights: Weights) -> None:
        self.builder, self.shaped, self.weights = builder, shaped, weights

    def ready(self, area: Area, bundle: Bundle) -> bool:
        """Whether the STOREs of everything that ``load`` reads are in the stream."""
        for part in self._parts(area, bundle, 0)[0].values():
            if not self.builder.stream.available(part.source, inside(part.view, part.groups)):
                return False
        return True

    def load(self, area: Area, bundle: Bundle) -> Loaded:
        """Loads every part of ``bundle`` into the next slot."""
        _, size = self._parts(area, bundle, 0)
        parts, _ = self._parts(area, bundle, self.builder.inp.next(size))
        for part in parts.values():
            load_window(self.builder, part.source, part.groups, part.view, part.base)
        return parts

    def _parts(self, area: Area, bundle: Bundle, base: int) -> tuple[Loaded, int]:
        """(the parts from element ``base`` on, the end)."""
        loaded: Loaded = {}
        for part in bundle.parts:
            source = self.shaped.sources[part.term]
            assert source is not None
            term = self.shaped.kernel.terms[part.term]
            view = window(term, source, area.row, area.rows, area.col, area.cols)
            loaded[part.term] = LoadedPart(base, view, part.groups, source)
            base += len(part.groups) * view.pixels * source.pixel(self.builder.spec.block_in)
        return loaded, base

    def operands(self, piece: Piece, loaded: Loaded, acc: AccTile) -> GemmOperands:
        """The operands of ``piece`` at the first pixel, with the strides to the others."""
        tiles, wgt = piece.tiles, self.weights.elements(piece)
        span = Span(int(wgt.min()), int(wgt.max()) + 1)
        dst = acc.first(tiles.out)
        term = self.shaped.kernel.terms[piece.term]
        if piece.term not in loaded:
            src = np.full(len(dst), self.builder.sram.constant)
            constant = Span(self.builder.sram.constant, self.builder.sram.constant + 1)
            return GemmOperands(dst, src, wgt, 0, 0, piece.distance, constant, span, term.role)
        part = loaded[piece.term]
        pixel = part.source.pixel(self.builder.spec.block_in)
        group, inner = np.divmod(tiles.inp, pixel)
        before = np.searchsorted(part.groups, group) * part.view.pixels
        src = part.base + (before + tiles.row * part.view.cols + tiles.col) * pixel + inner
        return GemmOperands(
            dst,
            src,
            wgt,
            part.view.cols * pixel * (term.stride[0] if term.row_step == 1 else 1),
            pixel * term.stride[1],
            piece.distance,
            Span(part.base, part.base + len(part.groups) * part.view.pixels * pixel),
            span,
            term.role,
        )
