"""Integer nodes that move codes: all of a node's tensors have one scale (plan.tie_tensors)."""

from __future__ import annotations

from dataclasses import dataclass

from gpw_cli.graph.frame import Chosen, Enlarged, Joined, Shape


@dataclass(frozen=True, eq=False)
class IntConcat(Joined):
    """The channels of ``parts``, one after the other."""


@dataclass(frozen=True, eq=False)
class IntSelect(Chosen):
    """Channel c is channel ``channels[c]`` (int64) of the input."""


@dataclass(frozen=True, eq=False)
class IntUpsample(Enlarged):
    """Every pixel ``factor`` times, along rows and along columns."""


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
