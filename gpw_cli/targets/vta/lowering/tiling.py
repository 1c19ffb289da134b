"""Output tiles, and the input pixels that they need in terms of the fields of a LOAD.

shaped = shape(kernel, tensors, spec)
tiling = Tiling(rows=8, cols=32, groups=1, slots=2)
view = window(term, source, row=0, rows=8, col=0, cols=32)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from math import ceil

import numpy as np

from gpw_cli.errors import UnsupportedError
from gpw_cli.targets.vta.isa import fields
from gpw_cli.targets.vta.isa.geometry import VtaSpec
from gpw_cli.targets.vta.lowering.input_blocking import Shaped
from gpw_cli.targets.vta.lowering.layout import Tensor
from gpw_cli.targets.vta.lowering.tile_ir import ProductKernel, Term

_MAX_PAD = fields.limits(fields.MEM, "y_pad_0")[1]


@dataclass(frozen=True)
class Tiling:
    """Tiles of ``rows`` x ``cols`` outputs of ``groups`` channel groups, in ``slots`` buffers."""

    rows: int
    cols: int
    groups: int
    slots: int


@dataclass(frozen=True)
class Window:
    """The input pixels of a term for one output tile, as a LOAD describes them.

    ``rows`` x ``cols`` in the scratchpad, of which ``top``, ``bottom``, ``left``, ``right`` are
    zeros; the rest begins at ``row``, ``col`` of the tensor and takes every ``step``-th row.
    """

    rows: int
    cols: int
    row: int
    col: int
    top: int
    bottom: int
    left: int
    right: int
    step: int

    @property
    def padded(self) -> bool:
        """Whether any pixel is padding."""
        return self.top + self.bottom + self.left + self.right > 0

    @property
    def pixels(self) -> int:
        """The number of pixels in the scratchpad."""
        return self.rows * self.cols


def extent(term: Term, rows: int, cols: int) -> tuple[int, int]:
    """Input rows and columns that ``rows`` x ``cols`` outputs read, after row skipping."""
    tall = rows if term.row_step > 1 else (rows - 1) * term.stride[0] + term.kernel[0]
    return tall, (cols - 1) * term.stride[1] + term.kernel[1]


def window(term: Term, source: Tensor, row: int, rows: int, col: int, cols: int) -> Window:
    """The window of the outputs ``row`` to row + rows - 1, ``col`` to col + cols - 1."""
    tall, wide = extent(term, rows, cols)
    first_row = row * term.stride[0] - term.padding[0]
    first_col = col * term.stride[1] - term.padding[1]
    last_row = first_row + (tall - 1) * term.row_step
    return Window(
        tall,
        wide,
        max(first_row, 0),
        max(first_col, 0),
        max(-first_row, 0),
        max(last_row - source.shape[1] + 1, 0),
        max(-first_col, 0),
        max(first_col + wide - source.shape[2], 0),
        term.row_step,
    )


def shape(kernel: ProductKernel, tensors: dict[str, Tensor], spec: VtaSpec) -> Shaped:
    """``kernel`` with its tensors. Raises UnsupportedError for a padding VTA cannot load."""
    out = tensors[kernel.name]
    sources = tuple(tensors[term.source] if term.source else None for term in kernel.terms)
    counts = []
    for term, source in zip(kernel.terms, sources, strict=True):
        _check_padding(kernel.name, term, source.pixel(spec.block_in) if source else 1)
        inputs = source.groups if source else 1
        table = np.zeros((out.groups, inputs), np.int64)
        group = term.tiles.inp // source.pixel(spec.block_in) if source else term.tiles.inp
        np.add.at(table, (term.tiles.out // out.pixel(spec.block_out), group), 1)
        counts.append(table)
    return Shaped(kernel, out, sources, tuple(counts))


def _check_padding(name: str, term: Term, pixel: int) -> None:
    for pad, size, unit in zip(term.padding, term.kernel, (1, pixel), strict=True):
        if (pad >= size > 0 and pad > 0) or pad * unit > _MAX_PAD:
            raise UnsupportedError(
                f"{name}: padding {term.padding} of kernel {term.kernel}, allowed is less than the "
                f"kernel and at most {_MAX_PAD // unit}"
            )


def tile_sizes(size: int) -> list[int]:
    """ceil(size / k) for every k, without repetition."""
    return sorted({ceil(size / k) for k in range(1, size + 1)}, reverse=True)


def input_sizes(shaped: Shaped, tiling: Tiling, spec: VtaSpec) -> list[int]:
    """The input elements per group of each term; 0 for a constant term."""
    return [
        math.prod(extent(term, tiling.rows, tiling.cols)) * source.pixel(spec.block_in)
        if source
        else 0
        for term, source in zip(shaped.kernel.terms, shaped.sources, strict=True)
    ]
