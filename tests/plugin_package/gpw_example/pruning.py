"""A criterion and a scheme. Imports NumPy and gpw only: the command line stays fast."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from gpw_cli.arrays import Floats
from gpw_cli.pruning.criteria import Scoring
from gpw_cli.pruning.groups import Grouping, Shape, Tile


def _largest(batches: Iterable[Floats]) -> Floats:
    (weights,) = batches  # one "batch", the weights: [weights of a group, *grid]
    return np.abs(weights).max(axis=0)


def _row(shape: Shape, tile: Tile) -> Shape:
    """One row of kernel positions of a tile."""
    return tile[0], tile[1], 1, shape[3]


largest = Scoring(_largest, score=lambda total, real: total)  # of a group, whatever its size
row = Grouping(_row)
