"""``gpw cycles``: cycles, time and DRAM traffic of an untrained network, dense and pruned.

estimate(compose(["model=resnet18", "sparsity=0.7"])).speedup
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gpw_cli.config.schema import Config, PruningConfig
from gpw_cli.errors import UnsupportedError
from gpw_cli.graph.integer import IntConv, IntInput
from gpw_cli.pruning.allocation import Scope
from gpw_cli.stages.inputs import image_shape, weights_file
from gpw_cli.stages.untrained import masks_untrained, untrained_costs, untrained_network
from gpw_cli.targets.registry import npu_of

if TYPE_CHECKING:
    from gpw_cli.graph.integer import IntGraph
    from gpw_cli.targets.base import Compiled, LayerCycles, Timing


@dataclass(frozen=True)
class RunEstimate:
    """One run of a program, over all its images."""

    cycles: int
    milliseconds: float
    bound_cycles: int
    dram_bytes: int


@dataclass(frozen=True)
class LayerEstimate:
    """One layer, dense and pruned; 0 if a network has no such layer."""

    name: str
    cycles: int
    dram_bytes: int
    pruned_cycles: int
    pruned_dram_bytes: int


@dataclass(frozen=True)
class Estimate:
    """``scheme``: what was pruned, in words; ``weights``: where they come from.

    ``facts``: what the target says of the network beside its cycles, such as instructions; of the
    dense one if it runs. ``dense_refused``: why it does not, where only the pruned one does.
    ``cut``: pruning has left no path from the image to the logits.
    """

    target: str
    network: str
    weights: str
    scheme: str
    clock_mhz: float
    facts: Mapping[str, int | str]
    dense: RunEstimate | None
    pruned: RunEstimate | None
    layers: tuple[LayerEstimate, ...]
    dense_refused: str | None = None
    cut: bool = False

    @property
    def speedup(self) -> float | None:
        """Dense cycles by pruned cycles; None where either is missing or the network is cut."""
        if self.dense is None or self.pruned is None or self.cut:
            return None
        return self.dense.cycles / self.pruned.cycles


def estimate(config: Config, classes: int | None = None) -> Estimate:
    """Compiles and times the network dense and pruned.

    Raises UnsupportedError, which lists all that cannot run, unless the pruned network runs.
    """
    model, npu, pruning = untrained_network(config, classes), npu_of(config.target), config.pruning
    costs = untrained_costs(config, model)
    chosen, refused, cut = masks_untrained(config, model), None, False
    runs: list[Compiled] = []
    try:
        runs.append(npu.compile(costs.integers({})))
    except UnsupportedError as error:
        if chosen is None:
            raise
        refused = str(error)
    if chosen is not None:
        integers = costs.integers(chosen.bools)
        cut = not sees_image(integers)
        runs.append(npu.compile(integers))
    times = [compiled.time() for compiled in runs]
    dense = times[0] if refused is None else None
    pruned = times[-1] if chosen is not None else None
    channels, size = image_shape(config)
    source = weights_file(config)
    return Estimate(
        target=config.target.name,
        network=f"{config.model.name}, {channels}x{size}x{size}",
        weights="random" if source is None else source.name,
        scheme=_pruned(pruning),
        clock_mhz=times[0].clock_mhz,
        facts=dict(runs[0].facts),
        dense=_run(dense),
        pruned=_run(pruned),
        layers=_layers(dense, pruned),
        dense_refused=refused,
        cut=cut,
    )


def _pruned(pruning: PruningConfig) -> str:
    if pruning.scope is not Scope.cycles:
        return f"{pruning.scheme.value} {100 * pruning.sparsity:g} %"
    budget = f"{pruning.budget:,} cycles" if pruning.budget else f"{pruning.budget_ms:g} ms"
    return f"{pruning.scheme.value} within {budget}"


def sees_image(graph: IntGraph) -> bool:
    """Whether the logits depend on the image: a path leads to it that no empty layer ends."""
    nodes = {node.name: node for node in graph.nodes}
    waiting, seen = [graph.output], set[str]()
    while waiting:
        node = nodes[waiting.pop()]
        if node.name in seen:
            continue
        seen.add(node.name)
        if isinstance(node, IntInput):
            return True
        if isinstance(node, IntConv) and not node.weight.any():
            waiting += [node.residual] if node.residual else []
        else:
            waiting += node.inputs
    return False


def _run(timing: Timing | None) -> RunEstimate | None:
    if timing is None:
        return None
    return RunEstimate(
        timing.cycles, timing.milliseconds, timing.bound_cycles, _sum(timing.dram_bytes)
    )


def _sum(moved: Mapping[str, int]) -> int:
    return int(sum(moved.values()))


def _layers(dense: Timing | None, pruned: Timing | None) -> tuple[LayerEstimate, ...]:
    """In the order of the dense network; layers of the pruned network alone come last."""
    before, after = (
        {layer.name: layer for layer in timing.layers} if timing is not None else {}
        for timing in (dense, pruned)
    )
    return tuple(
        LayerEstimate(name, *_spent(before.get(name)), *_spent(after.get(name)))
        for name in dict.fromkeys([*before, *after])
    )


def _spent(layer: LayerCycles | None) -> tuple[int, int]:
    """(cycles, DRAM bytes); zeros for a removed layer."""
    return (0, 0) if layer is None else (layer.cycles, _sum(layer.dram_bytes))
