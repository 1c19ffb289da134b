"""Spare channels of a tensor hold constants, so that the tiles of its readers also add their bias.

    values = offered(node, epilogue, spec)                  # (127, 127, 1) in three spare channels
    more = producing(values, epilogue)                      # the producer's accumulators there
    weight, left = riding(weight, bias, values, taps, spec)

A tensor of 20 channels uses 4 of the 16 channels of its last group. The producer's bias sets the
others to 127, ..., 127, 1 at no cost. A reader's weights for them, at a tap that never meets
padding, are the digits of its bias, which then needs no tile of its own.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gpw_cli.arrays import Int8, Int64
from gpw_cli.graph.frame import Shape
from gpw_cli.graph.integer import IntConv
from gpw_cli.targets.vta.isa.geometry import VtaSpec
from gpw_cli.targets.vta.isa.instructions import AluOp
from gpw_cli.targets.vta.lowering.epilogue import AluEpilogue
from gpw_cli.targets.vta.lowering.tile_ir import Pair, bias_digits

_MOST = 16  # largest shift between the producer's 7-bit constant and its accumulator
_FINAL = (AluOp.SHR, AluOp.MAX, AluOp.MIN)


def offered(node: IntConv, epilogue: AluEpilogue, spec: VtaSpec) -> tuple[int, ...]:
    """The constants that the spare channels of ``node``'s tensor can hold; () for less than two."""
    spare = -node.shape[0] % min(spec.tile)  # in the last tile, for both the writer and the reader
    plain = all(step.op in _FINAL for step in epilogue.steps) and 0 <= _shift(epilogue) <= _MOST
    if spare < 2 or not plain or node.rescale.low > 1 or node.out_bits != 8:
        return ()
    return (min(127, node.rescale.high),) * (spare - 1) + (1,)


def producing(values: Sequence[int], epilogue: AluEpilogue) -> Int64:
    """The accumulators, int64 [channels], that ``epilogue`` turns into ``values``."""
    return np.array(values, np.int64) << _shift(epilogue)


def _shift(epilogue: AluEpilogue) -> int:
    """The shift of the spare channels; vectors of shifts have zeros there."""
    return sum(
        step.operand
        for step in epilogue.steps
        if step.op is AluOp.SHR
        and isinstance(step.operand, int)
        and (step.blocks is None or step.blocks[-1])
    )


def inner_taps(node: IntConv, source: Shape) -> list[Pair]:
    """The kernel positions that lie inside ``source``, not in its padding, for every output."""
    rows, cols = (
        [
            tap
            for tap in range(node.weight.shape[2 + axis])
            if tap >= node.padding[axis]
            and (node.shape[1 + axis] - 1) * node.stride[axis] - node.padding[axis] + tap
            < source[1 + axis]
        ]
        for axis in (0, 1)
    )
    return [(row, col) for row in rows for col in cols]


def riding(
    weight: Int8, bias: Int64, values: Sequence[int], taps: Sequence[Pair], spec: VtaSpec
) -> tuple[Int8, Int64]:
    """``weight`` int8 [O, I, KH, KW] with inputs for ``values``, and the rest of ``bias`` [O].

    Only existing tiles take bias: a new tile would cost as much as one for the bias.
    """
    outs, ins, *kernel = weight.shape
    extra, left = np.zeros((outs, len(values), *kernel), np.int8), bias.copy()
    last = (ins - 1) // spec.block_in * spec.block_in
    for begin in range(0, outs, spec.block_out):
        rows = slice(begin, begin + spec.block_out)
        digits = bias_digits(bias[rows], len(values) - 1, values[0])
        alive = [(row, col) for row, col in taps if weight[rows, last:, row, col].any()]
        if digits is not None and alive:
            row, col = alive[0]
            extra[rows, :, row, col] = digits.T
            left[rows] = 0
    return np.concatenate([weight, extra], axis=1), left
