"""``gpw cycles``: cycles, time and DRAM traffic of an untrained network, dense and pruned.

estimate(compose(["model=resnet18", "sparsity=0.7"])).speedup
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gpw_cli.config.schema import Config
from gpw_cli.stages.inputs import picture_shape, weights_file
from gpw_cli.stages.untrained import masks_untrained, untrained_costs, untrained_network
from gpw_cli.targets.registry import npu_of

if TYPE_CHECKING:
    from gpw_cli.targets.base import LayerCycles, Timing


@dataclass(frozen=True)
class Run:
    """One program: over all its pictures."""

    cycles: int
    milliseconds: float
    bound_cycles: int
    dram_bytes: int


@dataclass(frozen=True)
class Layer:
    """One layer, dense and pruned; 0 where a network has no such layer."""

    name: str
    cycles: int
    dram_bytes: int
    pruned_cycles: int
    pruned_dram_bytes: int


@dataclass(frozen=True)
class Estimate:
    """``scheme``: what was pruned, in words; ``weights``: where they come from.

    ``facts``: what the target says of the dense network beside its cycles, such as instructions.
    """

    target: str
    network: str
    weights: str
    scheme: str
    clock_mhz: float
    facts: Mapping[str, int | str]
    dense: Run
    pruned: Run | None
    layers: tuple[Layer, ...]

    @property
    def speedup(self) -> float | None:
        """Dense cycles by pruned cycles."""
        return None if self.pruned is None else self.dense.cycles / self.pruned.cycles


def estimate(config: Config, classes: int | None = None) -> Estimate:
    """Compiles and times the network twice; UnsupportedError lists all that cannot run."""
    model, npu, pruning = untrained_network(config, classes), npu_of(config.target), config.pruning
    costs = untrained_costs(config, model)
    compiled = npu.compile(costs.integers({}))
    dense, pruned = compiled.time(), None
    chosen = masks_untrained(config, model)
    if chosen is not None:
        pruned = npu.compile(costs.integers(chosen.bools)).time()
    channels, size = picture_shape(config)
    source = weights_file(config)
    return Estimate(
        target=config.target.name,
        network=f"{config.model.name}, {channels}x{size}x{size}",
        weights="random" if source is None else source.name,
        scheme=f"{pruning.scheme.value} {100 * pruning.sparsity:g} %",
        clock_mhz=dense.clock_mhz,
        facts=dict(compiled.facts),
        dense=_run(dense),
        pruned=None if pruned is None else _run(pruned),
        layers=_layers(dense, pruned),
    )


def _run(timing: Timing) -> Run:
    return Run(timing.cycles, timing.milliseconds, timing.bound_cycles, _sum(timing.dram_bytes))


def _sum(moved: Mapping[str, int]) -> int:
    return int(sum(moved.values()))


def _layers(dense: Timing, pruned: Timing | None) -> tuple[Layer, ...]:
    """In the order of the dense network; what only the pruned one has as a layer comes last."""
    before = {layer.name: layer for layer in dense.layers}
    after = {layer.name: layer for layer in pruned.layers} if pruned is not None else {}
    return tuple(
        Layer(name, *_spent(before.get(name)), *_spent(after.get(name)))
        for name in dict.fromkeys([*before, *after])
    )


def _spent(layer: LayerCycles | None) -> tuple[int, int]:
    """(cycles, DRAM bytes); none where the layer is gone."""
    return (0, 0) if layer is None else (layer.cycles, _sum(layer.dram_bytes))
