"""The tools for emitting a layer's instructions: the stream and the slots of the scratchpads.

    builder = Builder.start(spec, sram).in_layer("conv1")
    base = builder.inp.next(elements)           # alternates between two slots

While one slot is used for arithmetic, the other is loaded or stored.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from gpw_cli.targets.vta.isa.geometry import VtaSpec
from gpw_cli.targets.vta.lowering.sram import SramLayout
from gpw_cli.targets.vta.lowering.stream import Stream


@dataclass
class Slots:
    """The two halves of ``depth`` elements in turn, or the whole where half is too small."""

    depth: int
    turn: int = 0

    def next(self, elements: int) -> int:
        """First element of the next slot that holds ``elements``."""
        self.turn ^= 1
        half = self.depth // 2
        return half if self.turn and elements <= half else 0


@dataclass(frozen=True)
class Builder:
    """The builders of all layers share the stream's instructions and the slots."""

    spec: VtaSpec
    sram: SramLayout
    stream: Stream
    acc: Slots
    inp: Slots
    wgt: Slots

    @classmethod
    def start(cls, spec: VtaSpec, sram: SramLayout) -> Builder:
        """An empty stream, of no layer yet."""
        slots = (Slots(depth) for depth in (sram.acc, sram.inp, sram.wgt))
        return cls(spec, sram, Stream.start(spec), *slots)

    def in_layer(self, name: str) -> Builder:
        """The same for the instructions of the layer ``name``."""
        return replace(self, stream=self.stream.in_layer(name))
