"""A kernel on its way to instructions: its tensors, its tiles, and where its constants lie."""

from __future__ import annotations

from dataclasses import dataclass, field

from gpw_cli.targets.vta.lowering.blocking import Blocks
from gpw_cli.targets.vta.lowering.input_blocking import Shaped
from gpw_cli.targets.vta.lowering.layout import Tensor
from gpw_cli.targets.vta.lowering.tile_ir import Kernel
from gpw_cli.targets.vta.lowering.tiling import Tiling


@dataclass(frozen=True, eq=False)
class TiledKernel:
    """``shaped``: what ``kernel`` multiplies; of max pooling and upsampling, the copy they make.

    ``out``: the tensor that it stores. ``weight_base``, ``vector_base``: the DRAM elements where
    its weights and the operands of its ALU steps with one value per channel begin.
    """

    kernel: Kernel
    out: Tensor
    shaped: Shaped
    tiling: Tiling
    blocks: Blocks = field(default_factory=Blocks)
    weight_base: int = 0
    vector_base: int = 0
