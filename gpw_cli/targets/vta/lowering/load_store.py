"""LOADs and STOREs of pixels, weights and vectors, in as few instructions as the fields allow.

All functions add instructions to a ``Builder``'s stream; addresses are elements.
"""

from __future__ import annotations

import numpy as np

from gpw_cli.arrays import Int64
from gpw_cli.targets.vta.isa import fields
from gpw_cli.targets.vta.isa.instructions import MemInsn, MemType, Opcode
from gpw_cli.targets.vta.lowering.builder import Builder
from gpw_cli.targets.vta.lowering.layout import Tensor
from gpw_cli.targets.vta.lowering.stream import Span
from gpw_cli.targets.vta.lowering.tiling import Window

Pixels = tuple[Int64, slice, slice]  # groups, rows and columns of a tensor
_FIELD = fields.limits(fields.MEM, "x_size")[1]  # x_stride and y_size have as many bits


def load_row(builder: Builder, kind: MemType, dram: int, sram: int, count: int) -> None:
    """Loads ``count`` elements: weights, constant inputs, or vectors into the accumulators."""
    insn = MemInsn(
        opcode=Opcode.LOAD,
        memory_type=kind,
        sram_base=sram,
        dram_base=dram,
        x_size=count,
        x_stride=count,
    )
    if kind is MemType.ACC:
        builder.stream.load_vectors(insn)
    else:
        builder.stream.load_constants(insn)


def inside(view: Window, groups: Int64) -> Pixels:
    """The pixels of ``view`` that lie in the tensor, not in its padding."""
    rows = view.rows - view.top - view.bottom
    cols = view.cols - view.left - view.right
    last = view.row + (rows - 1) * view.step
    return groups, slice(view.row, last + 1, view.step), slice(view.col, view.col + cols)


def load_window(builder: Builder, source: Tensor, groups: Int64, view: Window, sram: int) -> None:
    """Loads the ``view`` of each of ``groups``, one after the other, to ``sram`` and following."""
    block = builder.spec.block_in
    size = view.pixels * source.pixel(block)
    whole = view.cols == source.shape[2] and not view.padded
    area = source.shape[1] * source.shape[2] * source.pixel(block)
    joined = whole and view.step == 1 and area <= _FIELD
    for run in _consecutive(groups) if joined else groups.reshape(-1, 1):
        first, many = int(run[0]), len(run)
        extents = (many, size, area) if joined else _rows(view, source, block)
        y_size, x_size, x_stride = extents
        pixel = source.pixel(block)
        insn = MemInsn(
            opcode=Opcode.LOAD,
            memory_type=MemType.INP,
            sram_base=sram,
            dram_base=source.index(builder.spec, block, first, view.row, view.col),
            y_size=y_size,
            x_size=x_size,
            x_stride=x_stride,
            y_pad_0=view.top,
            y_pad_1=view.bottom,
            x_pad_0=view.left * pixel,
            x_pad_1=view.right * pixel,
        )
        span = Span(sram, sram + many * size)
        builder.stream.load_tensor(insn, span, source, inside(view, run))
        sram += many * size


def _consecutive(groups: Int64) -> list[Int64]:
    return np.split(groups, np.flatnonzero(np.diff(groups) != 1) + 1)


def _rows(view: Window, source: Tensor, block: int) -> tuple[int, int, int]:
    """(y_size, x_size, x_stride) of one group."""
    pixel = source.pixel(block)
    rows = view.rows - view.top - view.bottom
    cols = view.cols - view.left - view.right
    return rows, cols * pixel, source.shape[2] * pixel * view.step


def store_tile(builder: Builder, out: Tensor, where: Pixels, sram: int, byte: int) -> None:
    """Stores accumulators from ``sram`` on, [group][row][col][block], to ``where`` in ``out``.

    ``byte``: which byte of the values in DRAM gets the low byte of the accumulators.
    """
    block = builder.spec.block_out
    pixel = out.pixel(block)
    groups, rows, cols = where
    tall, wide = rows.stop - rows.start, cols.stop - cols.start
    size = tall * wide * pixel
    area = out.shape[1] * out.shape[2] * pixel
    joined = wide == out.shape[2] and area <= _FIELD
    for run in _consecutive(groups) if joined else groups.reshape(-1, 1):
        y_size, x_size, x_stride = (
            (len(run), size, area) if joined else (tall, wide * pixel, out.shape[2] * pixel)
        )
        insn = MemInsn(
            opcode=Opcode.STORE,
            memory_type=MemType.OUT,
            sram_base=sram,
            dram_base=out.index(builder.spec, block, int(run[0]), rows.start, cols.start, byte),
            y_size=y_size,
            x_size=x_size,
            x_stride=x_stride,
        )
        span = Span(sram, sram + size * len(run))
        builder.stream.store(insn, span, out, (run, rows, cols))
        sram += size * len(run)
