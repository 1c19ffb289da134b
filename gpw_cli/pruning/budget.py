"""Scope ``cycles``: which groups stay so that the network takes at most a number of cycles.

    problem = Problem(layers, branches, measure, limit=72_000)
    kept = choose(problem)              # one bool array a layer; measure(kept) <= 72,000

A knapsack of saliency against cycles (HALP, arXiv 2110.10811, with exact costs in place of a
table). What may go is a unit (the groups that share one tile of the target: less saves nothing), a
layer of a branch, or a whole branch beside a shortcut. The cycles of a unit and the fixed cycles of
a layer come from two compilations of the target's own compiler. For a price lambda of a cycle a
unit stays if its saliency exceeds lambda times its cycles, and a branch if what its units exceed by
pays for its fixed cycles. Each set of branches that some price gives is filled up to the limit; the
one with the most saliency wins, and the compiler has the last word: the price is corrected until
the compiled network lies just below the limit. Groups that the choice itself made dead go too, and
what they would have cost is spent on others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from gpw_cli.errors import UsageError
from gpw_cli.pruning.groups import Bools, Floats

Branches = frozenset[int]  # indices of those that are gone
_PRICES = 400  # tried to find the sets of branches
_COMPILATIONS = 14  # to correct the price
_TOLERANCE = 0.004  # of the limit: near enough below it


@dataclass(frozen=True, eq=False)
class Prunable:
    """A layer: the unit of each group and the groups' saliency, both of the shape of its grid."""

    name: str
    units: NDArray[np.int64]
    saliency: Floats

    @property
    def gains(self) -> Floats:
        """Saliency of each unit."""
        return np.asarray(np.bincount(self.units.ravel(), self.saliency.ravel()), np.float64)


@dataclass(frozen=True, eq=False)
class Measured:
    """``cycles`` of the network, ``layers``: of each layer, ``live``: groups that still matter.

    A group that is kept is dead where all that reads its channel, or all that makes it, is gone.
    """

    cycles: int
    layers: Sequence[int]
    live: Sequence[Bools]


@dataclass(frozen=True, eq=False)
class Problem:
    """``branches``: layer indices that may all go together; ``measure``: compiles what is kept.

    ``gone``: the branches that go, where that is decided already. ``margin``: share of ``limit``
    that is left free, because fine-tuning may change the cycles by some passes.
    """

    layers: Sequence[Prunable]
    branches: Sequence[frozenset[int]]
    measure: Callable[[Sequence[Bools]], Measured]
    limit: int  # cycles
    gone: Branches | None = None
    margin: float = 0.0

    @property
    def room(self) -> int:
        """The cycles that may be used."""
        return int(self.limit * (1 - self.margin))


@dataclass(frozen=True, eq=False)
class Costs:
    """``unit``: cycles of one unit of each layer; ``fixed``: of a layer that keeps anything.

    ``rest``: cycles of all that no mask changes; ``dense``: of the network with everything kept.
    """

    unit: Sequence[float]
    fixed: Sequence[float]
    rest: float
    dense: int


@dataclass
class _Plan:
    """What a price keeps: one bool array over the units of each layer, and its linear estimate."""

    kept: list[Bools]
    cycles: float
    saliency: float
    gone: Branches = field(default_factory=frozenset)


def choose(problem: Problem) -> list[Bools]:
    """The groups to keep of each layer. Raises UsageError for a limit that cannot be reached."""
    costs = measure_costs(problem)
    if costs.dense <= problem.room and not problem.gone:
        return [np.ones(layer.units.shape, np.bool_) for layer in problem.layers]
    _check_limit(problem)
    sets = _branch_sets(problem, costs) if problem.gone is None else [problem.gone]
    best = max(
        (_filled(problem, costs, gone, problem.room) for gone in sets),
        key=lambda plan: plan.saliency if plan.cycles <= problem.room else -plan.cycles,
    )
    return _corrected(problem, costs, best.gone)


def measure_costs(problem: Problem) -> Costs:
    """From the dense network and one in which every layer keeps the better half of its units."""
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
    """Every branch gone, and of each other layer the unit that matters most of its first tiles.

    The first tile of every layer reads what the first tile of the layer before makes.
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
    least = problem.measure(smallest(problem)).cycles
    if least > problem.room:
        smallest_budget = math.ceil(least / (1 - problem.margin))
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


def _priced(problem: Problem, costs: Costs, gone: Branches, price: float) -> _Plan:
    """What is worth ``price`` a cycle, without the branches ``gone``."""
    absent = _absent(problem, gone)
    kept, cycles, saliency = [], costs.rest, 0.0
    for index, layer in enumerate(problem.layers):
        gains = layer.gains
        if index in absent:
            kept.append(np.zeros(len(gains), np.bool_))
            continue
        own = gains > price * costs.unit[index]
        if not own.any():  # a layer that carries the signal keeps its best unit
            own = _best(gains, 1)
        kept.append(own)
        cycles += costs.fixed[index] + costs.unit[index] * int(own.sum())
        saliency += float(gains[own].sum())
    return _Plan(kept, cycles, saliency, gone)


def _branch_sets(problem: Problem, costs: Costs) -> list[Branches]:
    """The sets of branches that are gone at some price, each once."""
    found: dict[Branches, None] = {}
    for price in _prices(problem, costs):
        plan = _priced(problem, costs, frozenset(), price)
        gone = [
            number
            for number, branch in enumerate(problem.branches)
            if _surplus(problem, costs, plan, branch, price) <= 0
        ]
        found[frozenset(gone)] = None
    return list(found)


def _surplus(
    problem: Problem, costs: Costs, plan: _Plan, branch: frozenset[int], price: float
) -> float:
    total = 0.0
    for index in branch:
        kept = plan.kept[index]
        gain = float(problem.layers[index].gains[kept].sum())
        total += gain - price * (costs.fixed[index] + costs.unit[index] * int(kept.sum()))
    return total


def _prices(problem: Problem, costs: Costs) -> Floats:
    """Prices from one that keeps all to one that keeps nothing."""
    every = np.concatenate([layer.gains for layer in problem.layers])
    positive = every[every > 0]
    if not len(positive):
        return np.ones(2)
    most = max(costs.dense, 1.0)
    return np.geomspace(positive.min() / most / 2, positive.sum() * 2, _PRICES)


def _filled(problem: Problem, costs: Costs, gone: Branches, limit: float) -> _Plan:
    """The plan without ``gone`` that the linear costs put just below ``limit``."""
    prices = _prices(problem, costs)
    low, high = float(prices[0]), float(prices[-1])
    plan = _priced(problem, costs, gone, low)
    if plan.cycles <= limit:
        return plan
    while high / low > 1 + 1e-9:
        middle = (low * high) ** 0.5
        trial = _priced(problem, costs, gone, middle)
        low, high = (middle, high) if trial.cycles > limit else (low, middle)
    return _topped_up(problem, costs, _priced(problem, costs, gone, high), limit)


def _topped_up(problem: Problem, costs: Costs, plan: _Plan, limit: float) -> _Plan:
    """``plan`` and the best single units that still fit, by saliency a cycle."""
    absent = _absent(problem, plan.gone)
    spare = [
        (gain / max(costs.unit[index], 1e-9), index, unit)
        for index, layer in enumerate(problem.layers)
        if index not in absent
        for unit, gain in enumerate(layer.gains)
        if not plan.kept[index][unit]
    ]
    for _, index, unit in sorted(spare, key=lambda item: (-item[0], item[1], item[2])):
        if plan.cycles + costs.unit[index] <= limit:
            plan.kept[index][unit] = True
            plan.cycles += costs.unit[index]
            plan.saliency += float(problem.layers[index].gains[unit])
    return plan


def _corrected(problem: Problem, costs: Costs, gone: Branches) -> list[Bools]:
    """The plan whose compiled cycles come nearest to the limit from below."""
    target = float(problem.room)
    best, best_cycles = smallest(problem), -1
    for _ in range(_COMPILATIONS):
        kept = _groups(problem, _filled(problem, costs, gone, target).kept)
        measured = problem.measure(kept)
        gap = problem.room - measured.cycles
        if gap >= 0 and measured.cycles > best_cycles:
            best, best_cycles = list(measured.live), measured.cycles
        dead = any((own & ~live).any() for own, live in zip(kept, measured.live, strict=True))
        if 0 <= gap <= _TOLERANCE * problem.room and not dead:
            break
        problem = _without_dead(problem, kept, measured.live)
        target += gap if gap < 0 else 0.8 * gap
    return best


def _without_dead(problem: Problem, kept: Sequence[Bools], live: Sequence[Bools]) -> Problem:
    """``problem`` in which the groups that were kept in vain have no saliency."""
    layers = [
        replace(layer, saliency=np.where(own & ~alive, 0.0, layer.saliency))
        for layer, own, alive in zip(problem.layers, kept, live, strict=True)
    ]
    return replace(problem, layers=layers)
