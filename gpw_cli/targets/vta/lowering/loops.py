"""GEMM and ALU instructions over the accumulators of one tile.

An accumulator tile is [group][row][col][block]. The micro-op list holds what has no regular address
pattern, the surviving tiles; the two loops of an instruction go over the pixels. The list covers
enough pixels to keep uses of one accumulator ``REST`` micro-ops apart.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from gpw_cli.arrays import Int64
from gpw_cli.targets.vta.isa.encoding import encode_uops
from gpw_cli.targets.vta.isa.instructions import AluInsn, AluOp, GemmInsn
from gpw_cli.targets.vta.lowering.builder import Builder
from gpw_cli.targets.vta.lowering.microops import REST, smallest_distance
from gpw_cli.targets.vta.lowering.stream import Span
from gpw_cli.targets.vta.lowering.tile_ir import AluStep


@dataclass(frozen=True, eq=False)
class AccTile:
    """Accumulators from ``base`` on: ``groups`` (ascending) x rows x cols x ``pixel`` blocks."""

    base: int
    groups: Int64
    rows: int
    cols: int
    pixel: int

    @property
    def pixels(self) -> int:
        """The number of output positions."""
        return self.rows * self.cols

    @property
    def size(self) -> int:
        """The number of accumulators."""
        return len(self.groups) * self.pixels * self.pixel

    @property
    def span(self) -> Span:
        """All its accumulators."""
        return Span(self.base, self.base + self.size)

    def first(self, block: Int64) -> Int64:
        """The accumulator of output channel ``block`` at the first pixel."""
        group, inner = np.divmod(block, self.pixel)
        before = np.searchsorted(self.groups, group)
        return self.base + before * self.pixels * self.pixel + inner

    @property
    def blocks(self) -> Int64:
        """The output channel blocks, in order."""
        return (self.groups[:, None] * self.pixel + np.arange(self.pixel)).reshape(-1)


@dataclass(frozen=True, eq=False)
class GemmOperands:
    """Tiles at one pixel: ``dst``, ``src``, ``wgt`` [tiles]; steps of ``src`` per row and column.

    ``distance``: fewest micro-ops between equal ``dst`` (more than the length: none are equal).
    """

    dst: Int64
    src: Int64
    wgt: Int64
    row_step: int
    col_step: int
    distance: int
    inp: Span
    weights: Span
    role: str = "tile"

    def part(self, begin: int, end: int) -> GemmOperands:
        """The tiles ``begin`` to end - 1."""
        some = slice(begin, end)
        return replace(self, dst=self.dst[some], src=self.src[some], wgt=self.wgt[some])


def unroll(rows: int, cols: int, need: int) -> tuple[int, int]:
    """(rows, cols) of pixels in the micro-op list: the fewest that are at least ``need``.

    They divide the tile, so that the loops cover the rest; all pixels if those are too few.
    """
    choices = [(1, part) for part in range(1, cols + 1) if cols % part == 0]
    choices += [(part, cols) for part in range(2, rows + 1) if rows % part == 0]
    enough = [choice for choice in choices if choice[0] * choice[1] >= need]
    return enough[0] if enough else (rows, cols)


def multiply(builder: Builder, acc: AccTile, operands: GemmOperands) -> None:
    """Adds GEMMs over all pixels of ``acc``: one, unless its micro-ops exceed the scratchpad."""
    count = len(operands.dst)
    need = -(-REST // operands.distance) if operands.distance <= count else 1
    tall, wide = unroll(acc.rows, acc.cols, need)
    between = -(-need // (tall * wide)) - 1
    most = max(1, builder.spec.uop_limit // (tall * wide * (between + 1)))
    for begin in range(0, count, most):
        _multiply(builder, acc, operands.part(begin, begin + most), (tall, wide), between)


def _multiply(
    builder: Builder, acc: AccTile, operands: GemmOperands, size: tuple[int, int], between: int
) -> None:
    """Adds a GEMM with ``size`` pixels in its micro-op list and ``between`` fillers after each."""
    tall, wide = size
    row, col = np.divmod(np.arange(tall * wide), wide)
    dst = operands.dst[:, None] + (row * acc.cols + col) * acc.pixel
    src = operands.src[:, None] + row * operands.row_step + col * operands.col_step
    wgt = np.broadcast_to(operands.wgt[:, None], dst.shape)
    lists = [part.reshape(-1) for part in (dst, src, wgt)]
    if between:
        lists = _rested(lists, between, builder)
    down, right = acc.rows // tall, acc.cols // wide
    insn = GemmInsn(
        uop_bgn=0,
        uop_end=0,
        iter_out=down,
        iter_in=right,
        dst_factor_out=tall * acc.cols * acc.pixel if down > 1 else 0,
        dst_factor_in=wide * acc.pixel if right > 1 else 0,
        src_factor_out=tall * operands.row_step if down > 1 else 0,
        src_factor_in=wide * operands.col_step if right > 1 else 0,
    )
    uops = encode_uops(builder.spec, *lists)
    distance = smallest_distance(lists[0])
    builder.stream.gemm(
        insn,
        uops,
        acc.span,
        operands.inp,
        operands.weights,
        role=operands.role,
        distance=distance if distance <= len(uops) else 0,
    )


def _rested(lists: list[Int64], between: int, builder: Builder) -> list[Int64]:
    """``lists`` with ``between`` micro-ops on spare accumulators after each one.

    Only valid where all pixels are in the list: the loops would also move the spare accumulators.
    """
    dst, src, wgt = (np.repeat(part, between + 1).reshape(-1, between + 1) for part in lists)
    filler = np.arange(dst.shape[0] * between).reshape(-1, between)
    dst[:, 1:] = builder.sram.spare + filler % REST
    return [part.reshape(-1) for part in (dst, src, wgt)]


def clear(builder: Builder, span: Span) -> None:
    """Sets the accumulators ``span`` to zero."""
    insn = GemmInsn(
        reset=True,
        uop_bgn=0,
        uop_end=0,
        iter_in=span.end - span.begin,
        dst_factor_in=1 if span.end - span.begin > 1 else 0,
    )
    uops = encode_uops(builder.spec, [span.begin], [0], [0])
    builder.stream.gemm(insn, uops, span, role="reset")


def immediate(builder: Builder, op: AluOp, value: int, span: Span) -> None:
    """Applies ``op`` with ``value`` to each accumulator of ``span``."""
    base, size = span.begin, span.end - span.begin
    dst = [base] if size > 1 else [base, builder.sram.spare]
    uops = encode_uops(builder.spec, dst, dst, [0])
    factor = 1 if size > 1 else 0
    insn = AluInsn(
        uop_bgn=0,
        uop_end=0,
        iter_in=size,
        dst_factor_in=factor,
        src_factor_in=factor,
        alu_opcode=op,
        use_imm=True,
        imm=value,
    )
    builder.stream.alu(insn, uops, span)


def on_blocks(builder: Builder, step: AluStep, vector: int, acc: AccTile, blocks: Int64) -> None:
    """Applies ``step`` to each pixel of output ``blocks`` of ``acc``, one micro-op per block.

    ``vector``: the accumulator that holds the operands of block 0, if each channel has its own.
    """
    dst = acc.first(blocks)
    src = dst if isinstance(step.operand, int) else vector + blocks
    if len(dst) * acc.pixels == 1:
        dst = np.append(dst, builder.sram.spare)
        src = dst if isinstance(step.operand, int) else np.append(src, src)
    factor = acc.pixel if acc.pixels > 1 else 0
    insn = AluInsn(
        uop_bgn=0,
        uop_end=0,
        iter_in=acc.pixels,
        dst_factor_in=factor,
        alu_opcode=step.op,
    )
    if isinstance(step.operand, int):
        insn = replace(insn, src_factor_in=factor, use_imm=True, imm=step.operand)
    builder.stream.alu(insn, encode_uops(builder.spec, dst, src, [0]), acc.span)


def run_step(builder: Builder, step: AluStep, vector: int, acc: AccTile) -> None:
    """Applies ``step`` to the blocks of ``acc`` that need it; ``vector``: see ``on_blocks``."""
    blocks = acc.blocks
    if step.blocks is not None:
        inside = blocks < len(step.blocks)  # the last group may have blocks without channels
        blocks = blocks[inside][step.blocks[blocks[inside]]]
    if isinstance(step.operand, int) and len(blocks) == len(acc.blocks):
        immediate(builder, step.op, step.operand, acc.span)
    elif len(blocks):
        on_blocks(builder, step, vector, acc, blocks)
