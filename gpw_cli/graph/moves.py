"""Nodes that only move values: concatenated or selected channels, repeated pixels.

``Concat`` and ``Select`` are free where a convolution reads them: its weights are rearranged to
match.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpw_cli.graph.frame import Pair, Shape, Unary


@dataclass(frozen=True, eq=False)
class Concat:
    """The channels of ``parts``, one after the other."""

    name: str
    parts: tuple[str, ...]
    shape: Shape

    @property
    def inputs(self) -> tuple[str, ...]:
        """All parts."""
        return self.parts


@dataclass(frozen=True, eq=False)
class Select(Unary):
    """Channel c is channel ``channels[c]`` (int64) of the input: a slice, or a shuffle."""

    channels: NDArray[np.int64]
    shape: Shape


@dataclass(frozen=True, eq=False)
class Upsample(Unary):
    """Each pixel repeated ``factor`` times, along rows and along columns."""

    factor: Pair
    shape: Shape


@dataclass(frozen=True, eq=False)
class Spread(Unary):
    """rows @ x @ cols.T per channel, float64 [OH, H] and [OW, W]: pooling with different windows.

    No NPU has it: ``fold`` merges it into the next linear layer, or refuses it.
    """

    rows: NDArray[np.float64]
    cols: NDArray[np.float64]
    shape: Shape


Move = Concat | Select | Upsample | Spread


def moved_shape(node: Move, sources: list[Shape]) -> Shape:
    """The output shape that the inputs of ``node`` imply; (0, 0, 0) where they do not fit."""
    channels, high, wide = sources[0]
    if isinstance(node, Concat):
        fits = all(source[1:] == (high, wide) for source in sources)
        return (sum(source[0] for source in sources), high, wide) if fits else (0, 0, 0)
    if isinstance(node, Select):
        inside = len(node.channels) > 0 and 0 <= node.channels.min() <= node.channels.max()
        fits = bool(inside) and bool(node.channels.max() < channels)
        return (len(node.channels), high, wide) if fits else (0, 0, 0)
    if isinstance(node, Upsample):
        return channels, high * node.factor[0], wide * node.factor[1]
    fits = node.rows.shape[1] == high and node.cols.shape[1] == wide
    return (channels, len(node.rows), len(node.cols)) if fits else (0, 0, 0)
