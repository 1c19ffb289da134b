"""Packs the inputs of a channel chunk into bundles, each of which fits one slot of the scratchpad.

units = needed(shaped, sizes, groups)             # input groups that a surviving tile reads
for bundle in in_bundles(units, room): ...
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gpw_cli.arrays import Int64
from gpw_cli.targets.vta.lowering.layout import Tensor
from gpw_cli.targets.vta.lowering.tile_ir import ProductKernel


@dataclass(frozen=True, eq=False)
class Shaped:
    """A kernel with the tensors it reads and writes.

    ``counts``: the number of tiles of each term by (output, input) group; a constant term has no
    source tensor and one input group.
    """

    kernel: ProductKernel
    out: Tensor
    sources: tuple[Tensor | None, ...]
    counts: tuple[Int64, ...]


@dataclass(frozen=True)
class InputGroup:
    """Input group ``group`` of term ``term``: ``size`` elements, read by ``tiles`` tiles."""

    term: int
    group: int
    size: int
    tiles: int


def needed(shaped: Shaped, sizes: list[int], groups: Int64) -> list[InputGroup]:
    """The input groups that the output ``groups`` read; ``sizes``: elements per group of a term."""
    units = []
    for term, (source, size) in enumerate(zip(shaped.sources, sizes, strict=True)):
        if source is not None:
            tiles = shaped.counts[term][groups].sum(axis=0)
            units += [
                InputGroup(term, int(group), size, int(tiles[group]))
                for group in np.flatnonzero(tiles)
            ]
    return units


def in_bundles(units: list[InputGroup], room: int) -> list[list[InputGroup]]:
    """``units`` in order, in bundles of at most ``room`` elements and about equal numbers of tiles.

    With equal work, the load of each bundle hides behind the arithmetic of the previous one. There
    is always at least one bundle; it is empty if there are no units.
    """
    least = max(1, -(-sum(unit.size for unit in units) // room))
    share = sum(unit.tiles for unit in units) / least
    bundles: list[list[InputGroup]] = [[]]
    size = done = 0
    for unit in units:
        full = size + unit.size > room
        enough = done + unit.tiles / 2 > share * len(bundles) and len(bundles) < least
        if bundles[-1] and (full or enough):
            bundles.append([])
            size = 0
        bundles[-1].append(unit)
        size += unit.size
        done += unit.tiles
    return bundles
