"""The whole network as one VTA program.

    program = compile_graph(graph, spec)          # graph: gpw_cli.graph.integer.IntGraph

Nodes become kernels (``legalize.py``), kernels tiles that fit the scratchpads (``tiling.py``,
``chunks.py``), tiles instructions (``product.py``, ``maxpool.py``), and those get tokens and micro-ops
(``stream.py``, ``microops.py``). While one tile is computed the next one is loaded and the one before
stored, across layers too; a layer's weights are loaded during the layer before.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from itertools import groupby

from gpw_cli.errors import UnsupportedError
from gpw_cli.graph.integer import IntConv, IntGraph
from gpw_cli.targets.vta.isa import MemType, encode
from gpw_cli.targets.vta.lowering.builder import Builder
from gpw_cli.targets.vta.lowering.kernels import Kernel, ProductKernel, constant_input
from gpw_cli.targets.vta.lowering.layout import DramImage, Tensor
from gpw_cli.targets.vta.lowering.legalize import legalize
from gpw_cli.targets.vta.lowering.loops import clear
from gpw_cli.targets.vta.lowering.maxpool import MaxPoolSchedule
from gpw_cli.targets.vta.lowering.microops import REST, place
from gpw_cli.targets.vta.lowering.product import ProductSchedule, Segment
from gpw_cli.targets.vta.lowering.stream import Op, Span
from gpw_cli.targets.vta.lowering.transfer import load_row
from gpw_cli.targets.vta.program import LayerRange, Program
from gpw_cli.targets.vta.spec import VtaSpec

Schedule = ProductSchedule | MaxPoolSchedule


def compile_graph(graph: IntGraph, spec: VtaSpec) -> Program:
    """One program that reads the input region and leaves the logits in the output region.

    Raises UnsupportedError for an operator or a geometry that cannot run, naming it.
    """
    if spec.batch > 1 and spec.block_in != spec.block_out:
        raise UnsupportedError(
            f"VTA geometry: LOG_BATCH={spec.log_batch} needs LOG_BLOCK_IN equal to LOG_BLOCK_OUT"
        )
    kernels = legalize(graph, spec)
    dram = DramImage()
    tensors = _tensors(graph, kernels, spec, dram)
    builder = Builder(spec, _vectors(kernels, tensors, spec))
    schedules = [_schedule(builder, dram, kernel, tensors) for kernel in kernels]
    _prepare(builder, dram, tensors, graph.input.name)
    _interleave(schedules, builder)
    builder.stream.finish()
    ops = place(builder.stream.tokens(), spec, dram)
    output = tensors[graph.output]
    return Program(
        spec=spec,
        insn=encode(spec, [op.insn for op in ops]),
        dram=dram.image(),
        regions=tuple(dram.regions),
        input=graph.input.name,
        output=graph.output,
        input_shape=graph.input.shape,
        output_shape=output.shape,
        output_bits=8 * output.planes,
        layers=_layers(ops),
        scales=dict(graph.scales),
        min_gemm_distance=min((s.distance for s in schedules if s.distance), default=0),
    )


def _tensors(
    graph: IntGraph, kernels: Sequence[Kernel], spec: VtaSpec, dram: DramImage
) -> dict[str, Tensor]:
    """Every tensor that is stored, in its region."""
    tensors = {}
    group = max(spec.block_in, spec.block_out)
    first = Tensor(graph.input.name, graph.input.shape, spec.block_in)
    tensors[first.name] = dram.tensor(first, spec, "input")
    for kernel in kernels:
        node = graph.node(kernel.name)
        planes = node.out_bits // 8 if isinstance(node, IntConv) else 1
        last = node.name == graph.output
        _check_result(graph, node.name, planes, spec)
        tensor = Tensor(node.name, node.shape, spec.block_out if last else group, planes)
        tensors[node.name] = dram.tensor(tensor, spec, "output" if last else "intermediate")
    return tensors


def _check_result(graph: IntGraph, name: str, planes: int, spec: VtaSpec) -> None:
    last, read = name == graph.output, any(graph.consumers(name))
    if planes > 1 and not last:
        raise UnsupportedError(
            f"{name}: {8 * planes} bits, only the network's output may have them"
        )
    if last and read and (planes > 1 or spec.block_in > spec.block_out):
        raise UnsupportedError(f"{name}: the network's output is read by another layer")


def _vectors(kernels: Sequence[Kernel], tensors: dict[str, Tensor], spec: VtaSpec) -> int:
    """Accumulators for the most operands of ALU steps that one kernel has."""
    most = 0
    for kernel in kernels:
        if isinstance(kernel, ProductKernel):
            steps = [step for stage in kernel.stages for step in stage.steps]
            many = sum(not isinstance(step.operand, int) for step in steps)
            tensor = tensors[kernel.name]
            most = max(most, many * tensor.groups * tensor.pixel(spec.block_out))
    return most


def _schedule(
    builder: Builder, dram: DramImage, kernel: Kernel, tensors: dict[str, Tensor]
) -> Schedule:
    if isinstance(kernel, ProductKernel):
        return ProductSchedule(builder, dram, kernel, tensors)
    return MaxPoolSchedule(builder, dram, kernel, tensors)


def _prepare(builder: Builder, dram: DramImage, tensors: dict[str, Tensor], host: str) -> None:
    """The constant input, spare accumulators, and which tensors there are."""
    spec, stream = builder.spec, builder.stream
    stream.layer = host
    for tensor in tensors.values():
        stream.declare(tensor, host=tensor.name == host)
    region = dram.add("constant", constant_input(spec), layout=f"n {spec.block_in}c", kind="bias")
    first = region.offset // spec.inp_elem_bytes
    load_row(builder, MemType.INP, first, builder.constant, 1)
    clear(builder, Span(builder.spare, builder.spare + REST))


def _interleave(schedules: Sequence[Schedule], builder: Builder) -> None:
    """All segments: the next one's loads come before this one's ALU steps where they can."""
    pending: deque[Callable[[], None]] = deque(schedules[0].ahead(1) or ())
    order = [(number, segment) for number, s in enumerate(schedules) for segment in s.segments]

    def load(place: int) -> None:
        number, segment = order[place]
        builder.stream.layer = segment.layer
        if place == 0 or order[place - 1][0] != number:
            while pending:
                pending.popleft()()
            pending.extend(_ahead(schedules, number))
        segment.load()
        if pending:
            builder.stream.layer = schedules[number + 1].segments[0].layer
            pending.popleft()()

    load(0)
    for at, (_, segment) in enumerate(order):
        following = order[at + 1][1] if at + 1 < len(order) else None
        builder.stream.layer = segment.layer
        segment.compute()
        early = following is not None and following.ready()
        if early:
            load(at + 1)
        builder.stream.layer = segment.layer
        segment.finish()
        if following is not None and not early:
            load(at + 1)


def _ahead(schedules: Sequence[Schedule], number: int) -> list[Callable[[], None]]:
    """Loads of the next kernel's weights, if both kernels leave each other's slot alone."""
    if number + 1 == len(schedules) or schedules[number].ahead(1) is None:
        return []
    return schedules[number + 1].ahead(len(schedules[number].segments)) or []


def _layers(ops: Sequence[Op]) -> tuple[LayerRange, ...]:
    """Runs of instructions of one layer: a layer whose loads begin early has several."""
    ranges, begin = [], 0
    for name, run in groupby(ops, key=lambda op: op.layer):
        end = begin + len(list(run))
        ranges.append(LayerRange(name, begin, end))
        begin = end
    return tuple(ranges)


__all__ = ["Segment", "compile_graph"]
