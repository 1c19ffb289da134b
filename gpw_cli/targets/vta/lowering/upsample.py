"""Scheduling of upsampling: a copy of the picture whose pixels are stored several times.

VTA's STORE writes rows of ``x_size`` elements ``x_stride`` apart, so one pixel a row and a stride
of ``factor`` pixels writes every ``factor``-th pixel of a line.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from gpw_cli.targets.vta.isa.instructions import MemInsn, MemType, Opcode
from gpw_cli.targets.vta.lowering.builder import Builder
from gpw_cli.targets.vta.lowering.layout import DramImage, Tensor
from gpw_cli.targets.vta.lowering.loops import AccTile
from gpw_cli.targets.vta.lowering.operands import Area
from gpw_cli.targets.vta.lowering.product import ProductSchedule
from gpw_cli.targets.vta.lowering.stream import Span
from gpw_cli.targets.vta.lowering.tile_ir import ProductKernel, UpsampleKernel


class UpsampleSchedule(ProductSchedule):
    """The segments of one upsampling."""

    def __init__(
        self,
        builder: Builder,
        dram: DramImage,
        kernel: UpsampleKernel,
        tensors: dict[str, Tensor],
    ) -> None:
        self.large, self.factor = tensors[kernel.name], kernel.factor
        small = replace(self.large, shape=tensors[kernel.copy.terms[0].source or ""].shape)
        copy: ProductKernel = kernel.copy
        super().__init__(builder, dram, copy, {**tensors, kernel.name: small})

    def _write(self, acc: AccTile, area: Area) -> None:
        """Each line of pixels as often as ``factor`` says, to every place of its pixels."""
        down, right = self.factor
        for number, group in enumerate(acc.groups.tolist()):
            for row in range(area.rows):
                line = acc.base + (number * acc.pixels + row * acc.cols) * acc.pixel
                for place in np.ndindex(down, right):
                    where = ((area.row + row) * down + place[0], area.col * right + place[1])
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
