"""What an NPU is to the rest of gpw: a name and the weight tile its GEMM core consumes at once.

    tile_out, tile_in = npu.tile        # the shape of a pruning group (pruning/groups.py)

A new NPU is a package beside ``vta/`` whose specification satisfies ``Npu``.
"""

from __future__ import annotations

from typing import Protocol


class Npu(Protocol):
    """A vector-engine NPU; ``vta.spec.VtaSpec`` is one."""

    @property
    def name(self) -> str:
        """Family and geometry, such as "vta 1x16x16"."""
        ...

    @property
    def tile(self) -> tuple[int, int]:
        """(b_out, b_in): output and input channels of one weight tile."""
        ...
