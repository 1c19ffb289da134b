"""From tiled kernels to instructions, with what each of them has to wait for.

    ops = emit(state)

While one tile is computed the next one is loaded and the one before stored, across layers too.
"""

from __future__ import annotations

from collections.abc import Sequence

from gpw_cli.targets.vta.isa.instructions import MemType
from gpw_cli.targets.vta.lowering.builder import Builder
from gpw_cli.targets.vta.lowering.load_store import load_row
from gpw_cli.targets.vta.lowering.loops import clear
from gpw_cli.targets.vta.lowering.maxpool import MaxPoolEmitter
from gpw_cli.targets.vta.lowering.microops import REST
from gpw_cli.targets.vta.lowering.product import ProductEmitter, Segment
from gpw_cli.targets.vta.lowering.state import State, TiledKernel
from gpw_cli.targets.vta.lowering.stream import Op, Span
from gpw_cli.targets.vta.lowering.tile_ir import MaxPoolKernel, ProductKernel
from gpw_cli.targets.vta.lowering.upsample import UpsampleEmitter


def emit(state: State) -> tuple[Op, ...]:
    """All instructions up to FINISH; micro-ops are not in the scratchpad yet, no flag is set."""
    assert state.sram is not None
    start = Builder.start(state.spec, state.sram)
    for tensor in state.tensors.values():
        start.stream.declare(tensor, host=tensor.name == state.graph.input.name)
    builders = {tiled.kernel.name: start.in_layer(tiled.kernel.name) for tiled in state.tiled}
    first, last = (builders[state.tiled[end].kernel.name] for end in (0, -1))
    _prepare(first, state.constant)
    _interleave([s for tiled in state.tiled for s in _segments(builders[tiled.kernel.name], tiled)])
    last.stream.finish()
    return tuple(start.stream.ops)


def _prepare(builder: Builder, constant: int | None) -> None:
    """The spare accumulators, and the constant input if a bias needs it."""
    spare = builder.sram.spare
    clear(builder, Span(spare, spare + REST))
    if constant is not None:
        load_row(builder, MemType.INP, constant, builder.sram.constant, 1)


def _segments(builder: Builder, tiled: TiledKernel) -> list[Segment]:
    kernel = tiled.kernel
    if isinstance(kernel, ProductKernel):
        return ProductEmitter(builder, tiled, kernel).segments()
    if isinstance(kernel, MaxPoolKernel):
        return MaxPoolEmitter(builder, tiled, kernel).segments()
    return UpsampleEmitter(builder, tiled, kernel).segments()


def _interleave(segments: Sequence[Segment]) -> None:
    """All segments; the next one's loads come before this one's ALU steps where they can.

    Then a LOAD that waits for a STORE does not keep COMPUTE from those steps.
    """
    segments[0].load()
    for segment, following in zip(segments, [*segments[1:], None], strict=True):
        segment.compute()
        early = following is not None and following.ready()
        if following is not None and early:
            following.load()
        segment.finish()
        if following is not None and not early:
            following.load()
