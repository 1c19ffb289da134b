"""Concatenated and selected channels without a copy: the stored channels that a tensor consists of.

    gathers = Gathers(graph, block=16)
    gathers.absorb(node)                 # True: its readers read the slices, no kernel is needed
    for part in gathers.slices("concat"): ...      # channels ``outs`` are ``ins`` of ``source``

A convolution reads each slice as a term of its own: the columns of its weights are moved to where
the channels are stored. Every other reader needs a kernel that copies the slices into one tensor.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gpw_cli.arrays import Int8, Int64
from gpw_cli.graph.integer import IntConcat, IntConv, IntGraph, IntNode, IntSelect

SCATTERED = 1.5


@dataclass(frozen=True, eq=False)
class ChannelSlice:
    """Channels ``outs`` of a tensor are channels ``ins`` of ``source``, each at most once."""

    source: str
    outs: Int64
    ins: Int64

    def columns(self, weight: Int8, channels: int) -> Int8:
        """``weight`` int8 [O, I, KH, KW] rearranged for the ``channels`` of ``source``."""
        placed = np.zeros((len(weight), channels, *weight.shape[2:]), np.int8)
        placed[:, self.ins] = weight[:, self.outs]
        return placed


@dataclass(frozen=True, eq=False)
class _Origin:
    """For each channel, the index of its tensor in ``sources`` and its channel there."""

    sources: tuple[str, ...]
    tensor: Int64
    channel: Int64


class Gathers:
    """``block``: channels of one input block."""

    def __init__(self, graph: IntGraph, block: int) -> None:
        self.graph, self.block = graph, block
        self._origins: dict[str, _Origin] = {}
        self._free: dict[str, bool] = {}

    def absorb(self, node: IntConcat | IntSelect) -> bool:
        """Whether readers read the slices of ``node``; its inputs must have been visited before."""
        if not self._only_multiplied(node):
            return False
        origin = self._origin_of(node)
        touched = len(np.unique(np.stack([origin.tensor, origin.channel // self.block]), axis=1).T)
        if touched > SCATTERED * -(-node.shape[0] // self.block):
            return False
        self._origins[node.name] = origin
        return True

    def slices(self, name: str) -> list[ChannelSlice]:
        """The slices that the tensor ``name`` consists of; itself, unless it was absorbed."""
        return _slices(self._origin(name))

    def parts_of(self, node: IntConcat | IntSelect) -> list[ChannelSlice]:
        """The slices that a kernel for ``node`` copies."""
        return _slices(self._origin_of(node))

    def _origin(self, name: str) -> _Origin:
        count = self.graph.node(name).shape[0]
        itself = _Origin((name,), np.zeros(count, np.int64), np.arange(count))
        return self._origins.get(name, itself)

    def _origin_of(self, node: IntConcat | IntSelect) -> _Origin:
        if isinstance(node, IntSelect):
            inner = self._origin(node.input)
            return _Origin(inner.sources, inner.tensor[node.channels], inner.channel[node.channels])
        sources: dict[str, int] = {}
        tensors, channels = [], []
        for part in node.parts:
            inner = self._origin(part)
            numbers = [sources.setdefault(name, len(sources)) for name in inner.sources]
            tensors.append(np.array(numbers, np.int64)[inner.tensor])
            channels.append(inner.channel)
        return _Origin(tuple(sources), np.concatenate(tensors), np.concatenate(channels))

    def _only_multiplied(self, node: IntNode) -> bool:
        if node.name not in self._free:
            readers = list(self.graph.consumers(node.name))
            self._free[node.name] = (
                bool(readers)
                and node.name != self.graph.output
                and all(self._takes_pieces(reader, node.name) for reader in readers)
            )
        return self._free[node.name]

    def _takes_pieces(self, reader: IntNode, name: str) -> bool:
        if isinstance(reader, IntConv):
            return reader.residual != name
        return isinstance(reader, IntConcat | IntSelect) and self._only_multiplied(reader)


def _slices(origin: _Origin) -> list[ChannelSlice]:
    """One slice per tensor, and one more for each time that a channel is repeated."""
    found = []
    for number, name in enumerate(origin.sources):
        outs = np.flatnonzero(origin.tensor == number)
        ins = origin.channel[outs]
        while len(outs):
            _, first = np.unique(ins, return_index=True)
            first.sort()
            found.append(ChannelSlice(name, outs[first], ins[first]))
            outs, ins = np.delete(outs, first), np.delete(ins, first)
    return found
