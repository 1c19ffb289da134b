"""The per-picture state of a VTA as tensors, for many DRAM images at once.

Every scratchpad element of all images lies together: inp int8 [depth, rows, block_in] and acc int32
[depth, rows, block_out] with rows = images * batch, so LOAD, STORE and ALU move and combine long
contiguous runs. Of the DRAM only the pages that differ between pictures are held, in granules of
the smaller of an input and an output element: dram int8 [granules, images, granule].
Weights and micro-ops are the same for all pictures and live in the plan.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gpw_cli.targets.vta.isa.geometry import VtaSpec
from gpw_cli.targets.vta.isa.instructions import Index, MemType
from gpw_cli.targets.vta.isa.program import REGION_ALIGN, Bytes


def granule_bytes(spec: VtaSpec) -> int:
    """Bytes that always move together between DRAM and a scratchpad."""
    return min(spec.inp_elem_bytes, spec.out_elem_bytes)


@dataclass(frozen=True, eq=False)
class Pages:
    """Which 4096-byte DRAM pages are held per image.

    ``slot``: int64 [pages], where a page lies among those held; -1 for a page that is the same in
    all images.
    """

    slot: Index

    @property
    def count(self) -> int:
        """Pages held per image."""
        return int((self.slot >= 0).sum())

    def holds(self, begin: int, end: int) -> bool:
        """Whether any byte of [begin, end) is held per image."""
        return bool((self.slot[begin // REGION_ALIGN : -(-end // REGION_ALIGN)] >= 0).any())

    def address(self, byte: int) -> int:
        """Where ``byte`` of the DRAM lies among the bytes held."""
        return int(self.slot[byte // REGION_ALIGN]) * REGION_ALIGN + byte % REGION_ALIGN

    def extract(self, dram: Bytes) -> Bytes:
        """The pages held, of a whole DRAM image."""
        padded = np.zeros(len(self.slot) * REGION_ALIGN, np.uint8)
        padded[: len(dram)] = dram
        pages: Bytes = padded.reshape(-1, REGION_ALIGN)[self.slot >= 0].reshape(-1)
        return pages


class Machine:
    """Scratchpads and per-image DRAM of ``images`` VTAs, zero but for the initial DRAM."""

    def __init__(self, spec: VtaSpec, pages: Pages, dram: Bytes, images: int) -> None:
        rows, self.granule = images * spec.batch, granule_bytes(spec)
        self.images, self.rows = images, rows
        self.inp = torch.zeros((spec.inp_depth, rows, spec.block_in), dtype=torch.int8)
        self.acc = torch.zeros((spec.acc_depth, rows, spec.block_out), dtype=torch.int32)
        held = torch.from_numpy(pages.extract(dram).view(np.int8)).reshape(-1, 1, self.granule)
        self.dram = held.expand(-1, images, -1).contiguous()
        self._scratch: dict[torch.dtype, Tensor] = {}

    def scratch(self, count: int, dtype: torch.dtype) -> Tensor:
        """``count`` values of a buffer that all steps share; a larger one replaces a smaller."""
        have = self._scratch.get(dtype)
        if have is None or have.numel() < count:
            have = self._scratch[dtype] = torch.empty(count, dtype=dtype)
        return have[:count]

    def port(self, memory_type: MemType) -> Tensor:
        """The scratchpad as a transfer of ``memory_type`` sees it: [depth, images, parts, granule].

        ``parts`` are the granules of one DRAM element. OUT and ACC_8BIT see an accumulator as the
        bytes that DRAM holds for it (int32, narrowed or widened by the copy).
        """
        tensor = {MemType.INP: self.inp, MemType.ACC: self.acc.view(torch.int8)}.get(
            memory_type, self.acc
        )
        return tensor.view(tensor.shape[0], self.images, -1, self.granule)
