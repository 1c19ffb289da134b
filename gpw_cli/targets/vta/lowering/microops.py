"""Micro-op lists: an order that avoids hazards, and their places in the micro-op scratchpad.

    order = spread(accumulators)                # indices that keep equal accumulators apart
    ops, dram = with_micro_ops(ops, spec, dram) # LOADs added, uop_bgn and uop_end set

``REST`` micro-ops have to pass before an accumulator may be used again: the pipelined GEMM core of
the HLS design would read it before the previous sum is written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from gpw_cli.arrays import Int64, UInt32
from gpw_cli.errors import UnsupportedError
from gpw_cli.targets.vta.isa.geometry import VtaSpec
from gpw_cli.targets.vta.isa.instructions import AluInsn, GemmInsn, MemInsn, MemType, Opcode
from gpw_cli.targets.vta.isa.modules import Module
from gpw_cli.targets.vta.lowering.layout import DramImage
from gpw_cli.targets.vta.lowering.stream import Op

REST = 4


def smallest_distance(accumulators: Int64) -> int:
    """Fewest micro-ops from one use of an accumulator to the next; length + 1 if none is reused."""
    order = np.argsort(accumulators, kind="stable")
    same = accumulators[order][1:] == accumulators[order][:-1]
    gaps = np.diff(order)[same]
    return int(gaps.min(initial=len(accumulators) + 1))


def spread(blocks: Int64) -> Int64:
    """An order that keeps equal ``blocks`` apart: the better of two interleavings.

    One is round robin; the other spreads the items of each block evenly over the whole list.
    """
    count = np.bincount(blocks)
    order = np.argsort(blocks, kind="stable")
    starts = np.concatenate(([0], np.cumsum(count)))[blocks[order]]
    rank = np.empty(len(blocks), np.int64)
    rank[order] = np.arange(len(blocks)) - starts
    candidates = (
        np.lexsort((blocks, rank)),
        np.argsort((rank + 0.5) / count[blocks], kind="stable"),
    )
    return max(candidates, key=lambda candidate: smallest_distance(blocks[candidate]))


def with_micro_ops(
    ops: Sequence[Op], spec: VtaSpec, dram: DramImage
) -> tuple[tuple[Op, ...], DramImage]:
    """``ops`` with uop_bgn and uop_end, and a LOAD before the first use of a list not yet loaded.

    A LOAD brings in as many of the following lists as fit; when the scratchpad is full, it starts
    over from element 0. Adds the region "uops". Raises UnsupportedError if one list alone is too
    long.
    """
    pad = _Scratchpad(spec.uop_limit)
    result: list[Op] = []
    for number, op in enumerate(ops):
        if op.uops is not None:
            if op.uops.tobytes() not in pad.resident:
                result.append(Op(Module.COMPUTE, pad.fetch(ops[number:]), op.layer))
            begin = pad.resident[op.uops.tobytes()]
            assert isinstance(op.insn, GemmInsn | AluInsn)
            insn = replace(op.insn, uop_bgn=begin, uop_end=begin + len(op.uops))
            op = replace(op, insn=insn)
        result.append(op)
    data = np.concatenate(pad.stored)
    dram, region = dram.add("uops", data, layout="micro-op", kind="uop")
    base = region.offset // spec.uop_elem_bytes
    return tuple(_based(op, base) for op in result), dram


def _based(op: Op, base: int) -> Op:
    """``op`` with ``base`` added to its DRAM address, if it loads micro-ops."""
    insn = op.insn
    if isinstance(insn, MemInsn) and insn.memory_type is MemType.UOP and insn.x_size:
        return replace(op, insn=replace(insn, dram_base=base + insn.dram_base))
    return op


class _Scratchpad:
    """The micro-op scratchpad; ``resident``: list -> first element; ``stored``: all lists."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.resident: dict[bytes, int] = {}
        self.end = 0
        self.stored: list[UInt32] = []
        self.count = 0

    def fetch(self, ops: Sequence[Op]) -> MemInsn:
        """A LOAD of the lists of ``ops[0]`` and following, from the region's start on."""
        first = ops[0].uops
        assert first is not None
        if len(first) > self.limit:
            raise UnsupportedError(
                f"{ops[0].layer}: {len(first)} micro-ops, the scratchpad holds {self.limit}"
            )
        if self.end + len(first) > self.limit:
            self.resident, self.end = {}, 0
        base, begin = self.end, self.count
        for op in ops:
            if op.uops is None or op.uops.tobytes() in self.resident:
                continue
            if self.end + len(op.uops) > self.limit:
                break
            self._keep(op.uops)
        return MemInsn(
            opcode=Opcode.LOAD,
            memory_type=MemType.UOP,
            sram_base=base,
            dram_base=begin,
            x_size=self.end - base,
            x_stride=self.end - base,
        )

    def _keep(self, uops: UInt32) -> None:
        self.resident[uops.tobytes()] = self.end
        self.end += len(uops)
        self.stored.append(uops)
        self.count += len(uops)
