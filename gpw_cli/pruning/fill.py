"""Use what a choice under a budget leaves unused, by compiling instead of by an estimate.

    kept = filled_up(problem, kept, costs, gone)      # measure(kept) still fits

In a small network the linear estimate of the knapsack follows the cycles badly: a layer may cost
nothing more for further channels up to a full tile, or a first unit may double the cycles of the
next layer. Units are then added in the order of their saliency per estimated cycle, as many at a
time as fit. A unit that does not fit is tried once more in exchange for kept units that are worth
less.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gpw_cli.arrays import Bools
from gpw_cli.pruning.knapsack import Branches, Costs, layers_of

if TYPE_CHECKING:
    from gpw_cli.pruning.budget import Problem

_COMPILATIONS = 80  # at most
_ENOUGH = 0.01  # share of the room; with less unused nothing is added

Unit = tuple[int, int]  # layer, unit of that layer


@dataclass
class _Filling:
    """The best choice so far: its ``kept`` units per layer, its live ``groups``.

    ``gap``: the cycles that it leaves unused.
    """

    problem: Problem
    kept: list[Bools]
    groups: list[Bools]
    gap: int
    saliency: float
    left: int = _COMPILATIONS

    @property
    def open(self) -> bool:
        return self.left > 0 and self.gap > _ENOUGH * self.problem.room

    def fits(self, added: Sequence[Unit], removed: Sequence[Unit] = ()) -> bool:
        """Compile with ``added`` and without ``removed``; keep that choice if it is better.

        It is better if it is within the limit and its live groups have more saliency.
        """
        trial = [own.copy() for own in self.kept]
        for units, value in ((removed, False), (added, True)):
            for layer, unit in units:
                trial[layer][unit] = value
        layers = self.problem.layers
        groups = [own[layer.units] for layer, own in zip(layers, trial, strict=True)]
        self.left -= 1
        measured = self.problem.measure(groups)
        gap = self.problem.gap(measured)
        if gap < 0:
            return False
        saliency = saliency_of(self.problem, measured.live)
        if saliency < self.saliency or (removed and saliency == self.saliency):
            return False
        self.kept, self.groups = trial, list(measured.live)
        self.gap, self.saliency = gap, saliency
        return True


def filled_up(problem: Problem, kept: Sequence[Bools], costs: Costs, gone: Branches) -> list[Bools]:
    """``kept``, groups per layer, with further groups where the compiled network has room.

    ``gone``: the branches that stay removed.
    """
    gap = problem.gap(problem.measure(kept))
    own = [_units(layer.units, groups) for layer, groups in zip(problem.layers, kept, strict=True)]
    filling = _Filling(problem, own, list(kept), gap, saliency_of(problem, kept))
    order = _by_worth(problem, costs, gone)
    spare = [(layer, unit) for layer, unit in order if not own[layer][unit]]
    refused = _add(filling, spare)
    if len(refused) < len(spare):  # what was added may make room cheaper: a new channel is there
        refused = _add(filling, refused)
    for unit in refused:
        if filling.open:
            _exchange(filling, unit, order[::-1])
    return filling.groups


def saliency_of(problem: Problem, kept: Sequence[Bools]) -> float:
    """The saliency of the groups ``kept``."""
    return float(
        sum(layer.saliency[own].sum() for layer, own in zip(problem.layers, kept, strict=True))
    )


def _units(units: np.ndarray, groups: Bools) -> Bools:
    return np.asarray(np.bincount(units.ravel(), groups.ravel()) > 0, np.bool_)


def _by_worth(problem: Problem, costs: Costs, gone: Branches) -> list[Unit]:
    """All units outside the branches ``gone``, by falling saliency per estimated cycle."""
    missing = layers_of(problem.branches, gone)
    worth = [
        (-gain / max(costs.unit[index], 1e-9), index, unit)
        for index, layer in enumerate(problem.layers)
        if index not in missing
        for unit, gain in enumerate(layer.gains)
    ]
    return [(index, unit) for _, index, unit in sorted(worth)]


def _add(filling: _Filling, spare: Sequence[Unit]) -> list[Unit]:
    """Add what fits of ``spare``, in its order; returns the rest, one unit of each tile.

    After a unit that does not fit, the other kernel positions of its tile of channels wait: they
    make the same channels live and thus cost as much.
    """
    refused: dict[tuple[int, ...], Unit] = {}
    waiting = list(spare)
    while filling.open:
        ready = [unit for unit in waiting if _tile(filling.problem, unit) not in refused]
        if not ready:
            break
        added = ready[: _most(filling, ready)]
        if not added:
            refused[_tile(filling.problem, ready[0])] = ready[0]
        waiting = [unit for unit in waiting if unit not in set(added)]
    return [unit for unit in waiting if unit in set(refused.values())]


def _tile(problem: Problem, unit: Unit) -> tuple[int, ...]:
    """The layer, and the first output and input channel group of ``unit``."""
    layer, own = unit
    units = problem.layers[layer].units
    first = np.unravel_index(int(np.argmax(units.ravel() == own)), units.shape)
    return layer, int(first[0]), int(first[1])


def _most(filling: _Filling, spare: Sequence[Unit]) -> int:
    """How many of the first units of ``spare`` fit together; they are kept."""
    fits, too_many = 0, len(spare) + 1
    count = 1
    while filling.open and fits + 1 < too_many:
        if filling.fits(spare[:count]):
            fits, count = count, min(2 * count, (count + too_many) // 2)
        else:
            too_many, count = count, (fits + count) // 2
        count = max(count, fits + 1)
    return fits


def _exchange(filling: _Filling, unit: Unit, worst_first: Sequence[Unit]) -> None:
    """Keep ``unit`` instead of the least worthy unit of some layer, or of a few in all."""
    others = [
        (layer, own)
        for layer, own in worst_first
        if filling.kept[layer][own] and (layer, own) != unit
    ]
    firsts = {layer: (layer, own) for layer, own in reversed(others)}
    trials = [[first] for first in sorted(firsts.values(), key=others.index)]
    trials += [others[:count] for count in (2, 4, 8) if count < len(others)]
    for removed in trials:
        if filling.open and filling.fits([unit], removed):
            return
