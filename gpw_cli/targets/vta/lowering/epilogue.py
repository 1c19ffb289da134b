"""From accumulators to stored bytes, exactly and in as few ALU steps as possible.

    acc = Bounds(low, high)                       # int64 [O], the accumulators' possible values
    epilogue = shorten(acc, relu, node.rescale, name, spec)       # epilogue.fold goes into the bias

The rounding term 2^(n-1) is added to the bias, and ReLU moves behind the shift, because ``(max(x,
0) + r) >> n == max((x + r) >> n, 0)``. Both happen only where no accumulator can overflow. A clip
that no possible value reaches is dropped, block by block.

Only an immediate shifts left. Where channels have different shifts and some shift left, all are
first shifted left by the same immediate and then right by the excess.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from gpw_cli.arrays import Bools, Int32, Int64
from gpw_cli.errors import UnsupportedError
from gpw_cli.graph.integer import Rescale
from gpw_cli.targets.vta.isa import fields
from gpw_cli.targets.vta.isa.geometry import VtaSpec
from gpw_cli.targets.vta.isa.instructions import AluOp
from gpw_cli.targets.vta.lowering.bounds import Bounds
from gpw_cli.targets.vta.lowering.tile_ir import AluStep

_IMM_LOW, _IMM_HIGH = fields.limits(fields.ALU, "imm")


@dataclass(frozen=True, eq=False)
class AluEpilogue:
    """``fold`` int64 [O] is added to the bias; then ``steps``; ``bounds`` of the result."""

    fold: Int64
    steps: tuple[AluStep, ...]
    bounds: Bounds


def step(op: AluOp, values: Int64, blocks: Bools | None = None) -> AluStep:
    """One step, with an immediate where all channels agree and the value fits 16 bits."""
    first = int(values.flat[0])
    if _IMM_LOW <= first <= _IMM_HIGH and (values == first).all():
        return AluStep(op, first, blocks)
    return AluStep(op, values.astype(np.int32), blocks)


def channels(shift: int | Int32, count: int, where: str) -> Int64:
    """``shift`` as int64 [count]. Raises UnsupportedError beyond 31 bits."""
    full = np.broadcast_to(np.asarray(shift, np.int64), count)
    if (np.abs(full) > 31).any():
        worst = int(full[np.abs(full).argmax()])
        raise UnsupportedError(f"{where}: a shift by {worst} bits, allowed are -31 to 31")
    return full


def shift_steps(right: Int64, acc: Bounds, where: str, spec: VtaSpec) -> tuple[AluStep, ...]:
    """``acc >> right`` (int64 [O], negative: left) in amounts that ``spec`` can shift by.

    Raises UnsupportedError where only some channels shift left and the values are so large that
    shifting all of them left could overflow.
    """
    left = max(0, -int(right.min()))
    down = right + left
    if left and down.any() and acc.shifted(np.full_like(right, -left)).overflow:
        raise UnsupportedError(
            f"{where}: channels shift by {right.min()} to {right.max()} bits and hold values too "
            f"large to shift all of them left first; try quantizer.per_channel=false"
        )
    least, most = spec.shift_range
    steps = []
    while left:
        steps.append(AluStep(AluOp.SHR, max(least, -left)))
        left -= min(-least, left)
    while down.any():
        steps.append(step(AluOp.SHR, np.minimum(down, most)))
        down = np.maximum(down - most, 0)
    return tuple(steps)


def shorten(
    acc: Bounds,
    relu: bool,
    rescale: Rescale,
    where: str,
    spec: VtaSpec,
    *,
    by_block: bool = False,
) -> AluEpilogue:
    """The shortest exact steps for ReLU (if ``relu``) and ``rescale``; ``where``: named in errors.

    ``by_block``: a step applies to the output blocks that need it; a block with constant
    accumulators needs none, as ``fold`` contains its result. Otherwise steps apply to all blocks.
    Raises UnsupportedError for a rescale with a multiplier: VTA's ALU only shifts.
    """
    if rescale.multiplies:
        raise UnsupportedError(
            f"{where}: its rescale multiplies before it shifts, which VTA cannot do; "
            "take a quantizer that only shifts, e.g. quantizer=best"
        )
    acc = acc.wrapped()
    shift = channels(rescale.shift, len(acc.low), where)
    half = np.where(rescale.rounding & (shift > 0), 1 << np.maximum(shift - 1, 0), 0)
    first: list[AluStep] = []
    fold, floor, moved = half, rescale.low, acc.plus(half)
    if relu and (moved.overflow or moved.shifted(shift).overflow):
        first, moved = _relu_first(acc, half)
        fold = np.zeros_like(half)
    elif relu:
        floor = max(floor, 0)
    moved = moved.wrapped()
    result = moved.shifted(shift).wrapped()
    clipped = result.clipped(floor, rescale.high)
    block = spec.block_out if by_block else len(shift)
    varies = np.ones(-(-len(shift) // block), np.bool_)
    if by_block and not first:
        varies = _by_block(acc.low != acc.high, block)
        fold = np.where(varies.repeat(block)[: len(shift)], fold, clipped.low - acc.low)
    low, high = np.full_like(shift, floor), np.full_like(shift, rescale.high)
    steps = [replace(one, blocks=varies) for one in shift_steps(shift, moved, where, spec)]
    steps.append(step(AluOp.MAX, low, varies & _by_block(result.low < low, block)))
    steps.append(step(AluOp.MIN, high, varies & _by_block(result.high > high, block)))
    steps = [one for one in steps if one.blocks is not None and one.blocks.any()]
    if not by_block:
        steps = [replace(one, blocks=None) for one in steps]
    return AluEpilogue(fold, (*first, *steps), clipped)


def _relu_first(acc: Bounds, half: Int64) -> tuple[list[AluStep], Bounds]:
    """ReLU on the accumulators, then the ``half`` to be added, and the bounds of the sum."""
    steps = [AluStep(AluOp.MAX, 0)]
    if half.any():
        steps.append(step(AluOp.ADD, half))
    return steps, Bounds(np.maximum(acc.low, 0), np.maximum(acc.high, 0)).plus(half)


def _by_block(mask: Bools, block: int) -> Bools:
    """Whether ``mask`` is set for any channel of each block, bool [blocks]."""
    return np.logical_or.reduceat(mask, np.arange(0, len(mask), block))
