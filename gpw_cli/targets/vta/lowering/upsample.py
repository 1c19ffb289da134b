"""Upsampling: a copy of a tensor whose pixels are stored several times.

VTA's STORE writes rows of ``x_size`` elements ``x_stride`` apart, so one pixel a row and a stride
of ``factor`` pixels writes every ``factor``-th pixel of a line.
"""

from __future__ import annotations

import numpy as np

from gpw_cli.targets.vta.isa.instructions import MemInsn, MemType, Opcode
from gpw_cli.targets.vta.lowering.builder import Builder
from gpw_cli.targets.vta.lowering.loops import AccTile
from gpw_cli.targets.vta.lowering.operands import Area
from gpw_cli.targets.vta.lowering.product import ProductEmitter
from gpw_cli.targets.vta.lowering.state import TiledKernel
from gpw_cli.targets.vta.lowering.stream import Span
from gpw_cli.targets.vta.lowering.tile_ir import UpsampleKernel


class UpsampleEmitter(ProductEmitter):
    """The segments of one upsampling."""

    def __init__(self, builder: Builder, tiled: TiledKernel, kernel: UpsampleKernel) -> None:
        super().__init__(builder, tiled, kernel.copy)
        self.large, self.factor = tiled.out, kernel.factor

    def store(self, acc: AccTile, area: Area) -> None:
        """Stores each line of pixels ``factor`` times, to every position of its pixels."""
        down, right = self.factor
        for number, group in enumerate(acc.groups.tolist()):
            for row in range(area.rows):
                line = acc.base + (number * acc.pixels + row * acc.cols) * acc.pixel
                for below, beside in np.ndindex(down, right):
                    where = ((area.row + row) * down + below, area.col * right + beside)
                    self._line(group, line, area.cols, where)

    def _line(self, group: int, sram: int, cols: int, where: tuple[int, int]) -> None:
        """The ``cols`` pixels from ``sram``, every ``factor``-th of a row from ``where``."""
        row, col = where
        right, block = self.factor[1], self.builder.spec.block_out
        pixel = self.large.pixel(block)
        insn = MemInsn(
            opcode=Opcode.STORE,
            memory_type=MemType.OUT,
            sram_base=sram,
            dram_base=self.large.index(self.builder.spec, block, group, row, col),
            y_size=cols,
            x_size=pixel,
            x_stride=right * pixel,
        )
        last = col + (cols - 1) * right + 1
        pixels = (np.array([group]), slice(row, row + 1), slice(col, last, right))
        self.builder.stream.store(insn, Span(sram, sram + cols * pixel), self.large, pixels)
