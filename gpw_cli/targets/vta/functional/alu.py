"""The ALU's arithmetic on constants, and groups of micro-ops that can run at once."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from gpw_cli.arrays import Int32, Int64
from gpw_cli.targets.vta.isa.instructions import AluOp


def fold(op: AluOp, x: Int32, y: Int32 | np.int32) -> Int32:
    """Int32 x op y, wrapping around; ``y`` is a scalar for an immediate, an array for accumulators.

    SHR uses the low five bits of |y|; only a negative immediate shifts left.
    """
    wide_x, wide_y = np.asarray(x, np.int64), np.asarray(y, np.int64)
    if op == AluOp.SHR:
        left = wide_y.ndim == 0 and wide_y < 0
        result = wide_x << (-wide_y & 31) if left else wide_x >> (wide_y & 31)
    else:
        result = {
            AluOp.MIN: np.minimum,
            AluOp.MAX: np.maximum,
            AluOp.ADD: np.add,
            AluOp.MUL: np.multiply,
        }[op](wide_x, wide_y)
    return result.astype(np.uint32).view(np.int32)


def waves(dst: Int64, src: Int64 | None) -> Iterator[Int64]:
    """The positions of the micro-ops (dst, src), int64 [n], in groups that can run at once.

    Within a group no accumulator is written twice, and none is both read and written by different
    micro-ops in a way that would differ from running them in sequence. Groups are in execution
    order.
    """
    order = np.argsort(dst, kind="stable")
    first = np.flatnonzero(np.diff(dst[order], prepend=-1))
    rank = np.empty(len(dst), np.int64)  # how often dst was written before
    rank[order] = np.arange(len(dst)) - np.repeat(first, np.diff(first, append=len(dst)))
    crossing = src is not None and bool((np.isin(src, dst) & (src != dst)).any())
    if not crossing:
        for turn in range(int(rank.max()) + 1):
            yield np.flatnonzero(rank == turn)
    elif src is not None:
        yield from _in_sequence(dst, src)


def _in_sequence(dst: Int64, src: Int64) -> Iterator[Int64]:
    """The longest runs of micro-ops that do not depend on one another."""
    begin, read, written = 0, set[int](), set[int]()
    for position, (target, source) in enumerate(zip(dst.tolist(), src.tolist(), strict=True)):
        if target in written or target in read or source in written:
            yield np.arange(begin, position)
            begin, read, written = position, set(), set()
        read.add(source)
        written.add(target)
    yield np.arange(begin, len(dst))
