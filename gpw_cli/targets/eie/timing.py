"""Cycles and accesses of a network, layer by layer, for the activations of given images.

    times = time_network(network, tensors)      # tensors of Simulator.tensors for some images
    times[0].cycles, times[0].balance

A linear layer's vectors stay in the register files. A convolution's windows and results do not:
each output pixel loads its window from the activation SRAM, waits for its last PE, and stores its
result, and so does each pass of a layer with more outputs than the register files hold. None of
this overlaps with the work.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np

from gpw_cli.arrays import Bools, Int16, Int64
from gpw_cli.targets.eie.config import VALUE_BITS, EieConfig
from gpw_cli.targets.eie.csc import Csc
from gpw_cli.targets.eie.host import windows
from gpw_cli.targets.eie.matrix import entries_of
from gpw_cli.targets.eie.network import MatrixLayer, Network
from gpw_cli.targets.eie.queues import run_queues


@dataclass(frozen=True)
class Counts:
    """What a layer took, summed over its vectors and output passes; sums with ``+``.

    ``entries``: PE cycles spent on an entry; ``padding``: those that only bridge zeros. ``full``:
    cycles in which a full queue held back a broadcast.
    """

    vectors: int = 0
    queues: int = 0  # cycles from the first broadcast until the last PE is done
    moves: int = 0  # cycles that load and store register files
    pipeline: int = 0  # cycles in which the pipeline fills and drains
    entries: int = 0
    padding: int = 0
    broadcasts: int = 0
    full: int = 0
    scans: int = 0
    lines: int = 0  # of the weight SRAMs
    act_lines: int = 0  # of the activation SRAMs
    least: int = 0  # cycles that the busiest PE or the broadcast needs at least

    def __add__(self, other: Counts) -> Counts:
        pairs = {f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)}
        return Counts(**pairs)

    def over(self, images: int) -> Counts:
        """The mean of one image, rounded."""
        return Counts(**{f.name: round(getattr(self, f.name) / images) for f in fields(self)})

    @property
    def split(self) -> dict[str, int]:
        """Cycles by what they are spent on."""
        return {"queues": self.queues, "moves": self.moves, "pipeline": self.pipeline}

    @property
    def cycles(self) -> int:
        """In total."""
        return self.queues + self.moves + self.pipeline

    def balance(self, pes: int) -> float:
        """Share of the PEs' cycles that are spent on an entry: load balance as EIE defines it."""
        return self.entries / (self.cycles * pes) if self.cycles else 0.0

    def theoretical(self, pes: int) -> float:
        """Cycles of a perfectly even load: entries divided by PEs."""
        return self.entries / pes


def time_network(network: Network, tensors: Mapping[str, Int16]) -> dict[str, Counts]:
    """Every layer by name, over all images of ``tensors`` (int16 [C, H, W, N])."""
    return {
        name: time_layer(layer, tensors[layer.input], network.config)
        for name, layer in network.layers.items()
    }


def time_layer(layer: MatrixLayer, x: Int16, config: EieConfig) -> Counts:
    """``x`` int16 [C, H, W, N]: the layer's input."""
    total = Counts()
    for image in range(x.shape[-1]):
        active = active_columns(layer, x[..., image : image + 1])
        for batches in layer.blocks:
            total = total + time_pass(
                batches, active, config, moved=layer.pixels > 1 or len(layer.blocks) > 1
            )
    return total


def active_columns(layer: MatrixLayer, x: Int16) -> Bools:
    """Bool [columns, vectors]: which activations are not zero."""
    views = windows(x != 0, layer.kernel, layer.stride, layer.padding, 0)
    columns = np.stack([view.reshape(len(view), -1) for view in views], axis=1)
    return np.asarray(columns.reshape(-1, columns.shape[-1]), np.bool_)


def time_pass(
    batches: tuple[Csc, ...], active: Bools, config: EieConfig, *, moved: bool, biased: bool = True
) -> Counts:
    """One output pass of the vectors ``active`` bool [columns, n].

    ``moved``: source and result go through the activation SRAM. ``biased``: the accumulators'
    first values come from there.
    """
    work = entries_of(batches, config)
    reload = _lines(config.registers, config)
    timed = run_queues(work, active, config, reload)
    inputs, outputs = -(-len(active) // config.pes), -(-batches[0].rows // config.pes)
    batched = reload * (len(batches) - 1)
    moves = biased * _lines(outputs, config)
    if moved:
        moves += _lines(outputs, config) + _lines(min(inputs, config.registers), config)
    vectors = active.shape[1]
    per_pe = work.counts @ active
    padding = np.concatenate([_padding(block) for block in batches])
    overhead = moves + config.pipeline_cycles
    least = np.maximum(per_pe.max(axis=0), timed.broadcasts + timed.scans) + overhead
    return Counts(
        vectors=vectors,
        queues=int(timed.cycles.sum()),
        moves=vectors * moves,
        pipeline=vectors * config.pipeline_cycles,
        entries=int(per_pe.sum()),
        padding=int((padding @ active).sum()),
        broadcasts=int(timed.broadcasts.sum()),
        full=int(timed.full.sum()),
        scans=int(timed.scans.sum()),
        lines=int(timed.lines.sum()),
        act_lines=vectors * (moves + batched) * config.pes,
        least=int(least.sum()),
    )


def _lines(values: int, config: EieConfig) -> int:
    """Lines of a PE's activation SRAM that hold ``values`` activations; one a cycle."""
    return -(-values * VALUE_BITS // config.act_sram_bits)


def _padding(block: Csc) -> Int64:
    """Padding entries of every column, int64 [columns], all PEs."""
    column = np.repeat(np.arange(block.counts.size), block.counts.ravel()) % block.columns
    bridging = block.codes == 0
    return np.bincount(column[bridging], minlength=block.columns).astype(np.int64)
