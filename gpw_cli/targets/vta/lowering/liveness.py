"""Removes what nobody reads: output channels for which every reader's tile was pruned.

    kernels, live = trim(kernels, tensors, graph.output, spec)

Goes backwards from the network's output, by channel groups, because only whole groups have tiles
and STOREs of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from gpw_cli.arrays import Bools, Int64
from gpw_cli.targets.vta.isa.geometry import VtaSpec
from gpw_cli.targets.vta.lowering import tile_ir
from gpw_cli.targets.vta.lowering.layout import Tensor
from gpw_cli.targets.vta.lowering.tile_ir import Kernel, TileSet


def trim(
    kernels: Sequence[Kernel], tensors: dict[str, Tensor], output: str, spec: VtaSpec
) -> tuple[list[Kernel], dict[str, Int64]]:
    """(``kernels`` without dead kernels, terms and tiles; the live groups of each tensor)."""
    live = {name: np.zeros(tensor.groups, np.bool_) for name, tensor in tensors.items()}
    live[output][:] = True
    kept: list[Kernel] = []
    for kernel in reversed(kernels):
        if live[kernel.name].any():
            kept.append(_trimmed(kernel, live, tensors, spec))
    return kept[::-1], {name: np.flatnonzero(mask) for name, mask in live.items()}


def _trimmed(
    kernel: Kernel, live: dict[str, Bools], tensors: dict[str, Tensor], spec: VtaSpec
) -> Kernel:
    """``kernel`` with the tiles of its live groups; marks what they read as live."""
    pixel = tensors[kernel.name].pixel(spec.block_out)
    mine = live[kernel.name]

    def needed(tiles: TileSet, source: str | None) -> TileSet:
        tiles = tiles.select(mine[tiles.out // pixel])
        if source is not None:
            live[source][tiles.inp // tensors[source].pixel(spec.block_in)] = True
        return tiles

    def term(given: tile_ir.Term) -> tile_ir.Term:
        return replace(given, tiles=needed(given.tiles, given.source))

    if isinstance(kernel, tile_ir.MaxPoolKernel):
        return replace(kernel, identity=needed(kernel.identity, kernel.source))
    if isinstance(kernel, tile_ir.UpsampleKernel):
        copy = _trimmed(kernel.copy, live, tensors, spec)
        assert isinstance(copy, tile_ir.ProductKernel)
        return replace(kernel, copy=copy)
    phases = []
    for phase in kernel.phases:
        terms = (term(given) for given in phase.terms)
        phases.append(tile_ir.Phase(tuple(t for t in terms if len(t.tiles.out)), phase.steps))
    return replace(kernel, phases=tuple(phases))
