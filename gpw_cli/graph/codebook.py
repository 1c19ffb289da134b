"""Weight sharing: every weight becomes one of 2^bits values (Han et al., Deep Compression).

shared = share(weight, bits=4)          # float [O, I] -> codes uint8 [O, I], values float [16]
shared.values[shared.codes]             # the weights that EIE multiplies

Code 0 is zero and only zeros carry it. The other values are the centres of a one-dimensional
k-means over the weights that are not zero, started at equal distances between the smallest and the
largest ("linear initialisation", which keeps the large weights apart).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpw_cli.arrays import Floats

Codes = NDArray[np.uint8]
ROUNDS = 100  # k-means converges far earlier; a bound all the same


@dataclass(frozen=True, eq=False)
class Shared:
    """codes uint8, of the weight's shape; values float64 [2^bits], values[0] = 0, ascending."""

    codes: Codes
    values: Floats

    def decode(self) -> Floats:
        """The shared weights, float64."""
        return np.asarray(self.values[self.codes], np.float64)


def share(weight: NDArray[np.floating], bits: int = 4) -> Shared:
    """Codes and values of ``weight``; unused values stay zero.

    A weight of at most 2^bits - 1 distinct values besides zero is kept exactly.
    """
    plain = np.asarray(weight, np.float64)
    kept = plain != 0
    nonzero = np.sort(plain[kept])
    room = (1 << bits) - 1
    values = np.zeros(room + 1)
    codes = np.zeros(plain.shape, np.uint8)
    if len(nonzero) == 0:
        return Shared(codes, values)
    distinct = np.unique(nonzero)
    centres = distinct if len(distinct) <= room else _kmeans(nonzero, room)
    centres = _without_zero(centres)
    values[1 : len(centres) + 1] = centres
    codes[kept] = 1 + np.searchsorted(_borders(centres), plain[kept], side="right")
    return Shared(codes, values)


def _kmeans(ordered: Floats, count: int) -> Floats:
    """Lloyd's rounds on sorted values: a cluster is a slice, its mean a difference of sums."""
    centres = np.linspace(ordered[0], ordered[-1], count)
    sums = np.concatenate([[0.0], np.cumsum(ordered)])
    for _ in range(ROUNDS):
        ends = np.searchsorted(ordered, _borders(centres), side="left")
        ends = np.concatenate([[0], ends, [len(ordered)]])
        size = np.diff(ends)
        means = np.diff(sums[ends]) / np.maximum(size, 1)
        moved = np.where(size > 0, means, centres)
        if np.array_equal(moved, centres):
            break
        centres = moved
    return np.asarray(centres, np.float64)


def _borders(centres: Floats) -> Floats:
    return np.asarray((centres[1:] + centres[:-1]) / 2, np.float64)


def _without_zero(centres: Floats) -> Floats:
    """A centre of exactly zero would make its weights look pruned."""
    tiny = np.finfo(np.float64).tiny
    return np.where(centres == 0, tiny, centres)
