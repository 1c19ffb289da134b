"""Compare gpw's cycles for VTA with published ones of the RTL simulation.

    python scripts/bench_timing.py                  # about a minute on one core

1. ResNet-18 and ResNet-34 at 224x224 without the first convolution, pooling and classifier, our
   schedule, against tvm-vta PR #30 (TVM's schedule), on the current RTL and the older one.
2. A 3x3 convolution, 64 channels of 56x56, on four bus widths against PR #32. The published numbers
   are far above the hardware's limit. They fit five runs of TVM's untuned schedule (one pixel and
   one pair of channel blocks at a time, no double buffering), which is rebuilt here. Our schedule
   is shown as well.
3. The convolutions of tophub's vta_v0.10.log, measured on a Pynq board at 100 MHz.

Weights are random, since dense cycles do not depend on their values.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import numpy as np

from gpw_cli.config.target import load_target
from gpw_cli.graph.integer import IntConv, IntGraph, IntInput, IntNode, Rescale, Shape
from gpw_cli.targets.vta.config import VtaConfig
from gpw_cli.targets.vta.isa.encoding import encode
from gpw_cli.targets.vta.isa.instructions import (
    AluInsn,
    AluOp,
    FinishInsn,
    GemmInsn,
    Insn,
    MemInsn,
    MemType,
    Opcode,
)
from gpw_cli.targets.vta.isa.program import Program
from gpw_cli.targets.vta.target import Vta, spec_of
from gpw_cli.targets.vta.timing.report import TimingReport, time_program

SPEC = spec_of(load_target("vta", VtaConfig))
RESNETS = {"resnet18": ((2, 2, 2, 2), 7_729_601, 27_679_515)} | {
    "resnet34": ((3, 4, 6, 3), 15_736_441, 57_471_735)
}
BUSES = {64: 97e6, 128: 58e6, 256: 39e6, 512: 29e6}
RUNS = 5  # in the published numbers; not stated there, but the only count that fits
BOARD = [  # (size, in, out, kernel, stride, milliseconds)
    (56, 64, 64, 3, 1, 5.699),
    (28, 128, 128, 3, 1, 5.183),
    (14, 256, 256, 3, 1, 4.934),
    (7, 512, 512, 3, 1, 7.348),
    (56, 64, 128, 1, 2, 1.349),
    (28, 128, 256, 1, 2, 1.029),
    (14, 256, 512, 1, 2, 1.081),
]


def conv(
    name: str, source: IntNode, outs: int, kernel: int, stride: int, residual: str | None = None
) -> IntConv:
    rng = np.random.default_rng(len(name))
    ins, height, width = source.shape
    return IntConv(
        name=name,
        input=source.name,
        weight=rng.integers(-127, 128, (outs, ins, kernel, kernel)).astype(np.int8),
        bias=rng.integers(-999, 999, outs).astype(np.int32),
        stride=(stride, stride),
        padding=(kernel // 2, kernel // 2),
        residual=residual,
        residual_shift=4,
        relu=kernel == 3,
        rescale=Rescale(12, rounding=True, low=-128, high=127),
        out_bits=8,
        shape=(outs, height // stride, width // stride),
    )


def graph(nodes: list[IntNode]) -> IntGraph:
    scales = {node.name: 1.0 for node in nodes}
    return IntGraph(tuple(nodes), nodes[-1].name, scales, (0.0,), (1.0,))


def resnet(blocks: tuple[int, ...]) -> IntGraph:
    """Stages of basic blocks, without the first convolution and pooling."""
    nodes: list[IntNode] = [IntInput("input", (64, 56, 56), 1.0)]
    for stage, count in enumerate(blocks):
        for block in range(count):
            source, outs = nodes[-1], 64 << stage
            name, stride = f"layer{stage + 1}.{block}", 2 if stage and not block else 1
            first = conv(f"{name}.conv1", source, outs, 3, stride)
            shortcut = source
            if stride == 2:
                shortcut = conv(f"{name}.downsample", source, outs, 1, 2)
            last = conv(f"{name}.conv2", first, outs, 3, 1, residual=shortcut.name)
            nodes += [first, *([] if shortcut is source else [shortcut]), last]
    return graph(nodes)


def lowered(net: IntGraph) -> Program:
    return Vta(SPEC, load_target("vta", VtaConfig).timing).compile(net).program


def single(shape: Shape, outs: int, kernel: int, stride: int) -> Program:
    source = IntInput("input", shape, 1.0)
    return lowered(graph([source, conv("conv", source, outs, kernel, stride)]))


def show(name: str, report: TimingReport, published: float) -> None:
    print(
        f"{name:38} {report.cycles:>11,} cycles  published {published:>12,.0f}  "
        f"ratio {report.cycles / published:5.3f}  GEMM {report.units['gemm'].utilisation:6.1%}  "
        f"of bound {report.cycles / report.bound_cycles:5.3f} ({bottleneck(report)})"
    )


def bottleneck(report: TimingReport) -> str:
    return max(report.bound, key=report.bound.__getitem__)


def resnets() -> None:
    for name, (blocks, new, old) in RESNETS.items():
        begin = time.process_time()
        program = lowered(resnet(blocks))
        compiled = time.process_time()
        report = time_program(program, load_target("vta", VtaConfig).timing)
        timed = time.process_time()
        older = time_program(program, load_target("vta_old_rtl", VtaConfig).timing)
        print(
            f"\n{name}: {program.length:,} instructions, compiled in {compiled - begin:.2f} s, "
            f"timed in {timed - compiled:.2f} s of CPU time"
        )
        show(f"{name}, DE10", report, new)
        show(f"{name}, older RTL", older, old)
        print(f"older / DE10: {older.cycles / report.cycles:.3f}, published {old / new:.3f}")
        for layer in report.layers:
            split = "  ".join(f"{key} {value:>7,}" for key, value in layer.split.items())
            print(f"  {layer.name:22} {layer.cycles:>9,}  {split}")


def untuned_row() -> Program:
    """One of the 56 rows of the convolution: 56 pixels x 4 x 4 channel blocks, in sequence."""
    insns: list[Insn] = []
    for pixel in range(56):
        for out_block in range(4):
            insns += list(_untuned_tile(pixel, out_block))
    insns.append(FinishInsn(pop_next=True))
    empty = single((64, 8, 8), 64, 1, 1)
    return replace(empty, insn=encode(SPEC, insns), layers=())


def _untuned_tile(pixel: int, out_block: int) -> Iterator[Insn]:
    """Sixteen outputs: reset; four input blocks; shift, maximum, minimum; store."""
    first = pixel + out_block == 0
    yield GemmInsn(uop_bgn=0, uop_end=1, reset=True, pop_next=not first, push_prev=True)
    for block in range(4):
        yield MemInsn(
            opcode=Opcode.LOAD,
            memory_type=MemType.INP,
            dram_base=block * 58 * 58 + pixel,
            y_size=3,
            x_size=3,
            x_stride=58,
            pop_next=True,
        )
        yield MemInsn(
            opcode=Opcode.LOAD,
            memory_type=MemType.WGT,
            dram_base=(out_block * 4 + block) * 9,
            x_size=9,
            x_stride=9,
            push_next=True,
        )
        yield GemmInsn(uop_bgn=1, uop_end=10, pop_prev=True, push_prev=block < 3)
    for operation, push in ((AluOp.SHR, False), (AluOp.MAX, False), (AluOp.MIN, True)):
        yield AluInsn(uop_bgn=0, uop_end=1, alu_opcode=operation, use_imm=True, push_next=push)
    yield MemInsn(
        opcode=Opcode.STORE,
        memory_type=MemType.OUT,
        dram_base=out_block * 56 * 56 + pixel,
        x_size=1,
        x_stride=1,
        pop_prev=True,
        push_prev=True,
    )


def buses() -> None:
    print("\n3x3, 64 channels of 56x56, by bus width; untuned: one row times 56 rows")
    row, ours = untuned_row(), single((64, 56, 56), 64, 3, 1)
    found: dict[int, int] = {}
    for bits, published in BUSES.items():
        timing = replace(load_target("vta", VtaConfig).timing, bus_bits=bits)
        report = time_program(row, timing)
        found[bits] = 56 * report.cycles
        mine = time_program(ours, timing)
        print(
            f"  {bits:3} bit: untuned {found[bits]:>10,} cycles, published / {RUNS} runs "
            f"{published / RUNS:>10,.0f}, ratio {found[bits] * RUNS / published:5.3f}; "
            f"our schedule {mine.cycles:>9,}"
        )
    for narrow, wide in pairwise(BUSES):
        print(
            f"  {wide} / {narrow} bit: {found[wide] / found[narrow]:.3f}, published "
            f"{BUSES[wide] / BUSES[narrow]:.3f}"
        )


def board() -> None:
    print("\nPynq shell, 100 MHz, milliseconds")
    timing = load_target("vta_pynq", VtaConfig).timing
    for size, ins, outs, kernel, stride, published in BOARD:
        report = time_program(single((ins, size, size), outs, kernel, stride), timing)
        print(
            f"  {kernel}x{kernel} stride {stride}, {size:2}x{size:<2} {ins:3} -> {outs:3}: "
            f"{report.milliseconds:.3f}, measured {published:.3f}, ratio "
            f"{report.milliseconds / published:.3f}, GEMM {report.units['gemm'].utilisation:.1%}"
        )


if __name__ == "__main__":
    resnets()
    buses()
    board()
