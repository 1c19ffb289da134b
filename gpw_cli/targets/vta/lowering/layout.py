"""The layout of DRAM: regions, activation tensors and packed weight tiles.

    dram, region = DramImage().add("conv1.weight", tiles, layout="tile 16o 16i", kind="weight")
    tensor = Tensor("conv1", (16, 32, 32), group=16)
    dram, region = dram.reserve(tensor.region(spec, "intermediate"))

An activation is int8 [C/group, H, W, group] per image. ``group`` is the larger of the two blocks,
so that a group is a whole number of output elements, which STORE writes, and of input elements,
which LOAD reads. The network's input is grouped by block_in, its output by block_out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil, prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpw_cli.targets.vta.isa.geometry import VtaSpec
from gpw_cli.targets.vta.isa.program import REGION_ALIGN, Bytes, Region


@dataclass(frozen=True)
class Tensor:
    """One activation in DRAM: (C, H, W) of ``shape`` at byte ``offset``, ``value_bytes`` a value.

    ``stored``: the channel groups that are computed, ascending; None: all. ``note``: what the
    channels are, for the region's description.
    """

    name: str
    shape: tuple[int, int, int]
    group: int
    value_bytes: int = 1
    offset: int = 0
    stored: tuple[int, ...] | None = None
    note: str = ""

    @property
    def groups(self) -> int:
        """Channel groups; the last one is zero padded."""
        return ceil(self.shape[0] / self.group)

    @property
    def live(self) -> NDArray[np.int64]:
        """``stored`` as an array."""
        return np.arange(self.groups) if self.stored is None else np.array(self.stored, np.int64)

    def pixel(self, block: int) -> int:
        """Elements of ``block`` channels in one pixel of one group."""
        return self.group // block

    def index(
        self, spec: VtaSpec, block: int, group: int, row: int, col: int, byte: int = 0
    ) -> int:
        """DRAM element (of ``block`` channels) of a pixel."""
        _, height, width = self.shape
        line = (byte * self.groups + group) * height + row
        return self.offset // (spec.batch * block) + (line * width + col) * self.pixel(block)

    def region(self, spec: VtaSpec, kind: str) -> Region:
        """The tensor as a region of ``value_bytes`` x groups x H x W x batch x group bytes."""
        block = spec.block_in if kind == "input" else spec.block_out
        block = block if kind in ("input", "output") else self.group
        blocks = self.groups * self.pixel(block)
        shape: tuple[int, ...] = (blocks, *self.shape[1:], spec.batch, block)
        layout = f"C/{block} H W n {block}c{self.note}"
        if kind == "output":
            shape, layout = (self.value_bytes, *shape), f"byte {layout}"
        return Region(self.name, self.offset, prod(shape), "int8", shape, layout, kind)


@dataclass(frozen=True, eq=False)
class DramImage:
    """Regions one after the other, each aligned to 4096 bytes (or to its element, if larger).

    ``data``: (offset, bytes) of what is there before the run; ``end``: of the last region.
    """

    regions: tuple[Region, ...] = ()
    data: tuple[tuple[int, Bytes], ...] = ()
    end: int = 0

    def reserve(self, region: Region, *, element: int = 1) -> tuple[DramImage, Region]:
        """The image with ``region`` at the next free aligned address, whatever its offset."""
        align = max(REGION_ALIGN, element)
        placed = replace(region, offset=ceil(self.end / align) * align)
        end = placed.offset + region.length
        return replace(self, regions=(*self.regions, placed), end=end), placed

    def add(
        self, name: str, data: NDArray[Any], *, layout: str, kind: str
    ) -> tuple[DramImage, Region]:
        """The image with a region that holds ``data`` ([elements, ...]) before the run."""
        element = data.nbytes // max(1, len(data))
        empty = Region(name, 0, data.nbytes, data.dtype.name, data.shape, layout, kind)
        image, region = self.reserve(empty, element=element)
        content = np.ascontiguousarray(data).view(np.uint8).reshape(-1)
        return replace(image, data=(*self.data, (region.offset, content))), region

    def bytes(self) -> Bytes:
        """uint8, the whole image, a multiple of 4096 bytes."""
        image = np.zeros(ceil(self.end / REGION_ALIGN) * REGION_ALIGN, np.uint8)
        for offset, data in self.data:
            image[offset : offset + len(data)] = data
        return image


def pack_vectors(values: NDArray[np.int32], blocks: int, spec: VtaSpec) -> NDArray[np.int32]:
    """int32 [C] -> accumulator elements [blocks, batch, block_out], zero padded."""
    padded = np.zeros(blocks * spec.block_out, np.int32)
    padded[: len(values)] = values
    packed = padded.reshape(blocks, 1, spec.block_out)
    return np.broadcast_to(packed, (blocks, spec.batch, spec.block_out)).copy()
