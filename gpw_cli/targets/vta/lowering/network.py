"""The whole network as one VTA program.

    program = compile_graph(graph, spec, costs)   # graph: gpw_cli.graph.integer.IntGraph

``passes.py`` lists what happens to the graph on its way to instructions.
"""

from __future__ import annotations

from gpw_cli.errors import UnsupportedError
from gpw_cli.graph.integer import IntGraph
from gpw_cli.targets.vta.isa.encoding import encode
from gpw_cli.targets.vta.isa.geometry import VtaSpec
from gpw_cli.targets.vta.isa.program import Program
from gpw_cli.targets.vta.lowering.passes import lower
from gpw_cli.targets.vta.lowering.unit_costs import UnitCosts


def compile_graph(graph: IntGraph, spec: VtaSpec, costs: UnitCosts) -> Program:
    """One program that reads the input region and leaves the logits in the output region.

    ``costs``: what the tile search charges. Raises UnsupportedError for an operator or a geometry
    that cannot run, naming it.
    """
    if spec.batch > 1 and spec.block_in != spec.block_out:
        raise UnsupportedError(
            f"VTA geometry: LOG_BATCH={spec.log_batch} needs LOG_BLOCK_IN equal to LOG_BLOCK_OUT"
        )
    state = lower(graph, spec, costs)
    output, ops = state.tensors[graph.output], state.ops
    return Program(
        spec=spec,
        insn=encode(spec, [op.insn for op in ops]),
        dram=state.dram.bytes(),
        regions=state.dram.regions,
        input=graph.input.name,
        output=graph.output,
        input_shape=graph.input.shape,
        output_shape=output.shape,
        output_bits=8 * output.value_bytes,
        layers=state.layers,
        input_layout=state.input_layout,
        roles=tuple(op.role for op in ops),
        scales=dict(graph.scales),
        min_gemm_distance=min((op.distance for op in ops if op.distance), default=0),
    )
