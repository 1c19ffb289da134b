"""The knapsack of saliency against cycles, with costs that are linear in the units kept.

    knapsack = Knapsack(layers, branches, costs)
    for gone in knapsack.branch_sets():
        choice = knapsack.filled(gone, limit=70_000)     # choice.cycles <= 70,000 if possible

A unit is the set of groups that share one tile of the target. At a price per cycle, a unit is kept
if its saliency exceeds its cycles times the price. A branch is kept if what its kept units gain
above their price exceeds the price of its layers' fixed cycles.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from gpw_cli.arrays import Bools, Floats

Branches = frozenset[int]  # indices of the removed branches
_PRICES = 400  # prices tried to find the sets of branches


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
class Costs:
    """Per layer, ``unit``: cycles of one unit; ``fixed``: further cycles if it keeps any unit.

    ``rest``: cycles that no mask changes; ``dense``: cycles of the unpruned network.
    """

    unit: Sequence[float]
    fixed: Sequence[float]
    rest: float
    dense: int


@dataclass
class Choice:
    """The units kept, a bool array per layer, without the branches ``gone``.

    ``cycles``: the linear estimate; ``saliency``: of the kept units.
    """

    kept: list[Bools]
    cycles: float
    saliency: float
    gone: Branches = field(default_factory=frozenset)


@dataclass(frozen=True, eq=False)
class Knapsack:
    """The items and their costs. ``branches``: sets of layers that can be removed together."""

    layers: Sequence[Prunable]
    branches: Sequence[frozenset[int]]
    costs: Costs

    @cached_property
    def prices(self) -> Floats:
        """Prices from one that keeps everything to one that keeps nothing."""
        every = np.concatenate([layer.gains for layer in self.layers])
        positive = every[every > 0]
        if not len(positive):
            return np.ones(2)
        most = max(self.costs.dense, 1.0)
        return np.geomspace(positive.min() / most / 2, positive.sum() * 2, _PRICES)

    def branch_sets(self) -> list[Branches]:
        """The distinct sets of branches that are removed at some price."""
        found: dict[Branches, None] = {}
        for price in self.prices:
            choice = self._priced(frozenset(), price)
            gone = [
                number
                for number, branch in enumerate(self.branches)
                if self._surplus(choice, branch, price) <= 0
            ]
            found[frozenset(gone)] = None
        return list(found)

    def filled(self, gone: Branches, limit: float) -> Choice:
        """The choice without ``gone`` whose linear estimate is just below ``limit``."""
        low, high = float(self.prices[0]), float(self.prices[-1])
        choice = self._priced(gone, low)
        if choice.cycles <= limit:
            return choice
        while high / low > 1 + 1e-9:
            middle = (low * high) ** 0.5
            trial = self._priced(gone, middle)
            low, high = (middle, high) if trial.cycles > limit else (low, middle)
        return self._topped_up(self._priced(gone, high), limit)

    def returned(self, choice: Choice, limit: float) -> Choice:
        """``choice`` with removed branches taken back, in part, where that adds saliency.

        The sets of ``branch_sets`` differ by whole branches, so that the best of them may leave
        room for a few units of one more.
        """
        while True:
            trials = [self.filled(choice.gone - {branch}, limit) for branch in sorted(choice.gone)]
            better = [t for t in trials if t.cycles <= limit and t.saliency > choice.saliency]
            if not better:
                return choice
            choice = max(better, key=lambda trial: trial.saliency)

    def _priced(self, gone: Branches, price: float) -> Choice:
        """The units that are worth ``price`` per cycle, without the branches ``gone``."""
        missing = layers_of(self.branches, gone)
        kept, cycles, saliency = [], self.costs.rest, 0.0
        for index, layer in enumerate(self.layers):
            gains = layer.gains
            if index in missing:
                kept.append(np.zeros(len(gains), np.bool_))
                continue
            own = gains > price * self.costs.unit[index]
            if not own.any():  # a layer that is not removed keeps its best unit
                own = best(gains, 1)
            kept.append(own)
            cycles += self.costs.fixed[index] + self.costs.unit[index] * int(own.sum())
            saliency += float(gains[own].sum())
        return Choice(kept, cycles, saliency, gone)

    def _topped_up(self, choice: Choice, limit: float) -> Choice:
        """``choice`` with the units added that still fit, in the order of saliency per cycle."""
        missing = layers_of(self.branches, choice.gone)
        spare = [
            (gain / max(self.costs.unit[index], 1e-9), index, unit)
            for index, layer in enumerate(self.layers)
            if index not in missing
            for unit, gain in enumerate(layer.gains)
            if not choice.kept[index][unit]
        ]
        for _, index, unit in sorted(spare, key=lambda item: (-item[0], item[1], item[2])):
            if choice.cycles + self.costs.unit[index] <= limit:
                choice.kept[index][unit] = True
                choice.cycles += self.costs.unit[index]
                choice.saliency += float(self.layers[index].gains[unit])
        return choice

    def _surplus(self, choice: Choice, branch: frozenset[int], price: float) -> float:
        """The saliency of the units kept on ``branch``, less the price of its cycles."""
        total = 0.0
        for index in branch:
            kept = choice.kept[index]
            gain = float(self.layers[index].gains[kept].sum())
            cycles = self.costs.fixed[index] + self.costs.unit[index] * int(kept.sum())
            total += gain - price * cycles
        return total


def best(gains: Floats, count: int) -> Bools:
    """The ``count`` units with the largest ``gains``, as a mask."""
    kept = np.zeros(len(gains), np.bool_)
    kept[np.argsort(-gains, kind="stable")[:count]] = True
    return kept


def layers_of(branches: Sequence[frozenset[int]], gone: Branches) -> set[int]:
    """The indices of the layers on the branches ``gone``."""
    return {layer for branch in gone for layer in branches[branch]}
