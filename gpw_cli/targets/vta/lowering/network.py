"""The whole network as one VTA program.

    program = compile_graph(graph, spec, costs)   # graph: gpw_cli.graph.integer.IntGraph

Nodes become kernels (``legalize.py``) without what nobody reads (``liveness.py``), kernels tiles
that fit the scratchpads (``tile_search.py``, ``blocking.py``), tiles instructions (``product.py``,
``maxpool.py``), and those get tokens (``stream.py``) and micro-ops (``microops.py``). While one
tile is computed the next one is loaded and the one before stored, across layers too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from gpw_cli.errors import UnsupportedError
from gpw_cli.graph.integer import IntConv, IntGraph
from gpw_cli.targets.vta.isa.geometry import VtaSpec
from gpw_cli.targets.vta.isa.input_layout import InputLayout
from gpw_cli.targets.vta.isa.instructions import MemType, encode
from gpw_cli.targets.vta.isa.program import LayerRange, Program
from gpw_cli.targets.vta.lowering.builder import Builder
from gpw_cli.targets.vta.lowering.layout import DramImage, Tensor
from gpw_cli.targets.vta.lowering.legalize import legalize
from gpw_cli.targets.vta.lowering.liveness import trim
from gpw_cli.targets.vta.lowering.loops import clear
from gpw_cli.targets.vta.lowering.maxpool import MaxPoolSchedule
from gpw_cli.targets.vta.lowering.microops import REST, place
from gpw_cli.targets.vta.lowering.product import ProductSchedule, Segment
from gpw_cli.targets.vta.lowering.stream import Op, Span, Stream
from gpw_cli.targets.vta.lowering.tile_ir import (
    Kernel,
    MaxPoolKernel,
    ProductKernel,
    constant_input,
)
from gpw_cli.targets.vta.lowering.transfer import load_row
from gpw_cli.targets.vta.lowering.unit_costs import UnitCosts
from gpw_cli.targets.vta.lowering.upsample import UpsampleSchedule

Schedule = ProductSchedule | MaxPoolSchedule


def compile_graph(graph: IntGraph, spec: VtaSpec, costs: UnitCosts) -> Program:
    """One program that reads the input region and leaves the logits in the output region.

    Raises UnsupportedError for an operator or a geometry that cannot run, naming it.
    """
    if spec.batch > 1 and spec.block_in != spec.block_out:
        raise UnsupportedError(
            f"VTA geometry: LOG_BATCH={spec.log_batch} needs LOG_BLOCK_IN equal to LOG_BLOCK_OUT"
        )
    named, layout = legalize(graph, spec)
    if not named:
        raise UnsupportedError("the network has no layer")
    dram = DramImage()
    kernels, tensors = _placed(graph, named, layout, spec, dram)
    builder = Builder(spec, _vectors(kernels, tensors, spec), costs)
    schedules = [_schedule(builder, dram, kernel, tensors) for kernel in kernels]
    _prepare(builder, dram, tensors, kernels)
    _interleave([segment for s in schedules for segment in s.segments], builder.stream)
    builder.stream.finish()
    ops, layers = _by_layer(place(builder.stream.tokens(), spec, dram), named)
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
        layers=tuple(layers),
        input_layout=layout,
        passes=tuple(op.role for op in ops),
        scales=dict(graph.scales),
        min_gemm_distance=min((s.distance for s in schedules if s.distance), default=0),
    )


def _placed(
    graph: IntGraph,
    named: Sequence[Kernel],
    layout: InputLayout,
    spec: VtaSpec,
    dram: DramImage,
) -> tuple[list[Kernel], dict[str, Tensor]]:
    """What has to be computed, and every tensor that is stored, in its region."""
    laid = layout.shape(graph.input.shape)
    source = Tensor(graph.input.name, laid, spec.block_in, note=layout.words)
    tensors = _tensors(graph, source, named, spec)
    kernels, live = trim(named, tensors, graph.output, spec)
    stored = {graph.input.name: "input"} | {kernel.name: "intermediate" for kernel in kernels}
    stored[graph.output] = "output"
    placed = {
        name: replace(dram.tensor(tensors[name], spec, kind), stored=tuple(live[name].tolist()))
        for name, kind in stored.items()
    }
    return kernels, placed


def _tensors(
    graph: IntGraph, source: Tensor, kernels: Sequence[Kernel], spec: VtaSpec
) -> dict[str, Tensor]:
    """The input and what each kernel would write."""
    group = max(spec.block_in, spec.block_out)
    tensors = {source.name: source}
    for kernel in kernels:
        node = graph.node(kernel.name)
        planes = node.out_bits // 8 if isinstance(node, IntConv) else 1
        last = node.name == graph.output
        _check_result(graph, node.name, planes, spec)
        tensors[node.name] = Tensor(
            node.name, node.shape, spec.block_out if last else group, planes
        )
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
    if isinstance(kernel, MaxPoolKernel):
        return MaxPoolSchedule(builder, dram, kernel, tensors)
    return UpsampleSchedule(builder, dram, kernel, tensors)


def _prepare(
    builder: Builder, dram: DramImage, tensors: dict[str, Tensor], kernels: Sequence[Kernel]
) -> None:
    """Which tensors there are, spare accumulators, and the constant input if a bias needs it."""
    spec, stream = builder.spec, builder.stream
    first = next(iter(tensors))
    for tensor in tensors.values():
        stream.declare(tensor, host=tensor.name == first)
    stream.layer = kernels[0].name
    clear(builder, Span(builder.spare, builder.spare + REST))
    terms = [term for k in kernels if isinstance(k, ProductKernel) for term in k.terms]
    if any(term.source is None for term in terms):
        layout = f"n {spec.block_in}c"
        region = dram.add("constant", constant_input(spec), layout=layout, kind="bias")
        load_row(builder, MemType.INP, region.offset // spec.inp_elem_bytes, builder.constant, 1)


def _interleave(segments: Sequence[Segment], stream: Stream) -> None:
    """All segments; the next one's loads come before this one's ALU steps where they can.

    Then a LOAD that waits for a STORE does not keep COMPUTE from those steps.
    """

    def load(segment: Segment) -> None:
        stream.layer = segment.layer
        segment.load()

    load(segments[0])
    for segment, following in zip(segments, [*segments[1:], None], strict=True):
        stream.layer = segment.layer
        segment.compute()
        early = following is not None and following.ready()
        if following is not None and early:
            load(following)
        stream.layer = segment.layer
        segment.finish()
        if following is not None and not early:
            load(following)


def _by_layer(ops: Sequence[Op], kernels: Sequence[Kernel]) -> tuple[list[Op], list[LayerRange]]:
    """The instructions layer by layer, and each layer's range: empty if nobody reads its result.

    Only loads that ran ahead move, behind instructions of other modules: no module's order changes.
    """
    order = {kernel.name: number for number, kernel in enumerate(kernels)}
    ordered = sorted(ops, key=lambda op: order[op.layer])
    count = Counter(op.layer for op in ops)
    ranges, begin = [], 0
    for name in order:
        ranges.append(LayerRange(name, begin, begin + count[name]))
        begin += count[name]
    return ordered, ranges
