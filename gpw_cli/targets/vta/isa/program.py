"""A compiled network: the encoded instructions, the DRAM image and its regions.

program = compile_graph(graph, spec, costs)             # lowering/network.py
simulate(program, images).logits               # functional/simulator.py
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from gpw_cli.targets.vta.isa.geometry import INSN_BYTES, VtaSpec
from gpw_cli.targets.vta.isa.input_layout import PLAIN, InputLayout

Bytes = NDArray[np.uint8]
REGION_ALIGN = 4096  # bytes; a runtime may move the image by any multiple of it

#: What a GEMM or ALU instruction is for: the network's weights, a bias, a summand, pooling, a ReLU
#: or padding that stands alone, zeros before a tile, the rescale's shift, its clip and ReLU.
ROLES = ("tile", "bias", "shortcut", "pool", "copy", "reset", "shift", "clamp")


@dataclass(frozen=True)
class Region:
    """``length`` bytes at ``offset`` (4096-aligned), an array of ``dtype`` and ``shape``.

    ``kind``: uop, weight, bias, input, intermediate or output. ``layout``: the axes in words, such
    as "C/16 H W 16c".
    """

    name: str
    offset: int
    length: int
    dtype: str
    shape: tuple[int, ...]
    layout: str
    kind: str


@dataclass(frozen=True)
class LayerRange:
    """The instructions ``begin`` to ``end - 1`` belong to the layer ``name``."""

    name: str
    begin: int
    end: int


@dataclass(frozen=True, eq=False)
class Program:
    """One network for one VTA.

    ``insn``: 16 bytes an instruction. ``dram``: uint8, the image before the run; input,
    intermediate and output regions are zero.
    Input region: int8 [ceil(C/block_in), H, W, batch, block_in], channels zero padded; (C, H, W)
    are those of ``input_layout.shape(input_shape)``.
    Output region: int8 [output_bits/8, ceil(C/block_out), H, W, batch, block_out]: plane p holds
    bits 8p to 8p+7 of each result.
    ``roles``: what each instruction is for, one of ROLES ("tile" for instructions that compute
    nothing); () where it is unknown.
    ``input_shape``, ``output_shape``: (C, H, W) without padding channels; classes = C*H*W.
    """

    spec: VtaSpec
    insn: bytes
    dram: Bytes
    regions: tuple[Region, ...]
    input: str
    output: str
    input_shape: tuple[int, int, int]
    output_shape: tuple[int, int, int]
    output_bits: int
    layers: tuple[LayerRange, ...]
    scales: Mapping[str, float] = field(default_factory=dict)
    min_gemm_distance: int = 0
    input_layout: InputLayout = PLAIN
    roles: tuple[str, ...] = ()

    @property
    def length(self) -> int:
        """Number of instructions."""
        return len(self.insn) // INSN_BYTES

    def region(self, name: str) -> Region:
        """The region called ``name``; KeyError if there is none."""
        for region in self.regions:
            if region.name == name:
                return region
        raise KeyError(name)

    @property
    def classes(self) -> int:
        """Logits per image."""
        channels, height, width = self.output_shape
        return channels * height * width
