"""Lowering as a list of passes, each a function of the state, and what holds after it.

    state = lower(graph, spec, costs)
    state.ops                                   # the program's instructions

Read ``PASSES`` from top to bottom. A pass returns a new state and changes nothing in the old one;
``verify.py`` and ``verify_ops.py`` state what has to hold after it, which is checked every time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from gpw_cli.errors import ProgramError, UnsupportedError
from gpw_cli.graph.integer import IntGraph
from gpw_cli.targets.vta.isa.geometry import VtaSpec
from gpw_cli.targets.vta.lowering import verify, verify_ops
from gpw_cli.targets.vta.lowering.blocking import cut
from gpw_cli.targets.vta.lowering.emit import emit
from gpw_cli.targets.vta.lowering.layout import DramImage, pack_vectors
from gpw_cli.targets.vta.lowering.legalize import legalize
from gpw_cli.targets.vta.lowering.liveness import trim
from gpw_cli.targets.vta.lowering.maxpool import pool_blocks, pool_copy, pool_tiling
from gpw_cli.targets.vta.lowering.microops import with_micro_ops
from gpw_cli.targets.vta.lowering.op_passes import by_layer, with_tokens
from gpw_cli.targets.vta.lowering.operands import vector_steps
from gpw_cli.targets.vta.lowering.sram import sram_layout
from gpw_cli.targets.vta.lowering.state import State, TiledKernel
from gpw_cli.targets.vta.lowering.tensors import declare, in_dram
from gpw_cli.targets.vta.lowering.tile_ir import (
    Kernel,
    MaxPoolKernel,
    ProductKernel,
    constant_input,
)
from gpw_cli.targets.vta.lowering.tile_search import choose_tiling
from gpw_cli.targets.vta.lowering.tiling import shape
from gpw_cli.targets.vta.lowering.unit_costs import UnitCosts


@dataclass(frozen=True)
class Pass:
    """``run`` makes the next state; ``check`` says in words what is wrong with it, if anything."""

    name: str
    run: Callable[[State], State]
    check: Callable[[State], Iterator[str]]


def make_kernels(state: State) -> State:
    """Nodes become kernels: tiles, constants and exact ALU steps."""
    kernels, layout = legalize(state.graph, state.spec)
    if not kernels:
        raise UnsupportedError("the network has no layer")
    names = tuple(kernel.name for kernel in kernels)
    return replace(state, kernels=tuple(kernels), names=names, input_layout=layout)


def declare_tensors(state: State) -> State:
    """The shape of what each kernel writes."""
    tensors = declare(state.graph, state.input_layout, state.kernels, state.spec)
    return replace(state, tensors=tensors)


def remove_dead(state: State) -> State:
    """What nobody reads is not computed."""
    kernels, live = trim(state.kernels, dict(state.tensors), state.graph.output, state.spec)
    tensors = {
        name: replace(tensor, stored=tuple(live[name].tolist()))
        for name, tensor in state.tensors.items()
    }
    return replace(state, kernels=tuple(kernels), tensors=tensors)


def place_tensors(state: State) -> State:
    """A region of DRAM for each tensor that is left."""
    dram, tensors = in_dram(state.graph, state.kernels, state.tensors, state.spec, state.dram)
    return replace(state, dram=dram, tensors=tensors)


def divide_scratchpads(state: State) -> State:
    """Room for the most operands of ALU steps that one kernel has; the rest is for tiles."""
    many = [
        len(vector_steps(kernel)) * _accumulators(state, kernel)
        for kernel in state.kernels
        if isinstance(kernel, ProductKernel)
    ]
    return replace(state, sram=sram_layout(state.spec, max(many, default=0)))


def tile(state: State) -> State:
    """Tiles that fit the scratchpads."""
    return replace(state, tiled=tuple(_tiled(state, kernel) for kernel in state.kernels))


def block(state: State) -> State:
    """Chunks of output channels, bundles of inputs, sets of weights."""
    return replace(state, tiled=tuple(_blocked(state, tiled) for tiled in state.tiled))


def place_constants(state: State) -> State:
    """Regions of DRAM for weights, operands of ALU steps and the constant input."""
    dram, tiled = state.dram, []
    for one in state.tiled:
        dram, placed = _with_constants(state, dram, one)
        tiled.append(placed)
    products = [kernel for kernel in state.kernels if isinstance(kernel, ProductKernel)]
    constant = None
    if any(term.source is None for kernel in products for term in kernel.terms):
        layout = f"n {state.spec.block_in}c"
        dram, region = dram.add("constant", constant_input(state.spec), layout=layout, kind="bias")
        constant = region.offset // state.spec.inp_elem_bytes
    return replace(state, dram=dram, tiled=tuple(tiled), constant=constant)


def emit_instructions(state: State) -> State:
    """Loads, GEMMs, ALU steps and stores, and what each has to wait for."""
    return replace(state, ops=emit(state))


def insert_tokens(state: State) -> State:
    """Dependency flags."""
    return replace(state, ops=with_tokens(state.ops))


def load_micro_ops(state: State) -> State:
    """Micro-op lists in DRAM, and their loads."""
    ops, dram = with_micro_ops(state.ops, state.spec, state.dram)
    return replace(state, ops=ops, dram=dram)


def sort_by_layer(state: State) -> State:
    """The instructions of each layer together."""
    ops, layers = by_layer(state.ops, state.names)
    return replace(state, ops=ops, layers=layers)


PASSES = (
    Pass("legalize", make_kernels, verify.kernels),
    Pass("declare tensors", declare_tensors, verify.tensors),
    Pass("remove dead channels", remove_dead, verify.liveness),
    Pass("place tensors", place_tensors, verify.regions),
    Pass("divide scratchpads", divide_scratchpads, verify.scratchpads),
    Pass("tile", tile, verify.tilings),
    Pass("block", block, verify.blocks),
    Pass("place constants", place_constants, verify.regions),
    Pass("emit instructions", emit_instructions, verify_ops.order),
    Pass("insert tokens", insert_tokens, verify_ops.tokens),
    Pass("load micro-ops", load_micro_ops, verify_ops.addresses),
    Pass("sort by layer", sort_by_layer, verify_ops.layers),
)


def lower(graph: IntGraph, spec: VtaSpec, costs: UnitCosts) -> State:
    """Every pass in turn, each checked.

    Raises UnsupportedError for what VTA cannot run, ProgramError for a fault of a pass.
    """
    state = State(graph, spec, costs)
    for one in PASSES:
        state = one.run(state)
        for problem in one.check(state):
            raise ProgramError(f"lowering, {one.name}: {problem}; this is a fault of gpw")
    return state


def _accumulators(state: State, kernel: Kernel) -> int:
    """Accumulators that hold one value for each output channel."""
    tensor = state.tensors[kernel.name]
    return tensor.groups * tensor.pixel(state.spec.block_out)


def _tiled(state: State, kernel: Kernel) -> TiledKernel:
    spec, sram, tensors = state.spec, state.sram, dict(state.tensors)
    assert sram is not None
    out = tensors[kernel.name]
    if isinstance(kernel, MaxPoolKernel):
        shaped = shape(pool_copy(kernel), tensors, spec)
        return TiledKernel(kernel, out, shaped, pool_tiling(kernel, shaped, spec, sram))
    product = kernel
    if not isinstance(kernel, ProductKernel):
        product = kernel.copy
        source = product.terms[0].source
        assert source is not None
        tensors[kernel.name] = replace(out, shape=tensors[source].shape)
    assert isinstance(product, ProductKernel)
    shaped = shape(product, tensors, spec)
    return TiledKernel(kernel, out, shaped, choose_tiling(shaped, spec, sram, state.costs))


def _blocked(state: State, tiled: TiledKernel) -> TiledKernel:
    assert state.sram is not None
    if isinstance(tiled.kernel, MaxPoolKernel):
        blocks = pool_blocks(tiled.kernel, tiled.shaped, state.spec)
    else:
        blocks = cut(tiled.shaped, tiled.tiling, state.spec, state.sram)
    return replace(tiled, blocks=blocks)


def _with_constants(
    state: State, dram: DramImage, tiled: TiledKernel
) -> tuple[DramImage, TiledKernel]:
    """With the weights and vectors of ``tiled`` in regions of their own, if it has any."""
    spec, name, data = state.spec, tiled.kernel.name, tiled.blocks.weights
    if len(data):
        layout = f"tile {spec.block_out}o {spec.block_in}i, with bias and diagonal tiles, as used"
        dram, region = dram.add(f"{name}.weight", data, layout=layout, kind="weight")
        tiled = replace(tiled, weight_base=region.offset // spec.wgt_elem_bytes)
    operands = [operand for _, operand in vector_steps(tiled.shaped.kernel)]
    if operands:
        count = _accumulators(state, tiled.kernel)
        packed = np.concatenate([pack_vectors(operand, count, spec) for operand in operands])
        layout = f"C/{spec.block_out} n {spec.block_out}c"
        dram, region = dram.add(f"{name}.bias", packed, layout=layout, kind="bias")
        tiled = replace(tiled, vector_base=region.offset // spec.acc_elem_bytes)
    return dram, tiled
