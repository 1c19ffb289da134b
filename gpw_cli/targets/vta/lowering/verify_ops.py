"""What has to hold of the instructions between the passes of lowering; see ``verify.py``."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator

import numpy as np

from gpw_cli.targets.vta.isa.access import dram_elem_bytes
from gpw_cli.targets.vta.isa.encoding import decode_uops
from gpw_cli.targets.vta.isa.geometry import VtaSpec
from gpw_cli.targets.vta.isa.instructions import (
    AluInsn,
    FinishInsn,
    GemmInsn,
    MemInsn,
    MemType,
    Opcode,
)
from gpw_cli.targets.vta.isa.modules import QUEUES, TokenQueue, module_of
from gpw_cli.targets.vta.isa.program import Region
from gpw_cli.targets.vta.lowering.state import State
from gpw_cli.targets.vta.lowering.stream import Op

#: Kinds of regions that a LOAD, by memory type, and a STORE (OUT) may touch.
_KINDS = {
    MemType.UOP: ("uop",),
    MemType.WGT: ("weight",),
    MemType.ACC: ("bias",),
    MemType.INP: ("input", "intermediate", "output", "bias"),
    MemType.OUT: ("intermediate", "output"),
}


def order(state: State) -> Iterator[str]:
    """Instructions wait for earlier ones only and stay inside the scratchpads; FINISH is last."""
    if not state.ops or not isinstance(state.ops[-1].insn, FinishInsn):
        yield "the last instruction is not FINISH"
    for number, op in enumerate(state.ops):
        if op.module is not module_of(op.insn):
            yield f"instruction {number} is {op.insn}, not one of {op.module.name}"
        late = [wait for wait in op.waits.values() if not 0 <= wait < number]
        if late or op.module in op.waits:
            yield f"instruction {number} waits for {dict(op.waits)}"
        for begin, end, depth in _touched(op, state.spec):
            if not 0 <= begin < end <= depth:
                yield f"instruction {number} uses elements {begin} to {end} of {depth}: {op.insn}"


def _touched(op: Op, spec: VtaSpec) -> Iterator[tuple[int, int, int]]:
    """(first, end, depth of the scratchpad) of what ``op`` moves or accumulates."""
    insn = op.insn
    depths = {
        MemType.INP: spec.inp_depth,
        MemType.WGT: spec.wgt_depth,
        MemType.UOP: spec.uop_limit,
    }
    if isinstance(insn, MemInsn) and insn.x_size:
        width = insn.x_pad_0 + insn.x_size + insn.x_pad_1
        height = insn.y_pad_0 + insn.y_size + insn.y_pad_1
        depth = depths.get(insn.memory_type, spec.acc_depth)
        yield insn.sram_base, insn.sram_base + width * height, depth
    elif isinstance(insn, GemmInsn | AluInsn) and op.uops is not None:
        dst, src, wgt = decode_uops(spec, op.uops)
        down, right = insn.iter_out - 1, insn.iter_in - 1
        far = insn.dst_factor_out * down + insn.dst_factor_in * right
        yield int(dst.min()), int(dst.max()) + far + 1, spec.acc_depth
        far = insn.src_factor_out * down + insn.src_factor_in * right
        gemm = isinstance(insn, GemmInsn)
        depth = spec.inp_depth if gemm else spec.acc_depth
        yield int(src.min()), int(src.max()) + far + 1, depth
        if gemm:
            yield int(wgt.min()), int(wgt.max()) + 1, spec.wgt_depth


def tokens(state: State) -> Iterator[str]:
    """Each wait is behind a token, and each token that is pushed is popped, in order."""
    for queue in QUEUES:
        yield from (f"{queue}: {problem}" for problem in _queue(state.ops, queue))


def _queue(ops: tuple[Op, ...], queue: TokenQueue) -> Iterator[str]:
    pushes = [
        n for n, op in enumerate(ops) if op.module is queue.source and getattr(op.insn, queue.push)
    ]
    pops = [n for n, op in enumerate(ops) if op.module is queue.to and getattr(op.insn, queue.pop)]
    if len(pushes) != len(pops):
        yield f"{len(pushes)} tokens are pushed and {len(pops)} popped"
        return
    if any(push >= pop for push, pop in zip(pushes, pops, strict=True)):
        yield "a token is popped before it is pushed"
    for number, op in enumerate(ops):
        needed = op.waits.get(queue.source, -1) if op.module is queue.to else -1
        popped = bisect_right(pops, number)
        if needed >= 0 and (not popped or pushes[popped - 1] < needed):
            yield f"instruction {number} does not wait for {needed}"


def addresses(state: State) -> Iterator[str]:
    """Micro-ops are in the scratchpad when they run; every LOAD and STORE keeps to one region."""
    starts = [region.offset for region in state.dram.regions]
    words = state.dram.bytes().view("<u4")
    resident = np.zeros(state.spec.uop_limit, np.uint32)
    for number, op in enumerate(state.ops):
        insn = op.insn
        if isinstance(insn, MemInsn) and insn.x_size:
            size = dram_elem_bytes(state.spec, insn.memory_type)
            region = state.dram.regions[bisect_right(starts, insn.dram_base * size) - 1]
            if not _inside(insn, size, region):
                yield f"instruction {number} leaves region {region.name}: {insn}"
            elif insn.memory_type is MemType.UOP:
                moved = words[insn.dram_base : insn.dram_base + insn.x_size]
                resident[insn.sram_base : insn.sram_base + insn.x_size] = moved
        elif isinstance(insn, GemmInsn | AluInsn) and not np.array_equal(
            resident[insn.uop_bgn : insn.uop_end], op.uops if op.uops is not None else ()
        ):
            yield f"instruction {number} runs other micro-ops than its own"


def _inside(insn: MemInsn, size: int, region: Region) -> bool:
    end = (insn.dram_base + (insn.y_size - 1) * insn.x_stride + insn.x_size) * size
    kind = MemType.OUT if insn.opcode == Opcode.STORE else insn.memory_type
    return region.kind in _KINDS[kind] and end <= region.offset + region.length


def layers(state: State) -> Iterator[str]:
    """The layers cover the program in the order of the network."""
    if tuple(layer.name for layer in state.layers) != state.names:
        yield f"layers {[layer.name for layer in state.layers]}"
    end = 0
    for layer in state.layers:
        if layer.begin != end or any(
            op.layer != layer.name for op in state.ops[layer.begin : layer.end]
        ):
            yield f"{layer.name} is {layer.begin} to {layer.end}"
        end = layer.end
    if end != len(state.ops):
        yield f"the layers end at {end} of {len(state.ops)} instructions"
