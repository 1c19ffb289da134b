"""Scope ``cycles``: choose the groups to keep within a budget of cycles.

    problem = Problem(layers, branches, measure, limit=72_000)
    kept = choose(problem)              # a bool array per layer; measure(kept) <= 72,000

A knapsack problem of saliency against cycles (HALP, arXiv 2110.10811, with exact costs instead of
a table). Removable items are units (the groups that share one tile of the target; removing fewer
saves nothing) and whole branches beside a shortcut. The cycles of a unit and the fixed cycles of a
layer follow from two compilations for the target. At a price lambda per cycle, a unit is kept if
its saliency exceeds lambda times its cycles; a branch is kept if the surplus of its units exceeds
lambda times its fixed cycles. Every set of branches that occurs at some price is filled up to the
limit, and the set with the most saliency is taken. The price is then corrected until the cycles of
the compiled network are just below the limit. Groups that the choice itself has made dead are
removed, and their cycles are spent on other groups.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from gpw_cli.arrays import Bools, Floats
from gpw_cli.errors import UsageError

Branches = frozenset[int]  # indices of the removed branches
_PRICES = 400  # prices tried to find the sets of branches
_USED = 0.95  # share of the limit; with less in use as many compilations follow
_COMPILATIONS = 14  # at most, to correct the price
_TOLERANCE = 0.004  # share of the limit; closer results are accepted


@dataclass(frozen=True, eq=False)
class Prunable:
    """A layer: the unit index and the saliency of each group, in the shape of its group grid."""

    name: str
    units: NDArray[np.int64]
    saliency: Floats

    @property
    def gains(self) -> Floats:
        """The saliency of each unit."""
        return np.asarray(np.bincount(self.units.ravel(), self.saliency.ravel()), np.float64)


@dataclass(frozen=True, eq=False)
class Measured:
    """``cycles``: of the network; ``layers``: of each layer; ``live``: groups that are not dead.

    A kept group is dead if everything that reads its output channel, or everything that computes
    its input channel, is removed. ``most``: the cycles of the network if the scales after
    fine-tuning turn out unfavourable.
    """

    cycles: int
    layers: Sequence[int]
    live: Sequence[Bools]
    most: int = 0


@dataclass(frozen=True, eq=False)
class Problem:
    """``branches``: layer indices that can be removed together; ``measure``: compiles a choice.

    ``gone``: the branches to remove, if already decided. ``margin``: the share of ``limit`` left
    free, because fine-tuning may change the cycles by a few passes; ``Measured.most`` is at most
    ``limit`` itself.
    """

    layers: Sequence[Prunable]
    branches: Sequence[frozenset[int]]
    measure: Callable[[Sequence[Bools]], Measured]
    limit: int  # cycles
    gone: Branches | None = None
    margin: float = 0.0

    @property
    def room(self) -> int:
        """The cycles available after the margin."""
        return int(self.limit * (1 - self.margin))

    def gap(self, measured: Measured) -> int:
        """The cycles that ``measured`` leaves unused; negative: how many it takes too many."""
        return min(self.room - measured.cycles, self.limit - measured.most)


@dataclass(frozen=True, eq=False)
class Costs:
    """``unit``: cycles of one unit of each layer; ``fixed``: of a layer that keeps any unit.

    ``rest``: cycles that no mask changes; ``dense``: cycles of the unpruned network.
    """

    unit: Sequence[float]
    fixed: Sequence[float]
    rest: float
    dense: int


@dataclass
class _Choice:
    """The units kept at a price, a bool array per layer, and the linear estimate of the cycles."""

    kept: list[Bools]
    cycles: float
    saliency: float
    gone: Branches = field(default_factory=frozenset)


def choose(problem: Problem) -> list[Bools]:
    """The groups to keep in each layer. Raises UsageError if the limit cannot be reached."""
    costs = measure_costs(problem)
    if costs.dense <= problem.room and not problem.gone:
        return [np.ones(layer.units.shape, np.bool_) for layer in problem.layers]
    _check_limit(problem)
    sets = _branch_sets(problem, costs) if problem.gone is None else [problem.gone]
    best = max(
        (_filled(problem, costs, gone, problem.room) for gone in sets),
        key=lambda choice: choice.saliency if choice.cycles <= problem.room else -choice.cycles,
    )
    return _corrected(problem, costs, best.gone)


def measure_costs(problem: Problem) -> Costs:
    """Costs from the dense network and one that keeps the better half of the units per layer."""
    full = [np.ones(len(layer.gains), np.bool_) for layer in problem.layers]
    half = [_best(layer.gains, -(-len(layer.gains) // 2)) for layer in problem.layers]
    dense = problem.measure(_groups(problem, full))
    halved = problem.measure(_groups(problem, half))
    unit, fixed = [], []
    for cycles, less, kept in zip(dense.layers, halved.layers, half, strict=True):
        removed = int((~kept).sum())
        slope = max(0.0, (cycles - less) / removed) if removed else 0.0
        unit.append(slope)
        fixed.append(max(0.0, cycles - slope * len(kept)))
    return Costs(unit, fixed, dense.cycles - sum(dense.layers), dense.cycles)


def smallest(problem: Problem) -> list[Bools]:
    """The smallest network: no branches, and one unit in each other layer.

    The unit is the most salient one among the first tiles, because the first tile of a layer reads
    what the first tile of the previous layer computes.
    """
    gone = frozenset(range(len(problem.branches))) if problem.gone is None else problem.gone
    absent = _absent(problem, gone)
    kept = []
    for index, layer in enumerate(problem.layers):
        first = np.unique(layer.units[0, 0])
        own = np.zeros(len(layer.gains), np.bool_)
        own[first[np.argmax(layer.gains[first])]] = index not in absent
        kept.append(own)
    return _groups(problem, kept)


def _check_limit(problem: Problem) -> None:
    measured = problem.measure(smallest(problem))
    least = measured.cycles
    if problem.gap(measured) < 0:
        smallest_budget = max(math.ceil(least / (1 - problem.margin)), measured.most)
        raise UsageError(
            f"pruning.budget={problem.limit} cycles cannot be met: with everything removed that "
            f"may go the network still takes {least}; the smallest budget is "
            f"pruning.budget={smallest_budget}"
        )


def _best(gains: Floats, count: int) -> Bools:
    kept = np.zeros(len(gains), np.bool_)
    kept[np.argsort(-gains, kind="stable")[:count]] = True
    return kept


def _groups(problem: Problem, kept: Sequence[Bools]) -> list[Bools]:
    return [units[layer.units] for layer, units in zip(problem.layers, kept, strict=True)]


def _absent(problem: Problem, gone: Branches) -> set[int]:
    return {layer for branch in gone for layer in problem.branches[branch]}


def _priced(problem: Problem, costs: Costs, gone: Branches, price: float) -> _Choice:
    """The units worth ``price`` per cycle, without the branches ``gone``."""
    absent = _absent(problem, gone)
    kept, cycles, saliency = [], costs.rest, 0.0
    for index, layer in enumerate(problem.layers):
        gains = layer.gains
        if index in absent:
            kept.append(np.zeros(len(gains), np.bool_))
            continue
        own = gains > price * costs.unit[index]
        if not own.any():  # a layer that is not removed keeps its best unit
            own = _best(gains, 1)
        kept.append(own)
        cycles += costs.fixed[index] + costs.unit[index] * int(own.sum())
        saliency += float(gains[own].sum())
    return _Choice(kept, cycles, saliency, gone)


def _branch_sets(problem: Problem, costs: Costs) -> list[Branches]:
    """The distinct sets of branches that are removed at some price."""
    found: dict[Branches, None] = {}
    for price in _prices(problem, costs):
        choice = _priced(problem, costs, frozenset(), price)
        gone = [
            number
            for number, branch in enumerate(problem.branches)
            if _surplus(problem, costs, choice, branch, price) <= 0
        ]
        found[frozenset(gone)] = None
    return list(found)


def _surplus(
    problem: Problem, costs: Costs, choice: _Choice, branch: frozenset[int], price: float
) -> float:
    total = 0.0
    for index in branch:
        kept = choice.kept[index]
        gain = float(problem.layers[index].gains[kept].sum())
        total += gain - price * (costs.fixed[index] + costs.unit[index] * int(kept.sum()))
    return total


def _prices(problem: Problem, costs: Costs) -> Floats:
    """Prices from one that keeps everything to one that keeps nothing."""
    every = np.concatenate([layer.gains for layer in problem.layers])
    positive = every[every > 0]
    if not len(positive):
        return np.ones(2)
    most = max(costs.dense, 1.0)
    return np.geomspace(positive.min() / most / 2, positive.sum() * 2, _PRICES)


def _filled(problem: Problem, costs: Costs, gone: Branches, limit: float) -> _Choice:
    """The choice without ``gone`` whose linear estimate is just below ``limit``."""
    prices = _prices(problem, costs)
    low, high = float(prices[0]), float(prices[-1])
    choice = _priced(problem, costs, gone, low)
    if choice.cycles <= limit:
        return choice
    while high / low > 1 + 1e-9:
        middle = (low * high) ** 0.5
        trial = _priced(problem, costs, gone, middle)
        low, high = (middle, high) if trial.cycles > limit else (low, middle)
    return _topped_up(problem, costs, _priced(problem, costs, gone, high), limit)


def _topped_up(problem: Problem, costs: Costs, choice: _Choice, limit: float) -> _Choice:
    """``choice`` plus the single units that still fit, by saliency per cycle."""
    absent = _absent(problem, choice.gone)
    spare = [
        (gain / max(costs.unit[index], 1e-9), index, unit)
        for index, layer in enumerate(problem.layers)
        if index not in absent
        for unit, gain in enumerate(layer.gains)
        if not choice.kept[index][unit]
    ]
    for _, index, unit in sorted(spare, key=lambda item: (-item[0], item[1], item[2])):
        if choice.cycles + costs.unit[index] <= limit:
            choice.kept[index][unit] = True
            choice.cycles += costs.unit[index]
            choice.saliency += float(problem.layers[index].gains[unit])
    return choice


def _corrected(problem: Problem, costs: Costs, gone: Branches) -> list[Bools]:
    """The choice whose compiled cycles are closest to the limit from below."""
    target = float(problem.room)
    best, best_cycles = smallest(problem), -1
    for attempt in range(2 * _COMPILATIONS):
        if attempt >= _COMPILATIONS:  # cycles that follow the prices badly
            if best_cycles >= _USED * problem.room:
                break
            target *= 0.93
        kept = _groups(problem, _filled(problem, costs, gone, target).kept)
        measured = problem.measure(kept)
        gap = problem.gap(measured)
        if gap >= 0 and measured.cycles > best_cycles:
            best, best_cycles = list(measured.live), measured.cycles
        dead = any((own & ~live).any() for own, live in zip(kept, measured.live, strict=True))
        if 0 <= gap <= _TOLERANCE * problem.room and not dead:
            break
        problem = _without_dead(problem, kept, measured.live)
        target += gap if gap < 0 else 0.8 * gap
    return best


def _without_dead(problem: Problem, kept: Sequence[Bools], live: Sequence[Bools]) -> Problem:
    """``problem`` in which groups that were kept but are dead have no saliency."""
    layers = [
        replace(layer, saliency=np.where(own & ~alive, 0.0, layer.saliency))
        for layer, own, alive in zip(problem.layers, kept, live, strict=True)
    ]
    return replace(problem, layers=layers)
