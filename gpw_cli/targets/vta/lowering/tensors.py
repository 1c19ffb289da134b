"""The tensors between kernels, and the regions of DRAM that hold them.

tensors = declare(graph, layout, kernels, spec)
dram, tensors = in_dram(graph, kernels, tensors, spec, dram)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from gpw_cli.errors import UnsupportedError
from gpw_cli.graph.integer import IntConv, IntGraph
from gpw_cli.targets.vta.isa.geometry import VtaSpec
from gpw_cli.targets.vta.isa.input_layout import InputLayout
from gpw_cli.targets.vta.lowering.layout import DramImage, Tensor
from gpw_cli.targets.vta.lowering.tile_ir import Kernel


def declare(
    graph: IntGraph, layout: InputLayout, kernels: Sequence[Kernel], spec: VtaSpec
) -> dict[str, Tensor]:
    """The input in ``layout``, and what each kernel writes.

    Raises UnsupportedError for a result of more than a byte that another kernel reads.
    """
    group = max(spec.block_in, spec.block_out)
    shape = layout.shape(graph.input.shape)
    source = Tensor(graph.input.name, shape, spec.block_in, note=layout.words)
    tensors = {source.name: source}
    for kernel in kernels:
        node = graph.node(kernel.name)
        value_bytes = node.out_bits // 8 if isinstance(node, IntConv) else 1
        last = node.name == graph.output
        _check_result(graph, node.name, value_bytes, spec)
        tensors[node.name] = Tensor(
            node.name, node.shape, spec.block_out if last else group, value_bytes
        )
    return tensors


def _check_result(graph: IntGraph, name: str, value_bytes: int, spec: VtaSpec) -> None:
    last, read = name == graph.output, any(graph.consumers(name))
    if value_bytes > 1 and not last:
        raise UnsupportedError(
            f"{name}: {8 * value_bytes} bits, only the network's output may have them"
        )
    if last and read and (value_bytes > 1 or spec.block_in > spec.block_out):
        raise UnsupportedError(f"{name}: the network's output is read by another layer")


def in_dram(
    graph: IntGraph,
    kernels: Sequence[Kernel],
    tensors: Mapping[str, Tensor],
    spec: VtaSpec,
    dram: DramImage,
) -> tuple[DramImage, dict[str, Tensor]]:
    """The tensors that ``kernels`` read and write, each in a region of its own."""
    kinds = {graph.input.name: "input"} | {kernel.name: "intermediate" for kernel in kernels}
    kinds[graph.output] = "output"
    placed = {}
    for name, kind in kinds.items():
        tensor = tensors[name]
        dram, region = dram.reserve(tensor.region(spec, kind))
        placed[name] = replace(tensor, offset=region.offset)
    return dram, placed
