"""Sets of scratchpad elements: strided views where they are regular, else index lists.

rows = Rows(np.array([0, 1, 2, 32, 33, 34]))     # grid (2, 3), strides (32, 1)
rows.view(acc)                                   # a view [2, 3, *acc.shape[1:]]
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from gpw_cli.arrays import Int64

_MAX_LEVELS = 4
_Grid = tuple[tuple[int, ...], tuple[tuple[int, ...], ...]]


def grid(indices: Int64) -> _Grid | None:
    """(shape, strides of each column) of int64 [n, columns] as nested affine loops.

    Column c of row r is indices[0, c] + sum of (loop counter * stride), the last loop fastest.
    None if no nest of at most four loops fits.
    """
    columns = indices.shape[1]
    shape: tuple[int, ...] = ()
    strides: tuple[tuple[int, ...], ...] = ((),) * columns
    while len(indices) > 1:
        if len(shape) == _MAX_LEVELS:
            return None
        step = indices[1] - indices[0]
        breaks = np.flatnonzero((np.diff(indices, axis=0) != step).any(axis=1))
        run = int(breaks[0]) + 1 if len(breaks) else len(indices)
        if len(indices) % run:
            return None
        outer = indices[::run]
        loop = step * np.arange(run)[:, None]
        if (indices.reshape(-1, run, columns) != outer[:, None] + loop).any():
            return None
        shape = (run, *shape)
        strides = tuple((int(s), *rest) for s, rest in zip(step, strides, strict=True))
        indices = outer
    return (shape, strides) if shape else ((1,), ((0,),) * columns)


class Rows:
    """``index`` int64 [n], n >= 1, along the first axis of a tensor, as a grid where one fits."""

    def __init__(
        self, index: Int64, shape: tuple[int, ...] = (), strides: tuple[int, ...] = ()
    ) -> None:
        self.index = index
        if not shape:
            found = grid(index[:, None])
            shape, strides = (found[0], found[1][0]) if found else ((len(index),), (-1,))
        self.shape, self.strides = shape, strides
        self.regular = min(strides) >= 0

    @classmethod
    def box(cls, base: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> Rows:
        """The rows of a given grid."""
        index = np.full(shape, base, np.int64)
        for axis, (size, stride) in enumerate(zip(shape, strides, strict=True)):
            loop = stride * np.arange(size, dtype=np.int64)
            index += loop.reshape((-1,) + (1,) * (len(shape) - axis - 1))
        return cls(index.reshape(-1), shape, strides)

    @classmethod
    def joint(cls, *indices: Int64) -> tuple[Rows, ...]:
        """Several index lists of one length as grids of one shape (irregular if none fits)."""
        found = grid(np.stack(indices, axis=1))
        if found is None:
            return tuple(cls(index, (len(index),), (-1,)) for index in indices)
        return tuple(
            cls(index, found[0], strides) for index, strides in zip(indices, found[1], strict=True)
        )

    def __len__(self) -> int:
        return len(self.index)

    @property
    def contiguous(self) -> bool:
        """Whether the elements follow one another."""
        return bool((np.diff(self.index) == 1).all())

    def same(self, other: Rows) -> bool:
        """Whether both hold the same elements in the same order."""
        return np.array_equal(self.index, other.index)

    def view(self, tensor: Tensor, offset: int = 0) -> Tensor | None:
        """A view [*shape, *rest] of ``tensor`` [elements, *rest]; None if irregular.

        ``offset`` elements are added to every index.
        """
        if not self.regular:
            return None
        step = tensor.stride(0)
        return tensor.as_strided(
            (*self.shape, *tensor.shape[1:]),
            (*(step * stride for stride in self.strides), *tensor.stride()[1:]),
            tensor.storage_offset() + step * (int(self.index[0]) + offset),
        )

    def indices(self) -> Tensor:
        """The index list as a tensor, for gathers."""
        return torch.from_numpy(self.index)
