"""The cost of a mask on the target: quantize, compile and time the masked network.

    costs = NetworkCosts(graph, calibration, config)        # graph: traced, batch norm not folded
    graph, timing = costs.compiled({"layer1.0.conv1.weight": mask})

Ranges are calibrated on a few training images. This is accurate enough for cycles, which depend on
the zeros of the weights and, by at most a pass or two, on the shifts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from gpw_cli.arrays import Bools, Floats
from gpw_cli.data.images import normalise
from gpw_cli.errors import UnsupportedError, UsageError
from gpw_cli.graph.branches import residual_branches
from gpw_cli.graph.dead import remove_dead
from gpw_cli.graph.fold import fold
from gpw_cli.graph.integer import IntAdd, IntConv, IntGraph, IntNode
from gpw_cli.graph.ir import BatchNorm, Conv, Graph, Node
from gpw_cli.graph.trace import trace
from gpw_cli.pruning.budget import Measured, Problem, choose
from gpw_cli.pruning.knapsack import Prunable
from gpw_cli.pruning.masks import PruneResult, masks_of
from gpw_cli.quantization.quantize import prepare, quantize_graph
from gpw_cli.quantization.ranges import calibrate
from gpw_cli.stages.integers import packs
from gpw_cli.stages.network import load_network
from gpw_cli.targets.registry import npu_of

if TYPE_CHECKING:
    from torch import Tensor, nn

    from gpw_cli.config.schema import Config
    from gpw_cli.pruning.candidates import Candidate
    from gpw_cli.stages.pipeline import Job
    from gpw_cli.targets.base import Timing


CALIBRATION = 64  # training images
LARGE_SHIFT = 7  # bits; int8 holds powers of two up to 2^6


@dataclass(frozen=True)
class Limit:
    """A budget in cycles; ``clock_mhz`` where it was given in milliseconds."""

    cycles: int
    clock_mhz: float | None = None

    def setting(self, cycles: int) -> str:
        """The setting for ``cycles``, rounded up."""
        if self.clock_mhz is None:
            return f"pruning.budget={cycles}"
        return f"pruning.budget_ms={math.ceil(10 * cycles / self.clock_mhz) / 1e4:g}"


@dataclass(frozen=True, eq=False)
class NetworkCosts:
    """``calibration``: normalised training images [N, C, H, W]."""

    graph: Graph
    calibration: Tensor
    config: Config

    def compiled(self, masks: Mapping[str, Bools]) -> tuple[Graph, Timing]:
        """The simplified network under ``masks`` (parameter name -> bools), and its timing."""
        kept = masked(self.graph, masks, self.config.pruning.keep_shift)
        return remove_dead(fold(kept)), self._timed(self._quantized(kept))

    def integers(self, masks: Mapping[str, Bools]) -> IntGraph:
        """The fused integer network with ``masks`` applied."""
        return self._quantized(masked(self.graph, masks, self.config.pruning.keep_shift))

    def _timed(self, graph: IntGraph) -> Timing:
        return npu_of(self.config.target).compile(graph).time()

    def _quantized(self, graph: Graph) -> IntGraph:
        cfg = self.config.quantizer
        prepared = prepare(graph, cfg, packed=packs(self.config))
        ranges = calibrate(prepared, [self.calibration], cfg)
        return quantize_graph(prepared, ranges, cfg, fused=True)

    def problem(
        self, layers: Sequence[Candidate], branches: Sequence[tuple[str, ...]], limit: Limit
    ) -> Problem:
        """The knapsack problem over ``layers``; ``branches``: the convolutions of each branch."""
        tile = npu_of(self.config.target).tile
        index = {layer.name.removesuffix(".weight"): n for n, layer in enumerate(layers)}
        branches = [branch for branch in branches if all(name in index for name in branch)]

        def measure(kept: Sequence[Bools]) -> Measured:
            masks = {
                layer.name: layer.layout.expand(groups)
                for layer, groups in zip(layers, kept, strict=True)
            }
            kept_graph = masked(self.graph, masks, self.config.pruning.keep_shift)
            integers, left = self._quantized(kept_graph), remove_dead(fold(kept_graph))
            timing = self._timed(integers)
            most = timing.cycles
            if self.config.pruning.reserve:
                most = max(most, self._timed(with_shifted_shortcuts(integers)).cycles)
            own = {layer.name: layer.cycles for layer in timing.layers}
            weights = {node.name: node.weight for node in left.nodes if isinstance(node, Conv)}
            live = [
                _live(layer, weights.get(name)) for layer, name in zip(layers, index, strict=True)
            ]
            cycles = [own.get(name, 0) for name in index]
            return Measured(timing.cycles, cycles, live, most)

        return Problem(
            [Prunable(layer.name, layer.layout.units(tile), layer.saliency) for layer in layers],
            [frozenset(index[name] for name in branch) for branch in branches],
            measure,
            limit.cycles,
            self._gone(branches),
            self.config.pruning.margin,
            limit.setting,
        )

    def _gone(self, branches: Sequence[tuple[str, ...]]) -> frozenset[int] | None:
        """The branches that ``pruning.branches`` does not name; None if it is empty."""
        stay = self.config.pruning.branches
        if not stay:
            return None
        within = {name: [n for n, b in enumerate(branches) if _inside(b, name)] for name in stay}
        unknown = [name for name, found in within.items() if not found]
        if unknown:
            known = ", ".join(branch[0].rpartition(".")[0] for branch in branches)
            raise UsageError(
                f"pruning.branches names {unknown[0]}, which holds no residual branch of this "
                f"network (they are in {known or 'none of its modules'})"
            )
        kept = {n for found in within.values() for n in found}
        return frozenset(range(len(branches))) - kept


def with_shifted_shortcuts(graph: IntGraph) -> IntGraph:
    """``graph`` with shortcuts that are shifted left by more than a power of two in int8 can do.

    For its cycles, not its values: the shifts follow from the scales of both sides, which
    fine-tuning changes, and such a shift is a pass of its own where the rescale is larger still. A
    shortcut that is shifted right, which a scale coarser than the sum's needs, costs more.
    """
    nodes: list[IntNode] = []
    for node in graph.nodes:
        if isinstance(node, IntConv) and node.residual:
            right = np.maximum(node.rescale.shift, LARGE_SHIFT + 1).astype(np.int32)
            rescale = replace(node.rescale, shift=right if right.ndim else int(right))
            node = replace(node, residual_shift=LARGE_SHIFT, rescale=rescale)
        elif isinstance(node, IntAdd):
            node = replace(node, shift_a=LARGE_SHIFT, shift_b=0)
        nodes.append(node)
    return replace(graph, nodes=tuple(nodes))


def _inside(branch: tuple[str, ...], module: str) -> bool:
    return all(name == module or name.startswith(f"{module}.") for name in branch)


def _live(layer: Candidate, weight: Floats | None) -> Bools:
    """The groups with a weight in the simplified network (None: it has no such layer)."""
    if weight is None or not weight.any():  # a layer without weights may have another shape
        return np.zeros(layer.layout.grid, np.bool_)
    return np.asarray(layer.layout.collect(weight.reshape(layer.layout.shape)).any(0), np.bool_)


def within_budget(
    job: Job, model: nn.Module, layers: Sequence[Candidate], share: float = 1.0
) -> tuple[PruneResult, dict[str, Any]]:
    """The masks within ``pruning.budget``, and their compiled cycles.

    share: the share to remove of the cycles above the budget.
    Raises UsageError, with the smallest possible budget, for a budget that cannot be met.
    """
    config, images = job.config, job.services.images(job.config)
    graph = trace(model, images.shape, images.mean, images.std)
    few = normalise(images.train.images[:CALIBRATION], images.mean, images.std)
    costs = NetworkCosts(graph, few, config)
    dense = costs.compiled({})[1]
    limit = budget_limit(config, dense)
    if share < 1.0:
        more = int((1 - share) * max(0, dense.cycles - limit.cycles))
        limit = replace(limit, cycles=limit.cycles + more)
    problem = costs.problem(layers, residual_branches(graph), limit)
    kept = choose(problem)
    cycles = problem.measure(kept).cycles
    result = masks_of(dict(model.named_parameters()), layers, kept)
    job.services.listener.message(
        f"prune: {cycles:,} of {limit.cycles:,} cycles, "
        f"{result.groups_removed:,} of {result.groups_total:,} groups removed"
    )
    return result, {"budget_cycles": limit.cycles, "estimated_cycles": cycles}


def dense_cycles(job: Job) -> int | None:
    """Cycles of the network before pruning, quantized, compiled and timed like the pruned one.

    None where the target runs it only pruned.
    """
    model, _ = load_network(job.upstream["pretrain"], job.config)
    config, images = job.config, job.services.images(job.config)
    graph = trace(model, images.shape, images.mean, images.std)
    few = images.train.images[: config.quantizer.calibration]
    calibration = normalise(few, images.mean, images.std)
    try:
        return NetworkCosts(graph, calibration, config).compiled({})[1].cycles
    except UnsupportedError:
        return None


def budget_limit(config: Config, timing: Timing) -> Limit:
    """``pruning.budget``, or ``pruning.budget_ms`` in cycles at the clock of ``timing``."""
    if config.pruning.budget:
        return Limit(config.pruning.budget)
    return Limit(int(config.pruning.budget_ms * 1e3 * timing.clock_mhz), timing.clock_mhz)


def masked(graph: Graph, masks: Mapping[str, Bools], keep_shift: bool) -> Graph:
    """``graph`` with the weights outside ``masks`` zero.

    Unless ``keep_shift``, an output channel without weights also loses its bias and the scale and
    shift of its batch norm.
    """
    gone: dict[str, Bools] = {}
    nodes: list[Node] = []
    shared = {  # layers that share their weight share the array
        id(node.weight): masks[f"{node.name}.weight"]
        for node in graph.nodes
        if isinstance(node, Conv) and f"{node.name}.weight" in masks
    }
    for node in graph.nodes:
        mask = shared.get(id(node.weight)) if isinstance(node, Conv) else None
        if isinstance(node, Conv) and mask is not None:
            node = replace(node, weight=node.weight * mask.reshape(node.weight.shape))
            if not keep_shift:
                gone[node.name] = np.asarray(~node.weight.any((1, 2, 3)), np.bool_)
                node = replace(node, bias=np.where(gone[node.name], 0.0, node.bias))
        elif isinstance(node, BatchNorm) and node.input in gone:
            zero = gone[node.input]
            scale, shift = (np.where(zero, 0.0, value) for value in (node.scale, node.shift))
            node = replace(node, scale=scale, shift=shift)
        nodes.append(node)
    return Graph(tuple(nodes), graph.output)
