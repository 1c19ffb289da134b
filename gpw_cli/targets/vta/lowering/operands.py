"""What a kernel's products and ALU steps read: input tiles, weight sets, vectors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpw_cli.targets.vta.isa.instructions import MemType
from gpw_cli.targets.vta.lowering.blocking import Bundle, Piece, WeightSet
from gpw_cli.targets.vta.lowering.builder import Builder
from gpw_cli.targets.vta.lowering.input_blocking import Shaped
from gpw_cli.targets.vta.lowering.layout import DramImage, Tensor, pack_vectors
from gpw_cli.targets.vta.lowering.loops import AccTile, Product
from gpw_cli.targets.vta.lowering.stream import Span
from gpw_cli.targets.vta.lowering.tile_ir import Int8, ProductKernel
from gpw_cli.targets.vta.lowering.tiling import Window, window
from gpw_cli.targets.vta.lowering.transfer import load_row, load_window, place

Int64 = NDArray[np.int64]


class Weights:
    """The weight tiles of one kernel in DRAM."""

    def __init__(self, builder: Builder, dram: DramImage, name: str, data: Int8) -> None:
        self.builder = builder
        self.first = 0
        if len(data):
            block_out, block_in = builder.spec.tile
            layout = f"tile {block_out}o {block_in}i, with bias and diagonal tiles, as used"
            region = dram.add(f"{name}.weight", data, layout=layout, kind="weight")
            self.first = region.offset // builder.spec.wgt_elem_bytes

    def need(self, weights: WeightSet) -> None:
        """Loads the set unless it is there already."""
        if weights.count and not (weights.lasting and weights.sram >= 0):
            weights.sram = self.builder.wgt.next(weights.count)
            first = self.first + weights.begin
            load_row(self.builder, MemType.WGT, first, weights.sram, weights.count)


class Vectors:
    """Operands of ALU steps that have one value a channel, loaded before the first tile."""

    def __init__(
        self, builder: Builder, dram: DramImage, kernel: ProductKernel, blocks: int
    ) -> None:
        self.builder = builder
        steps = [step for stage in kernel.stages for step in stage.steps]
        vectors = [(id(step), step.operand) for step in steps if not isinstance(step.operand, int)]
        self.count = blocks * len(vectors)
        self.place = {key: builder.vectors + blocks * n for n, (key, _) in enumerate(vectors)}
        self.first = 0
        self.loaded = not vectors
        if vectors:
            data = [pack_vectors(operand, blocks, builder.spec) for _, operand in vectors]
            layout = f"C/{builder.spec.block_out} n {builder.spec.block_out}c"
            name = f"{kernel.name}.bias"
            region = dram.add(name, np.concatenate(data), layout=layout, kind="bias")
            self.first = region.offset // builder.spec.acc_elem_bytes

    def need(self) -> None:
        """Loads them once."""
        if not self.loaded:
            load_row(self.builder, MemType.ACC, self.first, self.builder.vectors, self.count)
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
    """``groups`` of a term's source, each a ``view``, from input element ``base``."""

    base: int
    view: Window
    groups: Int64
    source: Tensor


Loaded = dict[int, LoadedPart]  # by term


class Inputs:
    """The input tiles of one kernel."""

    def __init__(self, builder: Builder, shaped: Shaped) -> None:
        self.builder, self.shaped = builder, shaped

    def ready(self, area: Area, bundle: Bundle) -> bool:
        """Whether the STOREs of all that ``load`` reads stand in the stream."""
        for part in self._parts(area, bundle, 0)[0].values():
            if not self.builder.stream.available(part.source, place(part.view, part.groups)):
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
        """(parts from ``base`` on, end)."""
        loaded: Loaded = {}
        for part in bundle.parts:
            source = self.shaped.sources[part.term]
            assert source is not None
            term = self.shaped.kernel.terms[part.term]
            view = window(term, source, area.row, area.rows, area.col, area.cols)
            loaded[part.term] = LoadedPart(base, view, part.groups, source)
            base += len(part.groups) * view.pixels * source.pixel(self.builder.spec.block_in)
        return loaded, base

    def product(self, piece: Piece, loaded: Loaded, acc: AccTile) -> Product:
        """What ``piece`` multiplies at the first pixel, with the strides to the others."""
        tiles, weights = piece.tiles, piece.weights
        places = weights.sram + weights.index[piece.term][tiles.tile]
        span = Span(int(places.min()), int(places.max()) + 1)
        dst = acc.first(tiles.out)
        term = self.shaped.kernel.terms[piece.term]
        if piece.term not in loaded:
            src = np.full(len(dst), self.builder.constant)
            constant = Span(self.builder.constant, self.builder.constant + 1)
            return Product(dst, src, places, 0, 0, piece.distance, constant, span, term.role)
        part = loaded[piece.term]
        pixel = part.source.pixel(self.builder.spec.block_in)
        group, inner = np.divmod(tiles.inp, pixel)
        before = np.searchsorted(part.groups, group) * part.view.pixels
        src = part.base + (before + tiles.row * part.view.cols + tiles.col) * pixel + inner
        return Product(
            dst,
            src,
            places,
            part.view.cols * pixel * (term.stride[0] if term.row_step == 1 else 1),
            pixel * term.stride[1],
            piece.distance,
            Span(part.base, part.base + len(part.groups) * part.view.pixels * pixel),
            span,
            term.role,
        )
