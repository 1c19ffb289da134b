"""Micro-op lists: their order against hazards, and their place in the micro-op scratchpad.

    order = spread(accumulators)                # indices: equal accumulators far apart
    ops = place(ops, spec, dram)                # LOADs added, uop_bgn and uop_end set

An accumulator has to rest for a few micro-ops before the next one may add to it (``REST``): the
pipelined GEMM core of the HLS design reads it before the earlier sum is written.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gpw_cli.errors import UnsupportedError
from gpw_cli.targets.vta.isa import AluInsn, GemmInsn, MemInsn, MemType, Opcode
from gpw_cli.targets.vta.lowering.layout import DramImage
from gpw_cli.targets.vta.lowering.stream import Module, Op, UInt32
from gpw_cli.targets.vta.spec import VtaSpec

REST = 4
Int64 = NDArray[np.int64]


def smallest_distance(accumulators: Int64) -> int:
    """Fewest micro-ops from one use of an accumulator to the next; length + 1 if none repeats."""
    order = np.argsort(accumulators, kind="stable")
    same = accumulators[order][1:] == accumulators[order][:-1]
    gaps = np.diff(order)[same]
    return int(gaps.min(initial=len(accumulators) + 1))


def spread(blocks: Int64) -> Int64:
    """An order of the items that keeps equal ``blocks`` apart: the better of two interleavings.

    Round robin, or each block's items evenly over the whole list.
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


@dataclass
class _Scratchpad:
    """What the micro-op scratchpad holds: list -> its first element."""

    limit: int
    resident: dict[bytes, int]
    end: int = 0

    def clear(self) -> None:
        self.resident, self.end = {}, 0


def place(ops: list[Op], spec: VtaSpec, dram: DramImage) -> list[Op]:
    """``ops`` with uop_bgn and uop_end, and a LOAD before the first use of lists not yet there.

    A LOAD brings as many of the lists that follow as there is room for; without room it starts
    over. Adds the region "uops". Raises UnsupportedError if one list alone is too long.
    """
    pad = _Scratchpad(spec.uop_limit, {})
    result: list[Op] = []
    stored: list[UInt32] = []
    loaded = 0
    loads: list[tuple[int, MemInsn]] = []
    for number, op in enumerate(ops):
        if op.uops is not None:
            if op.uops.tobytes() not in pad.resident:
                base, bundle = _fetch(ops, number, pad)
                count = pad.end - base
                insn = MemInsn(
                    opcode=Opcode.LOAD,
                    memory_type=MemType.UOP,
                    sram_base=base,
                    dram_base=loaded,
                    x_size=count,
                    x_stride=count,
                )
                loads.append((len(result), insn))
                result.append(Op(Module.COMPUTE, insn, op.layer))
                stored.extend(bundle)
                loaded += count
            begin = pad.resident[op.uops.tobytes()]
            assert isinstance(op.insn, GemmInsn | AluInsn)
            op.insn = replace(op.insn, uop_bgn=begin, uop_end=begin + len(op.uops))
        result.append(op)
    region = dram.add("uops", np.concatenate(stored), layout="micro-op", kind="uop")
    for index, insn in loads:
        base = region.offset // spec.uop_elem_bytes
        result[index].insn = replace(insn, dram_base=base + insn.dram_base)
    return result


def _fetch(ops: list[Op], number: int, pad: _Scratchpad) -> tuple[int, list[UInt32]]:
    """(first element, lists) of a load that makes ``ops[number]`` and followers resident."""
    first = ops[number].uops
    assert first is not None
    if len(first) > pad.limit:
        raise UnsupportedError(
            f"{ops[number].layer}: {len(first)} micro-ops, the scratchpad holds {pad.limit}"
        )
    if pad.end + len(first) > pad.limit:
        pad.clear()
    base, bundle = pad.end, []
    for op in ops[number:]:
        if op.uops is None or op.uops.tobytes() in pad.resident:
            continue
        if pad.end + len(op.uops) > pad.limit:
            break
        pad.resident[op.uops.tobytes()] = pad.end
        pad.end += len(op.uops)
        bundle.append(op.uops)
    return base, bundle
