"""What holds for a tensor's channels for every image: constant values and signs.

facts["conv1"] = known(conv1, facts)       # in topological order
facts["conv1"].constant                    # float64 [C]: NaN where the channel is not constant
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from gpw_cli.arrays import Bools, Floats
from gpw_cli.graph.ir import Add, AvgPool, BatchNorm, Clip, Conv, Input, Node, Pad, ReLU
from gpw_cli.graph.moves import Concat, Select, Spread


@dataclass(frozen=True, eq=False)
class Known:
    """``constant`` [C]: the value of every pixel, or NaN; ``positive`` [C]: never below zero.

    ``positive`` is derived from the kinds of the nodes and from zeros, not from other values.
    """

    constant: Floats
    positive: Bools

    @property
    def zero(self) -> Bools:
        """[C]: channels that are zero for every image."""
        return np.asarray(self.constant == 0)


def never_negative(facts: Known) -> bool:
    """Whether no value of the tensor is below zero."""
    return bool(facts.positive.all())


def known(node: Node, facts: Mapping[str, Known]) -> Known:
    """The facts about the result of ``node``, from those about its inputs."""
    if isinstance(node, Input):
        return Known(np.full(node.shape[0], np.nan), np.zeros(node.shape[0], bool))
    if isinstance(node, Conv):
        constant = np.where(node.weight.any((1, 2, 3)), np.nan, node.bias)
        return Known(constant, constant == 0)
    if isinstance(node, Add):
        a, b = facts[node.a], facts[node.b]
        return Known(a.constant + b.constant, a.positive & b.positive)
    if isinstance(node, Concat):
        parts = [facts[part] for part in node.parts]
        constant = np.concatenate([part.constant for part in parts])
        return Known(constant, np.concatenate([part.positive for part in parts]))
    return _of_one(node, facts[node.input])


def _of_one(node: Node, x: Known) -> Known:
    """The same for nodes that work on each channel separately."""
    if isinstance(node, BatchNorm):
        constant = np.where(node.scale == 0, node.shift, x.constant * node.scale + node.shift)
        return Known(constant, constant == 0)
    if isinstance(node, ReLU):
        return Known(np.maximum(x.constant, 0.0), np.ones_like(x.positive))
    if isinstance(node, Clip):
        positive = np.full_like(x.positive, node.low >= 0) | (x.positive & (node.high >= 0))
        return Known(np.clip(x.constant, node.low, node.high), positive)
    if isinstance(node, Select):
        return Known(x.constant[node.channels], x.positive[node.channels])
    if isinstance(node, Spread) or (isinstance(node, AvgPool) and node.padding != (0, 0)):
        return Known(np.where(x.zero, 0.0, np.nan), x.positive)
    if isinstance(node, Pad):
        around = (node.before, node.after)
        positive = np.pad(x.positive, around, constant_values=True)
        return Known(np.pad(x.constant, around), positive)
    return x
