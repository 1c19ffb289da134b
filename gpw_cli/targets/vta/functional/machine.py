"""The state of many VTAs as tensors, each running the same program on its own images.

A scratchpad element of all instances is contiguous: inp int8 [depth, rows, block_in] and acc int32
[depth, rows, block_out] with rows = instances * batch, so LOAD, STORE and ALU work on long
contiguous runs. Only the DRAM pages that differ between instances are held, in granules of the
smaller of an input and an output element: dram int8 [granules, instances, granule]. Weights and
micro-ops are the same for all and are part of the plan.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gpw_cli.arrays import Int64
from gpw_cli.targets.vta.isa.geometry import VtaSpec
from gpw_cli.targets.vta.isa.instructions import MemType
from gpw_cli.targets.vta.isa.program import REGION_ALIGN, Bytes


def granule_bytes(spec: VtaSpec) -> int:
    """Bytes that are always transferred together between DRAM and a scratchpad."""
    return min(spec.inp_elem_bytes, spec.out_elem_bytes)


@dataclass(frozen=True, eq=False)
class Pages:
    """Which 4096-byte DRAM pages are held per instance.

    ``slot``: int64 [pages], the position of a page among those held; -1: the same in all instances.
    """

    slot: Int64

    @property
    def count(self) -> int:
        """Pages held per instance."""
        return int((self.slot >= 0).sum())

    def holds(self, begin: int, end: int) -> bool:
        """Whether any byte of [begin, end) is held per instance."""
        return bool((self.slot[begin // REGION_ALIGN : -(-end // REGION_ALIGN)] >= 0).any())

    def address(self, byte: int) -> int:
        """The position of the DRAM's ``byte`` among the bytes held."""
        return int(self.slot[byte // REGION_ALIGN]) * REGION_ALIGN + byte % REGION_ALIGN

    def extract(self, dram: Bytes) -> Bytes:
        """The held pages of a whole DRAM image."""
        padded = np.zeros(len(self.slot) * REGION_ALIGN, np.uint8)
        padded[: len(dram)] = dram
        pages: Bytes = padded.reshape(-1, REGION_ALIGN)[self.slot >= 0].reshape(-1)
        return pages


class Machine:
    """Scratchpads and held DRAM of ``instances`` VTAs; everything but DRAM starts as zero."""

    def __init__(self, spec: VtaSpec, pages: Pages, dram: Bytes, instances: int) -> None:
        rows, self.granule = instances * spec.batch, granule_bytes(spec)
        self.instances, self.rows = instances, rows
        self.inp = torch.zeros((spec.inp_depth, rows, spec.block_in), dtype=torch.int8)
        self.acc = torch.zeros((spec.acc_depth, rows, spec.block_out), dtype=torch.int32)
        held = torch.from_numpy(pages.extract(dram).view(np.int8)).reshape(-1, 1, self.granule)
        self.dram = held.expand(-1, instances, -1).contiguous()
        self._scratch: dict[torch.dtype, Tensor] = {}

    def scratch(self, count: int, dtype: torch.dtype) -> Tensor:
        """``count`` values of a buffer that all steps share and that grows as needed."""
        have = self._scratch.get(dtype)
        if have is None or have.numel() < count:
            have = self._scratch[dtype] = torch.empty(count, dtype=dtype)
        return have[:count]

    def port(self, memory_type: MemType) -> Tensor:
        """The scratchpad as ``memory_type`` sees it: [depth, instances, parts, granule].

        ``parts``: the granules of one DRAM element. For OUT and ACC_8BIT the view is int32 and the
        copy narrows or widens the values.
        """
        tensor = {MemType.INP: self.inp, MemType.ACC: self.acc.view(torch.int8)}.get(
            memory_type, self.acc
        )
        return tensor.view(tensor.shape[0], self.instances, -1, self.granule)
