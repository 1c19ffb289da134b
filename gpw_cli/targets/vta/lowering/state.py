"""The state that the passes of lowering hand on: an integer graph on its way to instructions.

A ``State`` is the whole network, a ``TiledKernel`` one of its kernels once its tiling is chosen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gpw_cli.graph.integer import IntGraph
from gpw_cli.targets.vta.isa.geometry import VtaSpec
from gpw_cli.targets.vta.isa.input_layout import PLAIN, InputLayout
from gpw_cli.targets.vta.isa.program import LayerRange
from gpw_cli.targets.vta.lowering.blocking import Blocks
from gpw_cli.targets.vta.lowering.input_blocking import Shaped
from gpw_cli.targets.vta.lowering.layout import DramImage, Tensor
from gpw_cli.targets.vta.lowering.sram import SramLayout
from gpw_cli.targets.vta.lowering.stream import Op
from gpw_cli.targets.vta.lowering.tile_ir import Kernel
from gpw_cli.targets.vta.lowering.tiling import Tiling
from gpw_cli.targets.vta.lowering.unit_costs import UnitCosts


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


@dataclass(frozen=True, eq=False)
class State:
    """``passes.PASSES`` says which pass fills what; what it has not filled is empty.

    ``names``: every layer, in the order of the network, computed or not. ``kernels``: what has to
    be computed, in an order in which it can run. ``tensors``: by name, the input first. ``dram``:
    the regions so far. ``constant``: DRAM element of the constant input, None: no bias needs it.
    ``ops``: the instructions; ``layers``: which of them belong to each of ``names``.
    """

    graph: IntGraph
    spec: VtaSpec
    costs: UnitCosts
    input_layout: InputLayout = PLAIN
    names: tuple[str, ...] = ()
    kernels: tuple[Kernel, ...] = ()
    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    dram: DramImage = field(default_factory=DramImage)
    sram: SramLayout | None = None
    tiled: tuple[TiledKernel, ...] = ()
    constant: int | None = None
    ops: tuple[Op, ...] = ()
    layers: tuple[LayerRange, ...] = ()
