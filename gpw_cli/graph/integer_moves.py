"""Integer nodes that move codes: all of a node's tensors have one scale (plan.tie_tensors)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpw_cli.graph.moves import Pair, Shape


@dataclass(frozen=True, eq=False)
class IntConcat:
    """The channels of ``parts``, one after the other."""

    name: str
    parts: tuple[str, ...]
    shape: Shape

    @property
    def inputs(self) -> tuple[str, ...]:
        """Every part."""
        return self.parts


@dataclass(frozen=True, eq=False)
class IntSelect:
    """Channel c is channel ``channels[c]`` (int64) of the input."""

    name: str
    input: str
    channels: NDArray[np.int64]
    shape: Shape

    @property
    def inputs(self) -> tuple[str, ...]:
        """One tensor."""
        return (self.input,)


@dataclass(frozen=True, eq=False)
class IntUpsample:
    """Every pixel ``factor`` times, along rows and along columns."""

    name: str
    input: str
    factor: Pair
    shape: Shape

    @property
    def inputs(self) -> tuple[str, ...]:
        """One tensor."""
        return (self.input,)


IntMove = IntConcat | IntSelect | IntUpsample


def moved_int_shape(node: IntMove, sources: list[Shape]) -> Shape:
    """The output shape that the inputs of ``node`` imply; (0, 0, 0) where they do not fit."""
    channels, high, wide = sources[0]
    if isinstance(node, IntConcat):
        fits = all(source[1:] == (high, wide) for source in sources)
        return (sum(source[0] for source in sources), high, wide) if fits else (0, 0, 0)
    if isinstance(node, IntSelect):
        inside = len(node.channels) > 0 and node.channels.min() >= 0
        fits = bool(inside) and bool(node.channels.max() < channels)
        return (len(node.channels), high, wide) if fits else (0, 0, 0)
    return channels, high * node.factor[0], wide * node.factor[1]
