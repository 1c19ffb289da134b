"""Scope ``cycles``: choose the groups to keep within a budget of cycles.

    problem = Problem(layers, branches, measure, limit=72_000)
    kept = choose(problem)              # a bool array per layer; measure(kept) <= 72,000

A knapsack problem of saliency against cycles (HALP, arXiv 2110.10811, with exact costs instead of
a table). Removable items are units (the groups that share one tile of the target; removing fewer
saves nothing) and whole branches beside a shortcut. The cycles of a unit and the fixed cycles of a
layer follow from two compilations for the target. Every set of branches that is removed at some
price per cycle (knapsack.py) is filled up to the limit, and the set with the most saliency is
taken. If it leaves more than 3 % unused, branches return in part. The limit of this estimate is
then corrected until the cycles of the compiled network are just below the real limit. Groups that
the choice itself has made dead are removed, and their cycles are spent on other groups. Where the
estimate follows the cycles badly, as in small networks, fill.py adds units one compilation at a
time. What is then left unused is less than any further unit costs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from gpw_cli.arrays import Bools
from gpw_cli.errors import UsageError
from gpw_cli.pruning.fill import filled_up
from gpw_cli.pruning.knapsack import Branches, Costs, Knapsack, Prunable, best, layers_of

_COMPILATIONS = 14  # at most, to correct the estimate
_USED = 0.95  # share of the limit; with less in use, as many compilations follow
_FULL = 0.97  # share of the limit; with less in use, removed branches are tried once more
_TOLERANCE = 0.004  # share of the limit; a result that leaves less unused is accepted


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
    setting: Callable[[int], str] = "pruning.budget={}".format  # as the user writes a limit

    @property
    def room(self) -> int:
        """The cycles available after the margin."""
        return int(self.limit * (1 - self.margin))

    def gap(self, measured: Measured) -> int:
        """The cycles that ``measured`` leaves unused; negative if it takes too many."""
        return min(self.room - measured.cycles, self.limit - measured.most)


def choose(problem: Problem) -> list[Bools]:
    """The groups to keep in each layer. Raises UsageError if the limit cannot be reached."""
    costs = measure_costs(problem)
    if costs.dense <= problem.room and not problem.gone:
        return [np.ones(layer.units.shape, np.bool_) for layer in problem.layers]
    _check_limit(problem)
    knapsack = Knapsack(problem.layers, problem.branches, costs)
    sets = knapsack.branch_sets() if problem.gone is None else [problem.gone]
    found = max(
        (knapsack.filled(gone, problem.room) for gone in sets),
        key=lambda choice: choice.saliency if choice.cycles <= problem.room else -choice.cycles,
    )
    if problem.gone is None and found.cycles < _FULL * problem.room:
        found = knapsack.returned(found, problem.room)
    return _corrected(problem, costs, found.gone)


def measure_costs(problem: Problem) -> Costs:
    """Costs from the dense network and one that keeps the better half of the units per layer."""
    full = [np.ones(len(layer.gains), np.bool_) for layer in problem.layers]
    half = [best(layer.gains, -(-len(layer.gains) // 2)) for layer in problem.layers]
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
    missing = layers_of(problem.branches, gone)
    kept = []
    for index, layer in enumerate(problem.layers):
        first = np.unique(layer.units[0, 0])
        own = np.zeros(len(layer.gains), np.bool_)
        own[first[np.argmax(layer.gains[first])]] = index not in missing
        kept.append(own)
    return _groups(problem, kept)


def refusal(problem: Problem, measured: Measured) -> str:
    """What to say where the smallest network, ``measured``, is above the limit."""
    least = max(math.ceil(measured.cycles / (1 - problem.margin)), measured.most)
    return (
        f"{problem.setting(problem.limit)} cannot be met: with everything removed that may go the "
        f"network still takes {measured.cycles} cycles; the smallest budget is "
        f"{problem.setting(least)}"
    )


def _check_limit(problem: Problem) -> None:
    measured = problem.measure(smallest(problem))
    if problem.gap(measured) < 0:
        raise UsageError(refusal(problem, measured))


def _groups(problem: Problem, kept: Sequence[Bools]) -> list[Bools]:
    return [units[layer.units] for layer, units in zip(problem.layers, kept, strict=True)]


def _corrected(problem: Problem, costs: Costs, gone: Branches) -> list[Bools]:
    """The choice whose compiled cycles are closest to the limit from below."""
    target = float(problem.room)
    found, most, given = smallest(problem), -1, problem
    for attempt in range(2 * _COMPILATIONS):
        if attempt >= _COMPILATIONS:  # the estimate follows the cycles badly
            if most >= _USED * problem.room:
                break
            target *= 0.93
        knapsack = Knapsack(problem.layers, problem.branches, costs)
        kept = _groups(problem, knapsack.filled(gone, target).kept)
        measured = problem.measure(kept)
        gap = problem.gap(measured)
        if gap >= 0 and measured.cycles > most:
            found, most = list(measured.live), measured.cycles
        dead = any((own & ~live).any() for own, live in zip(kept, measured.live, strict=True))
        if 0 <= gap <= _TOLERANCE * problem.room and not dead:
            break
        problem = _without_dead(problem, kept, measured.live)
        target += gap if gap < 0 else 0.8 * gap
    if most < _FULL * given.limit:
        found = filled_up(given, found, costs, gone)
    return found


def _without_dead(problem: Problem, kept: Sequence[Bools], live: Sequence[Bools]) -> Problem:
    """``problem`` in which groups that were kept but are dead have no saliency."""
    layers = [
        replace(layer, saliency=np.where(own & ~alive, 0.0, layer.saliency))
        for layer, own, alive in zip(problem.layers, kept, live, strict=True)
    ]
    return replace(problem, layers=layers)
