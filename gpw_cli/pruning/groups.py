"""Pruning groups: the weights of a layer that are removed together (papers/000, Fig. 6).

    layout = group_layout(Scheme.gpw, (32, 16, 3, 3), tile=(16, 16))
    layout.grid                       # (2, 1, 3, 3): 18 groups of 16 x 16 x 1 x 1 weights
    layout.collect(weight)            # [256, 2, 1, 3, 3]: each group's weights along axis 0
    layout.expand(kept)               # group mask -> weight mask

The weight of a convolution is [O, I, KH, KW]; a linear layer [O, I] is a 1x1 convolution. Groups
start at index 0 of each axis. If the tile does not divide O or I, the last groups are ragged: they
have fewer real weights, and only these are counted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral

import numpy as np
import numpy.typing as npt

from gpw_cli.arrays import Bools, Floats
from gpw_cli.errors import UsageError
from gpw_cli.plugins import Open

Shape = tuple[int, int, int, int]  # O, I, KH, KW
Tile = tuple[int, int]  # B_out, B_in in weights


@dataclass(frozen=True)
class Grouping:
    """The definition of a scheme, built in or of a plug-in.

    ``group``: the shape of a group, from the shape of the weight and the tile of the target.
    ``sets``: for a scheme that removes the same share of several sets of a layer's groups: the set
    of each group, int64 of shape ``layout.grid``. ``packs``: removed channels are removed from the
    tensors of the integer network too.
    """

    group: Callable[[Shape, Tile], Shape]
    sets: Callable[[GroupLayout, Tile], npt.NDArray[np.int64]] | None = None
    packs: bool = False

    @property
    def has_order(self) -> bool:
        """Whether the groups depend on the order of the channels."""
        group, channels = self.group((4096, 4096, 3, 3), (16, 16)), (1, 4096)
        return self.sets is not None or any(size not in channels for size in group[:2])


class Scheme(Open):
    """The shape of a group; a new scheme is a line here and a file in ``conf/pruning``, or a
    plug-in (docs/plugins.md).
    """

    # no pruning: the stages prune and finetune are skipped
    dense = "dense", Grouping(lambda shape, tile: shape)
    fine = "fine", Grouping(lambda shape, tile: (1, 1, 1, 1))
    vector = "vector", Grouping(lambda shape, tile: (1, tile[1], 1, 1))
    gpw = "gpw", Grouping(lambda shape, tile: (tile[0], tile[1], 1, 1))
    block = "block", Grouping(lambda shape, tile: (tile[0], tile[1], shape[2], shape[3]))
    channel = "channel", Grouping(lambda shape, tile: (1, *shape[1:]), packs=True)
    # ESE (Han et al. 2017): row o belongs to PE o mod B_out; all PEs keep the same share
    balanced = (
        "balanced",
        Grouping(lambda shape, tile: (1, 1, 1, 1), lambda layout, tile: layout.row_sets(tile[0])),
    )

    @property
    def grouping(self) -> Grouping:
        """The definition. Raises UsageError for a plug-in that cannot be loaded."""
        return self.definition(Grouping)


@dataclass(frozen=True)
class GroupLayout:
    """How the groups of one layer tile its weight."""

    shape: Shape  # of the weight, in weights
    group: Shape  # of a whole group, in weights

    @property
    def grid(self) -> Shape:
        """Number of groups along O, I, KH, KW, including ragged ones."""
        o, i, kh, kw = (-(-n // b) for n, b in zip(self.shape, self.group, strict=True))
        return o, i, kh, kw

    def collect(self, weight: npt.NDArray[np.floating]) -> Floats:
        """Weight [O, I, KH, KW] -> float64 [weights of a whole group, *grid].

        Positions of a ragged group outside the weight are 0.
        """
        grid = self.grid
        padding = [(0, g * b - n) for g, b, n in zip(grid, self.group, self.shape, strict=True)]
        padded = np.pad(np.asarray(weight, np.float64), padding)
        split = padded.reshape([n for pair in zip(grid, self.group, strict=True) for n in pair])
        return split.transpose(1, 3, 5, 7, 0, 2, 4, 6).reshape(-1, *grid)

    def real_weights(self) -> npt.NDArray[np.int64]:
        """Number of real weights of each group, int64 of shape ``grid``."""
        sizes = [
            np.minimum(b, n - b * np.arange(g))
            for g, b, n in zip(self.grid, self.group, self.shape, strict=True)
        ]
        o, i, kh, kw = np.ix_(*sizes)
        return np.asarray(o * i * kh * kw, np.int64)

    def units(self, tile: Tile, *, positions: bool = True) -> npt.NDArray[np.int64]:
        """The unit of each group, counted from 0: int64 of shape ``grid``.

        A unit is the smallest set of whole groups that covers whole blocks of ``tile`` channels, at
        one kernel position or, with ``positions`` false, at all positions.
        """
        axes = []
        for axis, (groups, size) in enumerate(zip(self.grid, self.group, strict=True)):
            span = tile[axis] if axis < 2 else 1
            if axis >= 2 and not positions:
                span = self.shape[axis]
            axes.append(np.arange(groups) // max(1, span // size))
        _, units = np.unique(
            np.ravel_multi_index(np.ix_(*axes), tuple(int(axis[-1]) + 1 for axis in axes)),
            return_inverse=True,
        )
        return np.asarray(units, np.int64).reshape(self.grid)

    def row_sets(self, count: int) -> npt.NDArray[np.int64]:
        """The set of each group, of ``count`` interleaved sets of rows: int64 of shape ``grid``."""
        rows = np.arange(self.grid[0]) % count
        return np.broadcast_to(rows[:, None, None, None], self.grid).astype(np.int64)

    def expand(self, kept: Bools) -> Bools:
        """Expand a mask of groups (shape ``grid``) to a mask of weights (shape ``shape``)."""
        mask = kept
        for axis, size in enumerate(self.group):
            mask = mask.repeat(size, axis)
        o, i, kh, kw = self.shape
        return np.ascontiguousarray(mask[:o, :i, :kh, :kw])


def conv_shape(shape: tuple[int, ...]) -> Shape:
    """[O, I, KH, KW] of a weight; [O, I] of a linear layer becomes [O, I, 1, 1].

    Raises UsageError for another number of axes, and for an empty weight.
    """
    if len(shape) not in (2, 4) or 0 in shape:
        raise UsageError(
            f"a weight of shape {list(shape)} cannot be pruned: expected a convolution "
            "[O, I, KH, KW] or a linear layer [O, I]; take the names from prunable_layers"
        )
    o, i, kh, kw = shape if len(shape) == 4 else (*shape, 1, 1)
    return o, i, kh, kw


def group_layout(scheme: Scheme, shape: tuple[int, ...], tile: Tile) -> GroupLayout:
    """The groups of ``scheme`` in a weight of ``shape`` for a GEMM tile of B_out x B_in weights.

    Raises UsageError for a tile below 1, and a shape that is neither convolution nor linear layer.
    """
    if min(tile) < 1:
        raise UsageError(f"tile {tile[0]}x{tile[1]} must be at least 1x1: try pruning.tile_out=16")
    full = conv_shape(shape)
    return GroupLayout(full, _checked(scheme, scheme.grouping.group(full, tile), full))


def _checked(scheme: Scheme, group: Shape, shape: Shape) -> Shape:
    """Check the group of a plug-in; UsageError if it is invalid."""
    if scheme.plugin is None:
        return group
    whole = isinstance(group, tuple) and all(isinstance(n, Integral) and n >= 1 for n in group)
    if not whole or len(group) != 4:
        raise UsageError(
            f"{scheme.plugin}: a group of a weight {list(shape)} is {group!r}, expected a tuple of "
            "four whole numbers O, I, KH, KW, each at least 1"
        )
    o, i, kh, kw = map(int, group)
    return o, i, kh, kw


def group_sets(scheme: Scheme, layout: GroupLayout, tile: Tile) -> npt.NDArray[np.int64]:
    """The set of each group, int64 of shape ``layout.grid``, for a scheme with sets."""
    sets = scheme.grouping.sets
    assert sets is not None
    found = np.asarray(sets(layout, tile))
    if found.shape != layout.grid or found.dtype.kind not in "iu":
        raise UsageError(
            f"{scheme.plugin or scheme.value}: sets are {found.dtype} {list(found.shape)}, "
            f"expected whole numbers {list(layout.grid)}"
        )
    return found.astype(np.int64)


def kept_bits(kept: Bools) -> str:
    """A group mask as text for results: a bit per group in C order, high bit first, in lower-case
    hex, padded with zeros to a whole byte.
    """
    return np.packbits(kept.ravel()).tobytes().hex()
