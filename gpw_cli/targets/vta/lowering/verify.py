"""What has to hold of kernels, tensors, regions and tiles between the passes of lowering.

    for problem in kernels(state): ...          # sentences; none if all is well

``verify_ops.py`` does the same for instructions.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from gpw_cli.arrays import Int64
from gpw_cli.targets.vta.isa import fields
from gpw_cli.targets.vta.isa.geometry import VtaSpec
from gpw_cli.targets.vta.isa.program import REGION_ALIGN
from gpw_cli.targets.vta.lowering.blocking import Bundle, Piece
from gpw_cli.targets.vta.lowering.maxpool import pool_copy, pool_fits
from gpw_cli.targets.vta.lowering.microops import REST
from gpw_cli.targets.vta.lowering.sram import SramLayout
from gpw_cli.targets.vta.lowering.state import State, TiledKernel
from gpw_cli.targets.vta.lowering.tile_ir import (
    AluStep,
    Kernel,
    MaxPoolKernel,
    ProductKernel,
    Term,
    TileSet,
)
from gpw_cli.targets.vta.lowering.tile_search import fits
from gpw_cli.targets.vta.lowering.tiling import input_sizes

_IMM_LOW, _IMM_HIGH = fields.limits(fields.ALU, "imm")


def product_of(kernel: Kernel) -> ProductKernel:
    """What ``kernel`` multiplies."""
    if isinstance(kernel, ProductKernel):
        return kernel
    return pool_copy(kernel) if isinstance(kernel, MaxPoolKernel) else kernel.copy


def kernels(state: State) -> Iterator[str]:
    """Each kernel has a name of its own and reads what stands before it; its tiles are whole."""
    known = {state.graph.input.name}
    for kernel in state.kernels:
        if kernel.name in known:
            yield f"two kernels are called {kernel.name}"
        for term in product_of(kernel).terms:
            if term.source is not None and term.source not in known:
                yield f"{kernel.name} reads {term.source}, which no earlier kernel writes"
            yield from (f"{kernel.name}: {problem}" for problem in _term(term, state.spec))
        known.add(kernel.name)
    if state.graph.output not in known:
        yield f"no kernel writes the output {state.graph.output}"


def _term(term: Term, spec: VtaSpec) -> Iterator[str]:
    tiles = term.tiles
    if tiles.data.shape[1:] != spec.tile:
        yield f"tiles of {tiles.data.shape[1:]}, the target's are {spec.tile}"
    limits = (term.kernel[0], term.kernel[1], len(tiles.data))
    for what, index, size in zip(
        ("row", "column", "tile"), (tiles.row, tiles.col, tiles.tile), limits, strict=True
    ):
        if _outside(index, size):
            yield f"{what} {int(index.max())} of {size}"
    if term.source is None and tiles.inp.any():
        yield "a constant term has one input block"


def _outside(index: Int64, size: int) -> bool:
    return bool(len(index)) and not 0 <= int(index.min()) <= int(index.max()) < size


def tensors(state: State) -> Iterator[str]:
    """Tiles and ALU steps lie within the channels of the tensors that they read and write."""
    yield from kernels(state)
    spec = state.spec
    for kernel in state.kernels:
        out = state.tensors[kernel.name]
        if out.shape != state.graph.node(kernel.name).shape:
            yield f"{kernel.name} is {out.shape}, its node {state.graph.node(kernel.name).shape}"
        blocks = out.groups * out.pixel(spec.block_out)
        product = product_of(kernel)
        for term in product.terms:
            if _outside(term.tiles.out, blocks):
                yield f"{kernel.name}: output block {int(term.tiles.out.max())} of {blocks}"
            if term.source is None:
                continue
            source = state.tensors[term.source]
            inputs = source.groups * source.pixel(spec.block_in)
            if _outside(term.tiles.inp, inputs):
                yield f"{kernel.name}: input block {int(term.tiles.inp.max())} of {inputs}"
        for phase in product.phases:
            for step in phase.steps:
                if not _fits_blocks(step, blocks, spec):
                    yield f"{kernel.name}: operand {step.operand} of an ALU step"


def _fits_blocks(step: AluStep, blocks: int, spec: VtaSpec) -> bool:
    if step.blocks is not None and len(step.blocks) > blocks:
        return False
    if isinstance(step.operand, int):
        return _IMM_LOW <= step.operand <= _IMM_HIGH
    return len(step.operand) <= blocks * spec.block_out


def liveness(state: State) -> Iterator[str]:
    """What a kernel that is left reads is computed, and all of the output is."""
    yield from tensors(state)
    output = state.tensors[state.graph.output]
    if len(output.live) != output.groups:
        yield f"only {len(output.live)} of {output.groups} groups of the output are computed"
    for kernel in state.kernels:
        out = state.tensors[kernel.name]
        for term in product_of(kernel).terms:
            groups = term.tiles.out // out.pixel(state.spec.block_out)
            if not np.isin(groups, out.live).all():
                yield f"{kernel.name}: tiles for channels that are not computed"
            if term.source is not None:
                source = state.tensors[term.source]
                read = term.tiles.inp // source.pixel(state.spec.block_in)
                if not np.isin(read, source.live).all():
                    yield f"{kernel.name} reads channels of {term.source} that are not computed"


def regions(state: State) -> Iterator[str]:
    """Regions are aligned, apart and named once; tensors and data lie in theirs."""
    end, found = 0, {}
    for region in state.dram.regions:
        if region.offset % REGION_ALIGN or region.offset < end:
            yield f"region {region.name} at {region.offset}, the one before ends at {end}"
        if region.name in found:
            yield f"two regions are called {region.name}"
        end, found[region.name] = region.offset + region.length, region
    if end != state.dram.end:
        yield f"the regions end at {end}, not at {state.dram.end}"
    for name, tensor in state.tensors.items():
        if name not in found or found[name].offset != tensor.offset:
            yield f"tensor {name} is not in its region"
    filled = {region.offset: region.length for region in state.dram.regions}
    for offset, data in state.dram.data:
        if filled.get(offset) != len(data):
            yield f"{len(data)} bytes at {offset} fill no region"


def scratchpads(state: State) -> Iterator[str]:
    """What is set apart lies behind the tiles and inside the scratchpads."""
    spec, sram = state.spec, state.sram
    if sram is None:
        yield "the scratchpads are not divided"
        return
    if not 0 < sram.acc <= sram.vectors <= sram.spare == spec.acc_depth - REST:
        yield f"{sram} of {spec.acc_depth} accumulators"
    if not 0 < sram.inp <= sram.constant < spec.inp_depth:
        yield f"{sram} of {spec.inp_depth} input elements"
    if not 0 <= sram.wgt <= spec.wgt_depth:
        yield f"{sram} of {spec.wgt_depth} weight elements"


def tilings(state: State) -> Iterator[str]:
    """Every kernel has tiles no larger than its tensor, which fit the scratchpads."""
    assert state.sram is not None
    if [one.kernel.name for one in state.tiled] != [kernel.name for kernel in state.kernels]:
        yield "not every kernel has tiles"
    for one in state.tiled:
        tiling, shaped, name = one.tiling, one.shaped, one.kernel.name
        sizes = (len(shaped.out.live), *shaped.out.shape[1:])
        for value, most in zip((tiling.groups, tiling.rows, tiling.cols), sizes, strict=True):
            if not 0 < value <= most:
                yield f"{name}: {tiling} of {sizes}"
        if isinstance(one.kernel, MaxPoolKernel):
            fit = pool_fits(one.kernel, shaped, tiling, state.spec, state.sram)
        else:
            fit = fits(shaped, tiling, state.spec, state.sram)
        if not fit:
            yield f"{name}: {tiling} does not fit the scratchpads"


def blocks(state: State) -> Iterator[str]:
    """Each surviving tile is multiplied once, with its own weights, from inputs that are loaded."""
    assert state.sram is not None
    for one in state.tiled:
        chunks, name = one.blocks.chunks, one.kernel.name
        groups = [group for chunk in chunks for group in chunk.groups.tolist()]
        if groups != one.shaped.out.live.tolist():
            yield f"{name}: chunks of the groups {groups}"
        bundles = [bundle for chunk in chunks for bundle in chunk.bundles]
        pieces = [piece for b in bundles for pieces in b.rounds for piece in pieces]
        for number, term in enumerate(one.shaped.kernel.terms):
            mine = [piece.tiles for piece in pieces if piece.term == number]
            if not np.array_equal(_sorted([term.tiles]), _sorted(mine)):
                yield f"{name}: term {number} is not multiplied exactly once"
        for bundle in bundles:
            yield from (f"{name}: {problem}" for problem in _bundle(bundle, one, state))
        for piece in pieces:
            yield from (f"{name}: {problem}" for problem in _piece(piece, one, state.sram))


def _sorted(sets: list[TileSet]) -> Int64:
    """The tiles of ``sets``, int64 [tiles, 5], in one fixed order."""
    rows = [np.stack([s.out, s.inp, s.row, s.col, s.tile], axis=1) for s in sets]
    found = np.concatenate([np.zeros((0, 5), np.int64), *rows])
    return found[np.lexsort(found.T)]


def _bundle(bundle: Bundle, tiled: TiledKernel, state: State) -> Iterator[str]:
    assert state.sram is not None
    loaded = {part.term: part.groups for part in bundle.parts}
    for piece in (piece for pieces in bundle.rounds for piece in pieces):
        source = tiled.shaped.sources[piece.term]
        if source is None:
            continue
        read = piece.tiles.inp // source.pixel(state.spec.block_in)
        if not np.isin(read, loaded.get(piece.term, ())).all():
            yield "a GEMM reads inputs of another bundle"
    if not isinstance(tiled.kernel, MaxPoolKernel):  # its windows are checked with its tiling
        sizes = input_sizes(tiled.shaped, tiled.tiling, state.spec)
        size = sum(sizes[part.term] * len(part.groups) for part in bundle.parts)
        if size > state.sram.inp // tiled.tiling.slots:
            yield f"a bundle of {size} input elements in {tiled.tiling.slots} slots"


def _piece(piece: Piece, tiled: TiledKernel, sram: SramLayout) -> Iterator[str]:
    weights, tiles = piece.weights, piece.tiles
    where = weights.index[piece.term][tiles.tile]
    if _outside(where, weights.count) or weights.count > sram.wgt // tiled.tiling.slots:
        yield f"a weight set of {weights.count} tiles"
    elif not np.array_equal(tiled.blocks.weights[weights.begin + where], tiles.data[tiles.tile]):
        yield "a GEMM has the weights of other tiles"
